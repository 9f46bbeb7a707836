"""A stand-in for `libnvidia-ml` below the real `pynvml`: what the driver's documentation says, and no GPU.

No NVIDIA device can be had where these tests run. The real Python face is used, so that structures, error classes and
its own treatment of `NVML_VALUE_NOT_AVAILABLE` are the real ones.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NOT_AVAILABLE", "Driver", "Gpu", "installed"]

NOT_AVAILABLE = 2**64 - 1
_SUCCESS, _UNINITIALIZED, _INVALID, _NOT_SUPPORTED, _INSUFFICIENT_SIZE = 0, 1, 2, 3, 7


@dataclass
class Gpu:
    """One device: its memory, who uses it (`pid -> bytes`), and errors by the name of the call."""

    total: int
    used: int = 0
    name: str = "NVIDIA Example 8GB"
    uuid: str = "GPU-0"
    compute: dict[int, int] = field(default_factory=dict)
    graphics: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    instances: list[Gpu | None] | None = None


@dataclass
class Driver:
    """All devices, and how often the library was asked for and let go of."""

    gpus: list[Gpu]
    errors: dict[str, int] = field(default_factory=dict)
    references: int = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        work = _CALLS.get(name)
        if work is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            if name in self.errors:
                return self.errors[name]
            if self.references == 0 and name != "nvmlInitWithFlags":
                return _UNINITIALIZED
            return work(self, *arguments)

        return call

    def everything(self) -> list[Gpu]:
        """Whole devices first, then the instances of divided ones."""
        return [*self.gpus, *(part for gpu in self.gpus for part in gpu.instances or () if part is not None)]


@contextmanager
def installed(driver: Driver) -> Iterator[Driver]:
    """`pynvml` over this driver, as though it had just been imported."""
    nvml: Any = importlib.import_module("pynvml")
    before, cache = nvml.nvmlLib, dict(nvml._nvmlGetFunctionPointer_cache)
    nvml._nvmlGetFunctionPointer_cache.clear()
    nvml.nvmlLib = driver
    try:
        yield driver
    finally:
        nvml.nvmlLib = before
        nvml._nvmlGetFunctionPointer_cache.clear()
        nvml._nvmlGetFunctionPointer_cache.update(cache)


def _put(reference: Any, value: int) -> None:
    reference._obj.value = value


def _point(reference: Any, number: int) -> None:
    ctypes.memmove(
        ctypes.addressof(reference._obj),
        ctypes.byref(ctypes.c_void_p(number + 1)),
        ctypes.sizeof(ctypes.c_void_p),
    )


def _number(handle: Any) -> int:
    return (ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1


def _on_gpu(work: Callable[..., int]) -> Callable[..., int]:
    """Find the device that a handle means, and answer with its error if it has one for this call."""
    call = work.__name__.removeprefix("_")

    def found(driver: Driver, handle: Any, *arguments: Any) -> int:
        gpu = driver.everything()[_number(handle)]
        return gpu.errors.get(call) or gpu.errors.get("*") or work(driver, gpu, *arguments)

    return found


def _init(driver: Driver, flags: int) -> int:
    driver.references += 1
    return _SUCCESS


def _shutdown(driver: Driver) -> int:
    driver.references -= 1
    return _SUCCESS


def _count(driver: Driver, count: Any) -> int:
    _put(count, len(driver.gpus))
    return _SUCCESS


def _by_index(driver: Driver, index: Any, handle: Any) -> int:
    error = driver.gpus[int(index.value)].errors.get("handle", _SUCCESS)
    if error != _SUCCESS:
        return error
    _point(handle, int(index.value))
    return _SUCCESS


def _version(driver: Driver, buffer: Any, size: Any) -> int:
    buffer.value = b"580.65"
    return _SUCCESS


@_on_gpu
def _name(driver: Driver, gpu: Gpu, buffer: Any, size: Any) -> int:
    buffer.value = gpu.name.encode()
    return _SUCCESS


@_on_gpu
def _uuid(driver: Driver, gpu: Gpu, buffer: Any, size: Any) -> int:
    buffer.value = gpu.uuid.encode()
    return _SUCCESS


@_on_gpu
def _index(driver: Driver, gpu: Gpu, index: Any) -> int:
    _put(index, driver.gpus.index(gpu))
    return _SUCCESS


@_on_gpu
def _memory(driver: Driver, gpu: Gpu, memory: Any) -> int:
    memory._obj.total, memory._obj.used, memory._obj.free = gpu.total, gpu.used, gpu.total - gpu.used
    return _SUCCESS


@_on_gpu
def _mig_mode(driver: Driver, gpu: Gpu, current: Any, pending: Any) -> int:
    if gpu.instances is None:
        return _NOT_SUPPORTED
    _put(current, 1)
    return _SUCCESS


@_on_gpu
def _mig_count(driver: Driver, gpu: Gpu, count: Any) -> int:
    _put(count, len(gpu.instances or ()))
    return _SUCCESS


@_on_gpu
def _mig_handle(driver: Driver, gpu: Gpu, index: Any, handle: Any) -> int:
    part = (gpu.instances or [])[index.value]
    if part is None:
        return 6  # not found
    _point(handle, next(at for at, each in enumerate(driver.everything()) if each is part))
    return _SUCCESS


def _listed(found: dict[int, int], count: Any, array: Any) -> int:
    if not found:
        _put(count, 0)
        return _SUCCESS
    if array is None or count._obj.value < len(found):
        _put(count, len(found))
        return _INSUFFICIENT_SIZE
    for at, (pid, used) in enumerate(found.items()):
        array[at].pid, array[at].usedGpuMemory = pid, used
    _put(count, len(found))
    return _SUCCESS


@_on_gpu
def _compute(driver: Driver, gpu: Gpu, count: Any, array: Any) -> int:
    return _listed(gpu.compute, count, array)


@_on_gpu
def _graphics(driver: Driver, gpu: Gpu, count: Any, array: Any) -> int:
    return _listed(gpu.graphics, count, array)


_CALLS: dict[str, Callable[..., int]] = {
    "nvmlInitWithFlags": _init,
    "nvmlShutdown": _shutdown,
    "nvmlDeviceGetCount_v2": _count,
    "nvmlDeviceGetHandleByIndex_v2": _by_index,
    "nvmlSystemGetDriverVersion": _version,
    "nvmlDeviceGetName": _name,
    "nvmlDeviceGetUUID": _uuid,
    "nvmlDeviceGetIndex": _index,
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetMigMode": _mig_mode,
    "nvmlDeviceGetMaxMigDeviceCount": _mig_count,
    "nvmlDeviceGetMigDeviceHandleByIndex": _mig_handle,
    "nvmlDeviceGetComputeRunningProcesses_v3": _compute,
    "nvmlDeviceGetGraphicsRunningProcesses_v3": _graphics,
}
