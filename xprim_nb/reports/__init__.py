"""DataFrames, charts and the health report: core values come in, what a notebook shows and computes with goes out.

Nothing here asks a disk or a network; pandas is loaded when this room is.

Source: spec 2 §Reports; spec 4 §Faces (timeline); spec 6 §Faces (cache bar, branch tree).
"""

from xprim_nb.reports.branch_tree import BranchNode, BranchTree
from xprim_nb.reports.cache_bar import BarPart, CacheBar
from xprim_nb.reports.charts import Bar, BarChart
from xprim_nb.reports.frames import chunk_frame, installed_frame, plan_frame, remote_frame, usage_frame
from xprim_nb.reports.gantt import Span, TimelineChart, spans_of
from xprim_nb.reports.health import HealthReport, health_frame
from xprim_nb.reports.prompts import calls_frame, records_frame, summary_frame
from xprim_nb.reports.residency import awake_frame, residency_frame, timeline_frame
from xprim_nb.reports.tokens import TokenBar, TokenChart, token_bars
from xprim_nb.reports.trend import TrendChart, TrendDay

__all__ = [
    "Bar",
    "BarChart",
    "BarPart",
    "BranchNode",
    "BranchTree",
    "CacheBar",
    "HealthReport",
    "Span",
    "TimelineChart",
    "TokenBar",
    "TokenChart",
    "TrendChart",
    "TrendDay",
    "awake_frame",
    "calls_frame",
    "chunk_frame",
    "health_frame",
    "installed_frame",
    "plan_frame",
    "records_frame",
    "remote_frame",
    "residency_frame",
    "spans_of",
    "summary_frame",
    "timeline_frame",
    "token_bars",
    "usage_frame",
]
