"""A cache on a real disk where `du` is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..rooms import Room


@pytest.fixture
def disk_room(disk_path: Path) -> Room:
    """An empty registry and base on the disk of the test run, where directories have blocks too."""
    return Room.at(disk_path)
