"""The checkpoint store on both databases: identity, branches, what is taken away, and what shares with savers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.errors import CheckpointNotFoundError, ConfigError
from xprim_nb.prompts.checkpoints import CheckpointStore, GraphNode, PostgresSaver, SqliteSaver
from xprim_nb.prompts.checkpoints.saved import Checkpoint
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.testing.checkpoints_given import at, long, put, values_of

_CHILD = Path(__file__).with_name("saving_child.py")
_SECRET = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
_STATE = {
    "plan": [long("read"), long("write")],
    "done": 1,
    "empty": {},
    "deep": {"a": {"b": [None, True, 1.5]}},
}
_NODES = [
    GraphNode(kind="plan", name="plan", inputs={"goal": "mend"}, outputs={"steps": ["a", "b"]}),
    GraphNode(kind="file", name="src/a.py", state={"text": long("x")}, metadata={"by": "hand"}),
]


def _count(store: CheckpointStore, table: str, where: str = "1 = 1") -> int:
    sql = f"SELECT count(*) FROM xprim_{table} WHERE {where}"
    return int(store.database.read(lambda session: session.rows(sql))[0][0])


def _unheld(store: CheckpointStore) -> int:
    return _count(store, "blobs", "NOT EXISTS (SELECT 1 FROM xprim_held h WHERE h.blob = xprim_blobs.id)")


async def _line(store: CheckpointStore, count: int) -> list[Checkpoint]:
    return [await store.save("s", {"step": number, "text": long(str(number))}) for number in range(count)]


async def test_what_was_saved_comes_back(store: CheckpointStore) -> None:
    """State, metadata and nodes are read as they were saved, under the id, its beginning, and the branch."""
    saved = await store.save("s", _STATE, nodes=_NODES, label="First", metadata={"why": "test"})
    assert saved == await store.get(saved.id) == await store.get(saved.id[:12]) == await store.get("main")
    assert (saved.state, saved.metadata, saved.label) == (_STATE, {"why": "test"}, "First")
    assert (saved.parent, saved.branches, saved.is_erased) == (None, ("main",), False)
    kept = [node.model_copy(update={"id": "", "payload": ""}) for node in saved.nodes]
    assert kept == _NODES
    assert await store.node(saved.nodes[1].id) == saved.nodes[1]


async def test_equal_content_after_an_equal_parent_is_the_same(store: CheckpointStore) -> None:
    """Saving again is saving once, whatever order the keys have; another parent makes another checkpoint."""
    first = await store.save("s", _STATE, nodes=_NODES)
    assert await store.save("s", dict(reversed(_STATE.items())), nodes=_NODES) == first
    second = await store.save("s", {"step": 2})
    assert second.parent == first.id
    third = await store.save("s", _STATE, nodes=_NODES)
    assert (third.parent, third.payload) == (second.id, first.payload)
    assert third.id != first.id
    assert (await store.save("s", {"step": 2}, parent=first.id)).id == second.id
    assert (await store.get("main")).id == third.id
    assert _count(store, "saved") == 3
    assert _count(store, "payloads") == 4


async def test_a_node_is_part_of_what_a_checkpoint_is(store: CheckpointStore) -> None:
    """The same state with another node is another checkpoint; an equal node has the same id in both."""
    first = await store.save("s", _STATE, nodes=_NODES)
    second = await store.save("s", _STATE, nodes=_NODES[1:])
    assert first.id != second.id
    assert first.nodes[1] == second.nodes[0]
    with pytest.raises(CheckpointNotFoundError):
        await store.node("0" * 64)


async def test_branches_are_tips_that_saving_moves(store: CheckpointStore) -> None:
    """A branch begins at any checkpoint, and goes on for itself; the tree knows which are tips."""
    first, second = await _line(store, 2)
    assert (await store.branch_from(first.id, "bold")).id == first.id
    third = await store.save("s", {"step": "bold"}, "bold")
    assert third.parent == first.id
    assert [(tip.name, tip.id) for tip in await store.branches()] == [("bold", third.id), ("main", second.id)]
    assert [(node.id, node.parent, node.is_tip) for node in await store.tree("s")] == [
        (first.id, None, False),
        (second.id, first.id, True),
        (third.id, first.id, True),
    ]
    assert [node.id for node in await store.list(branch="bold")] == [third.id, first.id]
    assert await store.tree("other") == await store.branches("other") == ()


async def test_a_branch_is_unique_within_its_scaffold(store: CheckpointStore) -> None:
    """Two scaffolds have a branch of one name each; one cannot have two, and is told where the first ends."""
    first, second = await _line(store, 2)
    other = await store.save("other", {"step": 0})
    with pytest.raises(ConfigError, match="several") as caught:
        await store.get("main")
    assert "scaffold" in caught.value.hint
    assert (await store.get("main", scaffold="other")).id == other.id
    assert (await store.branch_from(second.id, "main")).id == second.id
    with pytest.raises(ConfigError, match=second.id):
        await store.branch_from(first.id, "main")
    with pytest.raises(ConfigError, match="belongs to scaffold s"):
        await store.save("other", {}, parent=first.id)


async def test_a_branch_that_went_on_is_not_moved_back(store: CheckpointStore) -> None:
    """Who saves after what is no tip any more is told, and told how to keep both; nothing is written."""
    first, second = await _line(store, 2)
    rows = _count(store, "audit")
    with pytest.raises(ConfigError, match=second.id) as caught:
        await store.save("s", {"step": "late"}, parent=first.id)
    assert (caught.value.subject, "another name" in caught.value.hint) == ("main", True)
    assert (_count(store, "audit"), _count(store, "payloads"), _unheld(store)) == (rows, 2, 0)
    late = await store.save("s", {"step": "late"}, "late", parent=first.id)
    assert late.parent == first.id


async def test_lists_are_paged(store: CheckpointStore) -> None:
    """Newest first, so many at a time, each page after the last of the one before, of one scaffold or of all."""
    ids = [each.id for each in await _line(store, 5)][::-1]
    other = await store.save("other", {"step": 0})
    page = await store.list(2, scaffold="s")
    assert [node.id for node in page] == ids[:2]
    assert [node.id for node in await store.list(2, scaffold="s", before=page[-1].id)] == ids[2:4]
    assert [node.id for node in await store.list(9, branch="main", scaffold="s", before=ids[2])] == ids[3:]
    assert [node.id for node in await store.list()] == [other.id, *ids]
    with pytest.raises(ConfigError):
        await store.list(0)


async def test_a_deleted_checkpoint_is_gone_with_what_only_it_has(store: CheckpointStore) -> None:
    """A branch ends in the parent then, or is no more; what others have too stays; who is followed is not deleted."""
    first, second = await _line(store, 2)
    await store.add_artifact("main", long("note"), "note")
    await store.add_trace("main", "read", outputs=long("out"), duration_s=0.1)
    with pytest.raises(ConfigError, match=second.id[:12]):
        await store.delete(first.id)
    await store.delete("main")
    assert (await store.get("main")).id == first.id
    with pytest.raises(CheckpointNotFoundError) as caught:
        await store.get(second.id)
    assert (caught.value.subject, bool(caught.value.hint)) == (second.id, True)
    assert [_count(store, table) for table in ("saved", "payloads", "artifacts", "traces")] == [1, 1, 0, 0]
    assert _unheld(store) == 0
    await store.delete(first.id)
    assert [_count(store, table) for table in ("branches", "payloads", "held", "blobs")] == [0, 0, 0, 0]
    assert (await store.verify()).is_whole


async def test_savers_and_the_store_keep_equal_values_once(
    open_store: Callable[..., CheckpointStore], address: str
) -> None:
    """A value that a thread has too is stored once, and stays until neither needs it."""
    opened = PostgresSaver.open(address) if address.startswith("postgres") else SqliteSaver.open(address)
    items = [f"{number} " * 60 for number in range(40)]
    with opened as saver:
        put(saver, at("t"), {"items": items, "text": long("t")})
        store = open_store()
        before = _count(store, "blobs")
        saved = await store.save("s", {"items": items, "text": long("t")})
        assert _count(store, "blobs") == before
        saver.delete_thread("t")
        assert (await store.get(saved.id)).state["items"] == items
        put(saver, at("u"), {"items": items, "text": long("u")})
        await store.erase(saved.payload)
        assert values_of(saver, at("u"))["items"] == items
        assert (_count(store, "blobs"), _unheld(store)) == (before, 0)
        saver.delete_thread("u")
        assert _count(store, "blobs") == 0
        assert (await store.verify()).is_whole


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n", "a;b", "cafe0123beef", "é", "x" * 101, _SECRET])
async def test_names_are_validated(store: CheckpointStore, name: str) -> None:
    """What is no name, looks like an id, or holds a secret names no branch; the error says of what it is."""
    with pytest.raises(ConfigError) as caught:
        await store.save("s", {}, name)
    assert (caught.value.subject, bool(caught.value.hint)) == ("name", True)
    assert _count(store, "saved") == 0


@pytest.mark.parametrize(
    "state", [{"a": {1}}, {"a": float("nan")}, {"a": 2**64}, {"a": "\ud800"}, [1], {1: 2}]
)
async def test_what_cannot_be_kept_is_told(store: CheckpointStore, state: Any) -> None:
    """A state that is no JSON is refused before anything is written."""
    with pytest.raises(ConfigError) as caught:
        await store.save("s", state)
    assert caught.value.subject in ("checkpoint", "state")
    assert _count(store, "audit") == 0


async def test_secrets_are_never_stored(
    open_store: Callable[..., CheckpointStore], address: str, tmp_path: Path
) -> None:
    """No secret is in what comes back, nor in any byte of the database; two states that differ in one are equal."""
    store = open_store(redactor=Redactor(key=b"k", values=["hunter2hunter2"]))
    node = GraphNode(
        kind="file", name=f"a {_SECRET}", inputs={"password": "correct horse"}, outputs={"t": _SECRET}
    )
    saved = await store.save("s", {"env": "hunter2hunter2", "keys": [_SECRET]}, nodes=[node], label=_SECRET)
    await store.add_artifact(saved.id, f"use {_SECRET}", "note", metadata={"api_key": "abcdefgh12345678"})
    await store.add_trace(saved.id, "t", inputs={"k": _SECRET}, outputs=_SECRET, duration_s=1, error=_SECRET)
    told = repr(
        (await store.get("main"), await store.list_artifacts("main"), await store.list_traces("main"))
    )
    tables = ("saved", "nodes", "payloads", "blobs", "artifacts", "traces", "audit")
    rows = repr(
        store.database.read(
            lambda session: [session.rows(f"SELECT * FROM xprim_{table}") for table in tables]
        )
    )
    for secret in (_SECRET, "hunter2hunter2", "correct horse", "abcdefgh12345678"):
        assert secret not in told + rows
        for file in tmp_path.rglob("*sqlite*"):
            assert secret.encode() not in file.read_bytes()
    assert told.count("[redacted:") >= 9


async def test_artifacts_and_traces_are_kept_at_their_checkpoint(store: CheckpointStore) -> None:
    """They are listed in their order, with span, purity and success; two equal calls are two."""
    first, second = await _line(store, 2)
    note = await store.add_artifact(first.id, "look", "note", metadata={"line": 3}, span="0af7651916cd43dd")
    code = await store.add_artifact(first.id[:9], "x = 1", "code")
    assert await store.list_artifacts(first.id) == (note, code)
    assert (note.content, note.metadata, note.span, note.kind) == (
        "look",
        {"line": 3},
        "0af7651916cd43dd",
        "note",
    )
    calls = [
        await store.add_trace(
            "main", "fs.read", inputs={"p": "a"}, outputs={}, duration_s=0.25, purity="pure"
        )
        for _ in range(2)
    ]
    failed = await store.add_trace("main", "fs.write", duration_s=0, error="No space.")
    assert await store.list_traces(second.id) == (*calls, failed)
    assert calls[0].id != calls[1].id
    assert (calls[0].payload, calls[0].outputs, calls[0].success) == (calls[1].payload, {}, True)
    assert (failed.success, failed.error, failed.purity, failed.outputs) == (
        False,
        "No space.",
        "effect",
        None,
    )
    assert await store.list_traces(first.id) == ()
    assert (await store.verify()).is_whole


async def test_artifacts_and_traces_are_validated(store: CheckpointStore) -> None:
    """A kind, purity, duration or checkpoint that is none is told by name, and nothing is kept."""
    [first] = await _line(store, 1)
    wrong: Any = "poem"
    with pytest.raises(ConfigError) as caught:
        await store.add_artifact(first.id, "x", wrong)
    assert (caught.value.subject, "note, code, test, lint" in caught.value.hint) == ("kind", True)
    with pytest.raises(ConfigError, match="purity"):
        await store.add_trace(first.id, "t", duration_s=1, purity=wrong)
    with pytest.raises(ConfigError, match="duration"):
        await store.add_trace(first.id, "t", duration_s=float("nan"))
    with pytest.raises(CheckpointNotFoundError):
        await store.add_trace("none", "t", duration_s=1)
    assert (_count(store, "artifacts"), _count(store, "traces")) == (0, 0)


def _together(address: str, count: int, *parent: str) -> list[list[str]]:
    children = [
        subprocess.Popen(
            [sys.executable, str(_CHILD), address, who, str(count), *parent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for who in ("ann", "ben")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    results = [child.communicate(timeout=60) for child in children]
    assert [error for _, error in results] == ["", ""]
    return [out.split("\n")[:-1] for out, _ in results]


async def test_two_processes_on_one_branch_keep_all(
    open_store: Callable[..., CheckpointStore], address: str
) -> None:
    """Two that save at once follow one another: one line of all their checkpoints, and a whole trail."""
    store = open_store()
    root = await store.save("s", {"who": "root"})
    told = _together(address, 15)
    line = [node.id for node in await store.list(99, branch="main")]
    assert sorted(line) == sorted([root.id, *told[0], *told[1]])
    assert len(line) == 31
    assert (await store.verify()).is_whole


async def test_of_two_processes_after_one_parent_one_is_told(
    open_store: Callable[..., CheckpointStore], address: str
) -> None:
    """Two that save after the same checkpoint at once: one has the branch, the other learns which one has."""
    store = open_store()
    root = await store.save("s", {"who": "root"})
    [[first], [second]] = _together(address, 1, root.id)
    refused, kept = sorted((first, second), key=lambda line: not line.startswith("refused"))
    assert refused.startswith("refused: The branch 'main' has gone on")
    assert kept in refused
    assert [node.id for node in await store.list()] == [kept, root.id]
    assert (await store.verify()).is_whole


@pytest.fixture
def store(open_store: Callable[..., CheckpointStore]) -> CheckpointStore:
    """One of them."""
    return open_store()
