"""Kills an operation of upkeep before each single change that it makes on disk, and looks whether all is still there.

    python crash_points.py ROOT SCENARIO FIRST STRIDE

As `tests/cache/crash_worker.py` does for pulls: a forked child ends with `os._exit` before its n-th change; then
n + STRIDE, until the operation comes to its end. Prints how many points were tried.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.cache.crash_worker import KILLED, Countdown, in_child, require_well
from tests.cache.rooms import Room, blocks, listing, require_sound
from tests.cache.upkeep.disk import age, edit
from xprim_nb.cache.kept import changed_files
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.manager import Manager
from xprim_nb.testing.registries import random_bytes

_REF, _TWIN = "group/model v1", "group/twin v1"
_BIG = random_bytes("big", 5_000)
_FILES = {"a.bin": _BIG, "b.bin": blocks(1, 2), "config.json": b"{}", "empty": b""}
_TWIN_FILES = {"deep/a.bin": _BIG, "x": b"x"}
_MINE = b"what a user wrote"
_EDITED = {**_FILES, "config.json": _MINE, "notes.txt": _MINE + b" too"}
_SCENARIOS = ("archive", "restore", "remove_archive", "cleanup", "compress", "dedupe")


class _Matrix:
    """One scenario."""

    def __init__(self, root: Path, scenario: str) -> None:
        assert scenario in _SCENARIOS
        self.scenario, self.room, self.template = scenario, Room.at(root), root / "template"

    def prepare(self) -> None:
        self.room.publish({_REF: _FILES, _TWIN: _TWIN_FILES}, file_hashes=True)
        require_well(in_child(lambda: self._with_manager(self._set_up)))
        shutil.move(self.room.base, self.template)

    async def _set_up(self, manager: Manager) -> None:
        await manager.pull(_REF)
        await manager.pull(_TWIN)
        if self.scenario in ("archive", "restore", "remove_archive"):
            edit(self.room.dir(_REF) / "config.json", _MINE)
            edit(self.room.dir(_REF) / "notes.txt", _MINE + b" too")
        if self.scenario in ("restore", "remove_archive"):
            await manager.archive(_REF)
        else:
            age(self.room, _REF, 100)
        partial = self.room.layout.partials / ("0" * 64)
        (partial / "tree").mkdir(parents=True)
        (partial / "tree/x").write_bytes(b"x" * 5000)

    def run(self, first: int, stride: int) -> int:
        point = first
        while True:
            shutil.rmtree(self.room.base, ignore_errors=True)
            subtree = functools.partial(shutil.copytree, symlinks=True)
            subtree(self.template, self.room.base)
            status = in_child(functools.partial(self._killed_at, point))
            if status not in (0, KILLED):
                raise SystemExit(f"point {point}: the operation failed by itself ({status})")
            if in_child(self._look_after):
                raise SystemExit(f"point {point} of {self.scenario} is not made good")
            if status == 0:
                return (point - first) // stride + 1
            point += stride

    def _killed_at(self, point: int) -> None:
        Countdown(self.room.base, point).install()
        self._with_manager(self._operate)

    async def _operate(self, manager: Manager) -> None:
        policy = CleanupPolicy(
            unused_threshold_days=30, partial_idle_hours=0, compression_enabled=self.scenario == "compress"
        )
        match self.scenario:
            case "archive":
                await manager.archive(_REF)
            case "restore":
                await manager.restore(_REF)
            case "remove_archive":
                await manager.remove_archive(_REF)
            case "dedupe":
                await manager.dedupe(hard_links=True)
            case _:
                await manager.cleanup(policy)

    def _look_after(self) -> None:
        setattr(os, "fsync", lambda fd: None)  # noqa: B010  # nothing here is to survive a power cut
        self._with_manager(self._checks)

    async def _checks(self, manager: Manager) -> None:
        """Old or new, whole; what a user wrote is there; the same operation, or its next step, comes to its end."""
        room, layout = self.room, self.room.layout
        assert list(layout.intents.glob("*.json")) == [], "an intent is left"
        installed = {str(model.ref) for model in await manager.list_installed()}
        archived = {str(each.ref) for each in await manager.archived()}
        assert _TWIN in installed
        everything = [data for data in listing(room.base).values() if isinstance(data, bytes)]
        mine = self.scenario in ("archive", "restore", "remove_archive")
        if mine:
            assert {_MINE, _MINE + b" too"} <= set(everything), "what the user wrote is lost"
        if _REF in installed:
            assert room.files(_REF) == (_EDITED if mine else _FILES)
            changed = changed_files(layout, room.dir(_REF))
            assert changed == (["config.json", "notes.txt"] if mine else []), f"looks changed: {changed}"
        assert room.files(_TWIN) == _TWIN_FILES
        assert changed_files(layout, room.dir(_TWIN)) == []
        if self.scenario in ("archive", "restore", "compress"):
            assert _REF in installed | archived, "neither the model nor its archive"
        if _REF in archived:
            await manager.restore(_REF)
            assert room.files(_REF) == (_EDITED if mine else _FILES)
        elif _REF not in installed:
            await manager.pull(_REF)
        elif self.scenario in ("archive", "compress"):
            await manager.archive(_REF)
            await manager.restore(_REF)
            assert room.files(_REF) == (_EDITED if mine else _FILES)
        if self.scenario == "dedupe":
            await manager.dedupe(hard_links=True)
            names = (room.dir(_REF) / "a.bin", room.dir(_TWIN) / "deep/a.bin")
            assert names[0].stat().st_ino == names[1].stat().st_ino
        await manager.prune()
        for name in ("config.json", "notes.txt") if mine else ():
            (room.dir(_REF) / name).unlink(missing_ok=True)
        await manager.pull(_REF, force=True)
        require_sound(room.base, {_REF: _FILES, _TWIN: _TWIN_FILES})

    def _with_manager(self, work: Callable[[Manager], Coroutine[Any, Any, Any]]) -> None:
        async def run() -> None:
            async with self.room.manager() as manager:
                await work(manager)

        asyncio.run(run())


def main() -> None:
    """See the module's docstring."""
    root, scenario, first, stride = sys.argv[1:]
    matrix = _Matrix(Path(root), scenario)
    matrix.prepare()
    print(matrix.run(int(first), int(stride)))


if __name__ == "__main__":
    main()
