"""Several kernels on one machine: killed ones leave nothing, living ones never take the same memory twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from xprim_nb.scheduling.kernels import this_kernel
from xprim_nb.scheduling.ledgerview import LedgerView

# A kernel starts in two seconds, and in ten where others compute beside it.
pytestmark = pytest.mark.timeout(180)

_GB = 1 << 30
_TOTAL = 8 * _GB
_MODELS = ("demo/tiny-llama v1", "demo/tiny-llama v2")
_ORPHAN_S = 2.0


class Kernel:
    """One process with an engine; asked line by line."""

    def __init__(self, folder: Path) -> None:
        script = Path(__file__).with_name("engine_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(_TOTAL)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid: int = self._read()["ready"]

    def send(self, verb: str, name: str, size: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{verb}\t{name}\t{size}\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def ask(self, verb: str, name: str, size: int) -> dict[str, Any]:
        self.send(verb, name, size)
        return self._read()

    answer = _read

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def end(self) -> None:
        if self._process.poll() is None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(20)
        self._close()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Kernel]]:
    """Starts kernels that share a ledger; all are ended."""
    kernels: list[Kernel] = []

    def begin() -> Kernel:
        kernels.append(Kernel(tmp_path))
        return kernels[-1]

    yield begin
    for kernel in kernels:
        kernel.end()


@pytest.fixture
def view(tmp_path: Path) -> Iterator[LedgerView]:
    """The ledger, as somebody who only looks has it."""
    ledger = LedgerView(tmp_path / "ledger", kernel=this_kernel("test"))
    yield ledger
    ledger.close()


def _gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


def _charged(view: LedgerView) -> int:
    return sum(lease.charge_on("sim:shared") for lease in view.leases())


def test_a_killed_kernel_leaves_nothing(start: Callable[[], Kernel], view: LedgerView) -> None:
    """SIGKILL of a kernel: its worker is gone within two seconds, and its charge with the next look."""
    first = start()
    loaded = first.ask("load", _MODELS[1], 5 * _GB)
    assert loaded["status"] == "resident"
    assert _charged(view) == 5 * _GB
    first.kill()
    assert _gone_within(loaded["worker"], _ORPHAN_S)
    second = start()
    assert view.leases() == []
    assert second.ask("generate", _MODELS[1], 5 * _GB)["text"]


def test_a_kernel_gets_what_another_does_not_use(start: Callable[[], Kernel], view: LedgerView) -> None:
    """What one kernel holds idly is asked of it and given; both are served in turn, and never both charged."""
    one, other = start(), start()
    for kernel, model in ((one, _MODELS[0]), (other, _MODELS[1]), (one, _MODELS[0])):
        reply = kernel.ask("generate", model, 5 * _GB)
        assert "text" in reply, reply
        assert _charged(view) == 5 * _GB


def test_two_kernels_never_take_too_much(start: Callable[[], Kernel], view: LedgerView) -> None:
    """Whatever two kernels ask for at once, the sum of their charges never exceeds the device."""
    _hammer([start(), start()], view, rounds=6)


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_kernels_are_killed_at_random(start: Callable[[], Kernel], view: LedgerView) -> None:
    """Sixty times a kernel is killed while it loads or answers: no orphan, no charge, and the next is served."""
    dice = random.Random(5)
    for _ in range(60):
        kernel = start()
        kernel.ask("load", dice.choice(_MODELS), 2 * _GB)
        workers = [each.pid for each in psutil.Process(kernel.pid).children(recursive=True)]
        kernel.send("generate", dice.choice(_MODELS), 3 * _GB)
        time.sleep(dice.uniform(0.0, 0.3))
        workers += [each.pid for each in psutil.Process(kernel.pid).children(recursive=True)]
        os.kill(kernel.pid, signal.SIGKILL)
        kernel.kill()
        assert all(_gone_within(pid, _ORPHAN_S) for pid in set(workers))
        assert view.leases() == []


def _hammer(kernels: list[Kernel], view: LedgerView, *, rounds: int) -> None:
    dice = random.Random(3)
    for _ in range(rounds):
        for kernel in kernels:
            kernel.send("generate", dice.choice(_MODELS), dice.choice((3, 4, 5)) * _GB)
        waiting = list(kernels)
        while waiting:
            assert _charged(view) <= _TOTAL
            reply = waiting.pop(0).answer()
            assert "text" in reply or reply["error"] in ("TimedOutError", "NoCapacityError"), reply
        assert _charged(view) <= _TOTAL
