"""The README's lines that have `xprim maintain` called every hour: each is run, and so is what it sets up."""

from __future__ import annotations

import os
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these lines are for a POSIX shell")

_README = Path(__file__).resolve().parents[2] / "README.md"
_ARGUMENTS = ["maintain", "--if-due", "--quiet"]


def _line(title: str) -> str:
    found = re.search(rf"^# {title}\b.*\n(.+)$", _README.read_text("utf-8"), re.MULTILINE)
    assert found is not None, f"the README has no line for {title}"
    return found[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with a space in its name, and stand-ins for what talks to the system: they note their input."""
    home = tmp_path / "some body"
    stands = home / "stand-ins"
    stands.mkdir(parents=True)
    (home / "Library" / "LaunchAgents").mkdir(parents=True)
    for name in ("crontab", "systemctl", "launchctl"):
        stand = stands / name
        stand.write_text(
            f'#!/bin/sh\necho "$@" >>"$HOME/{name}.called"\n[ "$1" = - ] && cat >"$HOME/{name}.read"\nexit 0\n'
        )
        stand.chmod(0o755)
    ours = f'"{sys.executable}" -c "from xprim_nb.cli.main import main; main()"'
    (stands / "xprim").write_text(f'#!/bin/sh\nexec {ours} "$@"\n')
    (stands / "xprim").chmod(0o755)
    return home


@pytest.fixture
def environment(home: Path) -> Mapping[str, str]:
    """Of the shell that the line is typed into."""
    return {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{home / 'stand-ins'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(_README.parent),
    }


def _run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=100)


def _runs(command: list[str], home: Path, environment: Mapping[str, str]) -> None:
    """The caller's environment has no PATH to speak of; nothing is due, so that nothing is done."""
    assert command == [str(home / "stand-ins" / "xprim"), *_ARGUMENTS]
    done = _run(command, {**environment, "PATH": "/usr/bin:/bin", "XPRIM_MODELS_DIR": str(home / "models")})
    assert done.stdout == ""


def test_cron(home: Path, environment: Mapping[str, str]) -> None:
    """The entry is added, and its command is one that cron's shell can run."""
    _run(["sh", "-c", _line("cron")], environment)
    entry = (home / "crontab.read").read_text().strip()
    schedule, command = entry.split(" ", 5)[:5], entry.split(" ", 5)[5]
    assert schedule == ["0", "*", "*", "*", "*"]
    _runs(shlex.split(command), home, environment)


def test_systemd(home: Path, environment: Mapping[str, str]) -> None:
    """The units are what systemd takes for units, and the command of the one runs."""
    _run(["sh", "-c", _line("systemd")], environment)
    units = home / ".config" / "systemd" / "user"
    service, timer = units / "xprim-maintain.service", units / "xprim-maintain.timer"
    assert (home / "systemctl.called").read_text() == "--user enable --now xprim-maintain.timer\n"
    assert "OnCalendar=hourly" in timer.read_text()
    started = re.search(r"^ExecStart=(.*)$", service.read_text(), re.MULTILINE)
    assert started is not None
    _runs(shlex.split(started[1]), home, environment)
    if shutil.which("systemd-analyze") is not None:
        running = {**environment, "XDG_RUNTIME_DIR": str(home)}
        command = ["systemd-analyze", "verify", "--user", str(service), str(timer)]
        found = subprocess.run(command, env=running, capture_output=True, text=True, check=False, timeout=100)
        assert "xprim" not in found.stderr


def test_launchd(home: Path, environment: Mapping[str, str]) -> None:
    """The property list parses, starts every hour, and its arguments run."""
    _run(["sh", "-c", _line("launchd")], environment)
    path = home / "Library" / "LaunchAgents" / "xprim.maintain.plist"
    document = plistlib.loads(path.read_bytes())
    assert (document["Label"], document["StartInterval"]) == (path.stem, 3600)
    _runs(document["ProgramArguments"], home, environment)
    assert (home / "launchctl.called").read_text() == f"bootstrap gui/{os.getuid()} {path}\n"
