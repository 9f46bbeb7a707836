"""Everything the cache does to look after models, in any order, against a dictionary: no user's byte is ever lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.errors import HashMismatchError, NotInstalledError, XprimError
from xprim_nb.manager import Manager

from .rooms import Room, listing

_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_REFS = ["group/model v1", "group/model latest"]
_refs = st.sampled_from(_REFS)
# What people edit; the weights are nobody's to edit, so that damage to them is damage.
_TEXTS = ["a.txt", "deep/b.json", "deep/er/c.md"]
_contents = st.lists(st.sampled_from([b"0" * 16, b"1" * 16, b"2" * 16, b"345"]), max_size=6).map(b"".join)
_weights = st.lists(st.sampled_from([b"w" * 16, b"x" * 16]), min_size=2, max_size=6).map(b"".join)
_texts = st.dictionaries(st.sampled_from(_TEXTS), _contents)

Files = dict[str, bytes]


class World(RuleBasedStateMachine):
    """Publishes, edits and damages; `here` is what must lie in each directory.

    `theirs` are the bytes that a user wrote and has not thrown away: each must lie somewhere below the base.
    """

    def __init__(self) -> None:
        super().__init__()
        self.room = Room.at(Path(tempfile.mkdtemp(prefix="xprim-", dir=_MEMORY)))
        self.published: dict[str, Files] = {}
        self.here: dict[str, Files] = {}
        self.pristine: dict[str, Files] = {}
        self.damaged: dict[str, set[str]] = {}
        self.backups: dict[str, list[tuple[Files, Files, set[str]]]] = {}
        self.archived: dict[str, tuple[Files, Files]] = {}
        self.pinned: set[str] = set()
        self.theirs: set[bytes] = set()
        self.edits = 0
        self.list_may_be_damaged = False

    def teardown(self) -> None:
        shutil.rmtree(self.room.root)

    def _with_manager(self, work: Callable[[Manager], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            async with self.room.manager() as manager:
                return await work(manager)

        return asyncio.run(run())

    def _local(self, ref: str) -> set[str]:
        """Paths that a user changed or added."""
        pristine = self.pristine[ref]
        return {
            path
            for path, data in self.here[ref].items()
            if pristine.get(path) != data and path not in self.damaged[ref]
        }

    def _put(self, ref: str, files: Files, pristine: Files) -> None:
        self.here[ref], self.pristine[ref], self.damaged[ref] = dict(files), dict(pristine), set()

    def _is_whole(self, ref: str) -> bool:
        return not self.damaged[ref] and self.pristine[ref].keys() <= self.here[ref].keys()

    def _drop(self, ref: str) -> None:
        self.here.pop(ref)
        self.pinned.discard(ref)

    # --- the publisher's side ----------------------------------------------------------------------

    @initialize(texts=_texts, weights=_weights)
    def begin(self, texts: Files, weights: bytes) -> None:
        self.publish("v1", texts, weights)
        self.publish("v2", {**texts, "a.txt": b"2" * 16}, weights)
        self.point("v1")

    @rule(version=st.sampled_from(["v1", "v2"]), texts=_texts, weights=_weights)
    def publish(self, version: str, texts: Files, weights: bytes) -> None:
        files = {**texts, "w.safetensors": weights}
        self.room.publish({f"group/model {version}": files}, chunk_size=16)
        self.published[f"group/model {version}"] = files
        if "group/model latest" in self.published:
            self.point("v1")

    @rule(version=st.sampled_from(["v1", "v2"]))
    def point(self, version: str) -> None:
        self.room.publish({}, alias={"group/model latest": version})
        self.published["group/model latest"] = self.published[f"group/model {version}"]

    # --- the user's side ---------------------------------------------------------------------------

    @precondition(lambda self: self.here)
    @rule(data=st.data(), path=st.sampled_from([*_TEXTS, "mine.txt"]))
    def edit(self, data: st.DataObject, path: str) -> None:
        """Somebody writes a file: one of the model's, or one of their own."""
        ref = data.draw(st.sampled_from(sorted(self.here)))
        self.edits += 1
        written = b"user %d" % self.edits
        self._throw_away(ref, path)
        target = self.room.dir(ref) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(written)
        self.here[ref][path] = written
        self.damaged[ref].discard(path)
        self.theirs.add(written)

    def _throw_away(self, ref: str, path: str) -> None:
        old = self.here[ref].pop(path, None)
        if old is not None and old in self.theirs:
            self.theirs.discard(old)

    @precondition(lambda self: any(self.here.values()))
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """A bit flips on the medium: size and times stay as they were."""
        places = [
            (ref, path)
            for ref, files in self.here.items()
            for path, content in files.items()
            if content and self.pristine[ref].get(path) == content
        ]
        if not places:
            return
        ref, path = data.draw(st.sampled_from(sorted(places)))
        content = bytearray(self.here[ref][path])
        content[data.draw(st.integers(0, len(content) - 1))] ^= 0x80
        target = self.room.dir(ref) / path
        before = target.stat()
        with target.open("r+b") as file:
            file.write(content)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.here[ref][path] = bytes(content)
        self.damaged[ref].add(path)


class CareMachine(World):
    """Lets the cache care for that world, and asks after each step whether anything was lost."""

    @rule(ref=_refs)
    def pull(self, ref: str) -> None:
        pulled = self._with_manager(lambda manager: manager.pull(ref))
        if ref in self.here and self.pristine[ref] == self.published[ref]:
            assert pulled.status == "already_installed"
            return
        self._put(ref, self.published[ref], self.published[ref])
        self._spend_archive(ref)

    def _spend_archive(self, ref: str) -> None:
        files, pristine = self.archived.get(ref, ({}, {}))
        if pristine == self.published[ref] and files == pristine:
            self.archived.pop(ref, None)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def validate(self, data: st.DataObject) -> None:
        """A full check finds the damage, names its files, and calls nobody's work damage."""
        ref = data.draw(st.sampled_from(sorted(self.here)))
        report = self._with_manager(lambda manager: manager.validate(ref, "full"))
        missing = self.pristine[ref].keys() - self.here[ref].keys()
        found = {finding.path for finding in report.damaged}
        if self.list_may_be_damaged:  # until somebody writes it, which reading does not
            found.discard("registry.json")
        assert found == self.damaged[ref] | missing
        local = self._local(ref)
        assert set(report.modified_files) == {path for path in local if path in self.pristine[ref]}
        added = {path for path in local if path not in self.pristine[ref] and not path.endswith(".upstream")}
        assert {path for path in report.extra_files if not path.endswith(".upstream")} == added

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def repair(self, data: st.DataObject) -> None:
        """What was damaged is the publisher's again, and what somebody wrote is theirs."""
        ref = data.draw(st.sampled_from(sorted(self.here)))
        repaired = self._with_manager(lambda manager: manager.repair(ref))
        assert repaired.remaining_issues == ()
        self.list_may_be_damaged = False
        local = self._local(ref)
        self.here[ref] |= {path: bytes_ for path, bytes_ in self.pristine[ref].items() if path not in local}
        self.damaged[ref] = set()

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def refresh(self, data: st.DataObject) -> None:
        """Three-way by file: theirs stays, the publisher's new bytes come, a conflict has both."""
        ref = data.draw(st.sampled_from(sorted(self.here)))
        local, old, new = self._local(ref), self.pristine[ref], self.published[ref]
        before = dict(self.here[ref])
        refreshed = self._with_manager(lambda manager: manager.refresh(ref))
        if old == new:
            assert refreshed.status == "already_current"
            return
        after = self.room.files(ref)
        for path in local:
            assert after[path] == before[path], f"{path} was somebody's"
            if path in new and old.get(path) != new[path] and before[path] != new[path]:
                assert new[path] in (after.get(f"{path}.upstream"), after[path])
        for path in new.keys() - local:
            assert after[path] == new[path], f"{path} is not the new version's"
        self.backups.setdefault(ref, []).insert(0, (before, old, set(self.damaged[ref])))
        self._put(ref, after, new)

    @precondition(lambda self: any(self.backups.values()))
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        """The newest backup without known damage is what it was, to the byte; what stood there becomes a backup itself."""
        ref = data.draw(st.sampled_from(sorted(ref for ref, kept in self.backups.items() if kept)))
        known = [
            set(each.damage) for each in reversed(self._with_manager(lambda manager: manager.backups(ref)))
        ]
        assert all(told <= damaged for told, (_, _, damaged) in zip(known, self.backups[ref], strict=True))
        chosen = next((number for number, told in enumerate(known) if not told), 0)
        files, pristine, damaged = self.backups[ref].pop(chosen)
        self._with_manager(lambda manager: manager.rollback(ref, force=True))
        if ref in self.here:
            self.backups[ref].insert(0, (self.here[ref], self.pristine[ref], self.damaged[ref]))
        self._put(ref, files, pristine)
        self.damaged[ref] = damaged

    @rule(ref=_refs)
    def remove(self, ref: str) -> None:
        if ref in self.here:
            self._with_manager(lambda manager: manager.remove(ref))
            self._drop(ref)
            return
        try:
            self._with_manager(lambda manager: manager.remove(ref))
        except NotInstalledError:
            return
        raise AssertionError("removed what was not there")

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def archive(self, data: st.DataObject) -> None:
        """A whole model goes into the archive; a damaged one is refused and stays as it is."""
        ref = data.draw(st.sampled_from(sorted(self.here)))
        try:
            self._with_manager(lambda manager: manager.archive(ref))
        except HashMismatchError:
            assert not self._is_whole(ref)
            return
        except XprimError:
            assert ref in self.pinned
            return
        self.archived[ref] = (dict(self.here[ref]), self.pristine[ref])
        self._drop(ref)

    @precondition(lambda self: self.archived.keys() - self.here.keys())
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """What comes out of the archive is what went in, somebody's files with it."""
        ref = data.draw(st.sampled_from(sorted(self.archived.keys() - self.here.keys())))
        self._with_manager(lambda manager: manager.restore(ref))
        self._put(ref, *self.archived.pop(ref))

    @precondition(lambda self: self.here)
    @rule(data=st.data(), pin=st.booleans())
    def pin(self, data: st.DataObject, pin: bool) -> None:
        ref = data.draw(st.sampled_from(sorted(self.here)))
        self._with_manager(lambda manager: manager.pin(ref) if pin else manager.unpin(ref))
        (self.pinned.add if pin else self.pinned.discard)(ref)

    @rule()
    def clean_up(self) -> None:
        """Down to nothing: what is pinned, or the only copy of somebody's work, stays."""
        policy = CleanupPolicy(max_cache_size_gb=0, partial_idle_hours=0, min_age_hours=0)
        self._with_manager(lambda manager: manager.cleanup(policy))
        listed = {str(each.ref) for each in self._with_manager(lambda manager: manager.list_installed())}
        assert listed <= self.here.keys()
        for ref in sorted(self.here.keys() - listed):
            assert ref not in self.pinned, f"{ref} was pinned"
            assert not self._local(ref), f"{ref} held somebody's work"
            self._drop(ref)
        kept = self._with_manager(lambda manager: manager.backups())
        for ref, known in self.backups.items():
            left = sum(str(each.ref) == ref for each in kept)
            assert left <= len(known)
            if left < len(known):  # which of them went is the policy's choice; the others are as they were
                ids = [each for each in kept if str(each.ref) == ref]
                self.backups[ref] = [known[self._matching(known, each.path / "tree")] for each in ids]
        archived = {str(each.ref) for each in self._with_manager(lambda manager: manager.archived())}
        self.archived = {ref: found for ref, found in self.archived.items() if ref in archived}

    def _matching(self, known: list[tuple[Files, Files, set[str]]], tree: Path) -> int:
        found = {
            path: content
            for path, content in listing(tree).items()
            if isinstance(content, bytes) and not path.startswith(".xprim/")
        }
        return next(number for number, (files, _, _) in enumerate(known) if files == found)

    @rule(what=st.sampled_from(["state", "list"]))
    def harm(self, what: str) -> None:
        """Derived files are damaged; the directories say what is installed, and what is pinned."""
        if what == "state":
            self.room.base.mkdir(exist_ok=True)
            self.room.layout.state_file.write_bytes(b"no database")
        elif self.room.layout.registry_file.exists():
            self.room.layout.registry_file.write_bytes(b'{"group": ')
            self.list_may_be_damaged = True

    # --- what must hold ----------------------------------------------------------------------------

    @invariant()
    def both_say_the_same(self) -> None:
        if not self.published:
            return
        listed = self._with_manager(lambda manager: manager.list_installed())
        assert [str(model.ref) for model in listed] == sorted(self.here)
        for ref, files in self.here.items():
            assert self.room.files(ref) == files
        assert {str(pin.ref) for pin in self._with_manager(lambda manager: manager.pins())} == self.pinned

    @invariant()
    def no_byte_of_a_user_is_lost(self) -> None:
        lying = {data for data in listing(self.room.base).values() if isinstance(data, bytes)}
        assert self.theirs <= lying, f"lost: {self.theirs - lying}"

    @invariant()
    def nothing_is_half_done(self) -> None:
        for folder in (self.room.layout.intents, self.room.layout.trash, self.room.layout.partials):
            assert not folder.exists() or list(folder.iterdir()) == []


CareMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class LongCareMachine(CareMachine):
    """The same, with settings of its own."""


LongCareMachine.TestCase.settings = settings(
    CareMachine.TestCase.settings, max_examples=250, stateful_step_count=30
)


@pytest.mark.slow
@pytest.mark.timeout(3600)
class TestLongCare(LongCareMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time by Hypothesis
    """The long form: two hundred and fifty runs of thirty steps."""


@pytest.mark.timeout(300)
class TestCare(CareMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time by Hypothesis
    """Fifteen runs of fifteen steps, the same ones every time."""
