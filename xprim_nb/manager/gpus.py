"""What doctors find out about NVIDIA's devices, from their driver itself.

Source: spec 3 §Magics (`doctor`); spec 4 §Faces (`xprim ai doctor`).
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

from xprim_nb._text import format_bytes, format_count
from xprim_nb.manager.probing import Said

__all__ = ["gpus"]


def gpus() -> Said:
    """NVIDIA's, if their library's Python face is there."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return "ok", "no GPU found (NVIDIA's are looked for with `pip install nvidia-ml-py`)", ""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return "ok", f"no GPU found ({error})", ""
    try:
        told = [_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(at)) for at in range(nvml.nvmlDeviceGetCount())]
    finally:
        nvml.nvmlShutdown()
    return "ok", "; ".join(told) or "no GPU found", ""


def _gpu(nvml: Any, device: Any) -> str:  # noqa: ANN401  # a library without types
    name, memory = nvml.nvmlDeviceGetName(device), nvml.nvmlDeviceGetMemoryInfo(device)
    name = name.decode() if isinstance(name, bytes) else name
    told = f"{name}, {format_bytes(memory.free)} of {format_bytes(memory.total)} free"
    try:
        enabled = nvml.nvmlDeviceGetMigMode(device)[0] == 1
    except nvml.NVMLError:  # this kind of device cannot be divided
        return told
    if not enabled:
        return f"{told}, MIG off"
    parts = 0
    for at in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        with contextlib.suppress(nvml.NVMLError):  # no such part
            nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, at)
            parts += 1
    return f"{told}, MIG on: {format_count(parts, 'instance')}"
