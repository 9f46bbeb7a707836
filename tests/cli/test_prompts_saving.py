"""`xprim prompts checkpoint`, `branch`, `list`, `restore`: states kept by one call are there for the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cli.main import xprim

from .conftest import Runner


@pytest.fixture
def told(run: Runner) -> Callable[..., dict[str, Any]]:
    """`xprim prompts … --json` in this process: its one document."""

    def told(*args: str, stdin: str = "") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("prompts", *args, "--json", command=xprim, input=stdin).stdout)
        return found

    return told


def test_a_state_is_kept_branched_and_restored(
    run: Runner, told: Callable[..., dict[str, Any]], data_dir: Path
) -> None:
    """Two states follow each other, a branch begins at the first, both are restored by branch, and no secret is kept."""
    secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
    first = told("checkpoint", "work", stdin=json.dumps({"plan": ["read"], "key": secret}))["checkpoint"]
    second = told("checkpoint", "work", "--label", "done", stdin='{"plan": ["read", "write"]}')["checkpoint"]
    assert second["parent"] == first["id"]
    assert told("branch", first["id"][:8], "bolder")["checkpoint"]["id"] == first["id"]
    nodes = told("list", "--scaffold", "work")["checkpoints"]
    assert [(each["id"], each["branches"]) for each in nodes] == [
        (second["id"], ["main"]),
        (first["id"], ["bolder"]),
    ]
    assert json.loads(run("prompts", "restore", "main", command=xprim).stdout) == {"plan": ["read", "write"]}
    assert told("restore", "bolder")["checkpoint"]["state"]["plan"] == ["read"]
    for path in (data_dir / "prompts").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


@pytest.mark.timeout(120)  # what is written and given back are megabytes
def test_a_checkpoint_is_deleted_and_its_room_given_back(
    run: Runner, told: Callable[..., dict[str, Any]]
) -> None:
    """One that is followed stays; the last goes, its branch ends in its parent, the file shrinks."""
    assert "no checkpoint was saved yet" in run("prompts", "list", command=xprim).stderr
    first = told("checkpoint", "work", stdin='{"plan": 1}')["checkpoint"]
    large = json.dumps({"plan": [f"{number} is a number" for number in range(40_000)]})
    second = told("checkpoint", "work", stdin=large)["checkpoint"]
    followed = run("prompts", "delete", first["id"], "--yes", command=xprim)
    assert followed.exit_code == 2
    assert second["id"][:12] in followed.stderr
    assert told("delete", "main", "--yes")["deleted"]["checkpoint"] == second["id"]
    assert told("restore", "main")["checkpoint"]["id"] == first["id"]
    assert told("compact")["compacted"]["bytes"] > 50_000
    assert told("compact")["compacted"]["bytes"] == 0


def test_what_is_not_there_is_said(run: Runner) -> None:
    """A branch that there is not ends with 9, a state that is no object with 2."""
    assert run("prompts", "restore", "nowhere", command=xprim).exit_code == 9
    assert run("prompts", "checkpoint", "work", command=xprim, input="[1]").exit_code == 2
    assert run("prompts", "checkpoint", "work", command=xprim, input="{").exit_code == 2
