"""A base as the original client leaves it: listed, used, updated, removed and exported without a second thought.

Source: seeds/002 §Storage Structure; the original's `storage.go` (indented registry.json, re-encoded manifests, times
with nanoseconds, a lock file inside each model).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import CHUNK, Room, blocks, listing, require_sound

_V1, _V2 = "fast-whisper/tiny fp16", "fast-whisper/tiny int8"
_FILES = {
    "model.safetensors": blocks(*range(6))[:5_600],
    "config.json": b'{"a": 1}' * 20,
    "tokenizer.json": b"{}",
}
_NEW = {**_FILES, "config.json": b'{"a": 2}' * 20}


def _install_as_the_original(
    room: Room, ref: str, files: Mapping[str, bytes], *, indent: int | None = 2
) -> None:
    """What the original writes: the files, its lock, a manifest in its own key order, and the entry."""
    root = room.dir(ref)
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / ".pull.lock").touch()
    offered = room.manifest(ref)
    manifest = {
        "total_size": offered.total_size,
        "chunk_size": offered.chunk_size,
        "chunks": list(offered.chunks),
        "files": [{"path": file.path, "size": file.size} for file in offered.files],
    }
    separators = None if indent else (",", ":")
    raw = json.dumps(manifest, indent=indent, separators=separators).encode()
    assert hashlib.sha256(raw).hexdigest() != room.made.manifest_hash(ref)
    (root / ".xprim").mkdir()
    (root / ".xprim" / "manifest.json").write_bytes(raw)
    listed = room.base / "registry.json"
    document = json.loads(listed.read_bytes()) if listed.exists() else {}
    group, model = ref.split(maxsplit=1)[0].split("/")
    document.setdefault(group, {}).setdefault(model, {})[ref.split()[1]] = {
        "manifest_hash": room.made.manifest_hash(ref),
        "total_size": offered.total_size,
        "file_count": len(files),
        "installed_at": "2024-01-15T12:30:00.123456789+02:00",
    }
    listed.write_text(json.dumps(document, indent=2))
    room.layout.chunks.mkdir(parents=True, exist_ok=True)


@pytest.fixture(params=[None, 2], ids=["compact", "indented"])
def original(room: Room, server: FaultyRegistry, request: pytest.FixtureRequest) -> Room:
    """One model installed by the original, its registry over HTTP."""
    room.publish({_V1: _FILES})
    _install_as_the_original(room, _V1, _FILES, indent=request.param)
    return room


async def test_it_is_listed_and_found(original: Room, server: FaultyRegistry) -> None:
    """List, info, path and files; a pull finds it installed and fetches nothing."""
    async with original.manager() as manager:
        (model,) = await manager.list_installed()
        assert (str(model.ref), model.total_size, model.file_count) == (
            _V1,
            sum(map(len, _FILES.values())),
            3,
        )
        assert model.installed_at == datetime(2024, 1, 15, 10, 30, 0, 123456, tzinfo=UTC)
        assert await manager.get_installed(_V1) == model
        assert await manager.path(_V1) == original.dir(_V1)
        assert [file.path for file in await manager.list_files(_V1)] == list(_FILES)
        assert not (await manager.check_update(_V1)).available
        before = listing(original.dir(_V1))
        assert (await manager.pull(_V1)).status == "already_installed"
        assert (await manager.plan_pull(_V1)).status == "already_installed"
    assert server.count("chunk") == 0
    assert listing(original.dir(_V1)) == before


async def test_it_is_updated_with_its_own_chunks(original: Room, server: FaultyRegistry) -> None:
    """The new version takes from it what it can; nothing of the untouched one is kept, its lock file neither."""
    original.publish({_V1: _NEW})
    async with original.manager() as manager:
        assert (await manager.check_update(_V1)).available
        pulled = await manager.pull(_V1)
    assert (pulled.status, pulled.receipt.kept) == ("updated", None)
    assert pulled.receipt.local_models == {_V1: 5}
    assert server.count("chunk") == 1
    require_sound(original.base, {_V1: _NEW})


async def test_another_version_reuses_it(original: Room, server: FaultyRegistry) -> None:
    """A second version is installed beside it from its chunks, and it is left as it is."""
    original.publish({_V2: _NEW})
    before = listing(original.dir(_V1))
    async with original.manager() as manager:
        pulled = await manager.pull(_V2)
        assert [str(model.ref) for model in await manager.list_installed()] == [_V1, _V2]
    assert (pulled.receipt.chunks_local, server.bytes_sent("chunk")) == (
        5,
        sum(map(len, _NEW.values())) - 5 * CHUNK,
    )
    assert listing(original.dir(_V1)) == before
    assert original.files(_V2) == _NEW


async def test_what_its_user_changed_is_kept(original: Room) -> None:
    """A changed file outlives the update; the others are recognised without a receipt, and not kept."""
    original.publish({_V1: _NEW})
    (original.dir(_V1) / "notes.txt").write_bytes(b"mine")
    tokenizer = original.dir(_V1) / "tokenizer.json"
    tokenizer.write_bytes(b"{mine}")
    async with original.manager() as manager:
        pulled = await manager.pull(_V1)
    assert pulled.receipt.kept is not None
    assert listing(pulled.receipt.kept) == {"notes.txt": b"mine", "tokenizer.json": b"{mine}"}
    require_sound(original.base, {_V1: _NEW})


async def test_force_makes_it_verifiable(original: Room, server: FaultyRegistry) -> None:
    """Its bytes are verified and nothing is fetched; afterwards the raw manifest lies there."""
    async with original.manager() as manager:
        pulled = await manager.pull(_V1, force=True)
    assert pulled.receipt.kept is None
    assert server.count("chunk") == 0
    require_sound(original.base, {_V1: _FILES})


async def test_it_is_removed(original: Room) -> None:
    """Files, lock file and name go, and nothing of it is kept."""
    async with original.manager() as manager:
        removed = await manager.remove(_V1)
        assert (removed.bytes_freed, removed.kept) == (sum(map(len, _FILES.values())), None)
        assert await manager.list_installed() == []
    assert not original.dir(_V1).parent.parent.exists()


async def test_it_is_exported_with_a_note(original: Room) -> None:
    """The manifest's old name cannot be had again: the export says so, and another base installs the same bytes."""
    async with original.manager() as manager:
        exported = await manager.export(_V1, to=original.root / "out")
    (note,) = exported.notes
    assert "re-encoded its manifest" in note
    second = Room(original.root, original.made, original.root / "second", str(original.root / "out"))
    async with second.manager() as manager:
        await manager.pull(_V1)
    require_sound(second.base, {_V1: _FILES})


async def test_it_is_peeked_where_it_lies(original: Room, server: FaultyRegistry) -> None:
    """Its files are looked into without asking anybody."""
    (original.dir(_V1) / "model.safetensors").unlink()
    async with original.manager() as manager:
        with pytest.raises(OSError, match=r"model\.safetensors"):
            await manager.peek(_V1)
    assert server.count() == 0


async def test_loose_chunks_of_an_unfinished_pull_of_the_original(room: Room, server: FaultyRegistry) -> None:
    """What it fetched and did not finish is used; afterwards its chunk directory is pruned when idle."""
    made = room.publish({_V1: _FILES})
    room.layout.chunks.mkdir(parents=True)
    for digest in made.chunks(_V1)[:4]:
        (room.layout.chunks / digest).write_bytes(made.object_path(digest).read_bytes())
    room.dir(_V1).mkdir(parents=True)
    (room.dir(_V1) / ".pull.lock").touch()
    async with room.manager() as manager:
        pulled = await manager.pull(_V1)
        assert pulled.receipt.local_models == {"loose chunks": 4}
        await manager.prune()
    assert list(room.layout.chunks.iterdir()) == []
    require_sound(room.base, {_V1: _FILES})


async def test_the_original_can_read_what_we_write(original: Room) -> None:
    """Entries have its four fields with its types, and a time that RFC 3339 knows; manifests are JSON it decodes."""
    original.publish({_V2: _NEW})
    async with original.manager() as manager:
        await manager.pull(_V2)
    entry = original.registry_json["fast-whisper"]["tiny"]["int8"]
    assert {
        key: type(entry[key]) for key in ("manifest_hash", "total_size", "file_count", "installed_at")
    } == {
        "manifest_hash": str,
        "total_size": int,
        "file_count": int,
        "installed_at": str,
    }
    datetime.strptime(entry["installed_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    manifest = json.loads((original.dir(_V2) / ".xprim" / "manifest.json").read_bytes())
    assert {"total_size", "chunk_size", "chunks", "files"} <= manifest.keys()
