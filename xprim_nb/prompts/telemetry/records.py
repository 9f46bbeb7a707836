"""What is recorded of each question: hashes, names and numbers, no text.

    operation     resolve, ask, checkpoint, replay or enforce
    three caches  hit, missed or not asked, each with its reason; never one "hit rate"
    money         a bill and an estimate have fields of their own

A call that went past the caches (`bypass`) is recorded like any other: it was paid for.

Source: spec 6 §Telemetry; seeds/001 (TelemetryCollector); research/prompts §6 (13, 21).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

from xprim_nb._hashing import Digest
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.asked import Asked, Passed
from xprim_nb.prompts.caches import Call, MissReason
from xprim_nb.prompts.resolve import ResolvedScaffold

__all__ = [
    "CACHES",
    "CacheName",
    "Operation",
    "Outcome",
    "Record",
    "record_of",
    "record_of_resolving",
    "record_of_saving",
]

Operation: TypeAlias = Literal["resolve", "ask", "checkpoint", "replay", "enforce"]
CacheName: TypeAlias = Literal["scaffold", "response", "prefix"]
CACHES: tuple[CacheName, ...] = ("scaffold", "response", "prefix")


class Outcome(NamedTuple):
    """What one cache said.

    Attributes:
        hit: None where it was not asked, or nobody knows.
        reason: Why, in a word; of a response that was missed, the kind of its `MissReason`.
    """

    hit: bool | None = None
    reason: str = ""


_NOT_ASKED: Final = Outcome()
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Record:
    """One operation.

    Attributes:
        at_s: When it began, in seconds since 1970.
        operation: What was done.
        provider: Whom it was for.
        model: As the provider calls it.
        scaffold: Hash of what stays from call to call; empty where it was not made, as for an answer from the cache.
        scaffold_type: What kind of prompt it was.
        request: Hash of what was asked.
        checkpoint: The checkpoint that it belongs to; empty for none.
        finish: How it ended: as an answer does, `error`, `cancelled`, or empty for what has no answer.
        error: Name of the exception that it ended with.
        is_sent: Whether a provider was asked for it. However many have joined a call, of one record it is true.
        usage: Tokens of the call; None where nobody was asked, or nobody counted.
        estimated: In US dollars, from counts of ours; None where that is not what is known.
        billed: In US dollars, from what the provider told.
        saved: What an answer from the cache would have cost.
        saved_tokens: Its tokens.
        latency_s: From asking to the end, as the user waited.
        first_token_s: From sending to the first token; 0.0 where nobody measured.
        in_scaffold: Whether what is sent was rendered before.
        in_response: Whether the answer was there.
        in_prefix: Whether the provider read some of it from its cache.
        predicted_read_tokens: What it should have read; None when nobody predicted.
    """

    at_s: float
    operation: Operation
    provider: str
    model: str
    scaffold: Digest | Literal[""] = ""
    scaffold_type: str = ""
    request: Digest | Literal[""] = ""
    checkpoint: str = ""
    finish: str = ""
    error: str = ""
    is_sent: bool = False
    usage: Usage | None = None
    estimated: Decimal | None = None
    billed: Decimal | None = None
    saved: Decimal | None = None
    saved_tokens: int = 0
    latency_s: float = 0.0
    first_token_s: float = 0.0
    in_scaffold: Outcome = _NOT_ASKED
    in_response: Outcome = _NOT_ASKED
    in_prefix: Outcome = _NOT_ASKED
    predicted_read_tokens: int | None = None

    def outcome(self, cache: CacheName) -> Outcome:
        """What one of the three caches said."""
        match cache:
            case "scaffold":
                return self.in_scaffold
            case "response":
                return self.in_response
            case "prefix":
                return self.in_prefix


def record_of(passed: Passed, operation: Operation = "ask") -> Record:
    """What is recorded of a question that is over."""
    asked, result = passed.asked, passed.result
    if isinstance(result, BaseException):
        missed_only = asked.cache == "only"
        is_sent = passed.is_sent and not missed_only
        return Record(
            at_s=passed.at_s,
            operation=operation,
            provider=asked.provider,
            model=asked.model,
            scaffold_type=asked.scaffold_type,
            request=passed.request,
            checkpoint=passed.checkpoint,
            finish="error" if isinstance(result, Exception) else "cancelled",
            error=type(result).__name__,
            is_sent=is_sent,
            latency_s=passed.total_s,
            in_response=Outcome(False, "only" if missed_only else "failed" if is_sent else "not sent"),
        )
    if result.hit:
        tokens = result.answer.usage
        return Record(
            at_s=passed.at_s,
            operation=operation,
            provider=asked.provider,
            model=asked.model,
            scaffold_type=asked.scaffold_type,
            request=passed.request,
            checkpoint=passed.checkpoint,
            finish=result.answer.finish,
            saved=result.saved.amount if result.saved else None,
            saved_tokens=tokens.input_tokens + tokens.output_tokens,
            latency_s=passed.total_s,
            in_response=Outcome(True, "kept"),
        )
    return _of_call(passed, result, operation)


def record_of_resolving(
    resolved: ResolvedScaffold,
    at_s: float,
    latency_s: float,
    *,
    checkpoint: str = "",
    known: bool | None = None,
) -> Record:
    """What is recorded of a prompt that was made and not sent.

    Args:
        resolved: What was made.
        at_s: When, in seconds since 1970.
        latency_s: How long that took.
        checkpoint: The checkpoint that it belongs to.
        known: Whether it had been rendered before; None where nobody looked.
    """
    asked, cost = resolved.asked, resolved.estimated_cost
    return Record(
        at_s=at_s,
        operation="resolve",
        provider=asked.provider,
        model=asked.model,
        scaffold=Digest(resolved.scaffold.hash),
        scaffold_type=asked.scaffold_type,
        request=resolved.request_hash,
        checkpoint=checkpoint,
        estimated=cost.amount if cost else None,
        latency_s=latency_s,
        in_scaffold=Outcome(known, "" if known is None else ("rendered before" if known else "new")),
    )


def record_of_saving(
    scaffold: str, checkpoint: str, at_s: float, latency_s: float, *, error: BaseException | None = None
) -> Record:
    """What is recorded of a state that was kept, or could not be: nobody answers it, and so it has no model.

    Args:
        scaffold: Whose state: a hash, or what people call it, which is not recorded.
        checkpoint: Its id; empty where it was not kept.
        at_s: When that began, in seconds since 1970.
        latency_s: How long it took.
        error: Why it was not kept.
    """
    ended = "" if error is None else "error" if isinstance(error, Exception) else "cancelled"
    return Record(
        at_s=at_s,
        operation="checkpoint",
        provider="",
        model="",
        scaffold=Digest(scaffold) if _HASH.fullmatch(scaffold) else "",
        checkpoint=checkpoint,
        finish=ended,
        error="" if error is None else type(error).__name__,
        latency_s=latency_s,
    )


def _of_call(passed: Passed, result: Asked, operation: Operation) -> Record:
    """Who joined another's call was answered by it, and paid nothing."""
    asked, answer, sent = passed.asked, result.answer, result.sent
    is_sent = result.source == "generated"
    cost = result.cost
    counted = answer.usage.input_tokens or answer.usage.output_tokens
    usage = answer.usage if is_sent and counted else None
    reason = result.reason
    return Record(
        at_s=passed.at_s,
        operation=operation,
        provider=asked.provider,
        model=asked.model,
        scaffold=Digest(result.resolved.scaffold.hash) if result.resolved else "",
        scaffold_type=asked.scaffold_type,
        request=passed.request,
        checkpoint=passed.checkpoint,
        finish=answer.finish,
        is_sent=is_sent,
        usage=usage,
        estimated=cost.amount if cost and cost.kind == "estimated" else None,
        billed=cost.amount if cost and cost.kind == "billed" else None,
        latency_s=passed.total_s,
        first_token_s=answer.first_token_s if is_sent else 0.0,
        in_scaffold=_in_scaffold(reason, passed.request),
        in_response=_in_response(reason, is_sent=is_sent),
        in_prefix=_in_prefix(usage, sent) if is_sent else Outcome(),
        predicted_read_tokens=sent.predicted_read_tokens if sent else None,
    )


def _in_scaffold(reason: MissReason | None, request: Digest) -> Outcome:
    """The look for what differs finds the same request's scaffold first, where it is kept."""
    if reason is None or reason.kind in ("bypass", "refresh", "unavailable", "damaged", "version"):
        return Outcome()
    is_known = reason.earlier == request and reason.earlier_at > 0
    return Outcome(is_known, "rendered before" if is_known else reason.kind)


def _in_response(reason: MissReason | None, *, is_sent: bool) -> Outcome:
    if not is_sent:
        return Outcome(False, "joined")
    if reason is None:
        return Outcome()
    # Who does not want an answer from the cache has not missed one.
    return Outcome(None if reason.kind in ("bypass", "refresh") else False, reason.kind)


def _in_prefix(usage: Usage | None, sent: Call | None) -> Outcome:
    """What the provider reported, beside what was predicted; a count of ours says nothing of its cache."""
    if usage is None or not usage.reported:
        return Outcome(None, "not reported")
    predicted = sent.predicted_read_tokens if sent else None
    if usage.cache_read_tokens:
        return Outcome(True, "not predicted" if predicted == 0 else "read")
    if predicted:
        return Outcome(False, "lost")
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return Outcome(False, "written" if written else "nothing kept")
