"""Where a model computes: what torch has here, how much of it may be used, how much is.

Source: spec 4 §Residency; research/residency §4.9 (7: "enforcement, not only accounting").
"""

from __future__ import annotations

import torch

__all__ = ["CONTEXT_BYTES", "limit_device", "place", "release_unused", "used_bytes"]

CONTEXT_BYTES = 457 << 20
"""What a process's CUDA context takes beside what torch allocates: Ollama's figure for one device; kernels that are
loaded later add to it."""


def place(device: str) -> str:
    """The kind of the device, once it is sure that torch has it.

    Raises:
        ValueError: It has not, or does not know such a device.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"torch knows no device {device!r:.60}.") from error
    here = f"torch {torch.__version__} in this worker sees"
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise ValueError(f"{device} was asked for, and {here} {count} CUDA devices.")
    elif found.type == "mps":
        if not torch.backends.mps.is_available():
            raise ValueError(f"mps was asked for, and {here} none.")
    elif found.type != "cpu":
        raise ValueError(f"{device} was asked for; this engine computes on cpu, cuda:N or mps.")
    return str(found.type)


def limit_device(device: str, limit_bytes: int | None) -> None:
    """Let torch allocate no more than this; going beyond raises torch.OutOfMemoryError.

    Args:
        device: Where.
        limit_bytes: Of the process as a whole, its context included; None for no limit. The CPU has none of torch's.
    """
    kind = torch.device(device).type
    if limit_bytes is None or kind == "cpu":
        return
    if kind == "mps":
        torch.mps.set_per_process_memory_fraction(min(1.0, limit_bytes / torch.mps.recommended_max_memory()))
        return
    _, total_bytes = torch.cuda.mem_get_info(device)
    share = max(0, limit_bytes - CONTEXT_BYTES) / total_bytes
    torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)


def used_bytes(device: str) -> int | None:
    """What this process takes of its accelerator, from any thread; None on the CPU."""
    kind = torch.device(device).type
    if kind == "cuda":
        return int(torch.cuda.memory_reserved(device)) + CONTEXT_BYTES
    return int(torch.mps.driver_allocated_memory()) if kind == "mps" else None


def release_unused(device: str) -> None:
    """Give back what torch keeps for its next allocation."""
    kind = torch.device(device).type
    if kind == "cuda":
        with torch.cuda.device(device):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
