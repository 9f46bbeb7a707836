"""A process that archives, restores, cleans up and shares is killed at random instants, again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from xprim_nb.cache.kept import changed_files
from xprim_nb.cache.verify import wrong_chunks
from xprim_nb.manager import Manager
from xprim_nb.testing.registries import random_bytes

from ..rooms import Room, blocks, require_sound
from .upkeep_worker import REFS

_WORKER = Path(__file__).with_name("upkeep_worker.py")
_SEED = 20261125
# An operation takes some ten milliseconds.
_LONGEST_S = 0.3
_SHARED = random_bytes("shared", 8_000)
_FILES = {
    "group/model v1": {"w.bin": _SHARED, "a.bin": blocks(*range(10)), "config.json": b"{}"},
    "group/model v2": {"w.bin": _SHARED, "b.bin": blocks(*range(5, 12)), "config.json": b"{2}"},
    "group/other v1": {"deep/w.bin": _SHARED, "y": b"y" * 1234},
}


class _Nursery:
    """The process whose children are killed, each some time after it said `ready`."""

    def __init__(self, room: Room, log: Path) -> None:
        arguments = [sys.executable, str(_WORKER), str(room.base), str(room.made.root)]
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def kill_one(self, chance: random.Random) -> None:
        """Let a child work for a random time, then kill it. One that ended by itself has found a fault."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{chance.random()}\n")
        self._process.stdin.flush()
        lines = {self._line(), self._line()}  # the child may be faster than its parent
        pid = next(int(line) for line in lines if line.isdigit())
        # Not to synchronise: the instant is the random thing.
        threading.Event().wait(chance.random() * _LONGEST_S)
        os.kill(pid, signal.SIGKILL)
        assert self._line() == str(-signal.SIGKILL), self._log.read_text()

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _require_whole(room: Room, manager: Manager) -> None:
    """Each installed model is right but for what a user added, and every added note lies somewhere."""
    for model in manager._store.list():
        assert model.path.is_dir()
        manifest = manager._store.manifest_of(model).manifest
        assert wrong_chunks(model.path, manifest) == {}, f"{model.ref} is damaged"
        changed = changed_files(room.layout, model.path)
        assert all(Path(path).name.startswith("note-") for path in changed), (
            f"untouched files look changed: {changed}"
        )
    assert list(room.layout.intents.glob("*.json")) == []
    mine = room.root / "mine"
    if mine.exists():
        notes = set(mine.read_text().split())
        there = {
            text
            for path in room.base.rglob("*")
            if path.is_file() and path.stat().st_size == 16
            for text in [path.read_bytes().decode("ascii", "replace")]
        }
        assert notes <= there, f"lost: {notes - there}"


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kills", [20, pytest.param(220, marks=pytest.mark.slow)])
async def test_killed_at_random_nothing_is_lost_and_nothing_half(
    room: Room, tmp_path: Path, kills: int
) -> None:
    """After each kill the installed models are whole, every added note is there, and each archive restores, offline."""
    room.publish(_FILES, file_hashes=True)
    seed = f"{_SEED}-{kills}"
    chance = random.Random(seed)
    nursery = _Nursery(room, tmp_path / "errors")
    try:
        for _ in range(kills):
            nursery.kill_one(chance)
            async with room.manager() as manager:
                _require_whole(room, manager)
        async with room.manager(offline=True) as manager:
            for archived in await manager.archived():
                await manager.restore(archived.ref)
            _require_whole(room, manager)
        async with room.manager() as manager:
            for ref in REFS:
                await manager.pull(ref, force=True)
            _require_whole(room, manager)
            for path in room.base.glob("group/*/*/note-*.txt"):
                path.unlink()
            await manager.prune()
        require_sound(room.base, _FILES)
    except BaseException:
        print(f"the seed was {seed!r}")
        raise
    finally:
        nursery.close()
