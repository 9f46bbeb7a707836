"""A disk: what this room writes is written to last."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(disk_path: Path) -> Path:
    """An empty directory on a disk, as users have one, where other rooms make do with memory."""
    return disk_path
