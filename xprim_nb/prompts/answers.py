"""What comes back: an answer, what it took, and what it cost, in one convention whoever answered.

Source: seeds/001 (ExecutionResult); spec 6 §Resolve, §Caches; research/prompts §5 (usage fields).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeAlias

from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.values import ResolveInput

__all__ = ["Answer", "Cost", "Finish", "Generate", "OnText", "Usage"]

Finish: TypeAlias = Literal["stop", "length", "refusal", "tool_calls", "error", "cancelled"]
OnText: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, as OpenTelemetry counts them: `input_tokens` includes what was read or written in a cache.

    Attributes:
        input_tokens: All of the prompt.
        output_tokens: All of the answer, reasoning included.
        cache_read_tokens: Of the input, read from the provider's cache.
        cache_write_5m_tokens: Of the input, written to it, to be kept for minutes.
        cache_write_1h_tokens: Of the input, written to it, to be kept for an hour.
        reported: False when this was counted here and not told by the provider.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reported: bool = True

    @property
    def fresh_tokens(self) -> int:
        """Of the input, neither read nor written: paid at the plain price."""
        cached = self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens
        return max(0, self.input_tokens - cached)


@dataclass(frozen=True, slots=True)
class Cost:
    """Money, in US dollars; an estimate and a bill are never added up.

    Attributes:
        amount: Exact.
        kind: `estimated` before, or from counts of ours; `billed` from what the provider told.
        price_date: When the prices were true, ISO date; empty when none is known.
        source: Where the prices are from.
    """

    amount: Decimal
    kind: Literal["estimated", "billed"]
    price_date: str = ""
    source: str = ""

    def __add__(self, other: Cost) -> Cost:
        """Both, at the older of the two prices' dates; an estimate and a bill have no sum.

        Raises:
            TypeError: They are of two kinds.
        """
        if not isinstance(other, Cost):
            return NotImplemented
        if other.kind != self.kind:
            raise TypeError(f"a cost {self.kind} and a cost {other.kind} have no sum")
        dates = [each.price_date for each in (self, other) if each.price_date]
        sources = dict.fromkeys(each.source for each in (self, other) if each.source)
        return Cost(self.amount + other.amount, self.kind, min(dates, default=""), ", ".join(sources))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        text: What was said.
        finish: How it ended; only `stop` and `tool_calls` are kept in a cache.
        usage: Its tokens.
        model: Who said it, as the provider names it.
        tool_calls: What it wants called: `{"name": …, "arguments": …}` each.
        latency_s: From asking to the last token.
        first_token_s: From asking to the first.
        extra: Whatever else the provider said (an id, a fingerprint), as JSON.
        cut: Of one that ended by `length`: by what, and what to do about it; empty where nobody knows.
    """

    text: str
    finish: Finish = "stop"
    usage: Usage = Usage()
    model: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    latency_s: float = 0.0
    first_token_s: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    cut: str = ""


class Generate(Protocol):
    """Whoever answers: the engine, a provider's SDK, a recording. Handed in; this room knows none of them."""

    def __call__(
        self, asked: ResolveInput, rendered: Rendered, on_text: OnText | None = None, /
    ) -> Awaitable[Answer]:
        """The answer to what was asked, sent as it was rendered."""
        ...
