"""A ledger, its clock, and a neighbour; an engine with scripted models: what tests of this room share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.scheduling.devices import SimulatedDevice
from xprim_nb.scheduling.engine import Engine
from xprim_nb.scheduling.kernels import started_mark, this_kernel
from xprim_nb.scheduling.leases import KernelId
from xprim_nb.scheduling.ledger import Ledger

from .fakes import FakeBackend, NoModels
from .rooms import Clock

_GB = 1 << 30


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


@pytest.fixture
def backend() -> FakeBackend:
    """Three models of which two fit on the device together."""
    return FakeBackend(sizes={"a": 3 * _GB, "b": 3 * _GB, "c": 3 * _GB, "big": 9 * _GB})


@pytest.fixture
async def engine(backend: FakeBackend, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine with a simulated device of 8 GB, and a ledger of its own."""
    async with Engine(
        NoModels(),
        AICapabilities(ledger_dir=tmp_path / "ledger"),
        devices=[SimulatedDevice("sim:8gb", total_bytes=8 * _GB)],
        backends={"fake": backend},
    ) as engine:
        yield engine
