"""Kills a refresh, a rollback, or the dropping of a backup before each single change that it makes on disk.

    python crash_worker.py ROOT SCENARIO EXCHANGE FIRST STRIDE

As `tests/cache/crash_worker.py`, whose harness it uses. Prints how many points were tried.
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

import xprim_nb.cache.install as install_module
from tests.cache.crash_worker import KILLED, Countdown, in_child, require_well
from tests.cache.rooms import Room, blocks, listing
from xprim_nb.cache.renewal.strategy import UpdatePolicy, UpdateStrategy
from xprim_nb.cache.renewal.values import Unreadable, Verdict
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef

_REF = "group/model v1"
_OLD = {"a.bin": blocks("a", "b"), "gone/x": blocks("x"), "both.json": blocks("o"), "kept.json": blocks("k")}
_NEW = {"a.bin": blocks("a", "c"), "both.json": blocks("n"), "kept.json": blocks("k")}
_MINE = {"both.json": b"mine, both", "kept.json": b"mine, kept", "notes/added": b"mine, added"}
_FIRST = {**_OLD, **_MINE}
_MERGED = {**_NEW, **_MINE, "both.json.upstream": blocks("n")}
_AGAIN = b"mine, changed again"

_POLICIES = {
    "refresh": UpdatePolicy(),
    "bare": UpdatePolicy(backup_before_update=False),
    "plain": UpdatePolicy(preserve_local_modifications=False, backup_before_update=False),
    "refused": UpdatePolicy(),
}


class _Matrix:
    """One scenario."""

    def __init__(self, root: Path, scenario: str, *, exchange: bool) -> None:
        self.scenario, self.exchange = scenario, exchange
        self.room = Room.at(root)
        self.template = root / "template"

    def prepare(self) -> None:
        self.room.publish({_REF: _OLD})
        require_well(in_child(lambda: self._with_manager(lambda manager: manager.pull(_REF))))
        for path, data in _MINE.items():
            target = self.room.dir(_REF) / path
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
        self.room.publish({_REF: _NEW})
        if self.scenario in ("rollback", "drop"):
            require_well(in_child(lambda: self._with_manager(lambda manager: manager.refresh(_REF))))
        if self.scenario == "drop":
            (self.room.dir(_REF) / "kept.json").write_bytes(_AGAIN)
        shutil.move(self.room.base, self.template)

    def run(self, first: int, stride: int) -> int:
        point = first
        while True:
            shutil.rmtree(self.room.base, ignore_errors=True)
            shutil.copytree(self.template, self.room.base, symlinks=True)
            status = in_child(functools.partial(self._killed_at, point))
            if status not in (0, KILLED):
                raise SystemExit(f"point {point}: the operation failed by itself ({status})")
            if in_child(self._look_after):
                where = f"{self.scenario} (exchange={self.exchange})"
                raise SystemExit(f"point {point} of {where} is not made good")
            if status == 0:
                return (point - first) // stride + 1
            point += stride

    def _killed_at(self, point: int) -> None:
        Countdown(self.room.base, point).install()
        self._with_manager(self._operation)

    def _operation(self, manager: Manager) -> Coroutine[Any, Any, Any]:
        if self.scenario == "rollback":
            return manager.rollback(_REF)
        if self.scenario == "drop":
            (name,) = (path.name for path in self._backups())
            return manager.drop_backup(_REF, name)
        strategy = UpdateStrategy(update_policy=_POLICIES[self.scenario])
        return manager.refresh(_REF, strategy, concurrency=1)

    def _backups(self) -> list[Path]:
        return sorted((self.room.base / "cache" / "backup" / "group" / "model" / "v1").glob("*"))

    def _allowed(self) -> list[dict[str, bytes]]:
        if self.scenario == "drop":
            return [{**_MERGED, "kept.json": _AGAIN}]
        return [_FIRST, _NEW if self.scenario == "plain" else _MERGED]

    def _look_after(self) -> None:
        before = self.room.files(_REF) if self.room.dir(_REF).exists() else None
        # Where two directories cannot be exchanged, the name is empty for a moment.
        assert before in self._allowed() or (before is None and not self.exchange)
        setattr(os, "fsync", lambda fd: None)  # noqa: B010  # nothing here is to survive a power cut
        self._with_manager(self._checks)

    async def _checks(self, manager: Manager) -> None:
        found = self.room.files(_REF)
        assert found in self._allowed(), f"neither the old nor the new version: {sorted(found)}"
        assert list(self.room.layout.intents.glob("*.json")) == [], "an intent is left"
        assert list(self.room.layout.trash.glob("*")) == [], "a tree is left on its way out"
        (model,) = await manager.list_installed()
        is_new = found != _FIRST
        assert (model.manifest_hash == self.room.made.manifest_hash(_REF)) == is_new
        self._require_nothing_lost()
        for backup in await manager.backups(_REF):
            assert not backup.problem
            assert (await manager.plan_rollback(_REF, backup.id)).problems == ()
        await self._go_on(manager, is_new=is_new)

    def _require_nothing_lost(self) -> None:
        held = set(listing(self.room.base).values())
        for data in _MINE.values():
            assert data in held, f"lost: {data!r}"
        # Whatever is put aside is the user's, and of what is carried over there is no copy.
        kept = {
            Path(name).name
            for name, data in listing(self.room.base).items()
            if name.startswith("cache/kept/") and data is not None
        }
        expected = {
            "plain": {Path(path).name for path in _MINE},
            "drop": {"kept.json"},
        }.get(self.scenario, set())
        assert kept <= expected, f"put aside needlessly: {kept}"

    async def _go_on(self, manager: Manager, *, is_new: bool) -> None:
        """The operation is done again, or is done already; then everything is as if nobody had been killed."""
        if self.scenario == "rollback":
            if is_new:
                await manager.rollback(_REF)
            assert self.room.files(_REF) == _FIRST
            (backup,) = await manager.backups(_REF)
            assert (backup.tree / "notes" / "added").read_bytes() == _MINE["notes/added"]
            return
        if self.scenario == "drop":
            for backup in await manager.backups(_REF):
                await manager.drop_backup(_REF, backup.id)
            assert list(self.room.base.glob("cache/backup/group")) == []
            self._require_nothing_lost()
            return
        strategy = UpdateStrategy(update_policy=_POLICIES[self.scenario])
        if self.scenario == "refused":
            if is_new:  # killed before it was found wrong
                assert len(await manager.backups(_REF)) == 1
                await manager.rollback(_REF)
            assert self.room.files(_REF) == _FIRST
            return
        await manager.refresh(_REF, strategy)
        assert self.room.files(_REF) == (_NEW if self.scenario == "plain" else _MERGED)
        self._require_nothing_lost()
        assert list(self.room.layout.partials.glob("*")) == []

    def _with_manager(self, work: Callable[[Manager], Coroutine[Any, Any, Any]]) -> None:
        if not self.exchange:
            install_module.exchange_dirs = lambda one, other: False

        async def refuse(ref: ModelRef) -> Verdict:
            return Unreadable("It is wrong.")

        async def run() -> None:
            async with self.room.manager() as manager:
                if self.scenario == "refused":
                    manager._renewal.refresher._validate = refuse
                await work(manager)

        asyncio.run(run())


def main() -> None:
    """See the module's docstring."""
    root, scenario, exchange, first, stride = sys.argv[1:]
    matrix = _Matrix(Path(root), scenario, exchange=exchange == "yes")
    matrix.prepare()
    print(matrix.run(int(first), int(stride)))


if __name__ == "__main__":
    main()
