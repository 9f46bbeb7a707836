"""All devices of a machine, and simulated ones."""

from __future__ import annotations

import pytest

from xprim_nb.scheduling import devices as found_by
from xprim_nb.scheduling.devices import SimulatedDevice, devices, find_probes
from xprim_nb.scheduling.leases import KernelId, Lease

from .nvidia import Driver, Gpu, installed
from .rooms import GIB, MIB


def _lease(state: str = "resident", **charges: int) -> Lease:
    named = tuple((name.replace("_", ":"), size) for name, size in charges.items())
    return Lease("a", "m", state, named, KernelId(1, 1.0))  # type: ignore[arg-type]  # states by name


def test_accelerators_come_before_the_machine() -> None:
    """NVIDIA's, then the CPU, each with its own limit; the driver is let go of afterwards."""
    with installed(Driver([Gpu(8 * GIB), Gpu(8 * GIB)])) as driver:
        found = devices(max_vram_bytes=GIB, max_ram_bytes=MIB, visible="1")
        assert driver.references == 0
    assert [(each.id, each.budget_bytes) for each in found] == [("cuda:1", GIB), ("cpu", MIB)]


def test_apples_gpu_is_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Mac with Apple's processor."""
    monkeypatch.setattr(found_by, "has_metal", lambda: True)
    with installed(Driver([], errors={"nvmlInitWithFlags": 12})):
        assert [each.id for each in devices(max_vram_bytes=GIB)] == ["mps", "cpu"]


def test_what_a_user_should_know() -> None:
    """A driver that does not answer is told beside the devices that work."""
    with installed(Driver([], errors={"nvmlInitWithFlags": 18})):
        found = find_probes()
    assert [probe.look(()).id for probe in found.probes] == ["cpu"]
    assert "version mismatch" in found.notes[0]


def test_a_simulated_device_believes_charges() -> None:
    """Used is what leases are charged with there, in every state, and what others are said to use."""
    gpu = SimulatedDevice("sim:8gb", total_bytes=8 * GIB, external_bytes=GIB)
    leases = [_lease(sim_8gb=2 * GIB, cpu=5), _lease("ghost", sim_8gb=GIB), _lease(cpu=9)]
    device = gpu.look(leases)
    assert (device.used_bytes, device.free_bytes) == (4 * GIB, 4 * GIB)
    assert (device.kind, device.runs_on, device.budget_bytes) == ("sim", "cpu", 8 * GIB)
    gpu.external_bytes = 7 * GIB
    assert gpu.look(leases).free_bytes == 0
    gpu.close()


def test_a_simulated_device_says_so_in_its_name() -> None:
    """So that no kernel takes it for a real one."""
    with pytest.raises(ValueError, match="sim:"):
        SimulatedDevice("cuda:0", total_bytes=GIB)
