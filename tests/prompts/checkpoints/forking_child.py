"""A process that forks with a saver: `… ADDRESS [unused|closed]`.

With one that is open it prints what its child met, and what it has itself afterwards; with any other the child puts a
checkpoint by it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from xprim_nb.errors import XprimError
from xprim_nb.prompts.checkpoints import PostgresSaver, Saver, SqliteSaver
from xprim_nb.testing.checkpoints_given import at, long, put, values_of


def _open(address: str) -> Saver:
    return PostgresSaver.open(address) if address.startswith("postgresql:") else SqliteSaver.open(address)


def _met(call: Any) -> str:
    try:
        call()
    except XprimError as error:
        return f"{type(error).__name__}: {error} {error.hint}"
    return "nothing"


def _child(saver: Saver, address: str) -> None:
    print("get", _met(lambda: saver.get_tuple(at("t"))), flush=True)
    print("put", _met(lambda: put(saver, at("t"), {"text": long("child")}, version=2)), flush=True)
    print("aget", _met(lambda: asyncio.run(saver.aget_tuple(at("t")))), flush=True)
    saver.close()
    with _open(address) as own:
        put(own, at("child"), values_of(own, at("t")))


def _fork_without(saver: Saver, how: str) -> None:
    if how == "closed":
        put(saver, at("t"), {"text": 1})
        saver.close()
    if not (process := os.fork()):
        try:
            put(saver, at("child"), {"text": how})
        finally:
            os._exit(0)
    os.waitpid(process, 0)


def main() -> None:
    """Fork, and look."""
    address, *how = sys.argv[1:]
    if how:
        _fork_without(SqliteSaver.open(address), *how)
        return
    with _open(address) as saver:
        put(saver, at("t"), {"text": long("parent")})
        if not (process := os.fork()):
            try:
                _child(saver, address)
            finally:
                os._exit(0)
        os.waitpid(process, 0)
        put(saver, at("t"), {"text": long("later")}, version=2)
        same = values_of(saver, at("child")) == {"text": long("parent")}
        print("parent", same, values_of(saver, at("t")) == {"text": long("later")})


if __name__ == "__main__":
    main()
