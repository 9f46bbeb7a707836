"""A room for each test: a registry, a base, and a server where one is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An empty registry directory, and a base that pulls from it."""
    return Room.at(tmp_path)


@pytest.fixture
def server(room: Room) -> Iterator[FaultyRegistry]:
    """The room's registry over HTTP; from now on its managers pull from there."""
    room.made.root.mkdir(exist_ok=True)
    with FaultyRegistry(room.made.root) as server:
        room.url = server.url
        yield server
