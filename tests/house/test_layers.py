"""Imports point down: the contracts in `pyproject.toml`, held by import-linter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from importlinter import api

_LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def test_rooms_keep_their_contracts(root: Path) -> None:
    """Every import contract of the house is kept."""
    done = subprocess.run(
        [sys.executable, "-c", _LINT], cwd=root, capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_drawing_is_exhaustive(root: Path) -> None:
    """The layer drawing names every module, so that a new room cannot stand outside it."""
    contracts = api.read_configuration(str(root / "pyproject.toml"))["contracts_options"]
    rooms = next(contract for contract in contracts if contract["id"] == "rooms")
    assert rooms["exhaustive"] == "True"
    assert not rooms.get("exhaustive_ignores")
