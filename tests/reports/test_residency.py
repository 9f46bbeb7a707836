"""What is awake, as frames: typed columns in a stable order, also when there are no rows."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from xprim_nb.reports import awake_frame, residency_frame, timeline_frame
from xprim_nb.scheduling.values import Charge, DeviceView, EngineSnapshot

from ..fake_engine import AWAKE, MODEL, row

_GB = 1 << 30
_CUDA = DeviceView(
    "cuda:0",
    "NVIDIA H100",
    "cuda",
    total_bytes=80 * _GB,
    budget_bytes=10 * _GB,
    external_bytes=_GB,
    charges=(Charge(MODEL, 4 * _GB, "resident", 4000, is_mine=False), Charge("b", 2 * _GB, "loading", 1)),
)


def test_timeline() -> None:
    """Each change with its time in UTC and its cause; a cause that nobody named is missing, not empty."""
    frame = timeline_frame([row(1_750_000_000.123456, "loading"), row(1_750_000_001.0, "gone", note="")])
    assert list(frame.columns) == [
        "at", "model", "state", "device", "device_bytes", "host_bytes", "note", "reason", "lease_id", "kernel",
        "kernel_pid",
    ]  # fmt: skip
    assert frame["at"][0] == pd.Timestamp("2025-06-15T15:06:40.123456Z")
    assert list(frame["device_bytes"]) == [64 << 20, 0]
    assert (frame["note"][0], frame["note"].isna()[1]) == ("In [12]", True)


def test_residency_adds_up_to_the_budget() -> None:
    """Models, other programs and what is free are rows of a device; together they are its budget."""
    frame = residency_frame(EngineSnapshot(0.0, devices=(_CUDA,)))
    assert list(frame["kind"]) == ["model", "model", "other programs", "free"]
    assert frame["size_bytes"].sum() == _CUDA.budget_bytes
    assert frame["share"].sum() == pytest.approx(1.0)
    assert list(frame["is_mine"]) == [False, True, False, False]
    assert list(frame["kernel_pid"].isna()) == [False, False, True, True]


def test_awake() -> None:
    """A model a row; a model without a process has no worker."""
    frame = awake_frame([AWAKE, replace(AWAKE, key="ollama:x", worker_pid=None, note="")])
    assert list(frame["model"]) == [MODEL, "ollama:x"]
    assert (frame["worker_pid"][0], frame["worker_pid"].isna()[1]) == (4242, True)
    assert (frame["size_bytes"][0], frame["idle_s"][0], frame["pinned"][0]) == (64 << 20, 75.0, False)


def test_nothing_has_the_same_columns() -> None:
    """A frame without rows has the columns and types of one with rows."""
    snapshot = EngineSnapshot(0.0, devices=(_CUDA,))
    for empty, full in (
        (timeline_frame([]), timeline_frame([row(0.0, "loading")])),
        (residency_frame(EngineSnapshot(0.0)), residency_frame(snapshot)),
        (awake_frame([]), awake_frame([AWAKE])),
    ):
        assert list(empty.dtypes.items()) == list(full.dtypes.items())
