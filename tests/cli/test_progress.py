"""Bars where somebody watches, lines where nobody does, and a clean terminal after Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.gates import Hold
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

from .conftest import DEADLINE_S, Runner, damage
from .terminal import Terminal

_REF = "demo/big v1"
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def server(registry: MadeRegistry) -> Iterator[FaultyRegistry]:
    """A registry over HTTP, with a model of ten chunks."""
    make_registry(registry.root, {_REF: {"weights.bin": random_bytes("big", 100_000)}}, chunk_size=10_000)
    with FaultyRegistry(registry.root) as running:
        yield running


@pytest.fixture
def gate(server: FaultyRegistry) -> Iterator[Hold]:
    """Whoever asks for a fifth chunk waits."""
    with server.hold(on=lambda request: request.kind == "chunk" and server.count("chunk") > 4) as gate:
        yield gate


@pytest.fixture
def there(environment: dict[str, str], server: FaultyRegistry) -> dict[str, str]:
    """The environment of a process that uses the server."""
    return {**environment, "XPRIM_MODELS_REGISTRY_URL": server.url}


def test_bar_is_drawn_on_a_terminal(gate: Hold, there: dict[str, str]) -> None:
    """At a terminal a bar says how far it is; afterwards the seed's lines stand there, and the cursor is back."""
    with Terminal("pull", *_REF.split(), "--concurrency", "1", env=there) as terminal:
        terminal.read_until(r"Downloading: 4/10 chunks.*39\.1 KB of 97\.7 KB")
        gate.release()
        assert terminal.end() == 0
    assert terminal.shown.count(_HIDE) == terminal.shown.count(_SHOW) >= 1
    assert terminal.shown.rindex(_SHOW) > terminal.shown.rindex(_HIDE)
    after = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.shown[terminal.shown.rindex(_SHOW) :])
    assert "Fetching manifest... done" in after
    assert "Downloading: 10/10 chunks [====================] 100% 97.7 KB" in after
    assert "Model installed: demo/big v1 (97.7 KB)" in after


@pytest.mark.parametrize("columns", [40, 60])
def test_narrow_terminal_keeps_the_bar(columns: int, gate: Hold, there: dict[str, str]) -> None:
    """Where not everything fits, the numbers behind the bar go first; chunks, bar and share stay."""
    with Terminal("pull", *_REF.split(), "--concurrency", "1", env=there, columns=columns) as terminal:
        terminal.read_until(r"Downloading: 4/10 chunks [^\r]*━[^\r]*40%")
        gate.release()
        assert terminal.end() == 0
    assert "…" not in terminal.shown


def test_dumb_terminal_gets_the_lines(gate: Hold, there: dict[str, str]) -> None:
    """A terminal that cannot draw in place is told the manifest is there while the chunks still come."""
    with Terminal("pull", *_REF.split(), "--concurrency", "1", env=there, kind="dumb") as terminal:
        terminal.read_until(r"Fetching manifest\.\.\. done")
        gate.release()
        assert terminal.end() == 0
    assert "\x1b" not in terminal.shown


def test_interrupt_at_a_terminal_leaves_it_clean(gate: Hold, there: dict[str, str]) -> None:
    """Ctrl-C takes the bar away, shows the cursor, says how far it came and how to go on, and exits with 130."""
    with Terminal("pull", *_REF.split(), "--concurrency", "1", env=there) as terminal:
        terminal.read_until(r"Downloading: 4/10 chunks")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
    assert "paused at 40 %; run the same command again to resume" in terminal.shown
    assert terminal.shown.rindex(_SHOW) > terminal.shown.rindex(_HIDE)
    assert "Traceback" not in terminal.shown
    assert "Aborted" not in terminal.shown


def test_bar_says_what_is_tried_again(server: FaultyRegistry, there: dict[str, str]) -> None:
    """While a chunk is tried again the bar says so, instead of standing still."""
    server.inject(Status(503), on="chunk", times=1)
    with Terminal("pull", *_REF.split(), "--concurrency", "1", env=there) as terminal:
        terminal.read_until(r"chunk [0-9a-f]{12} failed, trying again in \d s")
        assert terminal.end() == 0


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_interrupted_pull_resumes(
    arguments: tuple[str, ...],
    gate: Hold,
    server: FaultyRegistry,
    there: dict[str, str],
    spawn: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """SIGINT without a terminal: 130, the same words, no escape; what it claims to keep is not fetched again."""
    command = [sys.executable, "-m", "xprim_nb.cli.models", "pull", _REF, "--concurrency", "1", *arguments]
    pulling = subprocess.Popen(command, env=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    gate.wait_reached(timeout_s=60)
    pulling.send_signal(signal.SIGINT)
    out, err = pulling.communicate(timeout=DEADLINE_S)
    assert pulling.returncode == 130
    paused = re.search(r"paused at (\d)0 %", out if arguments else err)
    assert paused is not None
    assert "run the same command again to resume" in (out if arguments else err)
    assert "\x1b" not in out + err
    gate.release()
    server.forget_requests()
    again = spawn("pull", _REF, env=there)
    assert again.returncode == 0
    kept = 10 - server.count("chunk")
    assert 3 <= int(paused[1]) <= kept <= 4  # the fourth may have been verified while the pull stopped
    assert (
        again.stderr
        == f"reused {kept * 10_000 / 1024:.1f} KB of 97.7 KB, which were already on this machine\n"
    )


def test_no_bar_without_a_terminal(
    spawn: Callable[..., subprocess.CompletedProcess[str]], server: FaultyRegistry, there: dict[str, str]
) -> None:
    """Into a pipe go plain lines, with no escape sequence and no carriage return."""
    done = spawn("pull", *_REF.split(), env=there)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[1] == "Downloading: 10/10 chunks [====================] 100% 97.7 KB"


@pytest.mark.parametrize(
    ("answer", "exit_code", "said"), [("n", 1, "nothing was removed"), ("y", 0, "Removed 1 version")]
)
def test_removal_of_everything_is_confirmed(
    answer: str,
    exit_code: int,
    said: str,
    run: Runner,
    environment: dict[str, str],
    data_dir: Path,
) -> None:
    """At a terminal `remove --all` asks, names what goes, and takes no for an answer."""
    run("pull", "llama/7b", "latest")
    with Terminal("remove", "llama/7b", "--all", env=environment) as terminal:
        terminal.read_until(r"Remove 1 version of llama/7b \(2\.9 KB\)\? \[y/N\]")
        terminal.enter(f"{answer}\n")
        assert terminal.end() == exit_code
    assert said in terminal.shown
    assert (data_dir / "llama" / "7b" / "latest").exists() == (answer == "n")


def test_nothing_is_asked_where_nobody_answers(
    run: Runner, spawn: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    """With `-y` nothing is asked at a terminal, and without a terminal nothing is asked at all."""
    run("pull", "llama/7b", "latest")
    with Terminal("remove", "llama/7b", "--all", "-y", env=environment) as terminal:
        assert terminal.end() == 0
    assert "[y/N]" not in terminal.shown
    run("pull", "llama/7b", "latest")
    assert spawn("remove", "llama/7b", "--all").stdout.splitlines()[-1] == "Removed 1 version"


def test_a_repair_has_a_bar_too(server: FaultyRegistry, there: dict[str, str], data_dir: Path) -> None:
    """While its chunk is on the way a terminal shows which model is being mended; afterwards only the receipt stands."""
    with Terminal("pull", *_REF.split(), env=there) as terminal:
        assert terminal.end() == 0
    damage(data_dir / "demo" / "big" / "v1" / "weights.bin")
    with (
        server.hold(on=lambda request: request.kind == "chunk") as gate,
        Terminal("cache", "repair", *_REF.split(), env=there, module="xprim_nb.cli.main") as terminal,
    ):
        gate.wait_reached(timeout_s=60)
        terminal.read_until(r"Repairing: demo/big v1|Looking at the cache")
        gate.release()
        assert terminal.end() == 0
    assert terminal.shown.count(_HIDE) == terminal.shown.count(_SHOW) >= 1
    after = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.shown[terminal.shown.rindex(_SHOW) :])
    assert "demo/big v1 is whole again: 1 of 10 chunks fetched (9.8 KB)." in after
