"""`xprim ai`, and the same commands under another tool's name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import Result

from xprim_nb.cli.ai import ai_group
from xprim_nb.cli.main import xprim
from xprim_nb.config import Config

from ..fake_engine import FakeEngine
from .conftest import Runner


def test_list_of_commands_is_not_cut(run: Runner) -> None:
    """What each command does fits the line it has."""
    listed = run("ai", "--help", command=xprim).stdout.partition("Commands:")[2]
    assert "..." not in listed
    assert {line.split()[0] for line in listed.splitlines() if line.strip()} == {
        "doctor", "evict", "load", "models", "pin", "plan", "ps", "run", "timeline", "unpin",
    }  # fmt: skip


def test_mounted_elsewhere(run: Runner, engine: FakeEngine) -> None:
    """Under another tool the commands work, and hints name them as that tool does."""
    tool = click.Group("tool")
    tool.add_command(ai_group(Config(app_name="mytool")), "models-at-work")
    assert run("models-at-work", "run", "demo/tiny v1", "Hi", command=tool).stdout == "Once upon a time.\n"
    hint = run("models-at-work", "evict", "demo/tiny v1", command=tool).stderr
    assert "`tool models-at-work ps`" in hint


@pytest.mark.parametrize("words", [("ai", "--help"), ("ai", "run", "--help")])
def test_help_loads_no_engine(words: tuple[str, ...]) -> None:
    """Help costs neither the engine nor what the engine needs."""
    code = (
        "import sys; from xprim_nb.cli.main import xprim\n"
        f"try: xprim({words!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'xprim_nb.scheduling', 'xprim_nb.toolkit', 'xprim_nb.manager', 'numpy', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_flags_stand_anywhere(ai: Callable[..., Result]) -> None:
    """`--json` may stand before the command's name."""
    assert ai("--json", "ps").stdout.startswith("{")
