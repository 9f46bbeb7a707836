"""Sharing whole files with an installed model: where the file system can, and only right bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb._files import clone_file
from xprim_nb.cache import reflink
from xprim_nb.errors import NetworkError
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import random_bytes

from .mounts import loop_mounted
from .rooms import CHUNK, Room, blocks, require_sound

_A, _B = "group/a v1", "group/b v1"
_BIG, _OTHER, _SMALL = blocks(1, 2, 3, 4), blocks(5, 6), b"different in each"
_FILES_A = {"first.bin": _BIG, "second.bin": _OTHER, "notes": _SMALL + b" a"}
# The same two large files under other names and in other order.
_FILES_B = {"two/second.bin": _OTHER, "one.bin": _BIG, "notes": _SMALL + b" b"}


def _copying(source_fd: int, target_fd: int) -> bool:
    """What FICLONE does, on any file system: the source's bytes, and no shorter than it was."""
    data = os.pread(source_fd, os.fstat(source_fd).st_size, 0)
    os.pwrite(target_fd, data, 0)
    return True


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A file system that can share, and the sizes of the files it was asked to share."""
    shared: list[int] = []

    def clone(source_fd: int, target_fd: int) -> bool:
        shared.append(os.fstat(target_fd).st_size)
        return _copying(source_fd, target_fd)

    monkeypatch.setattr(reflink, "clone_file", clone)
    return shared


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


async def test_whole_files_are_shared(room: Room, server: FaultyRegistry, sharing: list[int]) -> None:
    """Files that consist of whole chunks are shared wherever they lie in either model; the rest is fetched."""
    room.publish({_A: _FILES_A, _B: _FILES_B})
    async with room.manager() as manager:
        await manager.pull(_A)
        pulled = await manager.pull(_B)
    assert sorted(sharing) == [2 * CHUNK, 4 * CHUNK]
    assert (pulled.receipt.bytes_reflinked, pulled.receipt.chunks_local) == (6 * CHUNK, 6)
    assert pulled.receipt.bytes_written == len(_SMALL) + 2
    require_sound(room.base, {_A: _FILES_A, _B: _FILES_B})


_HARMS: dict[str, tuple[Callable[[Path], object], int, int]] = {
    # what somebody did to the first file of the installed model, how many of its four chunks that costs, and how many
    # are still shared
    "flipped": (lambda path: _flip(path, CHUNK + 1), 1, 3),
    "grown": (lambda path: path.write_bytes(path.read_bytes() + b"appended by a user"), 0, 4),
    "cut": (lambda path: os.truncate(path, CHUNK), 3, 0),
    "gone": (lambda path: path.unlink(), 4, 0),
    "directory": (lambda path: (path.unlink(), path.mkdir()), 4, 0),
}


@pytest.mark.parametrize("harm", _HARMS)
async def test_what_was_shared_is_verified(
    room: Room, server: FaultyRegistry, sharing: list[int], harm: str
) -> None:
    """The installed file is not what it was: only its right chunks count, the size is the manifest's, the others are
    shared all the same.
    """
    spoil, lost, shared = _HARMS[harm]
    room.publish({_A: _FILES_A, _B: _FILES_B})
    async with room.manager() as manager:
        await manager.pull(_A)
        spoil(room.dir(_A) / "first.bin")
        pulled = await manager.pull(_B)
    assert room.files(_B) == _FILES_B
    assert pulled.receipt.chunks_network == 1 + lost
    assert pulled.receipt.bytes_reflinked == (2 + shared) * CHUNK


async def test_verified_bytes_are_never_written_over(
    room: Room, server: FaultyRegistry, sharing: list[int]
) -> None:
    """A resumed pull has some chunks of a file; the installed file that could be shared is damaged in just these."""
    made = room.publish({_A: _FILES_A, _B: _FILES_B})
    async with room.manager(tries=1) as manager:
        server.inject(Status(404), on=made.chunks(_B)[4], times=None)
        with pytest.raises(NetworkError):
            await manager.pull(_B, concurrency=1)
        server.heal()
        await manager.pull(_A)
        _flip(room.dir(_A) / "first.bin", 5)
        _flip(room.dir(_A) / "second.bin", 5)
        pulled = await manager.pull(_B)
    assert pulled.receipt.chunks_present == 4
    assert room.files(_B) == _FILES_B


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EIO, errno.EOPNOTSUPP, errno.EPERM])
async def test_a_refused_share_is_copied(room: Room, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Whatever the system says to sharing, copying does the same work."""

    def refused(source_fd: int, target_fd: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(reflink, "clone_file", refused)
    room.publish({_A: _FILES_A, _B: _FILES_B})
    async with room.manager() as manager:
        await manager.pull(_A)
        pulled = await manager.pull(_B)
    assert (pulled.receipt.bytes_reflinked, pulled.receipt.chunks_local) == (0, 6)
    require_sound(room.base, {_A: _FILES_A, _B: _FILES_B})


async def test_without_sharing_everything_is_copied_and_verified(tmp_path: Path) -> None:
    """On a file system that cannot share, ext4 say, the same chunks come from the same model."""
    room = Room.at(tmp_path)
    room.publish({_A: _FILES_A, _B: _FILES_B})
    async with room.manager() as manager:
        await manager.pull(_A)
        pulled = await manager.pull(_B)
    assert pulled.receipt.local_models == {_A: 6}
    require_sound(room.base, {_A: _FILES_A, _B: _FILES_B})


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
async def test_shared_for_real(tmp_path: Path, kind: str) -> None:
    """On XFS and btrfs a second model that holds the same 8 MiB file costs next to no space, and is independent."""
    weights, mib = random_bytes("weights", (8 << 20) + 123), 1 << 20
    files = {"w.bin": weights, "n": b"1"}
    with loop_mounted(tmp_path, kind, 400 * mib) as point:
        room = Room.at(tmp_path)
        room.base = point / "base"
        room.publish({_A: files, _B: {**files, "n": b"2"}}, chunk_sizes=[mib] * 8 + [123, 1])
        async with room.manager() as manager:
            await manager.pull(_A)
            os.sync()
            before = os.statvfs(point)
            pulled = await manager.pull(_B)
            os.sync()
            after = os.statvfs(point)
            assert (before.f_bfree - after.f_bfree) * before.f_frsize < 4 * mib
            assert pulled.receipt.bytes_reflinked == len(weights)
            assert pulled.receipt.bytes_written == 1
            require_sound(room.base, {_A: files, _B: {**files, "n": b"2"}})
            _flip(room.dir(_A) / "w.bin", 5)
            assert (room.dir(_B) / "w.bin").read_bytes() == weights


@pytest.mark.parametrize(
    ("source_bytes", "target_bytes", "expected"),
    [(5000, 5000, 5000), (9000, 5000, 9000), (4096, 9000, 9000), (5000, 9000, None)],
)
def test_what_a_clone_does_to_the_length(
    tmp_path: Path, source_bytes: int, target_bytes: int, expected: int | None
) -> None:
    """What the code and the tests above assume of the system call: it lengthens, never shortens, and wants whole blocks
    where the target goes on.
    """
    with loop_mounted(tmp_path, "xfs", 400 << 20) as point:
        source, target = point / "source", point / "target"
        source.write_bytes(b"s" * source_bytes)
        target.write_bytes(b"t" * target_bytes)
        with source.open("rb") as one, target.open("r+b") as other:
            assert clone_file(one.fileno(), other.fileno()) == (expected is not None)
        assert target.stat().st_size == (expected or target_bytes)
