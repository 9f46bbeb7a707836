"""`xprim ai` as users start it: real processes, the demo model, a terminal, a pipe that closes, another process's model."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from .conftest import DEADLINE_S
from .terminal import Terminal

pytestmark = pytest.mark.timeout(300)  # a worker starts in half a second; on a loaded machine in many

_MODEL = "demo/tiny-llama v2"
_KEY = f"numpy:{_MODEL}"
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(environment: dict[str, str]) -> dict[str, str]:
    """The environment of these processes: the embedded demo registry, a home of their own."""
    return {name: text for name, text in environment.items() if name != "XPRIM_MODELS_REGISTRY_URL"}


def _start(*args: str, env: dict[str, str], **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xprim_nb.cli.main", "ai", *args]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, **how)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """What a failed assertion leaves running is killed: leaving `Popen` would wait for it."""
    try:
        yield
    except BaseException:
        process.kill()
        raise


@pytest.fixture
def call(home: dict[str, str]) -> Call:
    """`xprim ai …` in a process of its own, to its end."""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        with _start(*args, env=home) as process:
            out, err = process.communicate(timeout=DEADLINE_S)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    return call


def test_the_first_run_installs_and_the_next_says_the_same(call: Call) -> None:
    """A model that is not here is installed, answers, and is gone with its worker; a seed gives the same text again."""
    words = ("run", "demo/tiny-llama@v2", "Once upon a time", "--max-tokens", "12", "--temperature", "0.8")
    first = json.loads(call(*words, "--json").stdout)
    assert (first["tokens"], first["model"], first["device"]) == (12, _KEY, "cpu")
    assert not psutil.pid_exists(first["worker_pid"])
    assert first["timings_s"]["install"] > 0
    again = call(*words, "--seed", str(first["seed"]))
    assert (again.returncode, again.stdout) == (0, first["text"] + "\n")
    assert f"seed {first['seed']}, cut at 12 tokens" in again.stderr
    assert "installing" not in again.stderr


def test_a_pipe_that_closes_ends_it(home: dict[str, str]) -> None:
    """Where nobody reads any more the answer stops, in silence."""
    with _start("run", _MODEL, "Once", "--max-tokens", "900", "--quiet", env=home) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5)
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 141
        assert process.stderr.read() == ""


def test_on_a_terminal(home: dict[str, str]) -> None:
    """The wait is a bar that leaves nothing behind; the text stands alone on its line, the times below."""
    env = {**home, "NO_COLOR": "1"}
    with Terminal(
        "ai", "run", _MODEL, "Once", "--max-tokens", "5", env=env, module="xprim_nb.cli.main"
    ) as terminal:
        terminal.deadline_s = DEADLINE_S
        assert terminal.end() == 0
    assert re.search(r"(Looking for the model|Installing|Waiting).*━", terminal.shown)
    lines = terminal.shown.rpartition("\x1b[2K")[2].split("\r\n")
    assert len(lines) >= 3
    assert re.search(r"^\d+\.\d s = .* load .*cut at 5 tokens$", lines[-2])


def _lives(process: psutil.Process) -> bool:
    """Whether it still runs; what has ended and waits for its parent's parent to notice does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
def test_an_interrupt_prints_what_came(home: dict[str, str]) -> None:
    """SIGINT ends the answer: exit code 130, what came on stdout, and no worker left."""
    with _start("run", _MODEL, "Once", "--max-tokens", "900", env=home) as process:
        assert process.stdout is not None
        begin = process.stdout.read(3)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=DEADLINE_S)
    assert len(begin + rest) < 4000
    assert workers
    assert not any(map(_lives, workers))
    assert (process.returncode, bool(re.search(r"stopped after \d+ tokens?\n", err))) == (130, True)


def test_another_process_sees_and_evicts(home: dict[str, str], call: Call) -> None:
    """What one process holds another lists, plans for, pins, and has evicted; the timeline knows the cause."""
    with _start("load", _MODEL, "--hold", env=home) as holder, _ended(holder):
        assert holder.stdout is not None
        assert holder.stdout.readline().startswith(f"Loaded: {_KEY}, ")
        (view,) = json.loads(call("ps", "--json").stdout)["models"]
        assert (view["key"], view["kernel_pid"], view["status"]) == (_KEY, holder.pid, "resident")
        assert view["size_bytes"] > 10 << 20
        assert call("pin", "demo/tiny-llama@v2").stdout == f"Pinned: {_KEY}\n"
        assert call("unpin", _KEY).stdout == f"Unpinned: {_KEY}\n"
        assert "time to load" in call("plan", _MODEL).stdout
        gone = call("evict", _MODEL)
        assert gone.stdout.startswith(f"Evicted: {_KEY} (")
        _, err = holder.communicate(timeout=DEADLINE_S)
        assert (holder.returncode, f"{_KEY} has left" in err) == (0, True)
    assert call("ps").stdout.splitlines()[1:] == []
    rows = json.loads(call("timeline", "--json").stdout)["timeline"]
    assert {each["note"] for each in rows if each["kernel_pid"] == holder.pid} == {"xprim ai load"}


def test_errors_have_exit_codes(call: Call) -> None:
    """What is not in the registry is 3, what no backend has is 2, what may not be installed is 4."""
    assert call("run", "demo/nothing v1", "Once").returncode == 3
    assert call("run", "nobody:x", "Once").returncode == 2
    done = call("run", _MODEL, "Once", "--no-install")
    assert (done.returncode, done.stdout) == (4, "")
