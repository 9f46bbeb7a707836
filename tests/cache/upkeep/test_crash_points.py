"""Each operation of upkeep, killed before each single change that it makes on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..rooms import Room

_WORKER = Path(__file__).with_name("crash_points.py")
# The short form tries every so many points; each takes a tenth of a second.
_STRIDES = [23, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stride", _STRIDES)
@pytest.mark.parametrize(
    "scenario", ["archive", "restore", "remove_archive", "cleanup", "compress", "dedupe"]
)
def test_killed_before_any_change_all_is_made_good(room: Room, scenario: str, stride: int) -> None:
    """Old or new is whole, what a user wrote is there, nothing looks changed that is not, and the next call ends it."""
    arguments = [sys.executable, str(_WORKER), str(room.root), scenario, "3", str(stride)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= 2
