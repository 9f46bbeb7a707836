"""Every damage has its verdict and its way back; only what is wrong is fetched; nothing of anybody's is lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from xprim_nb.errors import NotInstalledError
from xprim_nb.events import CorruptionFound, Event
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room, blocks, listing, require_sound
from .damage import DAMAGES, FILES, REF, flip, flip_silently, installed_chunks


def _kept(kept: str | None) -> set[str]:
    return {path for path, data in listing(Path(kept)).items() if data is not None} if kept else set()


@pytest.mark.parametrize("origin", ["ours", "hashes"])
@pytest.mark.parametrize("name", DAMAGES)
async def test_each_damage_has_its_verdict_and_its_way_back(
    room: Room, server: FaultyRegistry, name: str, origin: str
) -> None:
    """It fails with the right finding, the plan tells the cost, the repair costs that, and the model is whole."""
    damage = DAMAGES[name]
    room.publish({REF: FILES}, file_hashes=origin == "hashes")
    async with room.manager() as manager:
        await manager.pull(REF)
        damage.do(room.dir(REF))
        report = await manager.validate(REF, "full")
        assert report.overall_status == "failed"
        assert (damage.path, damage.status) in [(each.path, each.status) for each in report.damaged]
        assert f"`xprim cache repair {REF}`" in report.verdict
        plan = await manager.plan_repair(REF)
        server.forget_requests()
        repaired = await manager.repair(REF)
        assert repaired.success, repaired
        assert repaired.remaining_issues == ()
        assert server.count("chunk") == repaired.chunks_network == damage.chunks
        assert plan.chunks_network == (20 if name == "link" else damage.chunks)
        assert _kept(repaired.kept) == set(damage.kept)
        quick = await manager.validate(REF)
        assert (quick.overall_status, quick.bytes_hashed) == ("healthy", 0)
        assert (await manager.validate(REF, "full")).findings == ()
        assert not (await manager.repair(REF)).repair_actions
    require_sound(room.base, {REF: FILES})
    assert not (room.dir(REF) / ".xprim" / "mending").exists()


async def test_a_flipped_byte_costs_its_chunk_and_says_so(room: Room, server: FaultyRegistry) -> None:
    """Quick does not see silent damage, full locates it, the receipt counts it, and the file's other bytes are copied."""
    room.publish({REF: FILES})
    heard: list[Event] = []
    async with room.manager() as manager:
        manager.events.subscribe(heard.append)
        await manager.pull(REF)
        before = (room.dir(REF) / "config.json").stat()
        flip_silently(room.dir(REF) / "w.bin", 12_345)
        report = await manager.validate(REF, "full")
        (finding,) = report.findings
        assert (finding.path, finding.status, finding.chunks, finding.bytes_wrong) == (
            "w.bin",
            "corrupted",
            (12,),
            1000,
        )
        assert report.bytes_hashed == sum(map(len, FILES.values()))
        assert [type(event) for event in heard].count(CorruptionFound) == 1
        assert (await manager.validate(REF)).findings == report.findings  # quick remembers
        server.forget_requests()
        repaired = await manager.repair(REF)
    assert repaired.receipt == f"1 of {installed_chunks(room)} chunks fetched (1000 B)."
    assert server.bytes_sent("chunk") == 1000
    assert repaired.kept is None
    after = (room.dir(REF) / "config.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    require_sound(room.base, {REF: FILES})


async def test_another_installed_model_gives_its_chunk(room: Room, server: FaultyRegistry) -> None:
    """What this machine holds is not fetched, and the receipt names the place; offline this works too."""
    other = "group/other v1"
    room.publish({REF: FILES, other: {"x.bin": blocks(99, 12, 98)}})
    async with room.manager() as manager:
        await manager.pull(REF)
        await manager.pull(other)
        flip_silently(room.dir(REF) / "w.bin", 12_345)
        report = await manager.validate(REF, "full")
        assert report.recommendations.priority == "high"
        server.forget_requests()
        repaired = await manager.repair(REF)
    assert server.count() == 0
    assert (repaired.chunks_network, repaired.chunks_local) == (0, 1)
    assert dict(repaired.local_sources) == {other: 1}
    assert repaired.receipt == f"0 of {installed_chunks(room)} chunks fetched, 1 copied from this machine."
    require_sound(room.base)


async def test_a_chunk_that_occurs_twice_is_copied_from_its_other_place(
    room: Room, server: FaultyRegistry
) -> None:
    """The model itself is the nearest source."""
    files = {"w.bin": blocks(1, 2, 3, 1)}
    room.publish({REF: files})
    async with room.manager() as manager:
        await manager.pull(REF)
        flip_silently(room.dir(REF) / "w.bin", 10)
        server.forget_requests()
        repaired = await manager.repair(REF)
    assert (server.count(), dict(repaired.local_sources)) == (0, {REF: 1})
    require_sound(room.base, {REF: files})


async def test_an_unfinished_pull_of_the_same_model_is_a_source(room: Room, server: FaultyRegistry) -> None:
    """What a forced pull had fetched before it broke off is used by a repair."""
    room.publish({REF: FILES})
    async with room.manager(concurrency=1) as manager:
        await manager.pull(REF)
        (room.dir(REF) / "w.bin").unlink()
        digests = room.made.chunks(REF)
        server.inject(Status(404), on=digests[10], times=None)
        repaired = await manager.repair(REF)
        assert not repaired.success
        server.heal()
        server.forget_requests()
        repaired = await manager.repair(REF)
        assert repaired.success
        assert 0 < server.count("chunk") < 20
    require_sound(room.base, {REF: FILES})


async def test_one_chunk_that_cannot_be_had_holds_up_no_other_file(
    room: Room, server: FaultyRegistry
) -> None:
    """The other file is mended, the issue says which file lacks what, and nothing is made worse."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        flip_silently(room.dir(REF) / "w.bin", 2_500)
        flip_silently(room.dir(REF) / "deep/er/v.safetensors", 1_700)
        damaged = (room.dir(REF) / "w.bin").read_bytes()
        server.inject(Status(404), on=room.made.chunks(REF)[2], times=None)
        repaired = await manager.repair(REF)
        assert not repaired.success
        assert not repaired.repairable
        (issue,) = repaired.remaining_issues
        assert issue.startswith("w.bin: 1 chunk ")
        assert (room.dir(REF) / "w.bin").read_bytes() == damaged
        assert room.files(REF)["deep/er/v.safetensors"] == FILES["deep/er/v.safetensors"]
        assert (await manager.validate(REF)).overall_status == "failed"
        server.heal()
        assert (await manager.repair(REF)).success
    require_sound(room.base, {REF: FILES})


# --- what somebody changed ---------------------------------------------------------------------------


async def test_an_edit_is_no_damage_and_is_not_overwritten(room: Room) -> None:
    """A changed file and an added one leave the model healthy and are told; repair leaves them alone."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "config.json").write_bytes(b'{"a": 2}')
        (room.dir(REF) / "notes.md").write_bytes(b"mine")
        report = await manager.validate(REF, "full")
        assert report.overall_status == "healthy"
        assert (report.modified_files, report.extra_files) == (("config.json",), ("notes.md",))
        repaired = await manager.repair(REF)
        assert (repaired.success, repaired.repair_actions) == (True, ())
        assert repaired.left_alone == ("config.json", "notes.md")
    assert room.files(REF) == FILES | {"config.json": b'{"a": 2}', "notes.md": b"mine"}


async def test_an_edit_is_put_back_on_request_and_put_aside(room: Room) -> None:
    """With overwrite_modified the file is as it was installed, and the edit lies where the result says."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "config.json").write_bytes(b'{"a": 2, "mine": true}')
        plan = await manager.plan_repair(REF, overwrite_modified=True)
        assert [(each.path, each.kind, each.keeps_old) for each in plan.actions] == [
            ("config.json", "put_back", True)
        ]
        repaired = await manager.repair(REF, overwrite_modified=True)
    assert repaired.success
    assert repaired.kept is not None
    assert (Path(repaired.kept) / "config.json").read_bytes() == b'{"a": 2, "mine": true}'
    require_sound(room.base, {REF: FILES})


async def test_damage_beside_an_edit_in_one_chunk(room: Room) -> None:
    """Two small files share a chunk: the damaged one is mended although its neighbour is somebody's work."""
    files = {"a.safetensors": blocks(1)[:400], "b.json": blocks(2)[:300], "c.txt": blocks(3)[:250]}
    room.publish({REF: files})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "b.json").write_bytes(b"my own words")
        (room.dir(REF) / "a.safetensors").unlink()
        repaired = await manager.repair(REF)
        assert repaired.success
        assert (repaired.chunks_network, repaired.left_alone) == (1, ("b.json",))
        assert room.files(REF) == files | {"b.json": b"my own words"}
        assert (await manager.validate(REF, "full")).modified_files == ("b.json",)
        assert (await manager.repair(REF)).repair_actions == ()


async def test_what_a_refresh_kept_stays(room: Room) -> None:
    """A file that the receipt calls the user's is modified by decision, whatever its bytes are."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        mine = b'{"a": "mine"}'
        (room.dir(REF) / "config.json").write_bytes(mine)
        receipt = room.dir(REF) / ".xprim" / "receipt.json"
        document = json.loads(receipt.read_bytes())
        del document["files"]["config.json"]
        document["local"] = {
            "config.json": {"kind": "kept", "sha256": hashlib.sha256(mine).hexdigest()},
            "config.json.upstream": {"kind": "upstream", "sha256": hashlib.sha256(b"{}").hexdigest()},
        }
        receipt.write_text(json.dumps(document))
        (room.dir(REF) / "config.json.upstream").write_bytes(b"{}")
        report = await manager.validate(REF, "full")
        assert report.overall_status == "healthy"
        assert (report.modified_files, report.extra_files) == (("config.json",), ())
        assert (await manager.repair(REF)).repair_actions == ()
        assert (room.dir(REF) / "config.json").read_bytes() == mine
        (room.dir(REF) / "config.json.upstream").write_bytes(b"mine now")
        assert (await manager.validate(REF, "full")).extra_files == ("config.json.upstream",)


# --- our own files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["damaged", "deleted", "another", "emptied"])
@pytest.mark.parametrize("copy", ["here", "fetched"])
async def test_a_damaged_manifest_is_put_back(
    room: Room, server: FaultyRegistry, way: str, copy: str
) -> None:
    """From the copy in the cache, or the registry; the model's files are judged by it and not fetched."""
    room.publish({REF: FILES, "group/other v1": {"x": b"x"}})
    async with room.manager() as manager:
        await manager.pull(REF)
        path = room.dir(REF) / ".xprim" / "manifest.json"
        right = path.read_bytes()
        if way == "deleted":
            path.unlink()
        else:
            other = room.made.object_path(room.made.manifest_hash("group/other v1")).read_bytes()
            path.write_bytes({"damaged": right[:-9], "another": other, "emptied": b""}[way])
        if copy == "fetched":
            shutil.rmtree(room.layout.manifests)
        report = await manager.validate(REF)
        assert report.overall_status == "failed"
        assert [each.path for each in report.findings] == [".xprim/manifest.json"]
        server.forget_requests()
        repaired = await manager.repair(REF)
        assert repaired.success
        assert (server.count("chunk"), server.count("manifest")) == (0, 1 if copy == "fetched" else 0)
        assert path.read_bytes() == right
        assert (await manager.validate(REF)).is_healthy
    require_sound(room.base, {REF: FILES})


async def test_a_damaged_registry_json_is_written_anew(room: Room) -> None:
    """Status and validate answer from the directories and say so; repair writes the list; the damaged one is kept."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.base / "registry.json").write_bytes(b'{"group": {"mod')
        status = await manager.status()
        assert status.total_models == 1
        assert "registry.json is damaged" in status.notes[0]
        report = await manager.validate(REF)
        assert (report.overall_status, report.recommendations.priority) == ("failed", "high")
        assert [each.path for each in report.findings] == ["registry.json"]
        repaired = await manager.repair(REF)
        assert (repaired.success, repaired.chunks_network) == (True, 0)
        assert (await manager.validate(REF)).is_healthy
        assert (await manager.status()).notes == ()
    assert len(list(room.base.glob("registry.json.damaged-*"))) == 1
    require_sound(room.base, {REF: FILES})


async def test_a_damaged_entry_is_written_anew(room: Room) -> None:
    """A model whose entry makes no sense is found by its directory, and gets its name back."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.base / "registry.json").write_text(
            json.dumps({"group": {"model": {"v1": {"manifest_hash": 7}}}})
        )
        assert (await manager.status()).counts == {"failed": 1}
        assert (await manager.validate(REF)).overall_status == "failed"
        assert (await manager.repair(REF)).success
        assert (await manager.validate(REF)).is_healthy
        assert (await manager.get_installed(REF)).total_size == sum(map(len, FILES.values()))


@pytest.mark.parametrize("way", ["deleted", "damaged"])
async def test_state_sqlite_may_go(room: Room, way: str) -> None:
    """Without it every model was verified when it was installed; damage is found anew; nothing needs mending."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        await manager.validate(REF, "full")
    if way == "deleted":
        for path in room.base.glob("state.sqlite*"):
            path.unlink()
    else:
        (room.base / "state.sqlite").write_bytes(b"no database" * 1000)
    async with room.manager() as manager:
        (row,) = (await manager.status()).rows
        assert (row.status, row.depth) == ("healthy", "install")
        report = await manager.validate(REF)
        assert (report.overall_status, report.bytes_hashed) == ("healthy", 0)
        flip_silently(room.dir(REF) / "w.bin", 0)
        assert (await manager.validate(REF, "full")).overall_status == "failed"
        (row,) = (await manager.status()).rows
        assert (row.status, row.depth) == ("failed", "full")
        assert (await manager.repair(REF)).success
    require_sound(room.base, {REF: FILES})


async def test_a_directory_that_is_gone_is_built_anew(room: Room, server: FaultyRegistry) -> None:
    """A listed model without any file is minimal, and is fetched whole."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        shutil.rmtree(room.dir(REF))
        report = await manager.validate(REF)
        assert report.checks.completeness.status == "minimal"
        repaired = await manager.repair(REF)
        assert (repaired.success, repaired.chunks_network) == (True, installed_chunks(room))
        assert (await manager.validate(REF, "full")).is_healthy
    require_sound(room.base, {REF: FILES})


async def test_what_is_not_installed_is_an_error(room: Room) -> None:
    """No verb of this room guesses a model into being."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        for verb in (manager.validate, manager.repair, manager.plan_repair, manager.status):
            with pytest.raises(NotInstalledError):
                await verb(REF)
    assert not (room.base / "cache" / "locks").exists() or not list(
        (room.base / "cache" / "locks").glob("ref-*")
    )


async def test_an_untouched_neighbour_keeps_its_blame(room: Room) -> None:
    """In one chunk of three files the one that looks changed is blamed, and the others are not."""
    files = {"a.txt": b"a" * 300, "b.txt": b"b" * 300, "c.txt": b"c" * 300}
    room.publish({REF: files})
    async with room.manager() as manager:
        await manager.pull(REF)
        flip(room.dir(REF) / "b.txt", 7)
        report = await manager.validate(REF, "full")
    assert [(each.path, each.status) for each in report.findings] == [("b.txt", "modified")]


async def test_a_model_of_the_original_client_is_mended_too(room: Room, server: FaultyRegistry) -> None:
    """Without a receipt, with a manifest encoded anew: damage is told from edits by the time of installation."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        own = room.dir(REF) / ".xprim"
        (own / "receipt.json").unlink()
        stamp = (own / "manifest.json").stat().st_mtime_ns
        (own / "manifest.json").write_text(
            json.dumps(json.loads((own / "manifest.json").read_bytes()), indent=3)
        )
        os.utime(own / "manifest.json", ns=(stamp, stamp))
        (room.dir(REF) / ".pull.lock").touch()
        assert (await manager.validate(REF, "full")).findings == ()
        flip_silently(room.dir(REF) / "w.bin", 3_333)
        (room.dir(REF) / "config.json").write_bytes(b'{"a": 3}')
        report = await manager.validate(REF, "full")
        assert [(each.path, each.status) for each in report.findings] == [
            ("config.json", "modified"),
            ("w.bin", "corrupted"),
        ]
        server.forget_requests()
        assert (await manager.repair(REF)).success
        # The wrong one, and the one whose other half is somebody's work: nothing else can prove the rest of w.bin.
        assert server.count("chunk") == 2
        assert (await manager.validate(REF, "full")).damaged == ()
    assert room.files(REF) == FILES | {"config.json": b'{"a": 3}', ".pull.lock": b""}
