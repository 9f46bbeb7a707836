"""DataFrames, charts and the health report: core values come in, what a notebook shows and computes with goes out.

Nothing here asks a disk or a network; pandas is loaded when this room is.

Source: spec 2 §Reports; spec 4 §Faces (timeline).
"""

from xprim_nb.reports.charts import Bar, BarChart
from xprim_nb.reports.frames import chunk_frame, installed_frame, plan_frame, remote_frame, usage_frame
from xprim_nb.reports.gantt import Span, TimelineChart, spans_of
from xprim_nb.reports.health import HealthReport, health_frame
from xprim_nb.reports.residency import awake_frame, residency_frame, timeline_frame

__all__ = [
    "Bar",
    "BarChart",
    "HealthReport",
    "Span",
    "TimelineChart",
    "awake_frame",
    "chunk_frame",
    "health_frame",
    "installed_frame",
    "plan_frame",
    "remote_frame",
    "residency_frame",
    "spans_of",
    "timeline_frame",
    "usage_frame",
]
