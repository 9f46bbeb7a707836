"""Whether an analysis keeps to limits that somebody set, for a pipeline that should fail when it does not. Pure.

Source: spec 6 §Faces (`analyze --ci`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TypeAlias

from xprim_nb.prompts.telemetry.analysis import Analysis, Summary

__all__ = ["Breach", "Thresholds", "check"]

_Number: TypeAlias = Decimal | float | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Limits; None for no limit. A share is 0 to 1.

    Attributes:
        max_billed: Most US dollars that providers told of.
        max_estimated: Most US dollars of what nobody billed.
        max_input_tokens: Most tokens sent.
        max_output_tokens: Most tokens answered.
        max_p95_s: Longest that 95 % of the calls may take.
        max_failed: Most calls that may bring no answer.
        max_failed_share: The same, of all calls.
        max_unpriced: Most calls whose price may be unknown.
        min_response_hit_share: Fewest questions that the response cache must answer, of those that asked it.
        min_prefix_read_share: Fewest input tokens that providers must read from their caches.
        min_prediction: Fewest of the predicted tokens that must really be read.
    """

    max_billed: Decimal | None = None
    max_estimated: Decimal | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_p95_s: float | None = None
    max_failed: int | None = None
    max_failed_share: float | None = None
    max_unpriced: int | None = None
    min_response_hit_share: float | None = None
    min_prefix_read_share: float | None = None
    min_prediction: float | None = None


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that was not kept.

    Attributes:
        name: Of the limit, as in `Thresholds`.
        limit: What was wanted.
        found: What was found; None where nothing was measured, which keeps no lower limit.
    """

    name: str
    limit: _Number
    found: _Number | None

    def __str__(self) -> str:
        side = "at most" if self.name.startswith("max_") else "at least"
        found = "nothing was measured" if self.found is None else f"it is {self.found}"
        return f"{self.name.partition('_')[2].replace('_', ' ')} should be {side} {self.limit}; {found}."


def check(analysis: Analysis, thresholds: Thresholds) -> tuple[Breach, ...]:
    """The limits that were not kept, in the order of `Thresholds`; what equals its limit keeps it."""
    breaches = []
    for each in fields(thresholds):
        limit: _Number | None = getattr(thresholds, each.name)
        if limit is None:
            continue
        found = _found(each.name, analysis.total)
        is_kept = (
            found is None or found <= limit
            if each.name.startswith("max_")
            else found is not None and found >= limit
        )
        if not is_kept:
            breaches.append(Breach(each.name, limit, found))
    return tuple(breaches)


def _found(name: str, total: Summary) -> _Number | None:
    """None for a share of nothing: a pipeline in which no call was made has kept no lower limit."""
    match name:
        case "max_p95_s":
            return total.latency.p95_s
        case "min_response_hit_share":
            rate = total.rate("response")
            return rate.share if rate.asked else None
        case "min_prefix_read_share":
            return total.prefix_read_share if total.reported_tokens else None
        case "min_prediction":
            predicted = total.predicted_read_tokens
            return total.reported_read_tokens / predicted if predicted else None
        case _:
            found: _Number = getattr(total, name.removeprefix("max_"))
            return found
