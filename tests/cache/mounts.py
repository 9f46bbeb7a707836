"""File systems of a test's own: small, read-only, or able to share blocks. A machine that cannot mount skips the test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["loop_mounted", "mounted"]


def _run(arguments: Sequence[str | Path]) -> None:
    if shutil.which(str(arguments[0])) is None:
        pytest.skip(f"{arguments[0]} is not installed here")
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{arguments[0]} cannot be used here: {(done.stderr or done.stdout).strip()[:200]}")


@contextmanager
def mounted(point: Path, *arguments: str | Path) -> Iterator[Path]:
    """The directory `point` with `mount ARGUMENTS POINT` on it, until left."""
    point.mkdir(exist_ok=True)
    _run(["mount", *arguments, point])
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], capture_output=True, check=True)


@contextmanager
def loop_mounted(root: Path, kind: str, size_bytes: int) -> Iterator[Path]:
    """A fresh file system of a kind (`xfs`, `btrfs`, `ext4`) in a sparse file."""
    image = root / f"{kind}.img"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    _run([f"mkfs.{kind}", "-q", image])
    with mounted(root / kind, "-o", "loop", image) as point:
        yield point
