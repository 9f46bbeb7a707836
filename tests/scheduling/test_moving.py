"""Models move although the ledger cannot be written for a while, and memory is seen to come back before it is given away.

The ledger is a real one, whose directory is taken away and given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.scheduling.fakes import FakeBackend, NoModels, until
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import StorageError
from xprim_nb.scheduling.asking import Asking
from xprim_nb.scheduling.devices import SimulatedDevice
from xprim_nb.scheduling.engine import Engine
from xprim_nb.scheduling.hardware import Device
from xprim_nb.scheduling.kernels import this_kernel
from xprim_nb.scheduling.leases import Lease
from xprim_nb.scheduling.ledgerview import LedgerView
from xprim_nb.workers.values import Capabilities, CrashReport, LoadOptions, Measured, ModelFacts

_GB = 1 << 30


class Disk:
    """The ledger's directory, which can be taken away: every call then raises `StorageError`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self) -> None:
        self.folder.rename(self.folder.with_name("taken"))
        self.folder.write_text("no directory", encoding="utf-8")

    def give_back(self) -> None:
        self.folder.unlink()
        self.folder.with_name("taken").rename(self.folder)

    def leases(self) -> list[tuple[str, str]]:
        """What everybody else on the machine sees: models and their states."""
        view = LedgerView(self.folder, kernel=this_kernel("test"))
        try:
            return [(each.model, each.state) for each in view.leases()]
        finally:
            view.close()


class Gpu:
    """A CUDA device whose driver shows what the test says."""

    id = "cuda:0"

    def __init__(self, backend: FakeBackend) -> None:
        self.backend, self.lost = backend, 0

    def look(self, leases: Sequence[Lease]) -> Device:
        alive = sum(each.measured.device_bytes for each in self.backend.runners if not each.ended.done())
        used = alive + self.lost
        total = 8 * _GB
        return Device(
            "cuda:0", "cuda", total, total, used_bytes=used, free_bytes=total - used, runs_on="cuda:0"
        )

    def close(self) -> None:  # house: it holds nothing
        """Nothing is held."""


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Where the ledger lies."""
    return Disk(tmp_path / "ledger")


@pytest.fixture
def backend() -> FakeBackend:
    """Two models, of which one fits on the device."""
    return FakeBackend(sizes={"a": 5 * _GB, "b": 5 * _GB})


@pytest.fixture
async def engine(backend: FakeBackend, disk: Disk) -> AsyncIterator[Engine]:
    """An engine with a simulated device of 8 GB."""
    async with Engine(
        NoModels(),
        AICapabilities(ledger_dir=disk.folder),
        devices=[SimulatedDevice("sim:8gb", total_bytes=8 * _GB)],
        backends={"fake": backend},
    ) as engine:
        yield engine


@pytest.fixture
async def on_gpu(backend: FakeBackend, disk: Disk) -> AsyncIterator[tuple[Engine, Gpu]]:
    """An engine with a CUDA device of 8 GB."""
    backend.capabilities = replace(backend.capabilities, devices=("cuda", "cpu"))
    gpu = Gpu(backend)
    async with Engine(
        NoModels(), AICapabilities(ledger_dir=disk.folder), devices=[gpu], backends={"fake": backend}
    ) as engine:
        yield engine, gpu


@pytest.fixture
async def lost(engine: Engine, backend: FakeBackend, disk: Disk) -> None:
    """The ledger went away while `fake:a` was loaded, which was told; it is away still."""
    backend.load_gate.clear()
    asking = asyncio.create_task(engine.generate("fake:a", "hello"))
    await until(backend.loads)
    disk.take()
    backend.load_gate.set()
    with pytest.raises(StorageError):
        await asking


# --- the ledger fails ----------------------------------------------------------------------------


async def test_a_ledger_that_fails_before_a_load_is_told(
    engine: Engine, backend: FakeBackend, disk: Disk
) -> None:
    """Nothing is started that could not be charged; when the ledger is back, the next request is served."""
    disk.take()
    with pytest.raises(StorageError, match="ledger"):
        await engine.generate("fake:a", "hello")
    assert backend.loads() == []
    disk.give_back()
    assert (await engine.generate("fake:a", "hello")).text == "hello "
    assert disk.leases() == [("fake:a", "resident")]


@pytest.mark.usefixtures("lost")
async def test_a_ledger_that_fails_during_a_load_is_told(
    engine: Engine, backend: FakeBackend, disk: Disk
) -> None:
    """What was loaded is closed again, and its charge goes when the ledger is back, whoever is asked for next."""
    assert [each.closed for each in backend.runners] == [True]
    disk.give_back()
    assert disk.leases() == [("fake:a", "loading")]
    assert (await engine.generate("fake:b", "hello")).text == "hello "
    assert disk.leases() == [("fake:b", "resident")]
    assert (await engine.generate("fake:a", "again")).text == "again "
    assert disk.leases() == [("fake:a", "resident")]


@pytest.mark.usefixtures("lost")
async def test_a_charge_that_could_not_be_given_back_goes_by_itself(disk: Disk) -> None:
    """Other kernels need not wait until this one does something again."""
    disk.give_back()
    assert disk.leases() == [("fake:a", "loading")]
    await until(lambda: not disk.leases())


async def test_a_reservation_that_is_not_confirmed_is_given_back(
    engine: Engine, backend: FakeBackend, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails between the two steps of a reservation: the first one does not stay."""
    advance = engine._ledger.advance

    def fail(*_: object, **__: object) -> Lease:
        monkeypatch.setattr(engine._ledger, "advance", advance)
        raise StorageError("The disk is full.", subject="ledger")

    monkeypatch.setattr(engine._ledger, "advance", fail)
    with pytest.raises(StorageError, match="full"):
        await engine.generate("fake:a", "hello")
    assert backend.loads() == []
    assert disk.leases() == []
    assert (await engine.generate("fake:a", "hello")).text == "hello "


async def test_a_ledger_that_fails_during_an_eviction_stops_nobody(
    engine: Engine, backend: FakeBackend, disk: Disk
) -> None:
    """The model leaves all the same; its charge goes when the ledger is back, and it can be loaded again."""
    await engine.generate("fake:a", "hello")
    disk.take()
    assert (await engine.evict("fake:a")).status == "absent"
    assert backend.runners[0].closed
    with pytest.raises(StorageError):
        await engine.generate("fake:a", "hello")
    disk.give_back()
    assert (await engine.generate("fake:a", "again")).text == "again "
    assert disk.leases() == [("fake:a", "resident")]
    assert (await engine.generate("fake:b", "hello")).evicted == ("fake:a",)


async def test_a_ledger_that_fails_after_a_crash_stops_nobody(
    engine: Engine, backend: FakeBackend, disk: Disk
) -> None:
    """The charge of a worker that died while the ledger was away goes when it is back."""
    await engine.load("fake:a")
    disk.take()
    backend.runners[0].crash(CrashReport("fake:a", 1, "killed", "It was killed."))
    await until(lambda: engine.view("fake:a").status == "absent")
    disk.give_back()
    await until(lambda: not disk.leases())
    await engine.retry("fake:a")
    assert (await engine.generate("fake:a", "hello")).text == "hello "


async def test_a_ledger_that_fails_while_a_model_is_parked_has_it_unloaded(
    on_gpu: tuple[Engine, Gpu], backend: FakeBackend, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be charged as parked does not stay parked; whoever waits for the room gets it."""
    engine, _ = on_gpu
    backend.capabilities = replace(backend.capabilities, can_park=True)
    await engine.load("fake:a")
    parking, gate = asyncio.Event(), asyncio.Event()

    async def park() -> Measured:
        parking.set()
        await gate.wait()
        return Measured(0, 0)

    monkeypatch.setattr(backend.runners[0], "park", park)
    waiting = asyncio.create_task(engine.generate("fake:b", "hello"))
    await parking.wait()
    disk.take()
    gate.set()
    with pytest.raises(StorageError):
        await waiting
    assert backend.runners[0].closed
    disk.give_back()
    assert (await engine.generate("fake:b", "hello")).text == "hello "
    assert disk.leases() == [("fake:b", "resident")]


# --- memory comes back ---------------------------------------------------------------------------


async def test_a_crashed_model_is_loaded_again_when_its_memory_has_come_back(
    on_gpu: tuple[Engine, Gpu], backend: FakeBackend, disk: Disk
) -> None:
    """A request that comes while the driver still shows the dead worker's memory waits for it, and is served."""
    engine, gpu = on_gpu
    await engine.load("fake:a")
    gpu.lost = 5 * _GB
    backend.runners[0].crash(CrashReport("fake:a", 1, "killed", "It was killed."))
    await until(lambda: ("fake:a", "releasing") in disk.leases())
    asking = asyncio.create_task(engine.generate("fake:a", "hello", footprint_bytes=2 * _GB))
    await asyncio.wait([asking], timeout=1.5)
    assert not asking.done()
    gpu.lost = 0
    assert (await asking).text == "hello "
    assert disk.leases() == [("fake:a", "resident")]


# --- what an option was made from ----------------------------------------------------------------


class Headers(FakeBackend):
    """Nobody says what its models take: it is estimated from weights and layers, and then measured."""

    async def facts(self, name: str, options: LoadOptions) -> ModelFacts:
        found = await super().facts(name, options)
        return replace(
            found,
            weight_bytes=2 * _GB,
            footprint_bytes=None,
            layers=32,
            key_value_heads=32,
            head_dim=128,
            hidden_size=4096,
            max_context_tokens=4096,
        )


async def test_a_model_is_loaded_again_by_what_was_measured(disk: Disk) -> None:
    """The gentler option that was taken is found again once its charges are measured ones, with its context."""
    backend = Headers(
        sizes={"a": 3 * _GB}, capabilities=Capabilities(has_process=True, devices=("cuda", "cpu"))
    )
    gpu = Gpu(backend)
    gpu.lost = int(3.5 * _GB)  # another program's: the whole context does not fit
    settings = AICapabilities(ledger_dir=disk.folder, allow_smaller_context=True)
    async with Engine(NoModels(), settings, devices=[gpu], backends={"fake": backend}) as engine:
        first = await engine.plan("fake:a")
        assert (first.source, first.context_tokens < 4096) == ("estimated", True)
        await engine.generate("fake:a", "hello")
        loaded = engine.view("fake:a")
        assert (loaded.source, loaded.context_tokens) == ("measured", first.context_tokens)
        estimated = {each.device: each.needed_bytes for each in first.rooms}["cuda:0"]
        assert estimated < loaded.size_bytes
        await engine.evict("fake:a")
        again = await engine.plan("fake:a")
        assert (again.source, again.context_tokens) == ("measured", first.context_tokens)
        await engine.generate("fake:a", "hello")
        assert engine.view("fake:a").size_bytes == loaded.size_bytes
        assert [each.options.context_tokens for each in backend.runners] == [first.context_tokens] * 2
        assert [each.options.device_limit_bytes for each in backend.runners] == [
            estimated,
            loaded.size_bytes,
        ]


async def test_who_waits_is_served_although_another_context_is_wanted_meanwhile(
    engine: Engine, backend: FakeBackend
) -> None:
    """Whoever is about to ask with other settings takes from nobody what their option was made from."""
    await engine.load("fake:a")
    backend.gate.clear()
    answering = asyncio.create_task(engine.generate("fake:a", "one"))
    await until(lambda: backend.runners[0].requests)
    waiting = asyncio.create_task(engine.generate("fake:b", "two"))
    await until(lambda: engine.snapshot().queue)
    held = await engine.ready("fake:b", {"context_tokens": 1024}, Asking("fake:b"))
    assert [each.context_tokens for each in await engine.options(held)] == [1024]
    backend.gate.set()
    assert [(await answering).text, (await waiting).text] == ["one ", "two "]
