"""The store and a saver on one file against dictionaries: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xprim_nb.errors import CheckpointNotFoundError, ConfigError
from xprim_nb.prompts.checkpoints import CheckpointStore, GraphNode, SqliteSaver, payloads, removing
from xprim_nb.prompts.checkpoints.database import Session
from xprim_nb.testing.checkpoints_given import at, long, put

_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_NODE = GraphNode(
    kind="file", name="a.py", state={"text": long("shared")}, outputs={"lines": [long("a"), "b"]}
)
# Few values, so that states, nodes, threads and writes share them, and the same is saved again.
_values = st.sampled_from(
    [1, long("shared"), [long("a"), "b"], [long("a"), long("b")], {"deep": [long("b")]}]
)
_states = st.dictionaries(st.sampled_from(["x", "y"]), _values, max_size=2)
_scaffolds, _names = st.sampled_from(["s", "t"]), st.sampled_from(["main", "bold", "other"])
_threads = st.sampled_from(["one", "two", "three"])
_picks = st.integers(0, 1000)


class _Saved(NamedTuple):
    scaffold: str
    parent: str | None
    state: dict[str, Any]
    has_node: bool
    payload: str
    node_payload: str


class _Step(NamedTuple):
    parent: str | None
    values: dict[str, Any]
    writes: dict[str, Any]


class StoreMachine(RuleBasedStateMachine):
    """Saves, branches, deletes, erases, prunes, copies and reopens; the dictionaries are what must come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="xprim-", dir=_MEMORY))
        self.runner = asyncio.Runner()
        self.saved: dict[str, _Saved] = {}
        self.branches: dict[tuple[str, str], str] = {}
        self.erased: set[str] = set()
        self.notes: dict[str, list[tuple[str, str]]] = {}
        self.threads: dict[str, dict[str, _Step]] = {}
        self.version = 0

    def teardown(self) -> None:
        self._close()
        self.runner.close()
        shutil.rmtree(self.folder)

    @initialize()
    def open(self) -> None:
        self.store = CheckpointStore.open(self.folder / "runs.sqlite")
        self.saver = SqliteSaver.open(self.folder / "runs.sqlite")

    @precondition(lambda self: self.saved and self.threads)
    @rule()
    def reopen(self) -> None:
        self._close()
        self.open()

    def _close(self) -> None:
        self._run(self.store.aclose())
        self.saver.close()

    def _run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    def _refused(self, call: Coroutine[Any, Any, Any]) -> None:
        with pytest.raises(ConfigError):
            self._run(call)

    def _pick(self, pick: int) -> str:
        return list(self.saved)[pick % len(self.saved)]

    def _line(self, id_: str | None) -> list[str]:
        line = []
        while id_ is not None:
            line.append(id_)
            id_ = self.saved[id_].parent
        return line

    def _same(self, like: _Saved) -> str | None:
        return next((id_ for id_, each in self.saved.items() if each[:4] == like[:4]), None)

    # --- the store -------------------------------------------------------------------------------

    @rule(scaffold=_scaffolds, name=_names, state=_states, has_node=st.booleans(), after=st.none() | _picks)
    def save(
        self, scaffold: str, name: str, state: dict[str, Any], has_node: bool, after: int | None
    ) -> None:
        parent = None if after is None or not self.saved else self._pick(after)
        call = self.store.save(scaffold, state, name, nodes=[_NODE] if has_node else [], parent=parent)
        tip = self.branches.get((scaffold, name))
        if parent is not None and self.saved[parent].scaffold != scaffold:
            self._refused(call)
            return
        follows = tip if parent is None else parent
        like = _Saved(scaffold, follows, state, has_node, "", "")
        expected = self._same(like)
        if (
            parent is None
            and tip is not None
            and self._same(like._replace(parent=self.saved[tip].parent)) == tip
        ):
            expected, follows = tip, self.saved[tip].parent
        elif tip not in (None, follows) and (expected is None or expected not in self._line(tip)):
            self._refused(call)
            return
        kept = self._run(call)
        assert kept.id == expected or expected is None
        assert (kept.parent, kept.state) == (follows, state)
        if tip is None or expected not in self._line(tip):
            self.branches[scaffold, name] = kept.id
        nodes = [node.payload for node in kept.nodes]
        self.saved.setdefault(
            kept.id, _Saved(scaffold, follows, state, has_node, kept.payload, nodes[0] if nodes else "")
        )
        self.erased -= {kept.payload, *nodes}  # what is said again is there again

    @precondition(lambda self: self.saved)
    @rule(pick=_picks, name=_names)
    def branch(self, pick: int, name: str) -> None:
        id_ = self._pick(pick)
        place = (self.saved[id_].scaffold, name)
        if self.branches.get(place, id_) != id_:
            self._refused(self.store.branch_from(id_, name))
            return
        assert name in self._run(self.store.branch_from(id_, name)).branches
        self.branches[place] = id_

    @precondition(lambda self: self.saved)
    @rule(pick=_picks, text=_values)
    def note(self, pick: int, text: Any) -> None:
        id_, content = self._pick(pick), json.dumps(text)
        kept = self._run(self.store.add_artifact(id_, content, "note"))
        self.notes.setdefault(id_, []).append((content, kept.payload))
        self.erased.discard(kept.payload)

    @precondition(lambda self: self.saved)
    @rule(pick=_picks)
    def delete(self, pick: int) -> None:
        id_ = self._pick(pick)
        if any(each.parent == id_ for each in self.saved.values()):
            self._refused(self.store.delete(id_))
            return
        self._run(self.store.delete(id_))
        parent = self.saved.pop(id_).parent
        self.notes.pop(id_, None)
        for place in [place for place, tip in self.branches.items() if tip == id_]:
            del self.branches[place]
            if parent is not None:
                self.branches[place] = parent
        self.erased &= self._payloads()
        with pytest.raises(CheckpointNotFoundError):
            self._run(self.store.get(id_))

    @precondition(lambda self: self.saved)
    @rule(pick=_picks)
    def erase(self, pick: int) -> None:
        digests = sorted(self._payloads())
        self._run(self.store.erase(digests[pick % len(digests)]))
        self.erased.add(digests[pick % len(digests)])

    def _payloads(self) -> set[str]:
        own = {payload for each in self.saved.values() for payload in (each.payload, each.node_payload)}
        return (own | {payload for notes in self.notes.values() for _, payload in notes}) - {""}

    @precondition(lambda self: self.saved)
    @rule(pick=_picks, limit=st.integers(1, 4), scaffold=st.none() | _scaffolds, is_paged=st.booleans())
    def list(self, pick: int, limit: int, scaffold: str | None, is_paged: bool) -> None:
        ids = [id_ for id_, each in self.saved.items() if scaffold in (None, each.scaffold)][::-1]
        before = ids[pick % len(ids)] if ids and is_paged else None
        expected = ids[ids.index(before) + 1 if before else 0 :][:limit]
        found = self._run(self.store.list(limit, scaffold=scaffold, before=before))
        assert [node.id for node in found] == expected

    # --- a saver beside it -----------------------------------------------------------------------

    @rule(thread=_threads, values=_states, is_child=st.booleans())
    def put(self, thread: str, values: dict[str, Any], is_child: bool) -> None:
        self.version += 1
        steps = self.threads.setdefault(thread, {})
        parent = max(steps, default=None) if is_child else None
        config = put(self.saver, at(thread, parent), values, version=self.version)
        steps[config["configurable"]["checkpoint_id"]] = _Step(parent, values, {})

    @precondition(lambda self: self.threads)
    @rule(thread=_threads, task=st.sampled_from(["a", "b"]), value=_values)
    def write(self, thread: str, task: str, value: Any) -> None:
        if steps := self.threads.get(thread):
            newest = max(steps)
            self.saver.put_writes(at(thread, newest), [("x", value)], task)
            steps[newest].writes.setdefault(task, value)

    @precondition(lambda self: self.threads)
    @rule(thread=_threads, strategy=st.sampled_from(["keep_latest", "delete"]))
    def prune(self, thread: str, strategy: str) -> None:
        self.saver.prune([thread], strategy=strategy)
        steps = self.threads.pop(thread, {})
        if steps and strategy == "keep_latest":
            self.threads[thread] = {max(steps): steps[max(steps)]._replace(parent=None)}

    @precondition(lambda self: self.threads)
    @rule(source=_threads, into=_threads)
    def copy(self, source: str, into: str) -> None:
        self.saver.copy_thread(source, into)
        for id_, step in self.threads.get(source, {}).items():
            there = self.threads.setdefault(into, {}).setdefault(id_, step._replace(writes={}))
            for task, value in step.writes.items():
                there.writes.setdefault(task, value)

    # --- what holds always -----------------------------------------------------------------------

    @invariant()
    def the_tree_is_as_it_was_made(self) -> None:
        branches: dict[str, list[str]] = {}
        for (_, name), id_ in sorted(self.branches.items()):
            branches.setdefault(id_, []).append(name)
        assert [
            (node.id, node.parent, node.scaffold, list(node.branches))
            for node in self._run(self.store.tree())
        ] == [(id_, each.parent, each.scaffold, branches.get(id_, [])) for id_, each in self.saved.items()]
        tips = [((node.scaffold, node.name), node.id) for node in self._run(self.store.branches())]
        assert tips == sorted(self.branches.items())

    @invariant()
    def what_lives_is_there(self) -> None:
        for id_, each in self.saved.items():
            found = self._run(self.store.get(id_))
            is_erased = each.payload in self.erased
            assert (found.is_erased, found.state) == (is_erased, {} if is_erased else each.state)
            for node in found.nodes:
                assert node.state == ({} if each.node_payload in self.erased else _NODE.state)
            noted = self._run(self.store.list_artifacts(id_))
            assert [(note.content, note.payload) for note in noted] == [
                ("" if payload in self.erased else content, payload)
                for content, payload in self.notes.get(id_, [])
            ]

    @invariant()
    def threads_are_as_they_were_put(self) -> None:
        for thread in ("one", "two", "three"):
            found = {}
            for each in self.saver.list(at(thread)):
                above = each.parent_config["configurable"]["checkpoint_id"] if each.parent_config else None
                writes = {task: value for task, _, value in each.pending_writes or ()}
                found[each.checkpoint["id"]] = _Step(above, each.checkpoint["channel_values"], writes)
            assert found == self.threads.get(thread, {})
            assert list(found) == sorted(found, reverse=True)

    @invariant()
    def the_trail_verifies(self) -> None:
        assert self._run(self.store.verify()).faults == ()

    @invariant()
    def whoever_needs_a_value_holds_it(self) -> None:
        """Or it would go with somebody else, some steps later."""

        def lacking(session: Session) -> list[set[bytes]]:
            needed = {0: payloads._needed(session)}
            for (thread,) in session.rows("SELECT id FROM xprim_threads"):
                needed[thread] = removing._needed(session, thread)
            held: dict[int, set[bytes]] = {thread: set() for thread in needed}
            for thread, digest in session.rows(
                "SELECT h.thread, b.digest FROM xprim_held h JOIN xprim_blobs b ON b.id = h.blob"
            ):
                held[thread].add(digest)
            return [needed[thread] - held[thread] for thread in needed]

        assert not any(self.saver.database.read(lacking))

    @invariant()
    def nothing_is_kept_for_nobody(self) -> None:
        unheld = "SELECT count(*) FROM xprim_blobs b WHERE NOT EXISTS (SELECT 1 FROM xprim_held h WHERE h.blob = b.id)"
        lost = "SELECT count(*) FROM xprim_held h WHERE NOT EXISTS (SELECT 1 FROM xprim_blobs b WHERE b.id = h.blob)"
        for sql in (unheld, lost):
            assert self.saver.database.read(lambda session, sql=sql: session.rows(sql)) == [(0,)]  # type: ignore[misc]  # a default binds it
        if not self.saved and not self.threads:
            rows = self.saver.database.read(lambda session: session.rows("SELECT count(*) FROM xprim_blobs"))
            assert rows == [(0,)]


_EVERY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
StoreMachine.TestCase.settings = settings(_EVERY, max_examples=12, stateful_step_count=20)


class TestStore(StoreMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time by Hypothesis
    """Twelve runs of twenty steps, the same ones every time."""


class _LongMachine(StoreMachine):
    """The same for longer."""


_LongMachine.TestCase.settings = settings(_EVERY, max_examples=60, stateful_step_count=30)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestStoreForLonger(_LongMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time by Hypothesis
    """Sixty runs of thirty steps."""
