"""Ways in which an installed model gets damaged, and the model that these tests damage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..rooms import Room, blocks

__all__ = ["DAMAGES", "FILES", "REF", "Damage", "flip", "flip_silently", "installed_chunks"]

REF = "group/model v1"
# 20 chunks of w.bin, of which the last one is short and goes on into config.json, as in models of the original.
FILES = {
    "w.bin": blocks(*range(20))[:19_500],
    "config.json": b'{"a": 1}',
    "deep/er/v.safetensors": blocks("v1", "v2", "v3"),
    "empty": b"",
}


def flip(path: Path, at: int) -> None:
    """Change one byte; the file looks as if somebody had written to it."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def flip_silently(path: Path, at: int) -> None:
    """Change one byte as a bad disk does: size and time of modification stay."""
    found = path.stat()
    flip(path, at)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _truncate(root: Path) -> None:
    os.truncate(root / "w.bin", 7_300)


def _swap(root: Path) -> None:
    (root / "w.bin").rename(root / "aside")
    (root / "deep/er/v.safetensors").rename(root / "w.bin")
    (root / "aside").rename(root / "deep/er/v.safetensors")


def _directory(root: Path) -> None:
    (root / "w.bin").unlink()
    (root / "w.bin").mkdir()
    (root / "w.bin" / "mine.txt").write_bytes(b"mine")


def _file_for_directory(root: Path) -> None:
    shutil.rmtree(root / "deep")
    (root / "deep").write_bytes(b"mine too")


def _link(root: Path) -> None:
    (root / "w.bin").rename(root.parent / "elsewhere.bin")
    (root / "w.bin").symlink_to(root.parent / "elsewhere.bin")


class Damage(NamedTuple):
    """One way.

    Attributes:
        do: What is done to the model's directory.
        status: What the finding says.
        path: Of which file.
        chunks: Distinct chunks that have to be fetched to mend it.
        kept: Files that are put aside, relative to where they are put.
    """

    do: Callable[[Path], object]
    status: str
    path: str
    chunks: int
    kept: tuple[str, ...] = ()


DAMAGES = {
    "flipped": Damage(lambda root: flip_silently(root / "w.bin", 5_500), "corrupted", "w.bin", 1),
    "flipped-and-touched": Damage(
        lambda root: flip(root / "w.bin", 5_500), "corrupted", "w.bin", 1, ("w.bin",)
    ),
    "truncated": Damage(_truncate, "corrupted", "w.bin", 13, ("w.bin",)),
    "emptied": Damage(lambda root: os.truncate(root / "config.json", 0), "corrupted", "config.json", 1),
    "zeroed": Damage(
        lambda root: (root / "config.json").write_bytes(bytes(8)), "corrupted", "config.json", 1
    ),
    "missing": Damage(lambda root: (root / "w.bin").unlink(), "missing", "w.bin", 20),
    "missing-empty": Damage(lambda root: (root / "empty").unlink(), "missing", "empty", 0),
    "missing-directory": Damage(
        lambda root: shutil.rmtree(root / "deep"), "missing", "deep/er/v.safetensors", 4
    ),
    "swapped": Damage(_swap, "corrupted", "w.bin", 0),
    "unreadable": Damage(lambda root: (root / "w.bin").chmod(0o000), "unreadable", "w.bin", 0),
    "unreadable-directory": Damage(
        lambda root: (root / "deep").chmod(0o000), "unreadable", "deep/er/v.safetensors", 0
    ),
    "directory": Damage(_directory, "replaced", "w.bin", 20, ("w.bin/mine.txt",)),
    "file-for-directory": Damage(_file_for_directory, "replaced", "deep/er/v.safetensors", 4, ("deep",)),
    # What the link leads to is right: it is copied, although a plan does not count on it.
    "link": Damage(_link, "replaced", "w.bin", 0, ("w.bin",)),
}


def installed_chunks(room: Room, ref: str = REF) -> int:
    """Distinct chunks of a model."""
    return len(room.manifest(ref).distinct)
