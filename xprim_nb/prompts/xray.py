"""What the cache X-ray shows: each segment's fate, where the prefix breaks, and what would mend it. Values alone.

Source: spec 6 §Caches (`explain`); research/prompts §9 (1: the X-ray).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from xprim_nb._text import format_count
from xprim_nb.prompts.answers import Cost
from xprim_nb.prompts.differences import Difference
from xprim_nb.prompts.prefix import Prediction, Share
from xprim_nb.prompts.tokens import TokenCount

__all__ = ["Advice", "Break", "Cause", "Explanation", "SegmentState", "State"]

State: TypeAlias = Literal["cached", "written", "breaks", "fresh"]
Cause: TypeAlias = Literal[
    "nothing", "first call", "model", "renderer", "cache key", "content", "expired", "minimum", "breakpoint"
]

_MARKS: Final = {"cached": "■", "written": "▣", "breaks": "✗", "fresh": "□"}
_SAYS: Final = {"cached": "cached", "written": "will be written", "breaks": "breaks here", "fresh": "fresh"}


@dataclass(frozen=True, slots=True)
class SegmentState:
    """One segment in the X-ray.

    Attributes:
        index: Its place.
        kind: What it is.
        label: What people call it.
        state: What will happen to most of it; `breaks` where the first difference lies.
        share: Its tokens, by what happens to them.
        amount: What it costs, in US dollars; None where nobody knows the price.
    """

    index: int
    kind: str
    label: str
    state: State
    share: Share
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class Break:
    """Where and why a prefix ends.

    Attributes:
        cause: `content`: a segment says something else. Otherwise what keeps an equal prefix from being found;
            `nothing` where all that could be read is read.
        message: One sentence.
        segment: Index of the segment; None where none is at fault.
        difference: Of a `content` break, the first byte that differs and its surroundings.
        offset: Bytes of the prompt before it, segments in one piece.
    """

    cause: Cause
    message: str
    segment: int | None = None
    difference: Difference | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to change.

    Attributes:
        message: One sentence: what to move or mend, and where.
        saved_tokens: So many would then be read and not paid for anew.
        saved: The same in US dollars; None where nobody knows the price.
    """

    message: str
    saved_tokens: int
    saved: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The X-ray of a call.

    Attributes:
        provider: Whom it is for.
        model: As the provider calls it.
        segments: In the order in which the cache sees them.
        prediction: The same in sums.
        count: Tokens of the prompt, with how they were counted.
        broken: Where and why the prefix ends.
        advice: What would mend it; empty where nothing would.
        cost: Of the prompt, estimated; None where nobody knows the price.
        uncached: What it would cost if there were no cache.
        unpriced: Why there is no cost.
        rule_checked: When the provider's rule was last compared with its page.
        answer_kept: Whether the answer itself is kept here, so that nothing would be sent; None where nobody looked.
        answer_missed: Why it is not, in a sentence; empty when it is.
    """

    provider: str
    model: str
    segments: tuple[SegmentState, ...]
    prediction: Prediction
    count: TokenCount
    broken: Break
    advice: tuple[Advice, ...] = ()
    cost: Cost | None = None
    uncached: Cost | None = None
    unpriced: str = ""
    rule_checked: str = ""
    answer_kept: bool | None = None
    answer_missed: str = ""

    def text(self) -> str:
        """As a terminal shows it."""
        sums = self.prediction
        written = sums.write_5m_tokens + sums.write_1h_tokens
        head = f"{self.provider} {self.model}: {self.count} tokens, {sums.read_tokens:,} cached, "
        head += f"{written:,} will be written, {sums.fresh_tokens:,} fresh"
        lines = [head, *(_line(each) for each in self.segments)]
        if self.answer_kept is not None:
            lines.insert(
                0, "The answer is kept: nothing would be sent." if self.answer_kept else self.answer_missed
            )
        lines.append(self.broken.message)
        if self.broken.difference is not None:
            lines += [f"  before: {self.broken.difference.before}", f"  now:    {self.broken.difference.now}"]
        lines += [f"→ {each.message} {_saving(each)}" for each in self.advice]
        if self.cost is not None and self.uncached is not None:
            lines.append(
                f"Estimated ${_money(self.cost.amount)}, ${_money(self.uncached.amount)} without a cache; prices of "
                f"{self.cost.price_date or 'unknown date'}."
            )
        elif self.unpriced:
            lines.append(self.unpriced)
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """As JSON; money as text, so that no digit is lost."""
        sums, broken = self.prediction, self.broken
        return {
            "provider": self.provider,
            "model": self.model,
            "tokens": {
                "count": self.count.count,
                "method": self.count.method,
                "error": self.count.error,
                "read": sums.read_tokens,
                "write_5m": sums.write_5m_tokens,
                "write_1h": sums.write_1h_tokens,
                "fresh": sums.fresh_tokens,
                "expired": sums.expired_tokens,
            },
            "segments": [
                {
                    "index": each.index,
                    "kind": each.kind,
                    "label": each.label,
                    "state": each.state,
                    "read": each.share.read,
                    "written": each.share.written,
                    "fresh": each.share.fresh,
                    "amount": _text(each.amount),
                }
                for each in self.segments
            ],
            "break": {
                "cause": broken.cause,
                "message": broken.message,
                "segment": broken.segment,
                "offset": broken.offset,
                "difference": None
                if broken.difference is None
                else {name: getattr(broken.difference, name) for name in Difference.__slots__},
            },
            "advice": [
                {"message": each.message, "saved_tokens": each.saved_tokens, "saved": _text(each.saved)}
                for each in self.advice
            ],
            "cost": None
            if self.cost is None or self.uncached is None
            else {
                "estimated": str(self.cost.amount),
                "uncached": str(self.uncached.amount),
                "price_date": self.cost.price_date,
                "source": self.cost.source,
            },
            "unpriced": self.unpriced,
            "rule_checked": self.rule_checked,
            "answer_kept": self.answer_kept,
            "answer_missed": self.answer_missed,
        }


def _line(segment: SegmentState) -> str:
    money = "" if segment.amount is None else f"  ${_money(segment.amount)}"
    return (
        f"  {_MARKS[segment.state]} {segment.label:<20.20} {segment.share.tokens:>9,}  {_SAYS[segment.state]:<15}{money}"
    ).rstrip()


def _saving(advice: Advice) -> str:
    money = "" if advice.saved is None else f", ${_money(advice.saved)}"
    return f"({format_count(advice.saved_tokens, 'token')}{money})"


def _money(amount: Decimal) -> str:
    return f"{amount:.6f}".rstrip("0").rstrip(".") or "0"


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)
