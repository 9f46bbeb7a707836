"""Disks that are full, read-only, or not what they should be: a clear error, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache import partial, planning
from xprim_nb.errors import InsufficientSpaceError, StorageError, XprimError
from xprim_nb.manager import Manager
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .mounts import mounted
from .rooms import Room, blocks, listing, require_sound

_REF = "group/model v1"
_MIB = 1 << 20
_OLD = {"a.bin": blocks(1, 2, 3)}


async def test_what_cannot_fit_is_refused_with_the_sum(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needed, free and short are named; nothing was fetched and no file was made; the old version stays."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: {"a.bin": blocks(*range(10, 60))}})
        monkeypatch.setattr("xprim_nb.cache.pull.free_bytes", lambda path: 20_000)
        server.forget_requests()
        plan = await manager.plan_pull(_REF)
        assert (plan.fits, plan.disk_needed, plan.disk_free) == (False, 50_000, 20_000)
        with pytest.raises(
            InsufficientSpaceError, match=r"needs 48\.8 KB more.*has 19\.5 KB free: 29\.3 KB short"
        ):
            await manager.pull(_REF)
    assert server.count("chunk") == 0
    assert list(room.layout.partials.iterdir()) == []
    require_sound(room.base, {_REF: _OLD})


async def test_what_is_there_already_is_not_needed_again(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that an unfinished pull has are counted as had: it goes on where only the rest fits."""
    room.publish({_REF: {"a.bin": blocks(*range(40))}})
    bad = room.made.chunks(_REF)[-1]
    path = room.made.object_path(bad)
    good = path.read_bytes()
    path.unlink()
    async with room.manager(tries=1) as manager:
        with pytest.raises(XprimError):
            await manager.pull(_REF)
        path.write_bytes(good)
        monkeypatch.setattr("xprim_nb.cache.pull.free_bytes", lambda path: 8192)
        plan = await manager.plan_pull(_REF)
        assert plan.disk_needed < 8192
        await manager.pull(_REF)
    require_sound(room.base)


@pytest.mark.parametrize("preallocated", [True, False])
async def test_a_disk_that_fills_up_on_the_way(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch, preallocated: bool
) -> None:
    """On a real small file system that others fill meanwhile: a clear error, the old version whole, resumed when
    there is space again.
    """
    with mounted(room.root / "small disk", "-t", "tmpfs", "-o", "size=3m", "tmpfs") as disk:
        room.base = disk / "base"
        room.publish({_REF: _OLD})
        async with room.manager() as manager:
            await manager.pull(_REF)
            hog = disk / "somebody else's"
            hog.write_bytes(bytes(_MIB * 3 // 2))
            new = {f"{number}.bin": os.urandom(_MIB // 2) for number in range(4)}
            room.publish({_REF: new}, chunk_size=_MIB // 8)
            monkeypatch.setattr(planning, "check_space", lambda plan, base: None)
            monkeypatch.setattr("xprim_nb.cache.pull.check_space", lambda plan, base: None)
            if not preallocated:
                monkeypatch.setattr(partial, "preallocate", os.ftruncate)
            with pytest.raises(InsufficientSpaceError, match="the disk is full") as caught:
                await manager.pull(_REF)
            assert "space" in caught.value.hint
            require_sound(room.base, {_REF: _OLD})
            hog.unlink()
            pulled = await manager.pull(_REF)
        assert pulled.status == "updated"
        if not preallocated:
            assert pulled.receipt.chunks_present > 0
        require_sound(room.base, {_REF: new})


async def test_a_disk_that_is_full_when_the_model_is_named(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no room for the last small files: the error comes, the next operation names the model."""
    room.publish({_REF: _OLD, "group/other v1": {"b": b"1"}})
    real = os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith("registry.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        real(source, target)

    async with room.manager() as manager:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(InsufficientSpaceError, match=r"registry\.json"):
                await manager.pull(_REF)
    async with room.manager() as manager:
        assert [str(model.ref) for model in await manager.list_installed()] == [_REF]
    require_sound(room.base, {_REF: _OLD})


_READING: dict[str, Callable[[Manager, Path], Awaitable[Any]]] = {
    "list": lambda manager, out: manager.list_installed(),
    "path": lambda manager, out: manager.path(_REF),
    "files": lambda manager, out: manager.list_files(_REF),
    "list-remote": lambda manager, out: manager.list_remote(),
    "detail": lambda manager, out: manager.get_remote_detail("group/other v1"),
    "check": lambda manager, out: manager.check_updates(),
    "pull-installed": lambda manager, out: manager.pull(_REF),
    "plan": lambda manager, out: manager.plan_pull("group/other v1"),
    "peek": lambda manager, out: manager.peek(_REF),
    "export": lambda manager, out: manager.export(_REF, to=out),
}
_WRITING: dict[str, Callable[[Manager], Awaitable[Any]]] = {
    "pull": lambda manager: manager.pull("group/other v1"),
    "remove": lambda manager: manager.remove(_REF),
}


@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_read_only_base_answers_and_refuses(room: Room, interrupted: bool) -> None:
    """On a file system mounted read-only (root ignores permissions): whatever only reads works, with half-done work
    of a killed process lying there too; whatever writes says that the file system is read-only.
    """
    room.publish({_REF: _OLD, "group/other v1": {"b": blocks(1, 9)}})
    async with room.manager() as manager:
        await manager.pull(_REF)
    if interrupted:
        room.layout.intents.mkdir(exist_ok=True)
        intent = {
            "kind": "remove",
            "ref": _REF,
            "token": "",
            "tree": "",
            "out": "cache/trash/0123",
            "extra": {},
        }
        (room.layout.intents / "x.json").write_text(json.dumps(intent))
    before = listing(room.base)
    with mounted(room.root / "frozen", "--bind", "-o", "ro", room.base) as frozen:
        room.base = frozen
        async with room.manager() as manager:
            for verb in _READING.values():
                await verb(manager, room.root / "out")
            for write in _WRITING.values():
                with pytest.raises(StorageError, match="read-only"):
                    await write(manager)
    assert listing(room.root / "base") == before


@pytest.mark.parametrize("where", ["base", "parent"])
async def test_a_base_that_is_a_file(room: Room, where: str) -> None:
    """The data directory, or its parent, is a file: errors that name it, also for a list; nothing is overwritten."""
    room.publish({_REF: _OLD})
    room.base.write_bytes(b"a file")
    base = room.base if where == "base" else room.base / "models"
    async with room.manager(data_dir=base) as manager:
        for verb in (manager.pull(_REF), manager.peek(_REF)):
            with pytest.raises(XprimError, match=r"file lies where a directory should be|base"):
                await verb
        with pytest.raises(StorageError, match="base"):
            await manager.list_installed()
    assert room.base.read_bytes() == b"a file"


@pytest.mark.parametrize("name", ["with space", "ünïcödé 模型 🦊", "quote'\"$(x)", "-dash", "%41", "a" * 200])
async def test_a_base_of_any_name(room: Room, name: str) -> None:
    """Spaces, other scripts, quotes and shell characters in the path are just a path."""
    room.base = room.root / name / "models"
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: {"a.bin": blocks(1, 4)}})
        assert (await manager.pull(_REF)).receipt.chunks_local == 1
        await manager.export(_REF, to=room.root / name / "out")
        assert (await manager.path(_REF)).is_dir()
    require_sound(room.base, {_REF: {"a.bin": blocks(1, 4)}})


async def test_a_base_through_a_link(room: Room) -> None:
    """The base is a link to another disk: everything lands there, and the link stays."""
    elsewhere = room.root / "big disk"
    elsewhere.mkdir()
    room.base.symlink_to(elsewhere)
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: {"a.bin": blocks(4)}})
        await manager.pull(_REF)
    assert room.base.is_symlink()
    require_sound(elsewhere, {_REF: {"a.bin": blocks(4)}})


async def test_a_group_on_another_disk_says_what_is_wrong(room: Room) -> None:
    """A group directory that leads to another file system cannot be swapped into: an error that says so, nothing is
    lost, and everything else works.
    """
    room.publish({_REF: _OLD, "other/model v1": {"b": b"1"}})
    with mounted(room.root / "other disk", "-t", "tmpfs", "tmpfs") as disk:
        room.base.mkdir()
        (room.base / "group").symlink_to(disk)
        async with room.manager() as manager:
            with pytest.raises(StorageError, match=r"another disk.*group/model/v1"):
                await manager.pull(_REF)
            await manager.pull("other/model v1")
        assert list(room.layout.intents.glob("*.json")) == []
        (room.base / "group").unlink()
        async with room.manager() as manager:
            pulled = await manager.pull(_REF)
        assert pulled.receipt.chunks_present == 3
    require_sound(room.base, {_REF: _OLD, "other/model v1": {"b": b"1"}})
