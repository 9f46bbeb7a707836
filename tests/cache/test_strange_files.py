"""A pipe, a socket, a device or a directory in the place of one of our own files: nobody waits, and nothing crashes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.errors import StorageError, XprimError
from xprim_nb.manager import Manager

from .rooms import Room, blocks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files in directories")

_A, _B, _C = "group/a latest", "group/b v1", "group/c v1"
_MODEL = "group/a/latest"


def _bound(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


_KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": _bound,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "directory": Path.mkdir,
}
# Where each lies below the base, as a pattern.
_PLACES = {
    "list": "registry.json",
    "manifest": f"{_MODEL}/.xprim/manifest.json",
    "receipt": f"{_MODEL}/.xprim/receipt.json",
    "pin": f"{_MODEL}/.xprim/pin.json",
    "history": "state.sqlite",
    "index": "cache/index/*.json",
    "copy of a manifest": "cache/manifests/*",
    "backup": "cache/backup/group/a/latest/*/backup.json",
    "archive": "cache/archive/group/c/v1/archive.json",
    "archived chunk": "cache/archive/group/c/v1/chunks/*",
    "places": "cache/adopted.json",
    "schedule": "cache/maintenance.json",
    "bundle": "info/group/a/metadata/cache_manifest.json",
    "sources": "info/group/a/metadata/sources.json",
    "digests": "info/group/a/metadata/integrity.sha256",
    "card": "info/group/a/metadata/model_card.json",
    "document": "info/group/a/documentation/README.md",
    "intent": "cache/intents/strange.json",
    "lease": "cache/leases/ref-group~a~latest/strange.lock",
    "journal": "cache/partial/*/verified",
}
_NEW = {"intent", "lease"}
# Without these some verb cannot answer; any other is mostly ignored, or treated as a damaged one.
_NEEDED = {"list", "archive", "places", "schedule"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A base that has one of everything."""
    room = Room.at(tmp_path_factory.mktemp("strange"))
    asyncio.run(_make(room))
    return room


async def _make(room: Room) -> None:
    files = {"w.bin": blocks(1, 2), "README.md": b"# A"}
    room.publish(
        {
            "group/a v1": files,
            "group/a v2": {**files, "README.md": b"# B"},
            _B: {"x": blocks(7, 8)},
            _C: {"y": blocks(9)},
        },
        alias={_A: "v1"},
    )
    theirs = room.root / "theirs"
    theirs.mkdir()
    (theirs / "t.gguf").write_bytes(b"t")
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_C)
        await manager.archive(_C)
        room.publish({}, alias={_A: "v2"})
        await manager.refresh(_A)
        await manager.pin(_A, "mine")
        await manager.adopt(theirs)
        await manager.derive(_A)
        await manager.schedule_maintenance("weekly")
        lost = hashlib.sha256(blocks(8)).hexdigest()  # a chunk that the registry has lost
        (room.made.root / "data" / lost).unlink()
        with pytest.raises(XprimError):
            await manager.pull(_B)


def _reads(manager: Manager, room: Room) -> list[Callable[[], Awaitable[Any]]]:
    """Everything that reads, and a few that write."""
    return [
        manager.list_installed,
        manager.status,
        lambda: manager.get_installed(_A),
        lambda: manager.list_files(_A),
        lambda: manager.validate(_A),
        lambda: manager.validate(_A, "full"),
        lambda: manager.plan_repair(_A),
        lambda: manager.plan_refresh(_A),
        lambda: manager.plan_rollback(_A),
        lambda: manager.plan_archive(_A),
        lambda: manager.plan_restore(_C),
        lambda: manager.plan_pull(_B),
        manager.plan_cleanup,
        manager.accounts,
        lambda: manager.why(room.dir(_A) / "w.bin"),
        manager.pins,
        manager.archived,
        manager.backups,
        manager.adopted,
        manager.usage,
        manager.maintenance_record,
        manager.list_remote,
        lambda: manager.validate_bundle("group/a"),
        lambda: manager.peek(_A),
        manager.prune,
        lambda: manager.repair(_A),
        lambda: manager.pull(_A, force=True),
        lambda: manager.restore(_C),
        lambda: manager.pull(_B),
        lambda: manager.rollback(_A, force=True),
        lambda: manager.remove(_A),
    ]


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("what", _PLACES)
async def test_each_verb_ends(made: Room, tmp_path: Path, what: str, kind: str) -> None:
    """It answers, treats the file as a damaged one, or raises an error of ours; what it says of the file is the way out."""
    base = shutil.copytree(made.base, tmp_path / "base", symlinks=True)
    if what in _NEW:
        place = base / _PLACES[what]
        place.parent.mkdir(parents=True, exist_ok=True)
    else:
        place = sorted(base.glob(_PLACES[what]))[0]
        place.unlink()
    _KINDS[kind](place)
    room, told = Room(made.root, made.made, base, made.url), list[XprimError]()
    async with room.manager() as manager:
        for read in _reads(manager, room):
            try:
                await read()
            except XprimError as error:
                told.append(error)
    of_it = [error for error in told if error.subject == str(place)]
    assert all(isinstance(error, StorageError) and "lies where a" in str(error) for error in of_it)
    assert all(error.hint for error in of_it)
    assert of_it or what not in _NEEDED
