"""Other programs' bytes: they serve pulls, are believed nowhere, and can be installed without a download."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import pytest_socket

from xprim_nb.config import foreign_cache
from xprim_nb.errors import ConfigError, InvalidRefError, StorageError, VersionExistsError, XprimError
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import random_bytes

from ..rooms import Room, blocks, listing, require_sound
from .foreign import make_hf_cache, make_ollama_store

_A, _B = "group/a v1", "group/b v1"
_WEIGHTS = random_bytes("weights", 7_300)
# The chunks are not aligned with the files: one spans the end of the weights and the small files.
_FILES = {
    "model.safetensors": _WEIGHTS,
    "config.json": b'{"a": 1}',
    "deep/tokenizer.json": random_bytes("t", 2_000),
}


async def test_a_pull_fetches_nothing_from_an_adopted_hugging_face_cache(
    room: Room, server: FaultyRegistry
) -> None:
    """Blobs named by their SHA-256, small ones named by git, chunks across files: all of it is on this machine."""
    room.publish({_A: _FILES}, file_hashes=True)
    hub = room.root / "hub"
    make_hf_cache(hub, "org/name", _FILES)
    make_hf_cache(hub, "org/other", {"model.safetensors": random_bytes("other", 7_300)}, revision="b" * 40)
    before = listing(hub)
    async with room.manager() as manager:
        adopted = await manager.adopt(hub)
        assert (adopted.place.kind, len(adopted.place.files), adopted.model) == ("hf", 4, None)
        assert [each.name for each in adopted.place.models] == ["org/name@main", "org/other@main"]
        plan = await manager.plan_pull(_A)
        pulled = await manager.pull(_A)
    assert plan.bytes_network == pulled.receipt.bytes_network == 0
    assert server.count("chunk") == 0
    assert list(pulled.receipt.local_models) == [f"Hugging Face cache {hub}"]
    assert listing(hub) == before
    require_sound(room.base, {_A: _FILES})


async def test_a_manifest_without_digests_finds_files_by_size(room: Room, server: FaultyRegistry) -> None:
    """Two files of the same size, one of them wrong: the right one serves, the wrong one costs a read."""
    room.publish({_A: {"w.bin": blocks(1, 2, 3)}})
    folder = room.root / "folder"
    folder.mkdir()
    (folder / "a.bin").write_bytes(blocks(9, 9, 9))
    (folder / "z.bin").write_bytes(blocks(1, 2, 3))
    async with room.manager() as manager:
        await manager.adopt(folder)
        pulled = await manager.pull(_A)
    assert server.count("chunk") == 0
    assert pulled.receipt.local_models == {f"folder {folder}": 3}


def _lie(blob: Path) -> None:
    data = bytearray(blob.read_bytes())
    data[1500] ^= 255
    blob.write_bytes(data)


def _pipe(blob: Path) -> None:
    blob.unlink()
    os.mkfifo(blob)


_HARMS = {
    "one wrong byte": (_lie, 1),
    "cut": (lambda blob: os.truncate(blob, 10), 8),
    "vanished": (lambda blob: blob.unlink(), 8),
    "a directory": (lambda blob: (blob.unlink(), blob.mkdir()), 8),
    "a pipe": (_pipe, 8),
    "other bytes": (lambda blob: blob.write_bytes(random_bytes("x", 7_300)), 8),
}


@pytest.mark.parametrize("harm", _HARMS)
async def test_a_lying_file_costs_a_read(room: Room, server: FaultyRegistry, harm: str) -> None:
    """A blob that is not what its name says is found out by the hash; what it lacks is fetched, nothing is written."""
    spoil, lost = _HARMS[harm]
    room.publish({_A: _FILES}, file_hashes=True)
    hub = room.root / "hub"
    snapshot = make_hf_cache(hub, "org/name", _FILES)
    async with room.manager() as manager:
        await manager.adopt(hub)
        blob = Path(os.path.realpath(snapshot / "model.safetensors"))
        spoil(blob)
        pulled = await manager.pull(_A)
    # A file that lied once is not asked again, so that chunks after the wrong one may be fetched too.
    assert lost <= server.count("chunk") <= 8
    assert pulled.receipt.chunks_local + pulled.receipt.chunks_network == 10
    require_sound(room.base, {_A: _FILES})


async def test_ollama_blobs_serve_and_install(room: Room, server: FaultyRegistry) -> None:
    """A GGUF that Ollama has serves the pull of a model that contains it, and is installed under a name of ours."""
    gguf = random_bytes("gguf", 5_000)
    room.publish({_A: {"model-q4.gguf": gguf}}, file_hashes=True)
    store = room.root / "ollama"
    make_ollama_store(store, "llama3", "8b", {"model": gguf, "template": b"{{ .Prompt }}", "license": b"MIT"})
    make_ollama_store(store, "tiny", "latest", {"model": b"tiny", "projector": b"p", "unknown": b"u"})
    async with room.manager() as manager:
        place = (await manager.scan(store)).models
        assert [each.name for each in place] == ["library/llama3:8b", "library/tiny:latest"]
        assert sorted(place[0].files) == ["license.txt", "model.gguf", "template.txt"]
        assert await manager.adopted() == []
        adopted = await manager.adopt(store, install_as=_B, model="llama3")
        assert adopted.model is not None
        assert adopted.receipt is not None
        assert adopted.receipt.bytes_network == 0
        assert adopted.model.extra["registry"] == "adopted"
        assert "llama3:8b" in adopted.model.extra["adopted_from"]
        assert room.files(_B) == {"model.gguf": gguf, "template.txt": b"{{ .Prompt }}", "license.txt": b"MIT"}
        await manager.remove(_B)
        assert (await manager.pull(_A)).receipt.bytes_network == 0
    assert server.count("chunk") == 0


async def test_a_snapshot_is_installed_offline_and_exported(room: Room) -> None:
    """With sockets blocked an adopted model is installed, verified, archived, restored and published to a directory."""
    hub = room.root / "hub"
    make_hf_cache(hub, "org/name", _FILES)
    pytest_socket.disable_socket()
    try:
        async with room.manager(offline=True, registry_url="https://nowhere.example.org") as manager:
            adopted = await manager.adopt(hub, install_as=_A)
            again = await manager.adopt(hub, install_as=_A)
            assert adopted.model is not None
            assert again.model is not None
            assert adopted.model.manifest_hash == again.model.manifest_hash
            assert room.files(_A) == _FILES
            await manager.archive(_A)
            shutil.rmtree(hub)
            await manager.restore(_A)
            await manager.export(_A, to=room.root / "exported")
    finally:
        pytest_socket.enable_socket()
    require_sound(room.base, {_A: _FILES})
    async with room.manager(
        registry_url=str(room.root / "exported"), data_dir=room.root / "second"
    ) as manager:
        assert (await manager.pull(_A)).path.is_dir()


async def test_a_name_that_is_taken_is_not_replaced(room: Room) -> None:
    """Installing over a model of the registry, or over another adopted one, is refused, and nothing changes."""
    room.publish({_A: _FILES})
    folder = room.root / "folder"
    folder.mkdir()
    (folder / "w.gguf").write_bytes(b"one")
    async with room.manager() as manager:
        await manager.pull(_A)
        with pytest.raises(VersionExistsError):
            await manager.adopt(folder, install_as=_A)
        await manager.adopt(folder, install_as=_B)
        (folder / "w.gguf").write_bytes(b"two")
        with pytest.raises(VersionExistsError):
            await manager.adopt(folder, install_as=_B)
        with pytest.raises(InvalidRefError):
            await manager.adopt(folder, install_as="no ref")
    require_sound(room.base, {_A: _FILES, _B: {"w.gguf": b"one"}})


async def test_which_model_is_meant_has_to_be_said(room: Room) -> None:
    """A place with several models asks which; an unknown or an ambiguous name lists what there is."""
    hub = room.root / "hub"
    make_hf_cache(hub, "org/one", _FILES)
    make_hf_cache(hub, "org/two", {"w": b"2" * 2000}, revision="b" * 40)
    async with room.manager() as manager:
        for name in (None, "org/", "three"):
            with pytest.raises(ConfigError) as caught:
                await manager.adopt(hub, install_as=_A, model=name)
            assert "org/two@main" in caught.value.hint
        assert await manager.adopted() == []
        await manager.adopt(hub, install_as=_A, model="two")
    assert room.files(_A) == {"w": b"2" * 2000}


async def test_places_are_listed_and_forgotten(room: Room, server: FaultyRegistry) -> None:
    """`adopted` lists each directory once; a forgotten one is read no more, and none of its files is touched."""
    room.publish({_A: _FILES}, file_hashes=True)
    hub, folder = room.root / "home/hub", room.root / "folder"
    make_hf_cache(hub, "org/name", _FILES)
    folder.mkdir()
    (folder / "x").write_bytes(b"x")
    (folder / ".hidden").write_bytes(b"x")
    async with room.manager() as manager:
        await manager.adopt(hub.parent)  # HF_HOME: its hub is found
        await manager.adopt(hub)
        await manager.adopt(folder)
        assert [(each.root, len(each.files)) for each in await manager.adopted()] == [
            (str(folder), 1),
            (str(hub), 3),
        ]
        assert (await manager.why(folder / "x")).kind == "adopted"
        assert await manager.forget_adopted(hub.parent) == [str(hub)]
        assert await manager.forget_adopted() == [str(folder)]
        assert await manager.forget_adopted() == []
        await manager.pull(_A)
    assert server.count("chunk") == 10
    assert (hub / "models--org--name").is_dir()


async def test_a_damaged_or_newer_list_costs_bandwidth_only(room: Room, server: FaultyRegistry) -> None:
    """`adopted.json` that is damaged counts as empty; a newer one is refused and left alone; pulls work all the same."""
    room.publish({_A: _FILES, _B: {"w": blocks(1)}})
    path = room.layout.adopted_file
    path.parent.mkdir(parents=True)
    path.write_text("{damaged")
    async with room.manager() as manager:
        await manager.pull(_A)
        assert await manager.adopted() == []
        newer = json.dumps({"schema_version": 2, "places": "?"})
        path.write_text(newer)
        await manager.pull(_B)
        for work in (manager.adopted(), manager.adopt(room.made.root)):
            with pytest.raises(StorageError, match="newer version"):
                await work
        assert path.read_text() == newer


@pytest.mark.parametrize("place", ["nowhere", "base", "base/group", "."])
async def test_what_cannot_be_adopted_is_refused(room: Room, place: str) -> None:
    """A directory that is missing, or is, holds or lies in our own, is no foreign cache."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        with pytest.raises(ConfigError):
            await manager.adopt(room.root / place)
        assert await manager.adopted() == []


async def test_file_names_that_no_model_may_have_are_refused(room: Room) -> None:
    """A folder whose file names cannot be a model's is adopted as a source, and not installed."""
    folder = room.root / "folder"
    folder.mkdir()
    (folder / "aux.txt").write_bytes(b"x")
    async with room.manager() as manager:
        with pytest.raises(XprimError) as caught:
            await manager.adopt(folder, install_as=_A)
        assert "aux.txt" in caught.value.message
        assert await manager.list_installed() == []


def test_where_other_programs_keep_their_models(tmp_path: Path) -> None:
    """The variables that those programs read decide, the most exact one first; an unknown program is an error."""
    home = {"HOME": str(tmp_path)}
    assert foreign_cache("hf", {**home, "HF_HUB_CACHE": "/a/hub", "HF_HOME": "/b"}) == Path("/a/hub")
    assert foreign_cache("hf", {**home, "HF_HOME": "/b"}) == Path("/b/hub")
    assert foreign_cache("hf", {"XDG_CACHE_HOME": "/c"}) == Path("/c/huggingface/hub")
    assert foreign_cache("hf", {}) == Path("~/.cache/huggingface/hub").expanduser()
    assert foreign_cache("ollama", {"OLLAMA_MODELS": "/o"}) == Path("/o")
    assert foreign_cache("ollama", {}) == Path("~/.ollama/models").expanduser()
    with pytest.raises(ConfigError, match="lmstudio"):
        foreign_cache("lmstudio")


async def test_programs_are_adopted_by_name(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """`adopt("hf")` and `adopt("ollama")` look where the environment says."""
    make_hf_cache(room.root / "hub", "org/name", _FILES)
    make_ollama_store(room.root / "models", "tiny", "latest", {"model": b"tiny"})
    monkeypatch.setenv("HF_HUB_CACHE", str(room.root / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(room.root / "models"))
    async with room.manager() as manager:
        assert (await manager.adopt("hf")).place.kind == "hf"
        assert (await manager.adopt("ollama")).place.kind == "ollama"
        assert len(await manager.adopted()) == 2
        assert await manager.forget_adopted("hf") == [str(room.root / "hub")]


async def test_a_repair_reads_adopted_files_and_archives_offline(room: Room) -> None:
    """With sockets blocked, one damaged chunk comes from an adopted cache, another from an archive."""
    archived, shared = "group/c v1", {"w.bin": blocks(1, 2, 3)}
    room.publish({_A: _FILES, _B: shared, archived: {**shared, "more": b"x"}}, file_hashes=True)
    hub = room.root / "hub"
    make_hf_cache(hub, "org/name", _FILES)
    async with room.manager() as manager:
        for ref in (_A, _B, archived):
            await manager.pull(ref)
        await manager.archive(archived)
        await manager.adopt(hub)
    for ref, path in ((_A, "model.safetensors"), (_B, "w.bin")):
        place = room.dir(ref) / path
        facts = place.stat()
        _lie(place)
        os.utime(place, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    pytest_socket.disable_socket()
    try:
        async with room.manager(offline=True, registry_url="https://nowhere.example.org") as manager:
            repaired = [await manager.repair(ref) for ref in (_A, _B)]
    finally:
        pytest_socket.enable_socket()
    assert [each.chunks_network for each in repaired] == [0, 0]
    require_sound(room.base, {_A: _FILES, _B: shared})
