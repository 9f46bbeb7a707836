"""Whatever a registry serves: a typed error, nothing outside the base, nothing installed."""

from __future__ import annotations

import asyncio
import json

import pytest

from xprim_nb.errors import HashMismatchError, NetworkError, RegistryError, StorageError, XprimError
from xprim_nb.testing.exchanges import Kind
from xprim_nb.testing.faults import Corrupt, Fault, Longer, OtherObject, Replace, WrongLength
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.hostile import GOOD, HOSTILE_MANIFESTS
from xprim_nb.testing.hostile_names import ASKED, HOSTILE_INDEXES

from .rooms import Room, blocks, listing, require_sound

_REF = "group/model v1"
_GOOD_FILES = {"w": blocks(1, 2)}


def _outside(room: Room) -> dict[str, bytes | str | None]:
    """Everything beside the base, parents of the test's directory included."""
    found = {name: data for name, data in listing(room.root).items() if name.split("/")[0] != "base"}
    above = {f"../{path.name}": None for path in room.root.parent.iterdir() if path.name.startswith("evil")}
    return {**found, **above}


@pytest.mark.parametrize("case", HOSTILE_MANIFESTS, ids=[case.name for case in HOSTILE_MANIFESTS])
async def test_a_hostile_manifest_is_refused_before_anything_is_written(
    room: Room, case: tuple[str, bytes, str]
) -> None:
    """Published as it is, pulled, planned, looked at and peeked: only typed errors, no file, no name, no chunk touched."""
    _, raw, wrong = case
    room.publish({"group/good v1": _GOOD_FILES})
    async with room.manager() as manager:
        await manager.pull("group/good v1")
        room.made.put_manifest(_REF, raw)
        before, registry = _outside(room), (room.base / "registry.json").read_bytes()
        for verb in (manager.pull, manager.plan_pull, manager.get_remote_detail, manager.peek):
            with pytest.raises(XprimError) as caught:
                await verb(_REF)
            assert isinstance(caught.value, RegistryError | HashMismatchError), wrong
            assert len(str(caught.value)) < 2000
        assert [str(model.ref) for model in await manager.list_installed()] == ["group/good v1"]
    assert _outside(room) == before
    assert (room.base / "registry.json").read_bytes() == registry
    assert not room.dir(_REF).exists()
    assert not room.layout.partials.exists() or list(room.layout.partials.iterdir()) == []
    require_sound(room.base, {"group/good v1": _GOOD_FILES})


def test_there_are_enough_of_them() -> None:
    """The corpus covers more than a hundred ways, and the manifest it starts from is a good one."""
    assert len(HOSTILE_MANIFESTS) >= 100
    assert len({case.name for case in HOSTILE_MANIFESTS}) == len(HOSTILE_MANIFESTS)
    assert set(GOOD) == {"total_size", "chunk_size", "chunks", "files"}


async def test_a_chunk_named_like_the_list_of_models_deletes_nothing(room: Room) -> None:
    """`../registry.json` as a chunk made the original delete the list; here it stays, to the byte."""
    room.publish({"group/good v1": _GOOD_FILES})
    chunk = "../registry.json"
    manifest = {"total_size": 1, "chunk_size": 1, "chunks": [chunk], "files": [{"path": "a", "size": 1}]}
    room.made.put_manifest(_REF, json.dumps(manifest).encode())
    async with room.manager() as manager:
        await manager.pull("group/good v1")
        registry = (room.base / "registry.json").read_bytes()
        for _ in range(2):
            with pytest.raises(RegistryError, match="chunks"):
                await manager.pull(_REF)
    assert (room.base / "registry.json").read_bytes() == registry


@pytest.mark.parametrize("case", HOSTILE_INDEXES, ids=[case.name for case in HOSTILE_INDEXES])
async def test_a_hostile_index_installs_nothing(room: Room, case: tuple[str, bytes, str]) -> None:
    """An index that breaks the format, or an entry that does: a typed error, and nothing beside the cache."""
    room.made.root.mkdir()
    (room.made.root / "models.json").write_bytes(case[1])
    before = _outside(room)
    async with room.manager() as manager:
        with pytest.raises(XprimError):
            await manager.pull(ASKED)
        assert await manager.list_installed() == []
    assert _outside(room) == before
    assert {path.split("/")[0] for path in listing(room.base)} <= {"cache"}


_FORGERIES: dict[str, tuple[Kind, list[Fault] | None]] = {
    "manifest-replaced": ("manifest", [Replace(json.dumps(GOOD).encode())]),
    "manifest-flipped": ("manifest", [Corrupt(20)]),
    "manifest-other-object": ("manifest", None),
    "chunk-flipped": ("chunk", [Corrupt(-1)]),
    "chunk-replaced": ("chunk", [Replace(b"x" * 1000)]),
    "chunk-longer-declared": ("chunk", [Longer(10, declared=True)]),
    "chunk-shorter-declared": ("chunk", [WrongLength(-10)]),
}


@pytest.mark.parametrize("forgery", _FORGERIES)
async def test_altered_answers_are_never_installed(room: Room, server: FaultyRegistry, forgery: str) -> None:
    """A middleman who alters manifests or chunks is found out by their names; the old version stays."""
    room.publish({_REF: _GOOD_FILES})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: {"w": blocks(3, 4)}})
        on, faults = _FORGERIES[forgery]
        other = OtherObject(room.made.chunks(_REF)[0])
        server.inject(*(faults if faults is not None else [other]), on=on, times=None)
        with pytest.raises((HashMismatchError, NetworkError)):
            await asyncio.wait_for(manager.pull(_REF), 20)
        require_sound(room.base, {_REF: _GOOD_FILES})
        server.heal()
        assert (await manager.pull(_REF)).status == "updated"
    require_sound(room.base, {_REF: {"w": blocks(3, 4)}})


@pytest.mark.parametrize("extra_bytes", [1, 100_000, None])
async def test_bytes_behind_a_chunk_are_cut_off(
    room: Room, server: FaultyRegistry, extra_bytes: int | None
) -> None:
    """A body that goes on after the right bytes, for ever even, is left; the file holds the model's bytes and no more."""
    room.publish({_REF: _GOOD_FILES})
    server.inject(Longer(extra_bytes), on="chunk", times=None)
    async with room.manager() as manager:
        pulled = await asyncio.wait_for(manager.pull(_REF), 20)
    assert pulled.receipt.bytes_written == 2000
    require_sound(room.base, {_REF: _GOOD_FILES})


async def test_a_model_larger_than_any_disk_is_refused_with_the_sum(
    room: Room, server: FaultyRegistry
) -> None:
    """A manifest of a petabyte in one repeated chunk is well-formed; it is refused before a file is made for it."""
    digest = room.made.put_object(b"zero")
    many, size = 900_000, 1 << 30
    manifest = {
        "total_size": many * size,
        "chunk_size": size,
        "chunks": [digest] * many,
        "files": [{"path": "huge", "size": many * size}],
    }
    room.made.put_manifest(_REF, json.dumps(manifest).encode())
    async with room.manager() as manager:
        with pytest.raises(StorageError, match="short"):
            await asyncio.wait_for(manager.pull(_REF), 25)
    assert server.count("chunk") == 0
    assert not room.layout.partials.exists() or list(room.layout.partials.iterdir()) == []
