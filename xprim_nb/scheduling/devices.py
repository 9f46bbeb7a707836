"""The devices of this machine, and simulated ones.

Source: spec 4 §Residency (`devices()`, `SimulatedDevice`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xprim_nb.scheduling.hardware import Device
from xprim_nb.scheduling.leases import Lease
from xprim_nb.scheduling.machine import MachineProbe, MetalProbe, has_metal
from xprim_nb.scheduling.nvml import find_nvidia

__all__ = ["Found", "Probe", "SimulatedDevice", "devices", "find_probes"]


class Probe(Protocol):
    """Something that can be looked at, again and again. Its owner closes it."""

    def look(self, leases: Sequence[Lease]) -> Device:
        """The device as it is now; never raises for what a driver says. `leases` are those of all kernels."""
        ...

    def close(self) -> None:
        """Let the driver go."""
        ...


class SimulatedDevice:
    """A GPU of any size that is only counted: what computes on it really computes on the CPU.

    It believes charges: used is what leases are charged with there, and what others are said to use.

    Args:
        id: `sim:…`, the same in every kernel that shares it.
        total_bytes: Its memory; models may take all of it.
        external_bytes: What other programs use; may be set at any time.

    Raises:
        ValueError: Its id does not begin with `sim:`.
    """

    def __init__(self, id: str, *, total_bytes: int, external_bytes: int = 0) -> None:
        if not id.startswith("sim:"):
            raise ValueError(f"a simulated device is called sim:…, not {id!r}")
        self.id, self.total_bytes, self.external_bytes = id, total_bytes, external_bytes

    def look(self, leases: Sequence[Lease]) -> Device:
        """The device as it is now."""
        used = self.external_bytes + sum(lease.charge_on(self.id) for lease in leases)
        return Device(
            self.id,
            "sim",
            self.total_bytes,
            self.total_bytes,
            name="simulated GPU",
            used_bytes=used,
            free_bytes=max(0, self.total_bytes - used),
        )

    def close(self) -> None:  # house: it holds nothing
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found on this machine.

    Attributes:
        probes: One for each device, accelerators first.
        notes: What a user should know of devices that cannot be used, in sentences.
    """

    probes: tuple[Probe, ...]
    notes: tuple[str, ...] = ()


def find_probes(
    *, max_vram_bytes: int | None = None, max_ram_bytes: int | None = None, visible: str | None = None
) -> Found:
    """Every device of this machine. Whoever asks closes the probes.

    Args:
        max_vram_bytes: What all models may take of each accelerator; None for all but a margin.
        max_ram_bytes: What all models may take of the machine's memory; None for three quarters.
        visible: `CUDA_VISIBLE_DEVICES` as the user has set it; None for all GPUs.
    """
    nvidia, note = find_nvidia(most=max_vram_bytes, visible=visible)
    metal = [MetalProbe(max_vram_bytes)] if has_metal() else []
    return Found((*nvidia, *metal, MachineProbe(max_ram_bytes)), (note,) if note else ())


def devices(
    *, max_vram_bytes: int | None = None, max_ram_bytes: int | None = None, visible: str | None = None
) -> list[Device]:
    """Every device of this machine as it is now, accelerators first.

    Args:
        max_vram_bytes: See `find_probes`.
        max_ram_bytes: See `find_probes`.
        visible: See `find_probes`.
    """
    found = find_probes(max_vram_bytes=max_vram_bytes, max_ram_bytes=max_ram_bytes, visible=visible)
    try:
        return [probe.look(()) for probe in found.probes]
    finally:
        for probe in found.probes:
            probe.close()
