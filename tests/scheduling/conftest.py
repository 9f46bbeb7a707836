"""A ledger, its clock, and a neighbour: what tests of the ledger share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xprim_nb.scheduling.kernels import started_mark, this_kernel
from xprim_nb.scheduling.leases import KernelId
from xprim_nb.scheduling.ledger import Ledger

from .rooms import Clock


@pytest.fixture
def clock() -> Clock:
    """The ledgers' time."""
    return Clock()


@pytest.fixture
def open_ledger(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers on one file, and closes them."""
    opened: list[Ledger] = []

    def begin(kernel: KernelId | None = None) -> Ledger:
        ledger = Ledger(tmp_path / "run", kernel=kernel, clock=clock)
        opened.append(ledger)
        return ledger

    yield begin
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Ledger:
    """This process's."""
    return open_ledger()


@pytest.fixture
def neighbour() -> Iterator[KernelId]:
    """Another kernel: a process that lives until the test ends."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = started_mark(process.pid)
    assert mark is not None
    yield KernelId(process.pid, mark, this_kernel().boot, "other.ipynb")
    process.kill()
    process.communicate(timeout=10)
