"""What was done, in `state.sqlite`: told by lists and reports; losing it loses nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping

import orjson

from xprim_nb.cache.state import State
from xprim_nb.refs import ModelRef

__all__ = ["remember"]


def remember(state: State, kind: str, ref: ModelRef, details: Mapping[str, object]) -> None:
    """Add a row; a database that cannot be written costs the row and nothing else."""

    def write() -> None:
        with state.transaction() as connection:
            connection.execute(
                "INSERT INTO history (at, kind, ref, details) VALUES (?, ?, ?, ?)",
                (time.time(), kind, str(ref), orjson.dumps(dict(details)).decode()),
            )

    state.guarded(write, None)
