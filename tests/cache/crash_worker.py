"""Kills an operation before each single change that it makes on disk, and looks whether the next one makes it good.

    python crash_worker.py ROOT SCENARIO EXCHANGE FIRST STRIDE

The operation runs in a forked child that ends with `os._exit` before its n-th change; then n + STRIDE, until the
operation comes to its end. Prints how many points were tried. Forking is safe here: this process has no threads.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import xprim_nb.cache.install as install_module
from tests.cache.rooms import Room, blocks, listing, require_sound
from xprim_nb.cache.verify import wrong_chunks
from xprim_nb.manager import Manager
from xprim_nb.registry.manifest import parse_manifest
from xprim_nb.registry.sources.directory import DirectorySource

KILLED = 77
_REF = "group/model v1"
_OLD = {"a.bin": blocks("a", "b"), "gone/x": b"only in the old one", "notes": b"old notes"}
_NEW = {"a.bin": blocks("a", "c", "d"), "notes": b"new"}
_MINE = b"what a user wrote"


class Countdown:
    """Ends the process before its n-th change below a directory."""

    def __init__(self, root: Path, point: int) -> None:
        self._root, self._left = str(root), point

    def install(self) -> None:
        sys.addaudithook(self._heard)
        for name in ("write", "pwrite"):
            setattr(os, name, self._counted(getattr(os, name)))
        setattr(os, "fsync", lambda fd: None)  # noqa: B010  # a killed process loses nothing it wrote
        install_module.exchange_dirs = self._counted(install_module.exchange_dirs)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self._tick()
            return function(*args)

        return counted

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if not str(path).startswith(self._root) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            self._tick()
            if flags & os.O_TRUNC and Path(path).exists():  # the moment between truncating and writing
                self._tick(lambda: os.truncate(path, 0))
        elif event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.utime"):
            if (
                not isinstance(args[0], int)
                and not str(args[0]).startswith(self._root)
                and event != "os.remove"
            ):
                return
            self._tick()

    def _tick(self, last_deed: Callable[[], None] | None = None) -> None:
        self._left -= 1
        if self._left == 0:
            if last_deed is not None:
                last_deed()
            os._exit(KILLED)


class _Matrix:
    """One scenario."""

    def __init__(self, root: Path, scenario: str, *, exchange: bool) -> None:
        self.root, self.scenario, self.exchange = root, scenario, exchange
        self.room = Room.at(root)
        self.fetched = root / "fetched"
        self.template = root / "template"

    def prepare(self) -> None:
        self.room.publish({_REF: _OLD})
        if self.scenario == "resume":
            missing = self.room.made.object_path(self.room.made.chunks(_REF)[-1])
            aside = missing.rename(self.root / "missing")
            assert in_child(lambda: self._with_manager(lambda manager: manager.pull(_REF))) == 1
            aside.rename(missing)
            shutil.move(self.room.base, self.template)
        elif self.scenario != "install":
            require_well(in_child(lambda: self._with_manager(lambda manager: manager.pull(_REF))))
            if self.scenario in ("update", "remove"):
                (self.room.dir(_REF) / "notes").write_bytes(_MINE)
            if self.scenario == "force":
                (self.room.dir(_REF) / "a.bin").write_bytes(blocks("a", "x"))
            shutil.move(self.room.base, self.template)
        else:
            self.template.mkdir()
        if self.scenario == "update":
            self.room.publish({_REF: _NEW})

    def run(self, first: int, stride: int) -> int:
        point = first
        while True:
            shutil.rmtree(self.room.base, ignore_errors=True)
            shutil.copytree(self.template, self.room.base)
            self.fetched.write_text("")
            status = in_child(functools.partial(self._killed_at, point))
            if status not in (0, KILLED):
                raise SystemExit(f"point {point}: the operation failed by itself ({status})")
            if in_child(self._look_after):
                raise SystemExit(
                    f"point {point} of {self.scenario} (exchange={self.exchange}) is not made good"
                )
            if status == 0:
                return (point - first) // stride + 1
            point += stride

    def _killed_at(self, point: int) -> None:
        self._record_fetches()
        Countdown(self.room.base, point).install()
        self._with_manager(self._operation)

    def _operation(self, manager: Manager) -> Coroutine[Any, Any, Any]:
        if self.scenario == "remove":
            return manager.remove(_REF)
        return manager.pull(_REF, force=self.scenario == "force", concurrency=1)

    def _look_after(self) -> None:
        self._require_whole_or_absent()
        self._record_fetches()
        setattr(os, "fsync", lambda fd: None)  # noqa: B010  # nothing here is to survive a power cut
        self._with_manager(self._checks)

    async def _checks(self, manager: Manager) -> None:
        listed = await manager.list_installed()
        user_touched = self.scenario in ("update", "remove", "force")
        if not user_touched or (
            listed and listed[0].manifest_hash == self._offered() and self.scenario == "update"
        ):
            require_sound(self.room.base)
        assert list(self.room.layout.intents.glob("*.json")) == [], "an intent is left"
        assert list(self.room.layout.trash.glob("*")) == [], "a tree is left on its way out"
        assert [model.path.is_dir() for model in listed] == [True] * len(listed)
        there = (self.room.dir(_REF) / ".xprim" / "manifest.json").exists()
        assert there == bool(listed), "registry.json does not agree with the directory"
        await manager.pull(_REF, force=self.scenario == "force", concurrency=1)
        final = _NEW if self.scenario == "update" else _OLD
        if self.scenario == "remove" and listed:  # the removal had not begun: what the user wrote is in place
            assert self.room.files(_REF) == {**_OLD, "notes": _MINE}
        else:
            require_sound(self.room.base, {_REF: final})
        everything = listing(self.room.base)
        if self.scenario in ("update", "remove"):
            assert _MINE in everything.values(), "what the user wrote is lost"
        kept = [
            name for name, data in everything.items() if name.startswith("cache/kept/") and data is not None
        ]
        mine = {"update": "notes", "remove": "notes", "force": "a.bin"}.get(self.scenario, "")
        assert all(name.endswith(f"/{mine}") for name in kept), f"untouched files were kept: {kept}"
        assert len(kept) <= 1
        assert [name for name in everything if name.startswith("cache/partial/")] == []
        fetched = self.fetched.read_text().split()
        assert len(fetched) <= len(set(fetched)) + 1, f"fetched again: {fetched}"
        if self.scenario == "resume":
            missing = self.room.made.chunks(_REF)[-1]
            assert set(fetched) <= {missing}, "what an earlier pull had verified was fetched again"

    def _require_whole_or_absent(self) -> None:
        root = self.room.dir(_REF)
        path = root / ".xprim" / "manifest.json"
        if not path.exists():
            assert not root.exists(), "a model directory without a manifest"
            return
        files = self.room.files(_REF)
        if self.scenario == "force":
            whole = wrong_chunks(root, parse_manifest(path.read_bytes(), ".xprim").manifest) == {}
            assert whole or files["a.bin"] == blocks("a", "x")
        else:
            allowed = [_NEW, {**_OLD, "notes": _MINE}, _OLD]
            assert files in allowed, f"neither the old nor the new version: {sorted(files)}"

    def _offered(self) -> str:
        return self.room.made.manifest_hash(_REF)

    def _record_fetches(self) -> None:
        copy = DirectorySource._copy
        log = os.open(self.fetched, os.O_WRONLY | os.O_APPEND)
        write = os.write

        def recorded(self_: DirectorySource, path: Path, *args: Any) -> None:
            write(log, f"{path.name}\n".encode())
            copy(self_, path, *args)

        setattr(DirectorySource, "_copy", recorded)  # noqa: B010  # in this child only

    def _with_manager(self, work: Callable[[Manager], Coroutine[Any, Any, Any]]) -> None:
        if not self.exchange:
            install_module.exchange_dirs = lambda one, other: False

        async def run() -> None:
            async with self.room.manager() as manager:
                await work(manager)

        asyncio.run(run())


def in_child(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def require_well(status: int) -> None:
    assert status == 0, status


def main() -> None:
    """See the module's docstring."""
    root, scenario, exchange, first, stride = sys.argv[1:]
    matrix = _Matrix(Path(root), scenario, exchange=exchange == "yes")
    matrix.prepare()
    print(matrix.run(int(first), int(stride)))


if __name__ == "__main__":
    main()
