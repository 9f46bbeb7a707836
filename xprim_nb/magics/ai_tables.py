"""Lists about models that run: tables that also have a frame, and a timeline that has a chart.

Source: spec 4 §Faces; spec 3 §Magics.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from xprim_nb._text import format_bytes, format_count, format_span
from xprim_nb.magics.tables import Rows

if TYPE_CHECKING:
    import pandas as pd

    from xprim_nb.reports import TimelineChart
    from xprim_nb.scheduling.leases import TimelineRow
    from xprim_nb.scheduling.values import ModelView

__all__ = ["AwakeRows", "TimelineRows", "awake", "timeline"]

# A table shows the latest; the value has all of them.
_MOST_ROWS = 30
_AWAKE = ("model", "state", "device", "size", "context", "idle", "pinned", "worker", "kernel", "for")
_TIMELINE = ("when (UTC)", "model", "state", "device", "size", "for", "kernel", "why")


class AwakeRows(Rows["ModelView"]):
    """Models that are awake, of all kernels."""

    @property
    def frame(self) -> pd.DataFrame:
        """See `xprim_nb.reports.awake_frame`."""
        # With pandas, and so not before somebody looks at it.
        made: pd.DataFrame = importlib.import_module("xprim_nb.reports").awake_frame(self)
        return made


class TimelineRows(Rows["TimelineRow"]):
    """What happened to models on this machine, oldest first."""

    @property
    def frame(self) -> pd.DataFrame:
        """See `xprim_nb.reports.timeline_frame`."""
        made: pd.DataFrame = importlib.import_module("xprim_nb.reports").timeline_frame(self)
        return made

    @property
    def chart(self) -> TimelineChart:
        """When which model was awake, until now."""
        reports = importlib.import_module("xprim_nb.reports")
        made: TimelineChart = reports.TimelineChart(
            "Models on this machine", reports.spans_of(self, time.time())
        )
        return made


def awake(found: Iterable[ModelView]) -> AwakeRows:
    """Models that are awake as a table."""
    views = list(found)
    note = "" if views else "No model is awake; `%xprim load REF` or `%%generate` wakes one."
    return AwakeRows.of(views, _AWAKE, map(_awake_cells, views), note)


def _awake_cells(view: ModelView) -> tuple[str, ...]:
    is_idle = not view.in_flight and bool(view.idle_s)
    busy = f"{format_count(view.in_flight, 'answer')} now" if view.in_flight else ""
    return (
        view.key,
        view.status,
        view.device,
        format_bytes(view.size_bytes) if view.size_bytes else "",
        f"{view.context_tokens:,}" if view.context_tokens else "",
        format_span(view.idle_s) if is_idle else busy,
        "pinned" if view.pinned else "",
        str(view.worker_pid or ""),
        "this one" if view.is_mine else str(view.kernel_pid or ""),
        view.note,
    )


def timeline(found: Iterable[TimelineRow]) -> TimelineRows:
    """What happened as a table of the latest changes."""
    rows = list(found)
    hidden = len(rows) - _MOST_ROWS
    note = "" if rows else "Nothing has happened yet on this machine."
    if hidden > 0:
        note = f"{format_count(hidden, 'earlier change')} not shown; `.frame` has all of them, `.chart` draws them."
    return TimelineRows.of(rows, _TIMELINE, map(_timeline_cells, rows[-_MOST_ROWS:]), note)


def _timeline_cells(row: TimelineRow) -> tuple[str, ...]:
    when = datetime.fromtimestamp(row.at, UTC)
    size = format_bytes(row.device_bytes)
    pid = str(row.kernel_pid)
    return f"{when:%m-%d %H:%M:%S}", row.model, row.state, row.device, size, row.note, pid, row.reason
