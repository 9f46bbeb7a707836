"""What was done to the cache and when: rows of `state.sqlite` that may be lost.

Source: spec 2 §Maintenance ("the last run recorded").
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from xprim_nb.cache.state import State
from xprim_nb.refs import ModelRef

__all__ = ["record"]


def record(state: State, kind: str, ref: ModelRef | str, details: Mapping[str, Any]) -> None:
    """Write one row; without effect when the database is not usable.

    Args:
        state: The database.
        kind: `pull`, `repair`, `refresh`, `cleanup`, `archive`, `maintain`, …
        ref: The version concerned; empty when there is none.
        details: Plain JSON.
    """

    def write() -> None:
        with state.transaction() as connection:
            connection.execute(
                "INSERT INTO history (at, kind, ref, details) VALUES (?, ?, ?, ?)",
                (time.time(), kind, str(ref), orjson.dumps(dict(details)).decode()),
            )

    state.guarded(write, None)
