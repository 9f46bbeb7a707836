"""The machine's memory, and what a container leaves of it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from xprim_nb.scheduling.leases import KernelId, Lease
from xprim_nb.scheduling.machine import (
    MachineMemory,
    MachineProbe,
    MetalProbe,
    has_metal,
    machine_memory,
    private_bytes,
)

from .rooms import MIB

_linux = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
_KERNEL = KernelId(1, 1.0)


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 1000 bytes, 800 of them available."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: MachineMemory_like(1000, 800))


class MachineMemory_like:  # stands for psutil's tuple
    """What psutil tells, of which two figures are used."""

    def __init__(self, total: int, available: int) -> None:
        self.total, self.available = total, available


def _group(folder: Path, limit: str, used: int, cached: int, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n")


def _look(tmp_path: Path, membership: str) -> MachineMemory:
    (tmp_path / "cgroup").write_text(membership)
    return machine_memory(tmp_path / "cgroup", tmp_path / "sys")


def test_this_machine() -> None:
    """As psutil tells, unless these tests run in a container with less."""
    memory = machine_memory()
    assert 0 < memory.available_bytes <= memory.total_bytes <= psutil.virtual_memory().total


@_linux
@pytest.mark.usefixtures("plenty")
def test_the_tightest_limit_counts(tmp_path: Path) -> None:
    """Version 2: of all groups around this process; cached file pages are not used up."""
    _group(tmp_path / "sys" / "a" / "b", "max", 5, 0)
    _group(tmp_path / "sys" / "a", "600", 300, 100)
    _group(tmp_path / "sys", "700", 650, 0)
    assert _look(tmp_path, "0::/a/b\n") == MachineMemory(600, 50, limited=True)


@_linux
@pytest.mark.usefixtures("plenty")
def test_the_first_version(tmp_path: Path) -> None:
    """The memory controller has a hierarchy of its own, and a number for no limit."""
    _group(tmp_path / "sys" / "memory" / "a", "500", 200, 50, version=1)
    _group(tmp_path / "sys" / "memory", "9223372036854771712", 900, 0, version=1)
    assert _look(tmp_path, "5:cpu:/x\n4:memory:/a\n0::/\n") == MachineMemory(500, 350, limited=True)


@_linux
@pytest.mark.usefixtures("plenty")
@pytest.mark.parametrize("membership", ["0::/a\n", "4:cpuset,memory:/host/path\n0::/\n", ""])
def test_without_a_limit(tmp_path: Path, membership: str) -> None:
    """No files, no group, or a limit above what there is: the machine's own memory."""
    _group(tmp_path / "sys" / "a", "5000", 10, 0)
    assert _look(tmp_path, membership) == MachineMemory(1000, 800)


@_linux
@pytest.mark.usefixtures("plenty")
def test_inside_a_container_the_root_is_what_can_be_seen(tmp_path: Path) -> None:
    """The path is the host's; its files are mounted at the root."""
    _group(tmp_path / "sys", "400", 100, 0)
    assert _look(tmp_path, "0::/docker/123\n") == MachineMemory(400, 300, limited=True)


@pytest.mark.usefixtures("plenty")
def test_no_figures_of_groups(tmp_path: Path) -> None:
    """Where Linux tells nothing, the machine's own memory counts."""
    assert machine_memory(tmp_path / "nothing", tmp_path) == MachineMemory(1000, 800)


def test_the_cpu_as_a_device() -> None:
    """Three quarters are for models, or what the user says, but no more than there is."""
    device = MachineProbe().look(())
    assert (device.id, device.kind, device.runs_on) == ("cpu", "cpu", "cpu")
    assert device.budget_bytes == int(device.total_bytes * 0.75)
    assert device.used_bytes + (device.free_bytes or 0) == device.total_bytes
    assert platform.machine() in device.name
    assert MachineProbe(5 * MIB).look(()).budget_bytes == 5 * MIB
    assert MachineProbe(1 << 60).look(()).budget_bytes == device.total_bytes


def test_workers_are_measured() -> None:
    """What would come back if they ended; one that is gone is not listed."""
    code = "x = bytearray(64 << 20); print(flush=True); input()"
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    worker.stdout.readline()
    lease = Lease("a", "m", "resident", (), _KERNEL, worker_pid=worker.pid)
    seen = MachineProbe().look([lease, lease, Lease("b", "m", "reserved", (), _KERNEL)]).processes
    assert seen is not None
    assert list(seen) == [worker.pid]
    assert 64 * MIB < seen[worker.pid] < 100 * MIB
    worker.communicate(b"\n", timeout=10)
    assert private_bytes(worker.pid) is None
    assert MachineProbe().look([lease]).processes == {}


def test_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds of the machine's memory, which it shares; found by the platform alone."""
    device = MetalProbe().look(())
    assert (device.id, device.kind, device.runs_on, device.shares_memory) == ("mps", "mps", "mps", True)
    assert device.budget_bytes == int(device.total_bytes * 2 / 3)
    assert MetalProbe(MIB).look(()).budget_bytes == MIB
    assert device.processes is None
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert has_metal()
    monkeypatch.setattr(sys, "platform", "linux")
    assert not has_metal()
