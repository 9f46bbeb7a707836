"""What doctors say of NVIDIA's devices."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from xprim_nb.manager.gpus import gpus


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NVIDIA's library, or without its driver, there is no GPU; neither is an error."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpus()[1].startswith("no GPU found")
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(driver=False))
    assert gpus() == ("ok", "no GPU found (no driver)", "")


def test_gpus_are_told_with_mig(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, memory, and whether a GPU is divided."""
    monkeypatch.setitem(sys.modules, "pynvml", _nvml())
    assert gpus()[1] == (
        "Old, 1.0 GB of 2.0 GB free; New, 1.0 GB of 2.0 GB free, MIG off; "
        "Divided, 1.0 GB of 2.0 GB free, MIG on: 2 instances"
    )


def _nvml(*, driver: bool = True) -> ModuleType:
    """A library with three GPUs, as nvidia-ml-py presents them."""
    nvml, names = ModuleType("pynvml"), (b"Old", "New", "Divided")
    error = type("NVMLError", (Exception,), {})

    def init() -> None:
        if not driver:
            raise error("no driver")

    def mode(at: int) -> tuple[int, int]:
        if at == 0:
            raise error("not supported")
        return at - 1, at - 1

    def part(device: int, at: int) -> int:
        if at > 1:
            raise error("not found")
        return at

    for name, value in {
        "NVMLError": error,
        "nvmlInit": init,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 3,
        "nvmlDeviceGetHandleByIndex": lambda at: at,
        "nvmlDeviceGetName": lambda at: names[at],
        "nvmlDeviceGetMemoryInfo": lambda at: SimpleNamespace(free=1 << 30, total=2 << 30),
        "nvmlDeviceGetMigMode": mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda device: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": part,
    }.items():
        setattr(nvml, name, value)
    return nvml
