"""The same verbs from a notebook: each returns a handle, tells how far it is, and can be cancelled."""

from __future__ import annotations

import asyncio
import json

import pytest

from xprim_nb.events import CheckProgress, CorruptionFound, Event, PullProgress
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.toolkit import connect

from ..rooms import Room, blocks, listing, require_sound
from .damage import FILES, REF, flip_silently


def test_every_verb_returns_a_handle(room: Room) -> None:
    """Validate, scrub, plan, repair and status through the toolkit, with the news on its hub."""
    room.publish({REF: FILES})
    heard: list[Event] = []
    with connect(room.config()) as kit:
        kit.events.subscribe(heard.append)
        kit.pull(REF).result(20)
        flip_silently(room.dir(REF) / "w.bin", 9)
        assert kit.validate(REF, "full").result(20).overall_status == "failed"
        assert [report.overall_status for report in kit.validate_all().result(20)] == ["failed"]
        assert kit.scrub(0).result(20).chunks_checked == 0
        assert kit.plan_repair(REF).result(20).chunks_network == 1
        assert kit.repair(REF).result(20).success
        assert kit.status().result(20).counts == {"healthy": 1}
    assert {CheckProgress, CorruptionFound, PullProgress} <= {type(event) for event in heard}
    assert "verified" in str(next(event for event in heard if isinstance(event, CheckProgress)))
    require_sound(room.base, {REF: FILES})


async def test_a_cancelled_repair_leaves_the_old_file_and_goes_on_later(
    room: Room, server: FaultyRegistry
) -> None:
    """What is in its place stays; what was fetched is used by the next one; no lock stays behind."""
    room.publish({REF: FILES})
    async with room.manager(concurrency=1) as manager:
        await manager.pull(REF)
        path = room.dir(REF) / "w.bin"
        flip_silently(path, 2_100)
        flip_silently(path, 9_100)
        damaged = path.read_bytes()
        hold = server.hold(on=room.made.chunks(REF)[9])
        server.forget_requests()
        repairing = asyncio.create_task(manager.repair(REF))
        await asyncio.to_thread(server.wait_for, 1, room.made.chunks(REF)[9])
        repairing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await repairing
        hold.release()
        assert path.read_bytes() == damaged
        server.forget_requests()
        repaired = await manager.repair(REF)
        assert (repaired.success, repaired.chunks_network, server.count("chunk")) == (True, 1, 1)
    require_sound(room.base, {REF: FILES})


async def test_values_read_well_and_survive_json(room: Room) -> None:
    """A plan, a result and a scrub print as a few lines, and come back from their JSON."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        flip_silently(room.dir(REF) / "w.bin", 2_100)
        plan = await manager.plan_repair(REF)
        scrubbed = await manager.scrub(30)
        repaired = await manager.repair(REF)
    assert str(plan).splitlines()[0] == f"{REF}: 1 thing to mend, 1 of 23 chunks to be fetched (1000 B)."
    assert str(repaired).splitlines()[0] == f"{REF} is whole again: 1 of 23 chunks fetched (1000 B)."
    assert f"Damage was found in {REF}" in str(scrubbed)
    for value in (plan, scrubbed, repaired):
        assert type(value).model_validate_json(value.model_dump_json()) == value
    seed = {"repairable", "repair_actions", "success", "remaining_issues"}
    assert seed <= set(json.loads(repaired.model_dump_json()))


async def test_two_equal_files_of_which_one_is_somebodys_work(room: Room, server: FaultyRegistry) -> None:
    """A place that lies, and a twin that is left alone, do not stop a repair."""
    files = {"a.bin": blocks(1, 2), "twin.txt": blocks(1, 2)}
    room.publish({REF: files, "group/other v1": {"x.bin": blocks(1, 2)}})
    async with room.manager() as manager:
        await manager.pull(REF)
        await manager.pull("group/other v1")
        (room.dir(REF) / "a.bin").unlink()
        (room.dir(REF) / "twin.txt").write_bytes(b"my own words")
        flip_silently(room.dir("group/other v1") / "x.bin", 5)
        flip_silently(room.dir("group/other v1") / "x.bin", 1_005)
        server.forget_requests()
        repaired = await manager.repair(REF)
        assert (repaired.success, server.count("chunk")) == (True, 2)
    assert room.files(REF) == files | {"twin.txt": b"my own words"}


async def test_a_receipt_and_a_manifest_damaged_together(room: Room) -> None:
    """A manifest that reads well and says something else is not believed where a copy of the right one is here."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        own = room.dir(REF) / ".xprim"
        document = json.loads((own / "manifest.json").read_bytes())
        document["chunks"][3] = "0" * 64
        (own / "manifest.json").write_text(json.dumps(document))
        (own / "receipt.json").unlink()
        report = await manager.validate(REF)
        assert [each.path for each in report.findings] == [".xprim/manifest.json"]
        assert (await manager.repair(REF)).success
    require_sound(room.base, {REF: FILES})
    assert [path for path in listing(room.layout.cache) if "kept" in path] == []


async def test_a_file_of_a_users_is_told_however_the_model_came_there(room: Room) -> None:
    """What somebody added is extra as it was added, and after a refresh, an archive, a restore; the plan leaves it alone."""
    room.publish(
        {REF: FILES, "group/model v2": FILES | {"config.json": b"{}"}}, alias={"group/model latest": "v1"}
    )
    ref = "group/model latest"
    async with room.manager() as manager:
        await manager.pull(ref)
        (room.dir(ref) / "notes.md").write_text("mine")

        async def is_told() -> None:
            for depth in ("quick", "full"):
                report = await manager.validate(ref, depth)
                assert (report.overall_status, report.extra_files) == ("healthy", ("notes.md",))
                assert "Your notes.md is left alone." in report.verdict
            assert (await manager.plan_repair(ref)).left_alone == ("notes.md",)
            assert "somebody added it" in str(await manager.why(room.dir(ref) / "notes.md"))

        await is_told()
        room.publish({}, alias={"group/model latest": "v2"})
        assert (await manager.refresh(ref)).kept == ("notes.md",)
        await is_told()
        await manager.archive(ref)
        await manager.restore(ref)
        await is_told()
