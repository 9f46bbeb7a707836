"""Where a run stands, kept: LangGraph's checkpoints, each value stored once, in SQLite or PostgreSQL.

Checkpoints and pending writes of any LangGraph graph come in; out they come again, after the kernel, the process or the
server has gone. A value, and each item of a list, is stored once by the hash of its bytes, whichever step or thread
has it: a thread of three hundred steps takes a thirtieth of what a full copy for each step takes.

    with SqliteSaver.open("runs.sqlite") as saver:            # or: async with
        graph = builder.compile(checkpointer=saver)

    saver, postgres_saver ─▶ aside     LangGraph's interface, without and with an event loop
      ├─▶ storing, reading, removing   what is done in a transaction
      │     ├─▶ keeping                what a pruned thread keeps, as a pure plan
      │     └─▶ remembered             what a saver remembers, which is bytes and never values
      ├─▶ encoding                     values become blobs and values again
      └─▶ database                     transactions, the same in both: sqlite_database, postgres_database, schema

`CheckpointStore` keeps states of a scaffold's work in the same database and the same blobs: a tree with named branches,
notes and calls of tools beside it, and an audit trail.

    store, note_store ─▶ saving, noting, finding, trail     the work of transactions
      └─▶ payloads, naming, saved                           what is held, what may be called what, and what comes out

Importing this package loads none of what it needs: the savers are fetched on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .postgres_saver import PostgresSaver
    from .saved import GraphNode
    from .saver import Saver, SqliteSaver
    from .store import CheckpointStore

_HOMES = {
    "CheckpointStore": "store",
    "GraphNode": "saved",
    "PostgresSaver": "postgres_saver",
    "Saver": "saver",
    "SqliteSaver": "saver",
}

__all__ = ["CheckpointStore", "GraphNode", "PostgresSaver", "Saver", "SqliteSaver"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
