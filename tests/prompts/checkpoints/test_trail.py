"""The audit trail: it verifies, also after an erasure, and names what was changed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.errors import CheckpointNotFoundError
from xprim_nb.prompts.checkpoints import CheckpointStore, GraphNode
from xprim_nb.testing.checkpoints_given import long

_SWAPPED = """
UPDATE xprim_payloads SET manifest = (
    SELECT p.manifest FROM xprim_payloads p JOIN xprim_saved s ON s.payload = p.digest WHERE s.number = 2
) WHERE digest = (SELECT payload FROM xprim_saved WHERE number = 1)
"""
OpenStore = Callable[..., CheckpointStore]


async def _filled(open_store: OpenStore) -> CheckpointStore:
    store = open_store()
    node = GraphNode(kind="file", name="a.py", outputs={"text": long("node")})
    for number in range(3):
        await store.save("s", {"step": number, "text": long(str(number))}, nodes=[node])
    await store.branch_from("main", "bold")
    await store.add_artifact("main", long("note"), "note")
    await store.add_trace("main", "read", inputs={"path": "a.py"}, outputs=long("out"), duration_s=0.1)
    return store


def _by_hand(store: CheckpointStore, sql: str) -> None:
    store.database.write(lambda session: session.run(sql))


async def _named(store: CheckpointStore) -> set[tuple[str, str]]:
    return {(fault.kind, fault.subject) for fault in (await store.verify()).faults}


async def test_a_trail_verifies(open_store: OpenStore) -> None:
    """Each thing that was done has a row over the one before; the report counts them and gives the last one's digest."""
    store = await _filled(open_store)
    report = await store.verify()
    rows = (await store.audit())[::-1]
    assert (report.is_whole, report.rows, report.head) == (True, 9, rows[-1].digest)
    assert [(row.action, row.kind) for row in rows[:4]] == [
        ("add", "checkpoint"),
        ("add", "branch"),
        ("add", "checkpoint"),
        ("move", "branch"),
    ]
    assert [row.before for row in rows] == ["", *(row.digest for row in rows[:-1])]
    first = await store.get(rows[0].subject)
    assert rows[0].payloads == (first.payload, first.nodes[0].payload)
    assert (await store.verify(known_head=rows[2].digest)).is_whole


async def test_an_erased_payload_leaves_its_digest(open_store: OpenStore) -> None:
    """What was erased is nowhere in the database; its checkpoint, its digest and a whole trail are. Twice is once."""
    store = await _filled(open_store)
    saved = await store.get("main")
    [note], [trace] = await store.list_artifacts("main"), await store.list_traces("main")
    for payload in (saved.payload, saved.nodes[0].payload, note.payload, trace.payload):
        await store.erase(payload)
    await store.erase(saved.payload)
    assert ((await store.verify()).faults, (await store.verify()).rows) == ((), 13)
    erased = await store.get("main")
    assert (erased.id, erased.payload, erased.state, erased.is_erased) == (saved.id, saved.payload, {}, True)
    assert (erased.nodes[0].outputs, erased.nodes[0].is_erased) == ({}, True)
    [note], [trace] = await store.list_artifacts("main"), await store.list_traces("main")
    assert (note.content, note.is_erased, trace.outputs, trace.is_erased) == ("", True, None, True)
    [(left, held)] = store.database.read(
        lambda session: session.rows(
            "SELECT (SELECT count(*) FROM xprim_blobs), (SELECT count(*) FROM xprim_held)"
        )
    )
    assert (left, held) == (2, 2)  # the texts of the first two
    with pytest.raises(CheckpointNotFoundError):
        await store.erase("0" * 64)


async def test_erased_bytes_leave_the_file(tmp_path: Path) -> None:
    """Not even in free pages of a SQLite file is a byte left of what was erased, once it is closed."""
    text = "".join(f"{number:x}~" for number in range(30))  # too short to be compressed, and so as it is
    async with CheckpointStore.open(tmp_path / "runs.sqlite") as store:
        saved = await store.save("s", {"text": text})
        await store.save("s", {"text": "x" * 90})
    assert text.encode() in (tmp_path / "runs.sqlite").read_bytes()
    async with CheckpointStore.open(tmp_path / "runs.sqlite") as store:
        await store.erase(saved.payload)
    assert text.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


async def test_what_was_erased_may_be_said_again(open_store: OpenStore) -> None:
    """Saving it again brings it back, and the trail says so."""
    store = open_store()
    saved = await store.save("s", {"text": long("x")})
    await store.erase(saved.payload)
    assert (await store.save("s", {"text": long("x")})).state == {"text": long("x")}
    assert [row.action for row in await store.audit(2)] == ["restore", "erase"]
    assert (await store.verify()).is_whole


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("UPDATE xprim_saved SET label = 'better' WHERE number = 2", "checkpoint"),
        ("UPDATE xprim_saved SET at = at + 1 WHERE number = 2", "checkpoint"),
        ("UPDATE xprim_branches SET checkpoint = (SELECT id FROM xprim_saved WHERE number = 1)", "branch"),
        ("UPDATE xprim_artifacts SET kind = 'test'", "artifact"),
        ("UPDATE xprim_traces SET success = 0", "trace"),
        ("DELETE FROM xprim_traces", "trace"),
        ("UPDATE xprim_nodes SET kind = 'plan' WHERE position = 0", "checkpoint"),
        ("INSERT INTO xprim_branches (scaffold, name, checkpoint) VALUES ('s', 'forged', 'x')", "branch"),
        ("UPDATE xprim_payloads SET manifest = NULL", "payload"),
        ("DELETE FROM xprim_payloads", "payload"),
        (_SWAPPED, "payload"),
        ("DELETE FROM xprim_blobs", "payload"),
    ],
)
async def test_a_row_that_was_changed_by_hand_is_named(open_store: OpenStore, sql: str, kind: str) -> None:
    """Whatever was changed, added or taken away past the trail is named by its kind."""
    store = await _filled(open_store)
    _by_hand(store, sql)
    assert {each for each, _ in await _named(store)} == {kind}


async def test_the_tampered_checkpoint_is_named_by_its_id(open_store: OpenStore) -> None:
    """One changed row of three is the only one that is named."""
    store = await _filled(open_store)
    second = (await store.tree())[1]
    _by_hand(store, f"UPDATE xprim_saved SET scaffold = 'else' WHERE id = '{second.id}'")
    assert await _named(store) == {("checkpoint", second.id)}


async def test_a_circle_of_parents_ends_and_is_named(open_store: OpenStore) -> None:
    """Whoever made a root the child of its own descendant is found out, and nothing hangs."""
    store = await _filled(open_store)
    ids = [node.id for node in await store.tree()]
    _by_hand(store, f"UPDATE xprim_saved SET parent = '{ids[2]}' WHERE id = '{ids[0]}'")
    assert [node.id for node in await store.list(branch="main")] == ids[::-1]
    assert await _named(store) == {("checkpoint", ids[0])}


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("UPDATE xprim_audit SET at = at + 1 WHERE number = 4", "4"),
        ("UPDATE xprim_audit SET payloads = 'none' WHERE number = 1", "1"),
        ("DELETE FROM xprim_audit WHERE number = 8", "8"),
        ("DELETE FROM xprim_audit WHERE number = 9", "8"),
        ("UPDATE xprim_audit_head SET number = 3", "9"),
    ],
)
async def test_a_changed_row_of_the_trail_is_named_by_its_number(
    open_store: OpenStore, sql: str, number: str
) -> None:
    """A row of the trail that was changed or taken away is the one that is named, the last one included."""
    store = await _filled(open_store)
    _by_hand(store, sql)
    trail = {(kind, subject) for kind, subject in await _named(store) if kind == "audit"}
    assert trail == {("audit", number)}


async def test_a_trail_that_was_written_anew_lacks_the_known_head(open_store: OpenStore) -> None:
    """Who forges the whole trail does not have the head that was kept elsewhere."""
    store = await _filled(open_store)
    head = (await store.verify()).head
    for table in ("saved", "nodes", "branches", "artifacts", "traces", "payloads", "audit"):
        _by_hand(store, f"DELETE FROM xprim_{table}")
    _by_hand(store, "UPDATE xprim_audit_head SET number = 0, digest = ''")
    assert (await store.verify()).is_whole
    assert {(fault.kind, fault.subject) for fault in (await store.verify(known_head=head)).faults} == {
        ("audit", head)
    }
