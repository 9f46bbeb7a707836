"""What the recorded operations came to: tokens, money, waiting, and each cache's hits on their own. Pure.

A bill and an estimate are never added up; of the three caches none is added to another.

Source: spec 6 §Telemetry; seeds/001 (TelemetryCollector); research/prompts §6 (7, 21).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from xprim_nb._text import format_count, format_seconds
from xprim_nb.prompts.telemetry.lineage import step_document, step_text
from xprim_nb.prompts.telemetry.records import CACHES, CacheName, Record

__all__ = ["Analysis", "By", "HitRate", "Latency", "Summary", "analyze"]

_NOTHING: Final[Mapping[str, float]] = {}

By: TypeAlias = Literal["provider", "model", "scaffold_type", "checkpoint", "operation", "day"]


@dataclass(frozen=True, slots=True)
class HitRate:
    """What one cache was good for.

    Attributes:
        cache: Which.
        asked: How often it was asked, and said yes or no.
        hits: How often it said yes.
        reasons: How often each reason was given, hits and misses alike; the most frequent first.
    """

    cache: CacheName
    asked: int
    hits: int
    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def share(self) -> float:
        """0 to 1; 0.0 where it was not asked."""
        return self.hits / self.asked if self.asked else 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """How long it took, in seconds: each the shortest time that so many percent did not pass; 0.0 of nothing."""

    p50_s: float = 0.0
    p90_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        """The nearest ranks.

        >>> Latency.of([3.0, 1.0, 2.0, 4.0]).p50_s
        2.0
        """
        ordered = sorted(seconds)
        if not ordered:
            return cls()
        ranks = (math.ceil(percent * len(ordered) / 100) for percent in (50, 90, 95, 99))
        return cls(*(ordered[max(1, rank) - 1] for rank in ranks))


@dataclass(frozen=True, slots=True)
class Summary:
    """Operations that have something in common.

    Attributes:
        key: What they have in common.
        operations: How many.
        calls: Of these, how many a provider was asked for.
        failed: Of these, how many ended in an error or were cancelled.
        input_tokens: As reported or counted; what was read and written is part of it.
        output_tokens: The same of the answers.
        read_tokens: Of the input, read from the provider's cache.
        written_tokens: Of the input, written to it.
        reported_tokens: The input of those calls whose provider said what it read; the prefix cache's share is of it.
        predicted_read_tokens: What should have been read, of the calls that tell both.
        reported_read_tokens: What was read in these same calls.
        saved_tokens: Of the answers that came from the response cache.
        billed: In US dollars, from what providers told.
        estimated: In US dollars, of what nobody billed, from counts of ours.
        saved: In US dollars, what the answers from the response cache would have cost.
        unpriced: Calls that have neither a bill nor an estimate.
        caches: Scaffold, response and prefix, by call.
        latency: Of what was sent and answered.
        hit_latency: Of answers from the response cache.
        first_token: Of the calls that measured it.
    """

    key: str
    operations: int
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    read_tokens: int
    written_tokens: int
    reported_tokens: int
    predicted_read_tokens: int
    reported_read_tokens: int
    saved_tokens: int
    billed: Decimal
    estimated: Decimal
    saved: Decimal
    unpriced: int
    caches: tuple[HitRate, HitRate, HitRate]
    latency: Latency
    hit_latency: Latency
    first_token: Latency

    def rate(self, cache: CacheName) -> HitRate:
        """What one of the three caches was good for."""
        return self.caches[CACHES.index(cache)]

    @property
    def hits(self) -> int:
        """Answers from the response cache: calls that were not made."""
        return self.rate("response").hits

    @property
    def prefix_read_share(self) -> float:
        """Of all input tokens whose provider says so, those that it read from its cache."""
        return self.read_tokens / self.reported_tokens if self.reported_tokens else 0.0

    @property
    def failed_share(self) -> float:
        """Of all calls, those that brought no answer."""
        return self.failed / self.calls if self.calls else 0.0

    def document(self) -> dict[str, Any]:
        """As JSON; money as text, so that no digit is lost."""
        told: dict[str, Any] = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("caches", "latency", "hit_latency", "first_token")
        }
        told |= {name: str(told[name]) for name in ("billed", "estimated", "saved")}
        told["prefix_read_share"] = self.prefix_read_share
        told["caches"] = {
            each.cache: {
                "asked": each.asked,
                "hits": each.hits,
                "share": each.share,
                "reasons": dict(each.reasons),
            }
            for each in self.caches
        }
        for name in ("latency", "hit_latency", "first_token"):
            latency: Latency = getattr(self, name)
            told[name] = {each: getattr(latency, each) for each in Latency.__slots__}
        return told


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was looked at, in sum and in parts.

    Attributes:
        total: All of it.
        by_provider: Its parts, the one with most input tokens first; states that were kept are nobody's.
        by_model: The same.
        by_scaffold_type: The same.
        by_checkpoint: All of it; the key is empty for what belongs to none.
        by_operation: The same.
        by_day: Days in UTC, the earliest first; days without an operation are left out.
        wanted: What was chosen, for people; empty for everything.
        steps: Of a checkpoint, what led to it, the earliest first; nothing where none was chosen.
    """

    total: Summary
    by_provider: tuple[Summary, ...] = ()
    by_model: tuple[Summary, ...] = ()
    by_scaffold_type: tuple[Summary, ...] = ()
    by_checkpoint: tuple[Summary, ...] = ()
    by_operation: tuple[Summary, ...] = ()
    by_day: tuple[Summary, ...] = ()
    wanted: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Record, ...] = ()

    def parts(self, by: By) -> tuple[Summary, ...]:
        """All of it, put together by what they have in common."""
        found: tuple[Summary, ...] = getattr(self, f"by_{by}")
        return found

    def text(self) -> str:
        """As a terminal shows it."""
        if not self.total.operations:
            return "Nothing is recorded."
        lines = _lines(self.total)
        for title, parts in (
            ("By provider", self.by_provider),
            ("By kind of prompt", self.by_scaffold_type),
            ("By day", self.by_day),
        ):
            if len(parts) > 1:
                lines += [f"{title}:", *(_line(each) for each in parts)]
        return "\n".join([*lines, *self.step_lines()])

    def step_lines(self) -> list[str]:
        """What led to a checkpoint, as a terminal shows it; nothing where none was chosen."""
        return ["What led to it:", *(f"  {step_text(each)}" for each in self.steps)] if self.steps else []

    def document(self) -> dict[str, Any]:
        """As JSON; money as text, so that no digit is lost."""
        parts = ("by_provider", "by_model", "by_scaffold_type", "by_checkpoint", "by_operation", "by_day")
        return {
            "wanted": dict(self.wanted),
            "total": self.total.document(),
            **{name: [each.document() for each in getattr(self, name)] for name in parts},
            "steps": [step_document(each) for each in self.steps],
        }


def analyze(
    records: Iterable[Record],
    *,
    checkpoint: str = "",
    led: Mapping[str, float] = _NOTHING,
    scaffold: str = "",
    since_s: float = 0.0,
) -> Analysis:
    """What they came to.

    Args:
        records: In any order.
        checkpoint: Those that led to this one alone: those under its name, and those that `led` names.
        led: What else they may be recorded under, and until when, in seconds since 1970; see `lineage.led_by`.
        scaffold: Those of this hash alone.
        since_s: None that began earlier, in seconds since 1970.
    """
    chosen = [
        each
        for each in records
        if each.at_s >= since_s
        and (
            not checkpoint
            or each.checkpoint == checkpoint
            or each.at_s <= led.get(each.checkpoint, -math.inf)
        )
        and (not scaffold or each.scaffold == scaffold)
    ]
    since = datetime.fromtimestamp(since_s, UTC).isoformat() if since_s else ""
    wanted = {"checkpoint": checkpoint, "scaffold": scaffold, "since": since}

    def parts(key: Callable[[Record], str], of: Iterable[Record] = chosen) -> tuple[Summary, ...]:
        return tuple(sorted(_parts(of, key), key=lambda each: (-each.input_tokens, each.key)))

    # A state is kept by nobody's model, and is no kind of prompt.
    asked = [each for each in chosen if each.operation != "checkpoint"]

    return Analysis(
        total=_summary("all", chosen),
        by_provider=parts(lambda each: each.provider, asked),
        by_model=parts(lambda each: each.model, asked),
        by_scaffold_type=parts(lambda each: each.scaffold_type, asked),
        by_checkpoint=parts(lambda each: each.checkpoint),
        by_operation=parts(lambda each: each.operation),
        by_day=tuple(sorted(_parts(chosen, _day), key=lambda each: each.key)),
        wanted={name: value for name, value in wanted.items() if value},
        steps=tuple(sorted(chosen, key=lambda each: each.at_s)) if checkpoint else (),
    )


def _day(record: Record) -> str:
    return datetime.fromtimestamp(record.at_s, UTC).date().isoformat()  # the same day on every machine


def _parts(records: Iterable[Record], key: Callable[[Record], str]) -> list[Summary]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return [_summary(name, group) for name, group in groups.items()]


def _summary(key: str, records: Sequence[Record]) -> Summary:
    sent = [each for each in records if each.is_sent]
    answered = [each for each in sent if each.finish not in ("error", "cancelled")]
    usages = [each.usage for each in sent if each.usage is not None]
    told = [each for each in usages if each.reported]
    both = [
        (each.predicted_read_tokens, each.usage.cache_read_tokens)
        for each in sent
        if each.predicted_read_tokens is not None and each.usage is not None and each.usage.reported
    ]
    scaffold, response, prefix = (_rate(records, each) for each in CACHES)
    return Summary(
        key=key,
        operations=len(records),
        calls=len(sent),
        failed=len(sent) - len(answered),
        input_tokens=sum(each.input_tokens for each in usages),
        output_tokens=sum(each.output_tokens for each in usages),
        read_tokens=sum(each.cache_read_tokens for each in told),
        written_tokens=sum(each.cache_write_5m_tokens + each.cache_write_1h_tokens for each in told),
        reported_tokens=sum(each.input_tokens for each in told),
        predicted_read_tokens=sum(predicted for predicted, _ in both),
        reported_read_tokens=sum(read for _, read in both),
        saved_tokens=sum(each.saved_tokens for each in records),
        billed=_sum(each.billed for each in sent),
        estimated=_sum(each.estimated for each in sent),
        saved=_sum(each.saved for each in records),
        unpriced=sum(each.billed is None and each.estimated is None for each in answered),
        caches=(scaffold, response, prefix),
        latency=Latency.of(each.latency_s for each in answered),
        hit_latency=Latency.of(each.latency_s for each in records if each.in_response.hit),
        first_token=Latency.of(each.first_token_s for each in answered if each.first_token_s > 0),
    )


def _rate(records: Iterable[Record], cache: CacheName) -> HitRate:
    asked = [outcome for each in records if (outcome := each.outcome(cache)).hit is not None]
    reasons = Counter(outcome.reason for outcome in asked)
    ordered = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    return HitRate(cache, len(asked), sum(bool(outcome.hit) for outcome in asked), tuple(ordered))


def _sum(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((each for each in amounts if each is not None), Decimal(0))


def _money(amount: Decimal) -> str:
    return f"${amount:.6f}".rstrip("0").rstrip(".")


def _line(part: Summary) -> str:
    money = [f"{_money(part.billed)} billed"] if part.billed else []
    money += [f"{_money(part.estimated)} estimated"] if part.estimated else []
    return ", ".join(
        [
            f"  {part.key or '(none)'}: {format_count(part.calls, 'call')}",
            f"{part.input_tokens:,} + {part.output_tokens:,} tokens",
            *money,
            f"answers {part.rate('response').share:.0%}, prefix {part.prefix_read_share:.0%}",
        ]
    )


def _lines(all_of_it: Summary) -> list[str]:
    each = all_of_it
    lines = [
        f"{format_count(each.operations, 'operation')}, {format_count(each.calls, 'call')} sent, {each.failed} failed",
        f"Tokens: {each.input_tokens:,} in, {each.output_tokens:,} out",
        f"Of the input {each.read_tokens:,} were read from a provider's cache, {each.written_tokens:,} written to it",
        f"Billed {_money(each.billed)}; estimated of what nobody billed {_money(each.estimated)}"
        + (f"; {format_count(each.unpriced, 'call')} without a known price" if each.unpriced else ""),
        f"Waiting: half within {format_seconds(each.latency.p50_s)}, 95 % within {format_seconds(each.latency.p95_s)}",
    ]
    for rate in each.caches:
        if rate.asked:
            reasons = ", ".join(f"{reason} {count}" for reason, count in rate.reasons[:4])
            lines.append(
                f"{rate.cache.capitalize()} cache: {rate.hits} of {rate.asked} ({rate.share:.0%}): {reasons}"
            )
    if each.reported_tokens:
        lines.append(
            f"Provider's prefix cache, in tokens: {each.prefix_read_share:.0%} of the input was read"
        )
    if each.saved_tokens:
        lines.append(f"Saved by the response cache: {each.saved_tokens:,} tokens, {_money(each.saved)}")
    return lines
