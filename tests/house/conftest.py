"""Where the project lies, and how a fresh interpreter is asked a question."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def run_python() -> Callable[[str], str]:
    """A function that runs code in a fresh interpreter and returns what it printed."""

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=25, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
