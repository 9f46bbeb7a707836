"""NVIDIA's devices, asked through NVML: the one module that meets `pynvml`, and where its errors end.

No error of the driver's is fatal: a device that cannot be asked keeps its figures and says what is wrong; one that is
lost has no budget any more.

Source: spec 4 §Residency; NVML API reference (`nvmlMemory_t`, `nvmlProcessInfo_t`, return values); research residency
§1c (WDDM, WSL2: no figures per process).
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xprim_nb.scheduling.hardware import Device
from xprim_nb.scheduling.leases import Lease
from xprim_nb.scheduling.machine import machine_memory

__all__ = ["NvidiaProbe", "find_nvidia"]

_MIB = 1 << 20
# Kept free of models, for the driver, fragments, and what a desktop draws meanwhile; on Windows more, where the driver
# turns want of memory into a crawl instead of an error. Source: ComfyUI `model_management.py` (400 and 600 MB).
_MARGIN_BYTES = 600 * _MIB if sys.platform == "win32" else 400 * _MIB
# The driver is loaded, whether or not its Python face is installed.
_DRIVER = Path("/proc/driver/nvidia/version")
# After these a device computes nothing until the machine, or the device, starts again.
_LOST = ("NVMLError_GpuIsLost", "NVMLError_ResetRequired", "NVMLError_DriverNotLoaded")


class NvidiaProbe:
    """One GPU, or one MIG instance of it.

    Args:
        nvml: The module `pynvml`, initialised.
        handle: Of the device.
        device: What stays the same about it.
        most: What all models on it may take; None for all but the margin.
    """

    def __init__(self, nvml: Any, handle: object, device: Device, most: int | None) -> None:  # noqa: ANN401
        self._nvml, self._handle, self._latest, self._most = nvml, handle, device, most

    def look(self, leases: Sequence[Lease]) -> Device:
        """The device now, as its driver tells."""
        nvml = self._nvml
        try:
            self._latest = self._figures()
        except nvml.NVMLError as error:
            self._latest = replace(self._latest, free_bytes=None, processes=None, trouble=f"NVML: {error}")
            if type(error).__name__ in _LOST:
                self._latest = replace(self._latest, budget_bytes=0)
        return self._latest

    def close(self) -> None:
        """Let NVML go; it counts how often it was asked for."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _figures(self) -> Device:
        nvml, shares = self._nvml, False
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(self._handle)
            total, free, used = int(memory.total), int(memory.free), int(memory.used)
        except nvml.NVMLError_NotSupported:  # GB10, Jetson: it has none of its own
            machine, shares = machine_memory(), True
            total, free = machine.total_bytes, machine.available_bytes
            used = total - free
        budget = max(0, total - _MARGIN_BYTES)
        return replace(
            self._latest,
            total_bytes=total,
            budget_bytes=budget if self._most is None else min(budget, self._most),
            margin_bytes=_MARGIN_BYTES,
            used_bytes=used,
            free_bytes=free,
            processes=self._processes(),
            shares_memory=shares,
            trouble="",
        )

    def _processes(self) -> dict[int, int] | None:
        """Bytes by process; None when the driver does not tell, be it of a single one."""
        nvml = self._nvml
        found: dict[int, int] = {}
        for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            try:
                listed = ask(self._handle)
            except nvml.NVMLError:  # not supported, or not for this user
                return None
            for process in listed:
                if (
                    process.usedGpuMemory is None
                ):  # WDDM: Windows manages the memory, and the driver cannot tell
                    return None
                # A process that computes and draws is in both lists, with the same figure.
                found[process.pid] = max(found.get(process.pid, 0), int(process.usedGpuMemory))
        return found


def find_nvidia(*, most: int | None = None, visible: str | None = None) -> tuple[list[NvidiaProbe], str]:
    """The GPUs that may be used, and, when there is something to know, why there is none.

    Args:
        most: What all models on each may take; None for all but the margin.
        visible: `CUDA_VISIBLE_DEVICES`, as the user has set it: numbers in NVML's order, or beginnings of UUIDs;
            None for all.
    """
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        if _DRIVER.exists():
            return [], 'NVIDIA\'s driver is here; `pip install "xprim-nb[gpu]"` lets models use its GPUs.'
        return [], ""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        # Without a driver there is no library, which is the case on most machines and nothing to tell.
        absent = type(error).__name__ in ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")
        return [], "" if absent and not _DRIVER.exists() else _silent(error)
    try:
        probes = list(_probes(nvml, most, visible))
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        return [], _silent(error)
    for _ in probes:  # each lets go of it on its own
        nvml.nvmlInit()
    nvml.nvmlShutdown()
    return probes, ""


def _probes(nvml: Any, most: int | None, visible: str | None) -> Iterator[NvidiaProbe]:  # noqa: ANN401
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            whole = nvml.nvmlDeviceGetHandleByIndex(index)
            parts = _instances(nvml, whole)
            for name, handle in parts or [(f"cuda:{index}", whole)]:
                uuid = _text(nvml.nvmlDeviceGetUUID(handle))
                if not _is_visible(visible, index, uuid):
                    continue
                device = Device(
                    name,
                    "cuda",
                    0,
                    0,
                    name=_text(nvml.nvmlDeviceGetName(whole)) + (", MIG" if parts else ""),
                    # CUDA counts the fastest first, NVML by bus: a worker is shown one device, by its own name.
                    runs_on="cuda:0",
                    variables={"CUDA_VISIBLE_DEVICES": uuid},
                    uuid=uuid,
                    driver=driver,
                )
                yield NvidiaProbe(nvml, handle, device, most)
        except nvml.NVMLError_GpuIsLost:  # the others work
            continue


def _instances(nvml: Any, whole: object) -> list[tuple[str, object]]:  # noqa: ANN401
    """The MIG instances of a GPU that is divided; it computes nothing as a whole then."""
    try:
        if nvml.nvmlDeviceGetMigMode(whole)[0] != 1:
            return []
        index, most = nvml.nvmlDeviceGetIndex(whole), nvml.nvmlDeviceGetMaxMigDeviceCount(whole)
    except nvml.NVMLError:  # this kind cannot be divided
        return []
    found = []
    for part in range(most):
        with contextlib.suppress(nvml.NVMLError):  # no such part
            found.append((f"cuda:{index}.{part}", nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, part)))
    return found


def _is_visible(visible: str | None, index: int, uuid: str) -> bool:
    if visible is None:
        return True
    return any(
        word == str(index) or (bool(word) and not word.isdecimal() and uuid.startswith(word))
        for word in (word.strip() for word in visible.split(","))
    )


def _silent(error: Exception) -> str:
    return f"NVIDIA's driver does not answer: {str(error).rstrip('.')}."


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
