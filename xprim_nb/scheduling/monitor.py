"""What devices have left, for the policy: looked at when a decision is due or a panel is open, and at no other time.

`external` is what others use: all that is used, without what our leases are seen to take. While a model is being
loaded, or leaves, a driver that tells no figures by process cannot say whose a byte is; external then stays as it was,
as far as the sum allows.

Source: spec 4 §Residency ("other processes' use is seen and respected"); research residency §4.9.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xprim_nb.scheduling.devices import Probe
from xprim_nb.scheduling.hardware import MACHINE, Device
from xprim_nb.scheduling.leases import Lease
from xprim_nb.scheduling.state import DeviceState

__all__ = ["DeviceMonitor"]

# Another program's use goes up and down while it works; what it took a moment ago it may take again. Older looks than
# this say nothing: somebody who has left has left.
_SMOOTHED_LOOKS = 5
_SMOOTHED_S = 5.0
# Its memory is changing hands: what was measured is not what is taken.
_MOVING = frozenset({"loading", "draining", "releasing"})


@dataclass(slots=True)
class _History:
    """What is remembered of one device between two looks."""

    settled_bytes: int | None = None
    looks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SMOOTHED_LOOKS))


class DeviceMonitor:
    """Looks at devices when it is asked to. Thread-safe; `close` lets the drivers go.

    Args:
        probes: The devices; `find_probes` finds those of this machine. Closed with the monitor.
        clock: Seconds that only grow.
    """

    def __init__(self, probes: Sequence[Probe], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._probes, self._clock = tuple(probes), clock
        self._lock = threading.Lock()
        self._past: dict[str, _History] = {}
        self._devices: tuple[Device, ...] | None = None

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices as they were at the latest look; the first use looks."""
        if self._devices is None:
            self.observe(())
        return self._devices or ()

    def observe(self, leases: Sequence[Lease]) -> tuple[DeviceState, ...]:
        """The devices as they are now, beside these leases of all kernels."""
        with self._lock:
            found = tuple(probe.look(leases) for probe in self._probes)
            self._devices = found
            return tuple(self._state(device, leases) for device in found)

    def free(self) -> dict[str, int]:
        """Free bytes by device, of those whose driver tells: what a ghost is rechecked with."""
        return {device.id: device.free_bytes for device in self.devices if device.free_bytes is not None}

    def close(self) -> None:
        """Let the drivers go."""
        for probe in self._probes:
            probe.close()

    def _state(self, device: Device, leases: Sequence[Lease]) -> DeviceState:
        here = [lease for lease in leases if lease.charge_on(device.id) or lease.measured_on(device.id)]
        if device.kind == "sim":  # it believes charges, and nothing on it flutters
            others = device.used_bytes - sum(lease.charge_on(device.id) for lease in here)
            return DeviceState(device.id, device.budget_bytes, _of_budget(device, others))
        past = self._past.setdefault(device.id, _History())
        seen = {lease.id: _seen(lease, device) for lease in here}
        least = sum(size for size, _ in seen.values())
        most = sum(size for _, size in seen.values())
        lowest, highest = max(0, device.used_bytes - most), max(0, device.used_bytes - least)
        others = highest if past.settled_bytes is None else min(max(past.settled_bytes, lowest), highest)
        if device.trouble and device.free_bytes is None:
            others = past.settled_bytes or 0  # the figures are old
        past.settled_bytes = others
        now = self._clock()
        past.looks.append((now, others))
        smoothed = max(size for at, size in past.looks if now - at <= _SMOOTHED_S)
        return DeviceState(
            device.id, device.budget_bytes, _of_budget(device, smoothed), _free(device, here, seen)
        )


def _seen(lease: Lease, device: Device) -> tuple[int, int]:
    """What a lease takes of a device: at least and at most, the same when it is known."""
    taken = (device.processes or {}).get(lease.worker_pid or 0)
    if taken is not None:
        return taken, taken
    measured = lease.measured_on(device.id)
    if lease.state == "reserved":
        return 0, 0
    if lease.state not in _MOVING:
        return measured, measured
    if device.id == MACHINE and lease.worker_pid is not None:
        return 0, 0  # its process is gone, or it would have been seen
    return 0, max(lease.charge_on(device.id), measured)


def _free(device: Device, leases: Sequence[Lease], seen: dict[str, tuple[int, int]]) -> int | None:
    """What is free, had each lease taken what was measured of it and no more: the ledger takes off the rest."""
    if device.free_bytes is None:
        return None
    early = sum(
        least - lease.measured_on(device.id)
        for lease in leases
        for least, most in [seen[lease.id]]
        if least == most
    )
    return max(0, device.free_bytes + early)


def _of_budget(device: Device, others_bytes: int) -> int:
    """What others take of the budget: they have what is outside it first."""
    outside = device.total_bytes - device.margin_bytes - device.budget_bytes
    return max(0, others_bytes - max(0, outside))
