"""Damages and repairs one model at random, until somebody kills it; or repairs it once.

    python mend_worker.py BASE REGISTRY [once]

With `once` it says `ready` when its manager is open, waits for a line, repairs, and prints the receipt as JSON. Otherwise
a child does the work for each seed that it reads: a fork of this process, which has imported everything. It prints the
child's number; the child says `ready` when its manager is open. When it is gone, its exit status is printed. Forking is
safe here: this process has no threads.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from xprim_nb.config import Config
from xprim_nb.manager import Manager

REF = "group/model v1"
MINE = b"my own words"


def _flip(path: Path, at: int) -> None:
    """Overwrite one byte in place, as a bad disk does: nothing else of the file is touched."""
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 1]))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _damage(root: Path, chance: random.Random) -> None:
    """Damage what nobody else repairs: the caller is the only one who damages."""
    path = root / "w.bin"
    match chance.choice(("flip", "flip", "truncate", "remove", "directory", "manifest", "none")):
        case "flip" if path.is_file() and path.stat().st_size:
            _flip(path, chance.randrange(path.stat().st_size))
        case "truncate" if path.is_file():
            os.truncate(path, chance.randrange(9_000))
        case "remove" if path.is_file():
            path.unlink()
        case "directory" if path.is_file():
            path.unlink()
            path.mkdir()
            (path / "mine.txt").write_bytes(MINE)
        case "manifest":
            (root / ".xprim" / "manifest.json").write_bytes(b"{")
        case _:
            return


async def _once(base: Path, registry: str) -> None:
    async with Manager(Config(registry_url=registry, data_dir=base, backoff_s=0.0)) as manager:
        print("ready", flush=True)
        sys.stdin.readline()
        print((await manager.repair(REF)).model_dump_json(), flush=True)


async def _work(base: Path, registry: str, seed: str) -> None:
    chance = random.Random(seed)
    async with Manager(Config(registry_url=registry, data_dir=base, backoff_s=0.0)) as manager:
        print("ready", flush=True)
        while True:
            _damage(base / "group" / "model" / "v1", chance)
            await manager.repair(REF)


def main() -> None:
    """See the module's docstring."""
    base, registry = Path(sys.argv[1]), sys.argv[2]
    if sys.argv[3:] == ["once"]:
        asyncio.run(_once(base, registry))
        return
    while seed := sys.stdin.readline().strip():
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                asyncio.run(_work(base, registry, seed))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(pid, flush=True)
        _, ended = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(ended), flush=True)


if __name__ == "__main__":
    main()
