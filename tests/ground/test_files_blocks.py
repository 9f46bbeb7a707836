"""Block writes land where they should; the economies change nothing where they are not available."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from xprim_nb._files import clone_file, preallocate, start_writeback, write_at
from xprim_nb.testing.registries import random_bytes

_BLOCK = 4096
_DATA = random_bytes(5, 8 * _BLOCK)


@pytest.mark.parametrize("size", [0, 1, 5000, (1 << 20) - 1, 1 << 20, 3 << 20])
def test_a_preallocated_file_has_its_length_and_zeros(tmp_path: Path, size: int) -> None:
    """Large or small, the file is as long as asked, and reads as zeros where nothing was written."""
    path = tmp_path / "file"
    with path.open("w+b", buffering=0) as file:
        preallocate(file.fileno(), size)
    assert path.read_bytes() == bytes(size)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fallocate(2)")
def test_a_large_file_has_its_blocks(tmp_path: Path) -> None:
    """From 1 MiB the blocks are reserved, where the file system can."""
    path = tmp_path / "file"
    with path.open("w+b", buffering=0) as file:
        preallocate(file.fileno(), 4 << 20)
        if os.fstat(file.fileno()).st_blocks == 0:
            pytest.skip("this file system cannot reserve blocks")
        assert os.fstat(file.fileno()).st_blocks * 512 >= 4 << 20


def test_preallocating_again_keeps_what_was_written(tmp_path: Path) -> None:
    """A resumed pull preallocates its files again and loses nothing."""
    path = tmp_path / "file"
    path.write_bytes(_DATA)
    with path.open("r+b", buffering=0) as file:
        preallocate(file.fileno(), 2 << 20)
    assert path.read_bytes() == _DATA + bytes((2 << 20) - len(_DATA))


def test_blocks_land_at_their_offsets(tmp_path: Path) -> None:
    """Blocks written in any order make the file; the position of the descriptor does not matter."""
    path = tmp_path / "file"
    with path.open("w+b", buffering=0) as file:
        for offset in reversed(range(0, len(_DATA), 1000)):
            write_at(file.fileno(), memoryview(_DATA)[offset : offset + 1000], offset)
        write_at(file.fileno(), memoryview(b""), 10)
    assert path.read_bytes() == _DATA


def test_a_failing_write_is_heard(tmp_path: Path) -> None:
    """A descriptor that cannot be written to is an OSError, not a silent loss."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with path.open("rb") as file, pytest.raises(OSError, match="Bad file descriptor"):
        write_at(file.fileno(), memoryview(b"y"), 0)


def test_early_write_back_promises_nothing(tmp_path: Path) -> None:
    """It returns at once, also for a range that is not there, and changes no byte."""
    path = tmp_path / "file"
    path.write_bytes(_DATA)
    with path.open("r+b") as file:
        start_writeback(file.fileno(), 0, len(_DATA))
        start_writeback(file.fileno(), 1 << 40, 1)
    assert path.read_bytes() == _DATA


def test_a_clone_shares_or_does_nothing(tmp_path: Path) -> None:
    """Where the file system shares blocks the clone has the bytes and stays independent; elsewhere nothing changes."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(_DATA)
    target.write_bytes(b"old")
    with source.open("rb") as one, target.open("r+b") as other:
        cloned = clone_file(one.fileno(), other.fileno())
    assert target.read_bytes() == (_DATA if cloned else b"old")
    with target.open("r+b") as file:
        file.write(b"changed")
    assert source.read_bytes() == _DATA


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ioctl_ficlone(2)")
def test_a_clone_between_file_systems_does_nothing(tmp_path: Path) -> None:
    """Blocks cannot be shared with another file system: the answer is no, not an error."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    (tmp_path / "source").write_bytes(_DATA)
    target = shared_memory / f"xprim-test-{os.getpid()}"
    try:
        with (tmp_path / "source").open("rb") as one, target.open("w+b") as other:
            assert not clone_file(one.fileno(), other.fileno())
        assert target.read_bytes() == b""
    finally:
        target.unlink(missing_ok=True)


def test_other_errors_of_a_clone_are_heard(tmp_path: Path) -> None:
    """A missing descriptor means that it cannot be done here, and nothing is left behind."""
    with (tmp_path / "target").open("w+b") as other:
        assert not clone_file(9999, other.fileno())
    assert (tmp_path / "target").read_bytes() == b""
