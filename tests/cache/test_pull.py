"""What a pull leaves on disk, what it tells, and what it costs."""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path

import pytest

from xprim_nb.errors import ConfigError, InvalidRefError, ModelNotFoundError, VersionNotFoundError
from xprim_nb.events import Event, EventHub, ModelInstalled
from xprim_nb.manager import Manager
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.hostile_names import HOSTILE_REFS

from .rooms import CHUNK, Room, blocks, listing, require_sound

_V1, _V2 = "group/model v1", "group/model v2"
_FILES = {"model.bin": blocks(*range(19)), "config.json": blocks("config")[:500], "sub/dir/empty": b""}
# One chunk of twenty is another one.
_FILES_2 = {**_FILES, "model.bin": blocks(*range(7), "new", *range(8, 19))}


async def test_a_pull_installs_the_published_bytes(room: Room) -> None:
    """The files are byte-identical, the manifest is the raw one and can be verified, the entry is in the contract's form."""
    made = room.publish({_V1: _FILES})
    async with room.manager() as manager:
        pulled = await manager.pull(_V1)
    assert (pulled.status, pulled.path, pulled.checked) == ("installed", room.dir(_V1), True)
    assert room.files(_V1) == _FILES
    raw = (room.dir(_V1) / ".xprim" / "manifest.json").read_bytes()
    assert raw == made.object_path(made.manifest_hash(_V1)).read_bytes()
    assert hashlib.sha256(raw).hexdigest() == made.manifest_hash(_V1)
    entry = room.registry_json["group"]["model"]["v1"]
    assert (
        entry.items()
        >= {"manifest_hash": made.manifest_hash(_V1), "total_size": 19500, "file_count": 3}.items()
    )
    assert entry["installed_at"].endswith("Z")
    require_sound(room.base, {_V1: _FILES})


async def test_a_plan_for_a_known_manifest_asks_for_no_index(room: Room) -> None:
    """Whoever has the registry's list plans a pull by the manifest's hash: its index is not asked for it again."""
    made = room.publish({_V1: _FILES})
    with FaultyRegistry(made.root) as server:
        async with room.manager(registry_url=server.url) as manager:
            plan = await manager.plan_pull(_V1, manifest_hash=made.manifest_hash(_V1))
            assert server.count("index") == 0
            asked = await manager.plan_pull(_V1)
            assert (plan.status, plan.bytes_network, plan.files) == (
                asked.status,
                asked.bytes_network,
                asked.files,
            )
    assert plan.bytes_network == 19500


async def test_nothing_is_left_beside_the_model(room: Room) -> None:
    """After a pull there is no unfinished pull, no trash, no intent and no temporary file anywhere."""
    room.publish({_V1: _FILES})
    async with room.manager() as manager:
        await manager.pull(_V1)
    left = {path for path in listing(room.base) if path.startswith("cache/")}
    folders = {"cache/index", "cache/intents", "cache/locks", "cache/manifests", "cache/partial"}
    assert {path for path in left if path.count("/") == 1} == folders
    assert not [path for path in left if "chunk-" in path or ".tmp" in path]
    assert not [
        path for path in left if path.startswith(("cache/intents/", "cache/partial/", "cache/trash/"))
    ]


@pytest.mark.parametrize("seeds", ["ABA", "AAA", "ZZZZZA", "ABCA", "ABAB"])
async def test_a_repeated_chunk_is_fetched_once_and_installed_everywhere(
    room: Room, server: FaultyRegistry, seeds: str
) -> None:
    """A chunk that occurs several times, as zeros do, is one request and lies in all its places."""
    files = {"model.bin": blocks(*seeds), "tail": b"x"}
    made = room.publish({_V1: files})
    async with room.manager() as manager:
        plan = await manager.plan_pull(_V1)
        pulled = await manager.pull(_V1)
    assert room.files(_V1) == files
    distinct = len(set(seeds)) + 1
    assert server.count("chunk") == distinct == pulled.receipt.chunks_network == plan.chunks_network
    assert len(made.chunks(_V1)) == len(seeds) + 1
    assert plan.bytes_network == server.bytes_sent("chunk") == pulled.receipt.bytes_network
    assert plan.bytes_network + plan.bytes_repeated == plan.total_size == pulled.receipt.bytes_written


async def test_version_2_downloads_only_the_difference(room: Room, server: FaultyRegistry) -> None:
    """A version that shares 95 % with an installed one costs 5 %, by the plan, the receipt and the server's count."""
    room.publish({_V1: _FILES, _V2: _FILES_2})
    async with room.manager() as manager:
        await manager.pull(_V1)
        server.forget_requests()
        plan = await manager.plan_pull(_V2)
        pulled = await manager.pull(_V2)
    assert room.files(_V2) == _FILES_2
    assert server.bytes_sent("chunk") == CHUNK == pulled.receipt.bytes_network == plan.bytes_network
    assert (plan.chunks_local, pulled.receipt.chunks_local) == (19, 19)
    assert pulled.receipt.bytes_local == plan.bytes_local == 18500
    assert pulled.receipt.local_models == {_V1: 19}
    assert dict(plan.local_models) == {_V1: 18500}


async def test_an_update_reuses_the_version_it_replaces(room: Room, server: FaultyRegistry) -> None:
    """The alias moves on: the chunks of the old version under the same name are not fetched again."""
    room.publish({_V1: _FILES, _V2: _FILES_2}, alias={"group/model latest": "v1"})
    async with room.manager() as manager:
        await manager.pull("group/model latest")
        room.publish({}, alias={"group/model latest": "v2"})
        server.forget_requests()
        pulled = await manager.pull("group/model latest")
    assert (pulled.status, pulled.receipt.kept) == ("updated", None)
    assert server.bytes_sent("chunk") == CHUNK
    require_sound(room.base, {"group/model latest": _FILES_2})
    assert room.registry_json["group"]["model"]["latest"]["resolved_version"] == "v2"


async def test_files_that_the_new_version_lacks_are_gone(room: Room) -> None:
    """An update leaves exactly the new version's files."""
    room.publish({_V1: {"a": b"1", "b/c": b"2"}})
    async with room.manager() as manager:
        await manager.pull(_V1)
        room.publish({_V1: {"b/d": b"3"}})
        pulled = await manager.pull(_V1)
    assert (pulled.status, pulled.receipt.kept) == ("updated", None)
    assert room.files(_V1) == {"b/d": b"3"}


async def test_an_installed_model_is_left_alone(room: Room, server: FaultyRegistry) -> None:
    """Pulled again, it is reported as installed at once, and nothing but the index is asked for."""
    room.publish({_V1: _FILES})
    async with room.manager() as manager:
        await manager.pull(_V1)
        before = listing(room.dir(_V1))
        server.forget_requests()
        again = await manager.pull(_V1)
    assert (again.status, again.receipt.chunks_present, again.receipt.bytes_network) == (
        "already_installed",
        0,
        0,
    )
    assert server.count("object") == 0
    assert listing(room.dir(_V1)) == before


async def test_force_mends_the_one_chunk_that_is_wrong(room: Room, server: FaultyRegistry) -> None:
    """A flipped byte in an installed model costs one chunk; a model in order costs none."""
    room.publish({_V1: _FILES})
    async with room.manager() as manager:
        await manager.pull(_V1)
        server.forget_requests()
        assert (await manager.pull(_V1, force=True)).receipt.chunks_network == 0
        target = room.dir(_V1) / "model.bin"
        damaged = bytearray(target.read_bytes())
        damaged[4321] ^= 1
        target.write_bytes(damaged)
        pulled = await manager.pull(_V1, force=True)
    assert server.bytes_sent("chunk") == CHUNK == pulled.receipt.bytes_network
    require_sound(room.base, {_V1: _FILES})
    assert pulled.receipt.kept is not None
    assert (pulled.receipt.kept / "model.bin").read_bytes() == damaged


@pytest.mark.parametrize("missing", ["model.bin", "sub/dir/empty"])
async def test_force_puts_a_missing_file_back(room: Room, missing: str) -> None:
    """A deleted file comes back, also one of no bytes."""
    room.publish({_V1: _FILES})
    async with room.manager() as manager:
        await manager.pull(_V1)
        (room.dir(_V1) / missing).unlink()
        await manager.pull(_V1, force=True)
    assert room.files(_V1) == _FILES
    require_sound(room.base, {_V1: _FILES})


async def test_a_model_of_nothing_but_empty_files(room: Room) -> None:
    """A model without a single byte is installed, and mended when a file is missing."""
    files = {"a": b"", "b/c": b""}
    room.publish({_V1: files})
    async with room.manager() as manager:
        await manager.pull(_V1)
        assert room.files(_V1) == files
        (room.dir(_V1) / "b" / "c").unlink()
        await manager.pull(_V1, force=True)
    require_sound(room.base, {_V1: files})


@pytest.mark.parametrize("change", ["update", "force", "remove"])
async def test_readers_of_the_old_version_are_not_disturbed(room: Room, change: str) -> None:
    """An open descriptor and an mmap of the old version read the old bytes to the end, whatever is done to the name."""
    room.publish({_V1: _FILES})
    async with room.manager() as manager:
        await manager.pull(_V1)
        path = room.dir(_V1) / "model.bin"
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            first = file.read(10)
            match change:
                case "update":
                    room.publish({_V1: {"model.bin": b"short"}})
                    await manager.pull(_V1)
                    assert path.read_bytes() == b"short"
                case "force":
                    (room.dir(_V1) / "config.json").write_bytes(b"spoiled")
                    assert (await manager.pull(_V1, force=True)).receipt.chunks_network == 1
                case _:
                    await manager.remove(_V1)
            assert mapped[:] == _FILES["model.bin"]
            assert first + file.read() == _FILES["model.bin"]


@pytest.mark.parametrize("ref", HOSTILE_REFS)
async def test_a_hostile_reference_touches_nothing(room: Room, server: FaultyRegistry, ref: str) -> None:
    """What is no name is refused before the disk or the network is touched."""
    before = listing(room.root)
    async with room.manager() as manager:
        for verb in (
            manager.pull,
            manager.remove,
            manager.path,
            manager.peek,
            manager.plan_pull,
            manager.check_update,
        ):
            with pytest.raises(InvalidRefError):
                await verb(ref)
        with pytest.raises(InvalidRefError):
            await manager.export([ref], to=room.root / "out")
    assert server.count() == 0
    assert listing(room.root) == before


async def test_what_the_registry_lacks_leaves_no_trace(room: Room) -> None:
    """A version that does not exist makes no directory, no lock and no entry."""
    room.publish({_V1: _FILES})
    async with room.manager() as manager:
        with pytest.raises(VersionNotFoundError, match="v9"):
            await manager.pull("group/model v9")
        with pytest.raises(ModelNotFoundError, match="group/other"):
            await manager.pull("group/other v1")
    assert [path for path in listing(room.base) if not path.startswith("cache")] == []
    assert not (room.base / "cache" / "locks").exists()


@pytest.mark.parametrize("concurrency", [0, -1, 17])
async def test_concurrency_has_bounds(room: Room, concurrency: int) -> None:
    """Less than one and more than sixteen chunks at once are refused before anything happens."""
    async with room.manager() as manager:
        with pytest.raises(ConfigError, match="concurrency"):
            await manager.pull(_V1, concurrency=concurrency)
    assert not room.base.exists()


@pytest.mark.parametrize(("concurrency", "peak"), [(1, 1), (3, 3)])
async def test_no_more_chunks_at_once_than_asked_for(
    room: Room, server: FaultyRegistry, concurrency: int, peak: int
) -> None:
    """Held at the server, exactly so many chunks are in flight."""
    room.publish({_V1: _FILES})
    with server.hold("chunk") as gate:
        async with room.manager() as manager:
            import asyncio

            pulling = asyncio.create_task(manager.pull(_V1, concurrency=concurrency))
            await asyncio.to_thread(gate.wait_reached, peak)
            gate.release()
            await pulling
    assert server.peak_in_flight == peak
    assert room.files(_V1) == _FILES


async def test_chunks_of_many_lengths_and_many_files(room: Room) -> None:
    """Chunk borders and file borders may lie anywhere against each other."""
    files = {f"part/{number:03}": blocks(number)[: 37 * number] for number in range(40)}
    room.publish({_V1: files}, chunk_sizes=[1, 999, 3000, 17])
    async with room.manager() as manager:
        await manager.pull(_V1, concurrency=16)
    assert room.files(_V1) == files
    require_sound(room.base, {_V1: files})


async def test_installed_models_are_announced_once(room: Room) -> None:
    """An event tells of an installation and of an update, not of a model that was there."""
    room.publish({_V1: {"a": b"1"}})
    heard: list[Event] = []
    hub = EventHub()
    hub.subscribe(heard.append)
    async with Manager(room.config(), events=hub) as manager:
        await manager.pull(_V1)
        await manager.pull(_V1)
        room.publish({_V1: {"a": b"2"}})
        await manager.pull(_V1)
    assert [event.status for event in heard if isinstance(event, ModelInstalled)] == ["installed", "updated"]


async def test_a_directory_that_was_deleted_is_installed_again(room: Room, server: FaultyRegistry) -> None:
    """The entry alone does not make a model: its directory deleted by hand, a pull brings it back."""
    room.publish({_V1: {"a": blocks(1)}})
    async with room.manager() as manager:
        await manager.pull(_V1)
        for path in sorted(room.dir(_V1).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        room.dir(_V1).rmdir()
        pulled = await manager.pull(_V1)
    assert pulled.status == "installed"
    require_sound(room.base, {_V1: {"a": blocks(1)}})


async def test_a_model_whose_name_was_lost_is_named_again(room: Room, server: FaultyRegistry) -> None:
    """The directory is whole and `registry.json` knows nothing of it: verified and named, nothing fetched."""
    room.publish({_V1: _FILES})
    async with room.manager() as manager:
        await manager.pull(_V1)
        (room.base / "registry.json").write_text("{}")
        server.forget_requests()
        pulled = await manager.pull(_V1)
    assert (pulled.status, server.count("chunk")) == ("installed", 0)
    require_sound(room.base, {_V1: _FILES})


async def test_the_longest_names_can_be_installed(tmp_path: Path) -> None:
    """Names of 128 characters each, in a deep base with spaces and letters of other scripts, work throughout."""
    room = Room.at(tmp_path)
    room.base = tmp_path.joinpath("Ein Ort mit Leerzeichen", "模型", *(["deep" * 20] * 8))
    ref = f"{'g' * 128}/{'m' * 128} {'v' * 128}"
    files = {f"{'d' * 200}/{'e' * 200}/ü {'f' * 100}": b"bytes", "a": blocks(1)}
    room.publish({ref: files})
    async with room.manager() as manager:
        await manager.pull(ref)
        assert room.files(ref) == files
        room.publish({ref: {**files, "a": blocks(2)}})
        assert (await manager.pull(ref)).status == "updated"
        (room.dir(ref) / "a").write_bytes(b"mine")
        removed = await manager.remove(ref)
    assert removed.kept is not None
    assert (removed.kept / "a").read_bytes() == b"mine"
    assert json.loads((room.base / "registry.json").read_bytes()) == {}
