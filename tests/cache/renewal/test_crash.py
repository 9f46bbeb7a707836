"""A refresh, a rollback, the dropping of a backup: whole or not at all, wherever the process dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_WORKER = Path(__file__).with_name("crash_worker.py")
_SCENARIOS = [
    (scenario, exchange)
    for scenario in ("refresh", "bare", "plain", "refused", "rollback", "drop")
    for exchange in ("yes", "no")
    if exchange == "yes" or scenario in ("refresh", "refused", "rollback")  # nothing else is exchanged there
]


def _crash_everywhere(root: Path, scenario: str, exchange: str, first: int, stride: int) -> int:
    arguments = [sys.executable, str(_WORKER), str(root), scenario, exchange, str(first), str(stride)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("scenario", "exchange"), _SCENARIOS)
def test_killed_before_any_change_the_next_one_makes_it_good(
    tmp_path: Path, scenario: str, exchange: str
) -> None:
    """Killed before every 24th change on disk: old or new version whole, the user's files all there, no leftovers."""
    assert _crash_everywhere(tmp_path, scenario, exchange, 1 + len(scenario + exchange) % 12, 24) >= 1


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("scenario", "exchange"), _SCENARIOS)
def test_killed_before_every_change(tmp_path: Path, scenario: str, exchange: str) -> None:
    """The long form: every single change."""
    assert _crash_everywhere(tmp_path, scenario, exchange, 1, 1) >= 12
