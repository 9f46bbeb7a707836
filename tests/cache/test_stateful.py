"""The cache against a dictionary: whatever is done in whatever order, both say the same, and no user's byte is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xprim_nb.cache.verify import is_whole
from xprim_nb.errors import NotInstalledError, VersionNotFoundError
from xprim_nb.manager import Manager
from xprim_nb.registry.manifest import parse_manifest

from .rooms import Room, listing

_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_VERSIONS = ["v1", "v2", "latest"]
_refs = st.sampled_from([f"group/model {version}" for version in _VERSIONS])
_paths = st.sampled_from(["a.bin", "b.bin", "deep/c", "deep/er/d"])
# Few different pieces, so that versions share chunks, repeat them, and files share them with their neighbours.
_contents = st.lists(st.sampled_from([b"0" * 16, b"1" * 16, b"2" * 16, b"345"]), max_size=6).map(b"".join)
_files = st.dictionaries(_paths, _contents, min_size=1)


class CacheMachine(RuleBasedStateMachine):
    """Publishes, pulls, spoils, mends and removes; `installed` and `kept` are what must come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room.at(Path(tempfile.mkdtemp(prefix="xprim-", dir=_MEMORY)))
        self.published: dict[str, dict[str, bytes]] = {}
        self.installed: dict[str, dict[str, bytes]] = {}
        self.pulled: dict[str, dict[str, bytes]] = {}
        self.kept: Counter[bytes] = Counter()
        self.edits = 0

    def teardown(self) -> None:
        shutil.rmtree(self.room.root)

    def _with_manager(self, work: Callable[[Manager], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            async with self.room.manager() as manager:
                return await work(manager)

        return asyncio.run(run())

    def _is_current(self, ref: str) -> bool:
        return self.pulled.get(ref) == self.published.get(ref)

    def _is_intact(self, ref: str) -> bool:
        return self.pulled[ref].items() <= self.installed[ref].items()

    def _displace(self, ref: str) -> None:
        """The directory goes: what is not as it was pulled is the user's."""
        for path, data in self.installed.pop(ref, {}).items():
            if self.pulled[ref].get(path) != data:
                self.kept[data] += 1

    @initialize(files=_files, chunk_size=st.sampled_from([5, 16, 64]))
    def begin(self, files: dict[str, bytes], chunk_size: int) -> None:
        self.chunk_size = chunk_size
        self.publish("v1", files)
        self.publish("v2", {**files, "a.bin": b"2" * 16})
        self.point("v1")

    @rule(version=st.sampled_from(["v1", "v2"]), files=_files)
    def publish(self, version: str, files: dict[str, bytes]) -> None:
        ref = f"group/model {version}"
        self.room.publish({ref: files}, chunk_size=self.chunk_size)
        self.published[ref] = files
        if self.published.get("group/model latest") is not None:
            self.point("v1")

    @rule(version=st.sampled_from(["v1", "v2"]))
    def point(self, version: str) -> None:
        self.room.publish({}, alias={"group/model latest": version})
        self.published["group/model latest"] = self.published[f"group/model {version}"]

    @rule(ref=_refs, force=st.booleans())
    def pull(self, ref: str, force: bool) -> None:
        pulled = self._with_manager(lambda manager: manager.pull(ref, force=force))
        was = ref in self.installed
        if was and self._is_current(ref) and not force:
            assert pulled.status == "already_installed"
            return
        assert pulled.status == ("updated" if was and not self._is_current(ref) else "installed")
        if was and self._is_current(ref) and self._is_intact(ref):
            assert pulled.receipt.bytes_network == pulled.receipt.bytes_written == 0
            return
        self._displace(ref)
        self.installed[ref] = dict(self.published[ref])
        self.pulled[ref] = dict(self.published[ref])

    @rule(ref=_refs)
    def remove(self, ref: str) -> None:
        if ref not in self.installed:
            try:
                self._with_manager(lambda manager: manager.remove(ref))
            except NotInstalledError:
                return
            raise AssertionError("removed what was not there")
        self._with_manager(lambda manager: manager.remove(ref))
        self._displace(ref)

    @precondition(lambda self: self.installed)
    @rule(data=st.data(), path=_paths, same_length=st.booleans())
    def edit(self, data: st.DataObject, path: str, same_length: bool) -> None:
        """A user writes a file: one of the model's, of another length or not, or one of his own."""
        ref = data.draw(st.sampled_from(sorted(self.installed)))
        self.edits += 1
        written = b"user %d" % self.edits
        old = self.installed[ref].get(path)
        if same_length and old is not None and len(old) >= len(written):
            written = written.ljust(len(old), b".")
        target = self.room.dir(ref) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(written)
        self.installed[ref][path] = written

    @precondition(lambda self: any(self.installed.values()))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """A user deletes a file."""
        ref = data.draw(st.sampled_from(sorted(ref for ref, files in self.installed.items() if files)))
        path = data.draw(st.sampled_from(sorted(self.installed[ref])))
        (self.room.dir(ref) / path).unlink()
        del self.installed[ref][path]

    @precondition(lambda self: self.installed)
    @rule(data=st.data())
    def forget_the_receipt(self, data: st.DataObject) -> None:
        """The model is as the original client would have left it."""
        ref = data.draw(st.sampled_from(sorted(self.installed)))
        (self.room.dir(ref) / ".xprim" / "receipt.json").unlink(missing_ok=True)

    @rule()
    def prune(self) -> None:
        self._with_manager(lambda manager: manager.prune())

    @rule(what=st.sampled_from(["index", "state", "list", "manifests"]))
    def harm(self, what: str) -> None:
        """Derived files vanish or are damaged; the directories say what is installed."""
        match what:
            case "index":
                shutil.rmtree(self.room.base / "cache" / "index", ignore_errors=True)
            case "state":
                self.room.base.mkdir(exist_ok=True)
                self.room.layout.state_file.write_bytes(b"no database")
            case "list" if self.room.layout.registry_file.exists():
                self.room.layout.registry_file.write_bytes(b'{"group": ')
            case _:
                shutil.rmtree(self.room.layout.manifests, ignore_errors=True)

    @rule()
    def ask_for_what_is_not_there(self) -> None:
        try:
            self._with_manager(lambda manager: manager.pull("group/model v9"))
        except VersionNotFoundError:
            return
        raise AssertionError("pulled what is not there")

    @invariant()
    def both_say_the_same(self) -> None:
        if not self.published:
            return
        listed = self._with_manager(lambda manager: manager.list_installed())
        assert [str(model.ref) for model in listed] == sorted(self.installed)
        for ref, files in self.installed.items():
            assert self.room.files(ref) == files
            raw = (self.room.dir(ref) / ".xprim" / "manifest.json").read_bytes()
            assert is_whole(self.room.dir(ref), parse_manifest(raw, ".xprim").manifest) == self._is_intact(
                ref
            )

    @invariant()
    def no_byte_of_a_user_is_lost_and_none_of_ours_is_kept(self) -> None:
        root = self.room.base / "cache" / "kept"
        found = Counter(data for data in listing(root).values() if isinstance(data, bytes))
        assert found == self.kept

    @invariant()
    def nothing_is_half_done(self) -> None:
        for folder in (self.room.layout.intents, self.room.layout.trash, self.room.layout.partials):
            assert not folder.exists() or list(folder.iterdir()) == []


CacheMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.timeout(300)
class TestCache(CacheMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time by Hypothesis
    """Twenty-five runs of twenty steps, the same ones every time."""
