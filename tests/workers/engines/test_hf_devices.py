"""What torch is told of limits, and what it tells of use. Accelerators are played: none can be had in every run."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from xprim_nb.workers.engines.hf_devices import (
    CONTEXT_BYTES,
    limit_device,
    place,
    release_unused,
    used_bytes,
)

_GB = 1 << 30


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What a CUDA device of 8 GB is limited to, each time."""
    told: list[tuple[float, str]] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5 * _GB, 8 * _GB))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: told.append((share, device))
    )
    return told


def test_the_limit_includes_the_context(shares: list[tuple[float, str]]) -> None:
    """Torch may allocate what the process may have, less what its context takes, and never more than all."""
    for limit_bytes in (4 * _GB + CONTEXT_BYTES, CONTEXT_BYTES // 2, 99 * _GB):
        limit_device("cuda:1", limit_bytes)
    assert shares == [(0.5, "cuda:1"), (0.0, "cuda:1"), (1.0, "cuda:1")]


def test_without_a_limit_nothing_is_told(shares: list[tuple[float, str]]) -> None:
    """No limit is no limit; the CPU has none of torch's."""
    limit_device("cuda:0", None)
    limit_device("cpu", 1)
    assert shares == []


def test_a_limit_on_mps_is_a_share_of_what_is_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPS counts in shares of what the system recommends."""
    told: list[float] = []
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 * _GB)
    monkeypatch.setattr(torch.mps, "set_per_process_memory_fraction", told.append)
    limit_device("mps", 5 * _GB)
    assert told == [0.5]


def test_use_is_what_torch_keeps_and_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's is the reserved memory with the context, MPS's the driver's, and the CPU has none."""
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1000 if device == "cuda:1" else 0)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 77)
    assert used_bytes("cuda:1") == 1000 + CONTEXT_BYTES
    assert used_bytes("mps") == 77
    assert used_bytes("cpu") is None
    release_unused("cpu")


def test_a_device_by_number_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two CUDA devices there is no third."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert place("cuda:1") == place("cuda") == "cuda"
    with pytest.raises(ValueError, match="sees 2 CUDA devices"):
        place("cuda:2")
    assert place("cpu") == "cpu"
