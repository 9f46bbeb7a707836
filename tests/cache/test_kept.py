"""What a user changed or added in an installed model is put aside, never deleted; what is ours is not kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache import kept as kept_module
from xprim_nb.cache.kept import changed_files, retire
from xprim_nb.cache.layout import Layout
from xprim_nb.errors import StorageError
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef

from .rooms import Room, blocks, listing, require_sound

_REF = "group/model v1"
# No file begins or ends where a chunk does, as in most models that the original client installed.
_OLD = {
    "a.bin": blocks(1, 2, 3)[:2700],
    "config.json": b'{"a": 1}',
    "deep/er/b.bin": blocks(4, 5)[:1234],
    "empty": b"",
    "tail": b"t",
}
_NEW = {"a.bin": blocks(1, 2, 6)[:2700], "config.json": b'{"a": 2}'}
_CHANGES: dict[str, tuple[Callable[[Path], Any], dict[str, bytes]]] = {
    "nothing": (lambda root: None, {}),
    "edited": (lambda root: (root / "config.json").write_bytes(b'{"a": 3}'), {"config.json": b'{"a": 3}'}),
    "grown": (lambda root: (root / "tail").write_bytes(b"tt"), {"tail": b"tt"}),
    "filled": (lambda root: (root / "empty").write_bytes(b"x"), {"empty": b"x"}),
    "added": (lambda root: (root / "notes.md").write_bytes(b"mine"), {"notes.md": b"mine"}),
    "added-deep": (lambda root: _write(root / "x" / "y" / "z", b"mine"), {"x/y/z": b"mine"}),
    "hidden": (lambda root: (root / ".env").write_bytes(b"KEY"), {".env": b"KEY"}),
    "touched": (lambda root: (root / "a.bin").touch(), {}),
    "deleted": (lambda root: (root / "a.bin").unlink(), {}),
    "file-to-directory": (lambda root: _replace(root / "tail", b"in"), {"tail/file": b"in"}),
    "directory-to-file": (lambda root: _flatten(root / "deep"), {"deep": b"flat"}),
}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _replace(path: Path, data: bytes) -> None:
    path.unlink()
    _write(path / "file", data)


def _flatten(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"flat")


def _like_the_original(room: Room) -> None:
    """No receipt, and the original's lock file among the files."""
    (room.dir(_REF) / ".xprim" / "receipt.json").unlink()
    (room.dir(_REF) / ".pull.lock").touch()


async def _do(manager: Manager, room: Room, deed: str) -> Path | None:
    if deed == "remove":
        return (await manager.remove(_REF)).kept
    if deed == "update":
        room.publish({_REF: _NEW})
    return (await manager.pull(_REF, force=deed == "force")).receipt.kept


@pytest.mark.parametrize("origin", ["ours", "original", "file-hashes"])
@pytest.mark.parametrize("deed", ["update", "force", "remove"])
@pytest.mark.parametrize("change", _CHANGES)
async def test_changed_files_are_kept_and_untouched_ones_are_not(
    room: Room, change: str, deed: str, origin: str
) -> None:
    """Exactly the changed and added files lie in the directory that the result names, wherever the model came from."""
    edit, expected = _CHANGES[change]
    room.publish({_REF: _OLD}, file_hashes=origin == "file-hashes")
    async with room.manager() as manager:
        await manager.pull(_REF)
        if origin != "ours":
            _like_the_original(room)
        edit(room.dir(_REF))
        kept = await _do(manager, room, deed)
    found = {} if kept is None else {path: data for path, data in listing(kept).items() if data is not None}
    if deed == "force" and change in ("nothing", "touched", "added", "added-deep", "hidden"):
        # Force mends what the manifest names; what it does not name stays where it is.
        assert found == {}
        assert {path: room.files(_REF).get(path) for path in expected} == expected
    else:
        assert found == expected
    if deed != "force" or (origin == "ours" and not change.startswith(("added", "hidden"))):
        require_sound(room.base, {"update": {_REF: _NEW}, "force": {_REF: _OLD}, "remove": {}}[deed])


async def test_an_untouched_model_of_the_original_is_not_kept(room: Room) -> None:
    """Without a receipt, files that share chunks with their neighbours are recognised by the chunks they share."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        _like_the_original(room)
        assert changed_files(room.layout, room.dir(_REF)) == []
        room.publish({_REF: _NEW})
        assert (await manager.pull(_REF)).receipt.kept is None
    assert not (room.base / "cache" / "kept").exists()


async def test_an_edit_that_hides_its_size_and_time_from_us(room: Room) -> None:
    """Same size, same modification time, other bytes: still recognised as the user's."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        path = room.dir(_REF) / "config.json"
        before = path.stat()
        path.write_bytes(b'{"a": 9}')
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        removed = await manager.remove(_REF)
    assert removed.kept is not None
    assert listing(removed.kept) == {"config.json": b'{"a": 9}'}


@pytest.mark.parametrize("origin", ["ours", "original"])
async def test_a_deleted_neighbour_does_not_take_the_blame(room: Room, origin: str) -> None:
    """Two files in one chunk, one deleted and the other edited to the same length: the edited one is still kept."""
    room.publish({_REF: {"a": b"0" * 16, "b": b"1" * 16, "c": b"2" * 16}})
    async with room.manager() as manager:
        await manager.pull(_REF)
        if origin == "original":
            _like_the_original(room)
        (room.dir(_REF) / "a").unlink()
        (room.dir(_REF) / "b").write_bytes(b"the user's edit!")
        removed = await manager.remove(_REF)
    assert removed.kept is not None
    assert listing(removed.kept) == {"b": b"the user's edit!"}


async def test_a_base_that_was_copied_is_still_known(room: Room) -> None:
    """Restored from a backup, times of modification and all: an edited file is kept, its neighbours in the same chunk
    are not.
    """
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
    room.base = Path(shutil.copytree(room.base, room.root / "restored"))
    async with room.manager() as manager:
        assert changed_files(room.layout, room.dir(_REF)) == []
        (room.dir(_REF) / "config.json").write_bytes(b'{"a": 9}')
        removed = await manager.remove(_REF)
    assert removed.kept is not None
    assert listing(removed.kept) == {"config.json": b'{"a": 9}'}


async def test_links_are_moved_as_links(room: Room) -> None:
    """A file or directory that a user replaced by a link, also one that leads nowhere, is kept as the link it is."""
    room.publish({_REF: _OLD})
    outside = room.root / "outside"
    _write(outside / "file", b"not ours")
    async with room.manager() as manager:
        await manager.pull(_REF)
        root = room.dir(_REF)
        (root / "tail").unlink()
        (root / "tail").symlink_to(outside / "file")
        (root / "folder").symlink_to(outside)
        (root / "nowhere").symlink_to("does-not-exist")
        removed = await manager.remove(_REF)
    assert removed.kept is not None
    assert listing(removed.kept) == {
        "tail": str(outside / "file"),
        "folder": str(outside),
        "nowhere": "does-not-exist",
    }
    assert listing(outside) == {"file": b"not ours"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes in the file system")
async def test_a_pipe_in_a_model_is_kept_and_not_read(room: Room) -> None:
    """A named pipe in a file's place is nobody's to wait for."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        _like_the_original(room)
        (room.dir(_REF) / "a.bin").unlink()
        os.mkfifo(room.dir(_REF) / "a.bin")
        assert (await manager.pull(_REF, force=True)).receipt.kept is not None
        assert room.files(_REF) == _OLD


async def test_a_directory_that_was_never_ours_is_kept_whole(room: Room) -> None:
    """A user's directory lies where a model should go: all its files are put aside."""
    room.publish({_REF: _NEW})
    _write(room.dir(_REF) / "thesis" / "final.tex", b"three years")
    async with room.manager() as manager:
        pulled = await manager.pull(_REF)
    assert pulled.status == "installed"
    assert pulled.receipt.kept is not None
    assert listing(pulled.receipt.kept) == {"thesis": None, "thesis/final.tex": b"three years"}
    require_sound(room.base, {_REF: _NEW})


async def test_a_file_in_the_place_of_an_installed_model_is_kept(room: Room) -> None:
    """Somebody put a file where the model was; removing the model does not delete it."""
    room.publish({_REF: _NEW})
    async with room.manager() as manager:
        await manager.pull(_REF)
        shutil.rmtree(room.dir(_REF))
        room.dir(_REF).write_bytes(b"a user's file")
        removed = await manager.remove(_REF)
    assert removed.kept is not None
    assert listing(removed.kept) == {"v1": b"a user's file"}
    require_sound(room.base, {})


async def test_kept_files_survive_prune_and_the_next_change(room: Room) -> None:
    """Nobody but the user deletes what was put aside, and a second time does not overwrite the first."""
    room.publish({_REF: _OLD})
    seen = []
    async with room.manager() as manager:
        for number in range(3):
            await manager.pull(_REF)
            (room.dir(_REF) / "config.json").write_bytes(b"%d" % number)
            seen.append((await manager.remove(_REF)).kept)
            await manager.prune()
    assert len(set(seen)) == 3
    assert [(path / "config.json").read_bytes() for path in seen if path] == [b"0", b"1", b"2"]


async def test_killed_while_deleting_the_untouched_files_are_not_taken_for_a_users(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is gone first, the manifest too: what is left of a tree on its way out is still known to be ours."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        (room.dir(_REF) / "mine").write_bytes(b"mine")

    def half_deleted(path: Path) -> None:
        shutil.rmtree(path / ".xprim")
        raise StorageError("deleting failed", subject=str(path))

    with monkeypatch.context() as patch:
        patch.setattr(kept_module, "remove_tree", half_deleted)
        async with room.manager() as manager:
            with pytest.raises(StorageError):
                await manager.remove(_REF)
    async with room.manager() as manager:
        assert await manager.list_installed() == []
    kept = {path: data for path, data in listing(room.base / "cache" / "kept").items() if data is not None}
    assert list(kept.values()) == [b"mine"]
    require_sound(room.base, {})


async def test_a_disk_that_refuses_to_keep_loses_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files cannot be moved aside: an error says so, they are still there, and the next one goes on."""
    room.publish({_REF: _OLD})

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    async with room.manager() as manager:
        await manager.pull(_REF)
        (room.dir(_REF) / "tail").write_bytes(b"mine")
        with monkeypatch.context() as patch:
            patch.setattr(kept_module, "make_dirs", full)
            with pytest.raises(StorageError, match="full"):
                await manager.remove(_REF)
        assert [path.read_bytes() for path in room.layout.trash.rglob("tail")] == [b"mine"]
        await manager.prune()
    assert [path.read_bytes() for path in (room.base / "cache" / "kept").rglob("tail")] == [b"mine"]
    require_sound(room.base, {})


def test_a_tree_that_is_not_there_needs_no_retiring(tmp_path: Path) -> None:
    """Retiring twice is as good as once."""
    layout = Layout(tmp_path, ".xprim")
    assert retire(layout, ModelRef.parse(_REF), tmp_path / "cache" / "trash" / "x") is None
