"""What is awake, and what happened to models, as DataFrames. Each docstring lists the columns, in order.

Source: spec 4 §Faces ("a timeline DataFrame with the cell that caused each load").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from xprim_nb.reports.columns import BYTES, COUNT, FLAG, MAYBE_BYTES, SHARE, TEXT, TIME, typed_frame

if TYPE_CHECKING:
    from xprim_nb.scheduling.leases import TimelineRow
    from xprim_nb.scheduling.values import EngineSnapshot, ModelView

__all__ = ["awake_frame", "residency_frame", "timeline_frame"]


def timeline_frame(rows: Iterable[TimelineRow]) -> pd.DataFrame:
    """Changes of what is held on this machine, one a row, in the order given.

    Columns: `at` UTC · `model, state, device` string · `device_bytes, host_bytes` int64 (charged from then on) ·
    `note` string (the cell or command that caused the load; NA where nobody said) · `reason, lease_id, kernel` string ·
    `kernel_pid` int64.
    """
    columns = {
        "at": TIME,
        "model": TEXT,
        "state": TEXT,
        "device": TEXT,
        "device_bytes": BYTES,
        "host_bytes": BYTES,
        "note": TEXT,
        "reason": TEXT,
        "lease_id": TEXT,
        "kernel": TEXT,
        "kernel_pid": COUNT,
    }
    return typed_frame(
        columns,
        (
            (
                _moment(each.at),
                each.model,
                each.state,
                each.device,
                each.device_bytes,
                each.host_bytes,
                each.note or None,
                each.reason,
                each.lease_id,
                each.kernel,
                each.kernel_pid,
            )
            for each in rows
        ),
    )


def residency_frame(snapshot: EngineSnapshot) -> pd.DataFrame:
    """Who takes what of each device; the rows of a device add up to its budget, unless more is taken than there is.

    Columns: `device, kind` string (`model`, `other programs`, `free`) · `model, state` string (NA but for models) ·
    `size_bytes` int64 · `share` float64 (of the device's budget, 0 to 1) · `kernel_pid` Int64 · `is_mine` bool.
    """
    columns = {
        "device": TEXT,
        "kind": TEXT,
        "model": TEXT,
        "state": TEXT,
        "size_bytes": BYTES,
        "share": SHARE,
        "kernel_pid": MAYBE_BYTES,
        "is_mine": FLAG,
    }
    rows: list[tuple[object, ...]] = []
    for device in snapshot.devices:
        budget = device.budget_bytes or 1
        for each in device.charges:
            share = each.size_bytes / budget
            taken = (each.size_bytes, share, each.kernel_pid, each.is_mine)
            rows.append((device.id, "model", each.model, each.state, *taken))
        for kind, size in (("other programs", device.external_bytes), ("free", device.available_bytes)):
            rows.append((device.id, kind, None, None, size, size / budget, None, False))
    return typed_frame(columns, rows)


def awake_frame(views: Iterable[ModelView]) -> pd.DataFrame:
    """Models, one a row.

    Columns: `model, backend, status, device, source` string · `size_bytes, context_tokens, in_flight, waiting, served`
    int64 · `pinned` bool · `idle_s, load_s` float64 (seconds) · `worker_pid` Int64 · `kernel_pid` int64 · `is_mine` bool ·
    `note` string (what caused its load; NA where nobody said).
    """
    columns = {
        "model": TEXT,
        "backend": TEXT,
        "status": TEXT,
        "device": TEXT,
        "source": TEXT,
        "size_bytes": BYTES,
        "context_tokens": COUNT,
        "in_flight": COUNT,
        "waiting": COUNT,
        "served": COUNT,
        "pinned": FLAG,
        "idle_s": SHARE,
        "load_s": SHARE,
        "worker_pid": MAYBE_BYTES,
        "kernel_pid": COUNT,
        "is_mine": FLAG,
        "note": TEXT,
    }
    return typed_frame(
        columns,
        (
            (
                each.key,
                each.backend,
                each.status,
                each.device,
                each.source,
                each.size_bytes,
                each.context_tokens,
                each.in_flight,
                each.waiting,
                each.served,
                each.pinned,
                each.idle_s,
                each.load_s,
                each.worker_pid,
                each.kernel_pid,
                each.is_mine,
                each.note or None,
            )
            for each in views
        ),
    )


def _moment(seconds: float) -> pd.Timestamp:
    # As nanoseconds: a float of seconds since the epoch, converted as one, is rounded to quarters of a microsecond.
    return pd.Timestamp(round(seconds * 1e6) * 1000, unit="ns", tz="UTC")
