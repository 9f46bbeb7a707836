"""The health of a cache on one page: a sentence that says what to do, a table, a frame, a chart.

Source: spec 2 §Reports (`HealthReport`); seeds/000 §Daily Maintenance Routine ("generate health summary").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape

import pandas as pd

from xprim_nb._text import STATUS_WORDS, clean, format_bytes
from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.cache.values import InstalledModel
from xprim_nb.refs import ModelRef
from xprim_nb.reports.charts import STATUS_COLOURS, BarChart, bars_of
from xprim_nb.reports.columns import BYTES, COUNT, SHARE, TEXT, TIME, typed_frame

__all__ = ["HealthReport", "health_frame"]

_ORDER = ("failed", "degraded", "unchecked", "healthy")
_WORDS = {**STATUS_WORDS, "unchecked": "not checked yet"}
# How many models a sentence names before it counts.
_NAMED = 3


def health_frame(
    reports: Iterable[ValidationReport], sizes: Mapping[ModelRef, int] | None = None
) -> pd.DataFrame:
    """What was found when each model was last looked at.

    Columns: `ref, status` string · `size_bytes` int64 (0 where not given) · `corrupted, missing, modified, extra`
    int64 (files) · `bytes_wrong` int64 · `freshness` string · `age_days` float64 · `depth` string · `checked_at` UTC ·
    `action, priority, verdict` string.

    Args:
        reports: One a model.
        sizes: Size of each model, in bytes.
    """
    columns = {
        "ref": TEXT,
        "status": TEXT,
        "size_bytes": BYTES,
        "corrupted": COUNT,
        "missing": COUNT,
        "modified": COUNT,
        "extra": COUNT,
        "bytes_wrong": BYTES,
        "freshness": TEXT,
        "age_days": SHARE,
        "depth": TEXT,
        "checked_at": TIME,
        "action": TEXT,
        "priority": TEXT,
        "verdict": TEXT,
    }
    known = {str(ref): size for ref, size in (sizes or {}).items()}
    return typed_frame(
        columns,
        (
            (
                each.model_id,
                each.overall_status,
                known.get(each.model_id, 0),
                len(each.checks.file_integrity.corrupted_files),
                len(each.checks.file_integrity.missing_files),
                len(each.modified_files),
                len(each.extra_files),
                sum(finding.bytes_wrong for finding in each.damaged),
                each.checks.freshness.status,
                each.checks.freshness.age_days,
                each.depth,
                each.validation_timestamp,
                each.recommendations.action,
                each.recommendations.priority,
                each.verdict,
            )
            for each in reports
        ),
    )


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The latest verdict on each installed model.

    Attributes:
        reports: The verdicts, one a model.
        models: What is installed; a model without a verdict is listed as not checked yet.
        command: How a repair is asked for here, with `{ref}` for the model.
    """

    reports: tuple[ValidationReport, ...]
    models: tuple[InstalledModel, ...] = ()
    command: str = "xprim cache repair {ref}"
    _by_status: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked = {each.model_id for each in self.reports}
        for each in self.reports:
            self._by_status.setdefault(each.overall_status, []).append(each.model_id)
        unchecked = [str(each.ref) for each in self.models if str(each.ref) not in checked]
        if unchecked:
            self._by_status["unchecked"] = unchecked

    @property
    def is_healthy(self) -> bool:
        """True when nothing is known to be wrong."""
        return not (self._by_status.keys() & {"failed", "degraded"})

    @property
    def verdict(self) -> str:
        """One sentence; it names the command to run when something is damaged."""
        total = sum(map(len, self._by_status.values()))
        if not total:
            return "Nothing is installed."
        failed = self._by_status.get("failed", [])
        if failed:
            are = "is" if len(failed) == 1 else "are"
            first = self.command.format(ref=failed[0])
            told = f"{len(failed)} of {total} models {are} damaged ({_names(failed)})"
            return f"{told if total > 1 else f'{failed[0]} is damaged'}: run `{first}`."
        degraded = self._by_status.get("degraded", [])
        if degraded:
            are = "is" if len(degraded) == 1 else "are"
            report = next(each for each in self.reports if each.model_id == degraded[0])
            told = f"{len(degraded)} of {total} models {are} degraded ({_names(degraded)})"
            told = told if total > 1 else f"{degraded[0]} is degraded"
            return f"{told}. {self._worded(report.recommendations.details)}"
        unchecked = self._by_status.get("unchecked", [])
        if unchecked:
            were = "was" if len(unchecked) == 1 else "were"
            told = f"{len(unchecked)} of {total} models {were}" if total > 1 else f"{unchecked[0]} was"
            return f"No damage is known; {told} never checked."
        return f"All {total} models are healthy." if total > 1 else "The model is healthy."

    @property
    def frame(self) -> pd.DataFrame:
        """See `health_frame`; models without a verdict are not in it."""
        return health_frame(self.reports, self._sizes())

    @property
    def chart(self) -> BarChart:
        """The size of each model, coloured and named by its status."""
        sizes = {str(ref): size for ref, size in self._sizes().items()}
        rows = [
            (name, sizes.get(name, 0), _WORDS[status])
            for status in _ORDER
            for name in self._by_status.get(status, ())
        ]
        return BarChart("Installed models by health", bars_of(rows))

    def __repr__(self) -> str:
        rows = [self._row(name, status) for status in _ORDER for name in self._by_status.get(status, ())]
        width = max((len(row[0]) for row in rows), default=0) + 2
        room = "\n" + " " * (width + 17 + 9 + 2)
        lines = [
            f"{name:<{width}}{words:<17}{size:>9}  {told}".rstrip().replace("\n", room)
            for name, words, size, told in rows
        ]
        return "\n".join([self.verdict, *lines])

    def _repr_html_(self) -> str:
        cell = "text-align:left;vertical-align:top;white-space:pre-wrap"
        rows = []
        for status in _ORDER:
            for name in self._by_status.get(status, ()):
                ref, words, size, told = map(escape, self._row(name, status))
                dot = f'<span aria-hidden="true" style="color:{STATUS_COLOURS[_WORDS[status]]}">●</span> '
                rows.append(
                    f'<tr><th scope="row" style="{cell}">{ref}</th><td style="{cell}">{dot}{words}</td>'
                    f'<td style="text-align:right">{size}</td><td style="{cell}">{told}</td></tr>'
                )
        head = "".join(
            f'<th scope="col" style="text-align:left">{name}</th>'
            for name in ("model", "health", "size", "found")
        )
        table = f'<table class="xprim-health"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        return f"<p><strong>{escape(self.verdict)}</strong></p>{table if rows else ''}"

    def _row(self, name: str, status: str) -> tuple[str, str, str, str]:
        report = next((each for each in self.reports if each.model_id == name), None)
        size = next((each.total_size for each in self.models if str(each.ref) == name), None)
        told = ""
        if report is not None:
            told = "\n".join(map(str, report.findings)) or self._worded(report.recommendations.details)
        # The name of a file that somebody added here may hold anything.
        return name, _WORDS[status], "" if size is None else format_bytes(size), clean(told)

    def _worded(self, details: str) -> str:
        """A recommendation, with commands as they are asked for here."""
        here = self.command.partition("repair")[0]
        told = details.replace("`xprim cache ", f"`{here}")
        return told.replace("`xprim models ", f"`{here}") if here.startswith("%") else told

    def _sizes(self) -> dict[ModelRef, int]:
        return {each.ref: each.total_size for each in self.models}


def _names(refs: list[str]) -> str:
    more = len(refs) - _NAMED
    return ", ".join(refs[:_NAMED]) + (f" and {more} more" if more > 0 else "")
