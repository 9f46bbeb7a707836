"""One model in two versions, and what a user does to the first: every case of the three-way table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xprim_nb.cache.renewal.strategy import UpdatePolicy, UpdateStrategy
from xprim_nb.manager import Manager

from ..rooms import Room, blocks

__all__ = [
    "MERGED",
    "MINE",
    "NEW",
    "OLD",
    "REF",
    "edit",
    "installed_and_edited",
    "policy",
    "receipt",
    "write",
]

REF = "group/model v1"
OLD = {
    "same": blocks("same"),
    "updated": blocks("u1"),
    "removed": blocks("r"),
    "kept.json": blocks("k"),
    "both.json": blocks("b1"),
    "dropped.json": blocks("d"),
    "lost-same": blocks("ls"),
    "lost-updated": blocks("lu1"),
    "lost-removed": blocks("lr"),
    "equal.json": blocks("e1"),
    "deep/er/weights.bin": blocks(*range(6)),
}
NEW = {
    "same": blocks("same"),
    "updated": blocks("u2"),
    "kept.json": blocks("k"),
    "both.json": blocks("b2"),
    "lost-same": blocks("ls"),
    "lost-updated": blocks("lu2"),
    "equal.json": blocks("e2"),
    "deep/er/weights.bin": blocks(0, 1, 2, 3, 4, "new"),
    "new": blocks("n"),
    "added-twice": blocks("theirs"),
}
MINE = {
    "kept.json": b"mine, kept",
    "both.json": b"mine, both",
    "dropped.json": b"mine, dropped",
    "equal.json": blocks("e2"),
    "notes/todo.md": b"mine, added",
    "added-twice": b"mine, twice",
}
MERGED = {
    **NEW,
    "kept.json": b"mine, kept",
    "both.json": b"mine, both",
    "both.json.upstream": blocks("b2"),
    "dropped.json": b"mine, dropped",
    "notes/todo.md": b"mine, added",
    "added-twice": b"mine, twice",
    "added-twice.upstream": blocks("theirs"),
}


def write(path: Path, data: bytes) -> None:
    """A user's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def edit(room: Room, ref: str = REF) -> None:
    """What the user does: writes, adds and deletes."""
    for path, data in MINE.items():
        write(room.dir(ref) / path, data)
    for path in ("lost-same", "lost-updated", "lost-removed"):
        (room.dir(ref) / path).unlink()


def policy(**settings: bool) -> UpdateStrategy:
    """A strategy with some policies other than by default."""
    return UpdateStrategy(update_policy=UpdatePolicy(**settings))


def receipt(room: Room, ref: str = REF) -> Any:
    """What the receipt in a version says."""
    return json.loads((room.dir(ref) / ".xprim" / "receipt.json").read_bytes())


async def installed_and_edited(room: Room, manager: Manager, *, hashes: bool = False) -> None:
    """The first version pulled and edited; the registry has the second by now."""
    room.publish({REF: OLD}, file_hashes=hashes)
    await manager.pull(REF)
    edit(room)
    room.publish({REF: NEW}, file_hashes=hashes)
