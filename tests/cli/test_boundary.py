"""Flags anywhere on the line; every failure a sentence and an exit code."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from xprim_nb import errors
from xprim_nb.cli.boundary import DoorGroup, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.config import Config

from .conftest import DEADLINE_S, Runner


def _failing(error: BaseException) -> click.Group:
    """A group with one command, which raises."""
    group = DoorGroup("tool", config=Config())

    @group.command()
    @pass_session
    def fail(session: Session) -> None:
        """Fail."""
        session.warn("Beware.")
        raise error

    return group


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_exits_with_its_code(run: Runner, name: str) -> None:
    """Each error of ours is two lines on stderr, and exits with the code of its class."""
    kind = getattr(errors, name)
    result = run("fail", command=_failing(kind("What happened.", hint="Do this.")))
    assert result.exit_code == kind.exit_code
    assert result.stderr == "warning: Beware.\nerror: What happened.\nhint: Do this.\n"
    assert result.stdout == ""


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_a_document(run: Runner, name: str) -> None:
    """Under `--json` each error is the one document, with the keys that are promised."""
    kind = getattr(errors, name)
    result = run("--json", "fail", command=_failing(kind("What happened.", subject="it", hint="Do this.")))
    assert result.exit_code == kind.exit_code
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "error": {
            "type": name,
            "message": "What happened.",
            "subject": "it",
            "hint": "Do this.",
            "exit_code": kind.exit_code,
        },
        "warnings": ["Beware."],
    }


def test_unexpected_error_is_one_sentence(run: Runner) -> None:
    """A bug of ours is told in a sentence that says how to see more; the traceback comes with `--verbose`."""
    group = _failing(ZeroDivisionError("division by zero"))
    result = run("fail", command=group)
    assert result.exit_code == 1
    assert "error: unexpected ZeroDivisionError: division by zero\nhint: " in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("fail", "--verbose", command=group).stderr
    document = json.loads(run("fail", "--json", command=group).stdout)
    assert (document["error"]["type"], document["error"]["exit_code"]) == ("ZeroDivisionError", 1)


def test_interrupt_exits_with_130(run: Runner) -> None:
    """Ctrl-C where nothing can be resumed is one word, and 130."""
    group = _failing(KeyboardInterrupt())
    result = run("fail", command=group)
    assert (result.exit_code, result.stderr) == (130, "warning: Beware.\ninterrupted\n")
    assert json.loads(run("--json", "fail", command=group).stdout)["error"]["type"] == "Interrupted"


@pytest.mark.parametrize(
    "arguments",
    [("--bogus",), ("list", "--bogus"), ("pull",), ("bogus",), (), ("pull", "a/b", "c", "d"), ("list", "x")],
)
def test_usage_errors(run: Runner, arguments: tuple[str, ...]) -> None:
    """A line that does not parse exits with 2: click's words on stderr, or one document."""
    plain = run(*arguments)
    assert (plain.exit_code, plain.stdout) == (2, "")
    assert "Usage: xprim-models" in plain.stderr
    for line in (("--json", *arguments), (*arguments, "--json")):
        result = run(*line)
        assert (result.exit_code, result.stderr) == (2, "")
        error = json.loads(result.stdout)["error"]
        assert (error["type"], error["exit_code"]) == ("UsageError", 2)
        assert error["hint"].endswith("--help")


@pytest.mark.parametrize("flag", ["--json", "--quiet", "--verbose", "-q", "-v"])
def test_flags_work_before_and_after_the_command(run: Runner, flag: str) -> None:
    """A global flag means the same wherever it stands."""
    before, after = run(flag, "list"), run("list", flag)
    assert (before.exit_code, before.stdout) == (0, after.stdout)
    assert json.loads(after.stdout)["models"] == [] if flag == "--json" else after.stdout


def test_settings_work_before_and_after_the_command(run: Runner, tmp_path: Path) -> None:
    """`--registry` and its like may stand on either side, too."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "models.json").write_text("{}")
    for line in (
        ("--registry", str(tmp_path / "empty"), "list", "--remote"),
        ("list", "--remote", "--registry", str(tmp_path / "empty")),
    ):
        assert run(*line).stdout.splitlines() == ["GROUP          MODEL    VERSION    SIZE"]


def test_help_is_no_failure(run: Runner) -> None:
    """`--help` prints on stdout and exits with 0, for the group and for a command."""
    for arguments in (("--help",), ("pull", "--help")):
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "--json" in result.stdout


def test_log_goes_to_stderr_only_when_asked(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """`--verbose` shows the log with its structured part; afterwards the logger is as it was."""
    before = logging.getLogger("xprim_nb").handlers[:]
    group = DoorGroup("tool", config=Config())

    @group.command()
    def speak() -> None:
        """Log a line."""
        logging.getLogger("xprim_nb.test").debug("fetched", extra={"chunk": "abc"})
        logging.getLogger("xprim_nb.test").warning("beware")

    assert run("speak", command=group).stderr == ""
    told = run("speak", "--verbose", command=group).stderr
    assert "DEBUG xprim_nb.test: fetched chunk=abc\n" in told
    assert "WARNING xprim_nb.test: beware\n" in told
    assert logging.getLogger("xprim_nb").handlers == before
    assert logging.getLogger("xprim_nb").level == logging.NOTSET


def test_closed_pipe_is_quiet(environment: dict[str, str]) -> None:
    """A reader that leaves (`| head -1`) causes no message."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "xprim_nb.cli.models", "list", "--remote"]
    done = subprocess.run(
        command, env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_is_safe_on_any_terminal(
    encoding: str, environment: dict[str, str], run: Runner, move_alias: Callable[[str], None]
) -> None:
    """A terminal that has no arrow gets `->`."""
    run("pull", "llama/7b", "latest")
    move_alias("q4_v3")
    command = [sys.executable, "-m", "xprim_nb.cli.models", "update"]
    done = subprocess.run(
        command,
        env={**environment, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    arrow = "→" if encoding == "utf-8" else "->"
    assert (
        done.stdout.decode(encoding).splitlines()[-1] == f"llama/7b: update available (q4_v2 {arrow} q4_v3)"
    )
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("list", "--remote"), ("list", "--remote", "--json")])
def test_full_disk_behind_stdout_is_a_sentence(
    arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    """An answer that cannot be written is told on stderr in one sentence, whatever form it has."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "xprim_nb.cli.models", *arguments],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    assert done.returncode == 7
    assert done.stderr == (
        "error: The answer could not be written: No space left on device.\nhint: Check where the output goes.\n"
    )
