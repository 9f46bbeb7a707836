"""`xprim maintain`: what a cron job calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from xprim_nb.cli.main import xprim

from .conftest import Runner, damage, lines

_REF = "fast-whisper/tiny fp16"
# Everything of these models is hashed in less.
_SHORT = ("--scrub", "1")


@pytest.fixture
def weights(run: Runner, data_dir: Path) -> Path:
    """The weights of an installed model."""
    run("pull", _REF, "-q")
    return data_dir / "fast-whisper" / "tiny" / "fp16" / "model.safetensors"


def _maintain(run: Runner, *words: str) -> Result:
    return run("maintain", *words, command=xprim)


def _told(run: Runner, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_maintain(run, *words, "--json").stdout)
    return found


def test_dry_run_changes_nothing(run: Runner, weights: Path) -> None:
    """The plan counts models, and a schedule typed beside it is not remembered."""
    plan = _told(run, "--dry-run", "--schedule", "daily")["plan"]
    assert (plan["models"], plan["is_due"]) == (1, True)
    assert "no schedule" in _maintain(run, "--dry-run").stdout


def test_damage_is_mended_and_told(run: Runner, weights: Path) -> None:
    """What the scrub finds is repaired, and the command ends well."""
    right = weights.read_bytes()
    damage(weights, 700)
    done = _told(run, *_SHORT)["maintained"]
    assert (done["damaged"], done["repaired"], done["unresolved"]) == ([_REF], [_REF], [])
    assert weights.read_bytes() == right


def test_damage_that_stays_exits_with_6(run: Runner, weights: Path) -> None:
    """Offline and without a backup the next step is the hint."""
    damage(weights)
    result = _maintain(run, *_SHORT, "--full", "--offline", "--registry", "https://models.example.org")
    assert result.exit_code == 6
    assert result.stderr.startswith(f"error: {_REF}: ")
    assert _REF in result.stderr.splitlines()[-1]


def test_if_due_asks_the_schedule(run: Runner, weights: Path) -> None:
    """Without a schedule nothing is due; the first run with one is; the second is not, and neither is a failure."""
    assert _told(run, "--if-due", *_SHORT)["maintained"]["ran"] is False
    assert _told(run, "--if-due", "--schedule", "weekly", *_SHORT)["maintained"]["ran"] is True
    again = _maintain(run, "--if-due", *_SHORT)
    assert again.exit_code == 0
    assert lines(again)[0].startswith("Not due until ")
    quiet = _maintain(run, "--if-due", "--quiet", *_SHORT)
    assert (quiet.exit_code, quiet.output) == (0, ""), "cron would send a mail every hour"
    assert _told(run, "--schedule", "never")["scheduled"].get("schedule") is None
    assert _told(run, "--if-due", *_SHORT)["maintained"]["ran"] is False
