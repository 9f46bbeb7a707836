"""The cache as a registry: what was installed here can be pulled from here, to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xprim_nb.errors import (
    ConfigError,
    HashMismatchError,
    NotInstalledError,
    RegistryError,
    StorageError,
    VersionExistsError,
)
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room, blocks, listing, require_sound

_V1, _V2, _LATEST, _OTHER = "group/model v1", "group/model v2", "group/model latest", "other/model v1"
_FILES = {
    _V1: {"a.bin": blocks(1, 2, 1, 3), "deep/config.json": b"{}", "empty": b""},
    _V2: {"a.bin": blocks(1, 4), "deep/config.json": b"{2}", "empty": b""},
    _OTHER: {"b.bin": blocks(1, 9)[:1700]},
}


@pytest.fixture
def out(room: Room) -> Path:
    """Where to export to; not there yet."""
    return room.root / "usb stick" / "registry"


async def test_a_second_base_pulls_from_the_export(room: Room, server: FaultyRegistry, out: Path) -> None:
    """Everything exported, alias and metadata included, is installed elsewhere byte for byte; no request was made."""
    room.publish(_FILES, alias={_LATEST: "v2"}, metadata={"licence": "MIT"})
    async with room.manager() as manager:
        for ref in (_V1, _LATEST, _OTHER):
            await manager.pull(ref)
        server.forget_requests()
        exported = await manager.export(["group/model", _OTHER], to=out)
    assert server.count() == 0
    assert sorted(map(str, exported.refs)) == sorted([_V1, _LATEST, _OTHER])
    assert exported.notes == ()
    second = Room(room.root, room.made, room.root / "second base", str(out))
    async with second.manager() as manager:
        listed = {str(each.ref): (each.alias_of, dict(each.metadata)) for each in await manager.list_remote()}
        for ref in (_V1, _LATEST, _OTHER):
            await manager.pull(ref)
    metadata = {"licence": "MIT"}
    assert listed == {
        _V1: (None, metadata),
        _V2: (None, metadata),
        _LATEST: ("v2", metadata),
        _OTHER: (None, metadata),
    }
    require_sound(second.base, {_V1: _FILES[_V1], _LATEST: _FILES[_V2], _OTHER: _FILES[_OTHER]})
    for ref in (_V1, _OTHER):
        assert (
            second.dir(ref).joinpath(".xprim/manifest.json").read_bytes()
            == room.made.object_path(room.made.manifest_hash(ref)).read_bytes()
        )


async def test_chunks_that_models_share_are_written_once(room: Room, out: Path) -> None:
    """The sums count each distinct chunk once, and a second export writes nothing."""
    room.publish(_FILES)
    async with room.manager() as manager:
        for ref in _FILES:
            await manager.pull(ref)
        exported = await manager.export(list(_FILES), to=out)
        before = listing(out)
        again = await manager.export(list(_FILES), to=str(out))
    chunks = {chunk for ref in _FILES for chunk in room.made.chunks(ref)}
    assert exported.chunks_written == len(chunks)
    assert exported.bytes_written == sum(len(room.made.object_path(chunk).read_bytes()) for chunk in chunks)
    assert (again.chunks_written, again.bytes_written) == (0, 0)
    assert listing(out) == before
    assert len(list((out / "data").iterdir())) == len(chunks) + len(_FILES)


async def test_a_damaged_model_is_not_passed_on(room: Room, out: Path) -> None:
    """A flipped byte or a missing file is named with the way to mend it, and the model gets no name over there."""
    room.publish(_FILES)
    async with room.manager() as manager:
        for ref in _FILES:
            await manager.pull(ref)
        path = room.dir(_V2) / "a.bin"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(HashMismatchError, match=r"group/model v2: a\.bin is damaged") as caught:
            await manager.export([_V1, _V2], to=out)
        assert "--force" in caught.value.hint
        (room.dir(_OTHER) / "b.bin").unlink()
        with pytest.raises(HashMismatchError, match=r"b\.bin is missing"):
            await manager.export(_OTHER, to=out)
    assert json.loads((out / "models.json").read_bytes()).keys() == {"group"}
    assert json.loads((out / "models.json").read_bytes())["group"]["model"].keys() == {"v1"}
    assert not [path for path in (out / "data").iterdir() if path.name.startswith(".")]


async def test_what_the_directory_holds_stays(room: Room, out: Path) -> None:
    """Other models of a registry that is there already are kept; a version with other bytes is not replaced."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await manager.pull(_V1)
        await manager.pull(_OTHER)
        await manager.export(_OTHER, to=out)
        document = json.loads((out / "models.json").read_bytes())
        document["group"] = {
            "model": {"v1": {"hash": "a" * 64}},
            "foreign": {"x": {"hash": "b" * 64, "note": 1}},
        }
        (out / "models.json").write_text(json.dumps(document))
        with pytest.raises(VersionExistsError, match="group/model v1"):
            await manager.export(_V1, to=out)
    assert json.loads((out / "models.json").read_bytes()) == document


@pytest.mark.parametrize("where", ["base", "below the base", "through a link"])
async def test_the_cache_does_not_export_into_itself(room: Room, where: str) -> None:
    """The base, a directory in it, or a link that leads there is refused before anything is written."""
    room.publish(_FILES)
    (room.root / "link").symlink_to(room.base)
    to = {"base": room.base, "below the base": room.base / "x", "through a link": room.root / "link" / "x"}[
        where
    ]
    async with room.manager() as manager:
        await manager.pull(_V1)
        before = listing(room.base)
        with pytest.raises(ConfigError, match="models directory"):
            await manager.export(_V1, to=to)
        assert listing(room.base) == before


async def test_what_cannot_be_exported_says_why(room: Room, out: Path) -> None:
    """Nothing named, nothing installed, a file in the way, a foreign models.json: each is a typed error."""
    room.publish(_FILES)
    async with room.manager() as manager:
        with pytest.raises(ConfigError, match="nothing to export"):
            await manager.export([], to=out)
        with pytest.raises(NotInstalledError, match="group/model v1"):
            await manager.export(_V1, to=out)
        with pytest.raises(NotInstalledError):
            await manager.export("group/model", to=out)
        await manager.pull(_V1)
        out.parent.mkdir()
        out.write_bytes(b"a file")
        with pytest.raises(StorageError):
            await manager.export(_V1, to=out)
        out.unlink()
        out.mkdir()
        (out / "models.json").write_bytes(b"<html>")
        with pytest.raises(RegistryError, match=r"models\.json"):
            await manager.export(_V1, to=out)
    assert (out / "models.json").read_bytes() == b"<html>"


async def test_a_hostile_alias_in_the_list_is_refused(room: Room, out: Path) -> None:
    """`resolved_version` comes from a file that anybody can write; a path there leads nowhere."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await manager.pull(_V1)
        document = room.registry_json
        document["group"]["model"]["v1"]["resolved_version"] = "../../outside"
        (room.base / "registry.json").write_text(json.dumps(document))
        exported = await manager.export(_V1, to=out)
    assert [str(ref) for ref in exported.refs] == [_V1]
    assert {path for path in listing(room.root) if "outside" in path} == set()
