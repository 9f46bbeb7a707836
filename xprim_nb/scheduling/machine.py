"""The machine's memory: what there is, what this process may have of it, what a worker takes.

Source: spec 4 §Residency ("CPU as a device with a budget"); Linux `Documentation/admin-guide/cgroup-v2.rst`,
`cgroup-v1/memory.rst`; proc(5).
"""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from xprim_nb.scheduling.hardware import MACHINE, Device
from xprim_nb.scheduling.leases import Lease

__all__ = ["MachineMemory", "MachineProbe", "MetalProbe", "has_metal", "machine_memory", "private_bytes"]

# A quarter is for the system, the browser, and the kernel with the user's own data.
_SHARE = 0.75
# macOS wires at most about so much for the GPU (`recommendedMaxWorkingSetSize`: two thirds up to 36 GB, more above).
_METAL_SHARE = 2 / 3
# Version 1 says "unlimited" with a number near 2⁶³.
_UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Memory that this process and its children may use.

    Attributes:
        total_bytes: All of it.
        available_bytes: What can be had without swapping.
        limited: True when a container's limit is lower than the machine's memory.
    """

    total_bytes: int
    available_bytes: int
    limited: bool = False


def machine_memory(
    membership: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> MachineMemory:
    """What there is now, or the tightest limit of a control group around this process.

    Args:
        membership: Where Linux tells the groups of this process.
        mounted: Where the groups' files are.
    """
    memory = psutil.virtual_memory()
    total, available, limited = memory.total, memory.available, False
    if sys.platform == "linux":
        for limit, used in _limits(membership, mounted):
            if limit < memory.total:
                total, available = min(total, limit), min(available, max(0, limit - used))
                limited = True
    return MachineMemory(total, available, limited)


def private_bytes(pid: int) -> int | None:
    """What would come back if a process ended: its resident set without what it shares or has mapped from files.

    None when it is gone. Linux counts mapped weights as available memory, so they must not be counted here either.
    """
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(pid).memory_info()
        return int(found.rss - getattr(found, "shared", 0))
    return None


def has_metal() -> bool:
    """True on a Mac with Apple's own processor."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


class MachineProbe:
    """The CPU as a device.

    Args:
        max_ram_bytes: What all models on it may take; None for three quarters.
    """

    def __init__(self, max_ram_bytes: int | None = None) -> None:
        self._most = max_ram_bytes

    def look(self, leases: Sequence[Lease]) -> Device:
        """The machine's memory now; of processes, those of the leases."""
        memory = machine_memory()
        budget = int(memory.total_bytes * _SHARE) if self._most is None else self._most
        workers = {lease.worker_pid for lease in leases if lease.worker_pid is not None}
        seen = {pid: private_bytes(pid) for pid in workers}
        return Device(
            MACHINE,
            "cpu",
            memory.total_bytes,
            min(budget, memory.total_bytes),
            name=f"{platform.machine()}, limited by a container" if memory.limited else platform.machine(),
            used_bytes=memory.total_bytes - memory.available_bytes,
            free_bytes=memory.available_bytes,
            processes={pid: size for pid, size in seen.items() if size is not None},
        )

    def close(self) -> None:  # house: it holds nothing
        """Nothing is held."""


class MetalProbe:
    """Apple's GPU: its memory is the machine's.

    Args:
        max_vram_bytes: What all models on it may take; None for what macOS lets a GPU have.
    """

    def __init__(self, max_vram_bytes: int | None = None) -> None:
        self._most = max_vram_bytes

    def look(self, leases: Sequence[Lease]) -> Device:
        """The GPU's memory now; macOS does not tell how much of it each process has."""
        memory = machine_memory()
        budget = int(memory.total_bytes * _METAL_SHARE)
        return Device(
            "mps",
            "mps",
            memory.total_bytes,
            budget if self._most is None else min(budget, self._most),
            name="Apple GPU",
            used_bytes=memory.total_bytes - memory.available_bytes,
            free_bytes=memory.available_bytes,
            shares_memory=True,
            runs_on="mps",
        )

    def close(self) -> None:  # house: it holds nothing
        """Nothing is held."""


def _limits(membership: Path, mounted: Path) -> Iterator[tuple[int, int]]:
    """`(limit, used)` of every control group around this process that has a limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _walk(mounted, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _walk(
                mounted / "memory",
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )


def _walk(root: Path, path: str, limit: str, usage: str, cached: str) -> Iterator[tuple[int, int]]:
    folder = root / path.lstrip("/")
    while True:
        # Inside a container the path may be one of the host's, of which only the root can be seen.
        with contextlib.suppress(OSError, ValueError):
            text = (folder / limit).read_text().strip()
            if text != "max" and int(text) < _UNLIMITED_BYTES:
                used = int((folder / usage).read_text())
                # Cached file pages are given up before anything is killed.
                yield int(text), used - _counter(folder / "memory.stat", cached)
        if folder == root:
            return
        folder = folder.parent


def _counter(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
