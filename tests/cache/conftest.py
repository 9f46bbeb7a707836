"""A room for each test: a registry, a base, and a server where one is wanted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room

# Killed processes lose nothing that they wrote, so memory is as good as a disk here, and several times as fast.
_MEMORY = Path("/dev/shm")


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """An empty directory, in memory where the system has one."""
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path
        return
    root = _MEMORY / f"xprim-{os.getpid()}-{tmp_path.name}"
    root.mkdir()
    yield root
    shutil.rmtree(root)


@pytest.fixture
def room(fast_path: Path) -> Room:
    """An empty registry directory, and a base that pulls from it."""
    return Room.at(fast_path)


@pytest.fixture
def server(room: Room) -> Iterator[FaultyRegistry]:
    """The room's registry over HTTP; from now on its managers pull from there."""
    room.made.root.mkdir(exist_ok=True)
    with FaultyRegistry(room.made.root) as server:
        room.url = server.url
        yield server
