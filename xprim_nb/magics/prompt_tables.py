"""Lists about prompts that show as tables: several answers to one request, and what a linter found.

Source: spec 6 §Faces.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING

from xprim_nb._text import format_count, format_dollars
from xprim_nb.magics.prompt_faces import took
from xprim_nb.magics.tables import Rows

if TYPE_CHECKING:
    import pandas as pd

    from xprim_nb.prompts.asked import Asked
    from xprim_nb.prompts.mending import Mending
    from xprim_nb.prompts.telemetry import Advice, Analysis, By, Summary
    from xprim_nb.prompts.volatility import Finding
    from xprim_nb.reports import TrendChart

__all__ = ["CallRows", "LintRows", "calls", "findings", "samples", "trend"]

# Enough to tell answers apart; each whole text is in its value.
_TEXT_CHARS = 72
_DIFF = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:30em;overflow:auto"


class CallRows(Rows["Summary"]):
    """What calls came to, with a frame and a chart of the same.

    Attributes:
        advice: What another order of blocks would have saved, the most first.
        analysis: All that was looked at, in sum and in parts; of a checkpoint with what led to it, step by step.
    """

    advice: tuple[Advice, ...] = ()
    analysis: Analysis

    @property
    def frame(self) -> pd.DataFrame:
        """See `summary_frame`."""
        found: pd.DataFrame = importlib.import_module("xprim_nb.reports").summary_frame(self)
        return found

    @property
    def chart(self) -> TrendChart:
        """See `trend`."""
        return trend(self.analysis)


def trend(analysis: Analysis) -> TrendChart:
    """Money and each cache's share by day."""
    # Loaded with the first chart: the room of reports brings pandas along.
    found: TrendChart = importlib.import_module("xprim_nb.reports.trend").TrendChart.of(analysis)
    return found


def calls(analysis: Analysis, by: By, advice: Sequence[Advice]) -> CallRows:
    """What calls came to, each cache with figures of its own; and what another order of blocks would have saved.

    Args:
        analysis: All of it.
        by: What is put together.
        advice: Told below the table, and what led to a checkpoint before it.
    """
    found = analysis.parts(by)
    cells = [
        (
            each.key or "(none)",
            f"{each.calls:,}",
            f"{each.failed:,}",
            f"{each.hits:,}",
            f"{each.input_tokens:,}",
            f"{each.output_tokens:,}",
            f"{each.prefix_read_share:.0%}",
            _paid(each),
            took(each.latency.p50_s),
        )
        for each in found
    ]
    note = "\n".join([*analysis.step_lines(), *map(str, advice)]) if found else "Nothing was asked yet."
    headers = (
        "",
        "calls",
        "failed",
        "answered before",
        "tokens in",
        "out",
        "read from cache",
        "cost",
        "median",
    )
    rows = CallRows.of(found, headers, cells, note)
    rows.advice, rows.analysis = tuple(advice), analysis
    return rows


def _paid(summary: Summary) -> str:
    """An estimate and a bill are never added up."""
    told = ((summary.billed, "billed"), (summary.estimated, "estimated"))
    return ", ".join(f"{format_dollars(amount)} {kind}" for amount, kind in told if amount != Decimal(0))


def samples(answers: Sequence[Asked]) -> Rows[Asked]:
    """Several answers to one request, by the place that each has in the cache."""
    cells = [
        (
            str(each.asked.sample_index),
            {"cache": "cache", "generated": "generated", "joined": "in flight"}[each.source],
            f"{each.answer.usage.output_tokens:,}",
            took(each.total_s),
            "" if each.cost is None else format_dollars(each.cost.amount),
            _beginning(each.answer.text),
        )
        for each in answers
    ]
    kept = sum(each.hit for each in answers)
    note = f"{format_count(kept, 'answer')} from the cache, {len(answers) - kept:,} asked for."
    return Rows.of(answers, ("sample", "from", "tokens", "took", "cost", "text"), cells, note)


class LintRows(Rows["Finding"]):
    """What a linter found, and below the table what would be changed to mend it.

    Attributes:
        mending: The prompt as it is and as it would be.
    """

    mending: Mending

    def __repr__(self) -> str:
        return "\n\n".join(filter(None, [super().__repr__(), self.mending.diff]))

    def _repr_html_(self) -> str:
        diff = self.mending.diff
        shown = f'<pre class="xprim-diff mathjax_ignore tex2jax_ignore" style="{_DIFF}">{escape(diff)}</pre>'
        return super()._repr_html_() + (shown if diff else "")


def findings(mending: Mending) -> LintRows:
    """What a linter found, with what to do about it."""
    found: tuple[Finding, ...] = mending.findings
    cells = [(f"{each.label}:{each.line}:{each.column}", each.rule, each.excerpt, each.fix) for each in found]
    note = "" if found else "Nothing in what should be kept changes from call to call, as far as can be seen."
    rows = LintRows.of(found, ("where", "what", "text", "what to do"), cells, note)
    rows.mending = mending
    return rows


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_CHARS else f"{line[: _TEXT_CHARS - 1]}…"
