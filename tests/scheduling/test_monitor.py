"""What devices have left beside what others use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from xprim_nb.scheduling.devices import SimulatedDevice
from xprim_nb.scheduling.hardware import Device
from xprim_nb.scheduling.leases import KernelId, Lease, LeaseState
from xprim_nb.scheduling.machine import MachineProbe
from xprim_nb.scheduling.monitor import DeviceMonitor
from xprim_nb.scheduling.state import DeviceState

from .rooms import GIB, MIB

_GPU = Device("cuda:0", "cuda", 8 * GIB, 7 * GIB, margin_bytes=GIB)


class _Told:
    """A device that is what it is told to be."""

    def __init__(self, device: Device = _GPU) -> None:
        self.device, self.closed = device, 0

    def use(self, used: int, processes: dict[int, int] | None = None) -> None:
        """Say what is used, and by whom."""
        self.device = replace(
            self.device,
            used_bytes=used,
            free_bytes=self.device.total_bytes - used,
            processes=processes,
            trouble="",
        )

    def look(self, leases: Sequence[Lease]) -> Device:
        """As told."""
        return self.device

    def close(self) -> None:
        """Counted."""
        self.closed += 1


class _Clock:
    """Time that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _lease(
    state: LeaseState, charge: int, measured: int = 0, pid: int | None = None, name: str = "cuda:0"
) -> Lease:
    return Lease(
        f"{state}{charge}{pid}",
        "m",
        state,
        ((name, charge),),
        KernelId(1, 1.0),
        measured=((name, measured),) if measured else (),
        worker_pid=pid,
    )


def _only(monitor: DeviceMonitor, *leases: Lease) -> DeviceState:
    (state,) = monitor.observe(leases)
    return state


def test_external_is_what_is_used_without_ours() -> None:
    """By process where the driver tells; by our own measurement of those it does not list."""
    gpu = _Told()
    gpu.use(5 * GIB, {10: 2 * GIB, 99: GIB})
    listed, hidden = _lease("resident", 3 * GIB, GIB, pid=10), _lease("resident", 2 * GIB, GIB, pid=11)
    state = _only(DeviceMonitor([gpu]), listed, hidden)
    assert state == DeviceState("cuda:0", 7 * GIB, 2 * GIB, 4 * GIB)


def test_free_is_without_what_a_lease_took_after_it_was_measured() -> None:
    """The ledger takes off what is charged and not measured; what is in use already must not be taken off twice."""
    gpu = _Told()
    gpu.use(5 * GIB, {10: 3 * GIB, 20: 2 * GIB})
    grown, loading = _lease("resident", 4 * GIB, GIB, pid=10), _lease("loading", 2 * GIB, pid=20)
    state = _only(DeviceMonitor([gpu]), grown, loading)
    assert state.external_bytes == 0
    assert state.free_bytes == 3 * GIB + 2 * GIB + 2 * GIB


def test_external_stays_while_memory_changes_hands() -> None:
    """Without figures by process a byte that appears while a model loads is taken for the model's."""
    gpu = _Told()
    monitor = DeviceMonitor([gpu])
    gpu.use(GIB)
    assert _only(monitor).external_bytes == GIB
    loading = _lease("loading", 3 * GIB, pid=10)
    for used in (GIB, 2 * GIB, 4 * GIB):
        gpu.use(used)
        assert _only(monitor, loading).external_bytes == GIB
    gpu.use(5 * GIB)  # more than the model may take: the rest is somebody else's
    assert _only(monitor, loading).external_bytes == 2 * GIB
    gpu.use(int(4.5 * GIB))
    resident = _lease("resident", 3 * GIB, int(2.5 * GIB), pid=10)
    assert _only(monitor, resident).external_bytes == 2 * GIB


def test_a_kernel_that_comes_while_another_loads_expects_the_worst() -> None:
    """It has seen nothing before: what may be the model's may be a stranger's."""
    gpu = _Told()
    gpu.use(4 * GIB)
    assert _only(DeviceMonitor([gpu]), _lease("loading", 3 * GIB)).external_bytes == 4 * GIB


def test_what_leaves_may_be_gone_already() -> None:
    """While a model is released its memory is neither missed nor counted twice."""
    gpu, clock = _Told(), _Clock()
    monitor = DeviceMonitor([gpu], clock=clock)
    gpu.use(4 * GIB)
    assert _only(monitor, _lease("resident", 3 * GIB, 3 * GIB)).external_bytes == GIB
    for used in (4 * GIB, 2 * GIB, GIB):
        gpu.use(used)
        assert _only(monitor, _lease("releasing", 3 * GIB, 3 * GIB)).external_bytes == GIB


def test_a_ghost_is_no_stranger() -> None:
    """Its memory is still used and still charged; it is not counted as external too."""
    gpu = _Told()
    gpu.use(3 * GIB)
    assert _only(DeviceMonitor([gpu]), _lease("ghost", 3 * GIB, 3 * GIB)).external_bytes == 0


def test_strangers_are_smoothed() -> None:
    """The most of the latest five looks counts, for five seconds."""
    gpu, clock = _Told(), _Clock()
    monitor = DeviceMonitor([gpu], clock=clock)
    seen = []
    for used in (3, 1, 1, 1, 1, 1):
        gpu.use(used * GIB)
        seen.append(_only(monitor).external_bytes // GIB)
    assert seen == [3, 3, 3, 3, 3, 1]
    gpu.use(4 * GIB)
    assert _only(monitor).external_bytes == 4 * GIB
    gpu.use(2 * GIB)
    clock.now = 5.1
    assert _only(monitor).external_bytes == 2 * GIB


def test_strangers_have_first_what_is_outside_the_budget() -> None:
    """A user's limit is for models; what others use beside it takes nothing of it."""
    gpu = _Told(replace(_GPU, budget_bytes=4 * GIB))
    monitor = DeviceMonitor([gpu])
    gpu.use(2 * GIB)
    assert _only(monitor).external_bytes == 0
    gpu.use(4 * GIB)
    assert _only(monitor).external_bytes == GIB


def test_a_device_that_does_not_answer_keeps_what_was_known() -> None:
    """Nothing is said to be free; what others used is what they used before."""
    gpu = _Told()
    monitor = DeviceMonitor([gpu])
    gpu.use(2 * GIB)
    _only(monitor)
    gpu.device = replace(gpu.device, trouble="NVML: Unknown Error", free_bytes=None, used_bytes=0)
    assert _only(monitor) == DeviceState("cuda:0", 7 * GIB, 2 * GIB, None)
    lost = _Told(replace(_GPU, trouble="NVML: GPU is lost", budget_bytes=0))
    assert _only(DeviceMonitor([lost])) == DeviceState("cuda:0", 0, 0, None)


def test_a_simulated_device_does_not_flutter() -> None:
    """What a test says others use is what they use, at once; nobody says what is free but the charges."""
    gpu = SimulatedDevice("sim:8gb", total_bytes=8 * GIB, external_bytes=3 * GIB)
    monitor = DeviceMonitor([gpu])
    lease = _lease("loading", 2 * GIB, name="sim:8gb")
    assert _only(monitor, lease) == DeviceState("sim:8gb", 8 * GIB, 3 * GIB, None)
    gpu.external_bytes = GIB
    assert _only(monitor, lease).external_bytes == GIB


def test_the_machine_tells_of_workers() -> None:
    """One that has ended takes nothing any more; this one is seen by its process."""
    monitor = DeviceMonitor([MachineProbe(1 << 60)])
    ended = _lease("releasing", 4 * GIB, 4 * GIB, pid=2**22 + 1, name="cpu")
    mine = _lease("resident", 10 * MIB, MIB, pid=os.getpid(), name="cpu")
    state = _only(monitor, ended, mine)
    (device,) = monitor.devices
    assert device.processes is not None
    assert 0 < device.processes[os.getpid()] < device.used_bytes
    assert state.external_bytes == device.used_bytes - device.processes[os.getpid()]


def test_devices_are_looked_at_when_somebody_asks() -> None:
    """The first use looks; afterwards the latest look is shown, with what is free."""
    gpu = _Told()
    gpu.use(GIB)
    sim = SimulatedDevice("sim:a", total_bytes=GIB)
    monitor = DeviceMonitor([gpu, sim])
    assert [each.id for each in monitor.devices] == ["cuda:0", "sim:a"]
    gpu.use(2 * GIB)
    assert monitor.devices[0].used_bytes == GIB
    monitor.observe(())
    assert monitor.free() == {"cuda:0": 6 * GIB, "sim:a": GIB}
    monitor.close()
    assert gpu.closed == 1
