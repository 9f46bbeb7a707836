"""The cache X-ray: before a call, what of it the provider has, where that ends and why, and what would mend it.

Each segment is cached, will be written, breaks here or is fresh, with its tokens and its money; the first byte that
differs from the nearest earlier call is named, with a little of both sides. Nothing is sent for it.

Source: spec 6 §Caches (`explain`); research/prompts §9 (1: the X-ray), §3 (7: why it missed).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from xprim_nb._text import format_count, format_span
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.differences import difference
from xprim_nb.prompts.prefix import (
    CountText,
    Prediction,
    Sent,
    Share,
    common_letters,
    predict,
    shared_segments,
)
from xprim_nb.prompts.pricing import Rates, priced
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.rules import CacheRule
from xprim_nb.prompts.tokens import TokenCount
from xprim_nb.prompts.xray import Advice, Break, Explanation, SegmentState, State

__all__ = ["Advice", "Break", "Explanation", "SegmentState", "explain"]

# Differences that say the same in another way: to be written in one way, not to be moved.
_SAME_MEANING: Final = {
    "unicode form": "normalise it (NFC)",
    "line ends": "end its lines with a line feed alone",
    "trailing newline": "end it the same way each time",
    "whitespace": "write its whitespace the same way each time",
    "order of keys": "sort its keys",
    "order of entries": "sort its entries",
    "number format": "write its numbers with a fixed number of digits",
    "set-order": "sort it",
    "float": "round its numbers",
    "path": "write its paths relative to the project",
}
# Differences that are no single thing which could be taken out.
_ANY_TEXT: Final = frozenset({"text", "addition", "omission", "number"})


def explain(
    rendered: Rendered,
    counts: Sequence[TokenCount],
    previous: Iterable[Sent],
    now_s: float,
    rule: CacheRule,
    rates: Rates | str = "",
    *,
    count: CountText | None = None,
) -> Explanation:
    """The X-ray of a call that was not made yet.

    Args:
        rendered: What would be sent.
        counts: For each segment, its tokens.
        previous: What was sent before, in any order.
        now_s: By the same clock.
        rule: How the provider's cache behaves.
        rates: Prices, or why there are none (`pricing.rates`).
        count: Counts a part of a segment, where the exact number matters.

    Raises:
        PromptError: The prompt has more marks than the provider takes.
        ValueError: There is not one count for each segment.
    """
    tokens = [each.count for each in counts]
    history = list(previous)
    predicted = predict(rendered, tokens, history, now_s, rule, count=count)
    call = Sent.of(rendered, tokens, rule, now_s)
    nearest = max(history, key=lambda each: _nearness(call, each), default=None)
    broken = _broken(call, nearest, predicted, rule)
    known = rates if isinstance(rates, Rates) else None
    usage = predicted.usage()
    segments = tuple(
        SegmentState(
            index=index,
            kind=segment.kind,
            label=segment.label,
            state="breaks" if index == broken.segment and share.read < share.tokens else _state(share),
            share=share,
            amount=_amount(share, predicted, known),
        )
        for index, (segment, share) in enumerate(zip(rendered.segments, predicted.shares, strict=True))
    )
    return Explanation(
        provider=rendered.provider,
        model=rendered.model,
        segments=segments,
        prediction=predicted,
        count=sum(counts, TokenCount(0, counts[0].method if counts else "estimate")),
        broken=broken,
        advice=_advice(rendered, call, nearest, predicted, broken, known),
        cost=priced(usage, known) if known else None,
        uncached=priced(Usage(usage.input_tokens, reported=False), known) if known else None,
        unpriced="" if isinstance(rates, Rates) else rates,
        rule_checked=rule.checked,
    )


def _nearness(call: Sent, before: Sent) -> tuple[int, int, float]:
    """How much of a call an earlier one began with: segments, then letters of the next one, then how late it was."""
    shared = _equal(call, before)
    letters = 0
    if call.texts and before.texts and shared < min(len(call.texts), len(before.texts)):
        letters = common_letters(call.texts[shared], before.texts[shared])
    return shared, letters, before.at_s


def _equal(call: Sent, before: Sent) -> int:
    """Segments that say the same from the first on, whatever cache they are for."""
    if call.texts and before.texts:
        pairs: Iterable[tuple[str, str]] = zip(call.texts, before.texts, strict=False)
    else:
        pairs = zip(call.hashes, before.hashes, strict=False)
    shortest = min(len(call.hashes), len(before.hashes))
    return next((index for index, (one, other) in enumerate(pairs) if one != other), shortest)


def _broken(call: Sent, nearest: Sent | None, predicted: Prediction, rule: CacheRule) -> Break:
    """Why the prefix ends where it does, the first that holds.

    1  nothing was sent before
    2  it was sent to another model, by another renderer, or under another key
    3  what was kept has passed its time
    4  the prompt, or what is marked of it, is too short to be kept
    5  the same was sent, and no mark finds it
    6  a segment that is not the turn says something else: the byte
    """
    if nearest is None:
        return Break("first call", "Nothing like it was sent before, as far as is known here.")  # 1
    if (other := _other_scope(call, nearest)) is not None:
        return other  # 2
    if predicted.expired_tokens:
        ago = format_span(call.at_s - nearest.at_s)
        return Break(
            "expired",
            f"The last call like it was {ago} ago; {format_count(predicted.expired_tokens, 'token')} passed their time.",
        )  # 3
    shared = shared_segments(call, nearest)
    common = sum(call.tokens[:shared])
    whole = sum(call.tokens[: call.marks[-1].index + 1]) if call.marks else sum(call.tokens)
    if predicted.read_tokens == 0 and min(whole, common or whole) < rule.minimum_tokens:
        which = "What would be kept of it" if call.marks else "What both calls begin with"
        found = _content(call, nearest)
        return Break(
            "minimum",
            f"{which} has {format_count(min(whole, common or whole), 'token')}, and {rule.provider} keeps no prefix below "
            f"{rule.minimum_tokens:,}.",
            found.segment if found else None,
            found.difference if found else None,
            found.offset if found else None,
        )  # 4
    if predicted.read_tokens < _readable(call, nearest, shared, rule):
        return Break(
            "breakpoint",
            "The same was sent before, and no breakpoint of this call finds it: an earlier one was moved, or lies more than "
            f"{rule.look_back_blocks or 'so many'} blocks back.",
            shared - 1,
        )  # 5
    found = _content(call, nearest)
    if found is not None and found.segment is not None and call.labels[found.segment] != "turn":
        return found  # 6
    return Break("nothing", "All that was sent before and was kept is read again.")


def _readable(call: Sent, nearest: Sent, shared: int, rule: CacheRule) -> int:
    """Tokens of the common beginning that the earlier call had kept."""
    kept = [sum(call.tokens[: mark.index + 1]) for mark in nearest.marks if mark.index < shared]
    return max((tokens for tokens in kept if tokens >= rule.minimum_tokens), default=0)


def _content(call: Sent, nearest: Sent) -> Break | None:
    """The first segment that says something else, and the byte."""
    shared = shared_segments(call, nearest)
    if shared >= min(len(call.prefixes), len(nearest.prefixes)) or shared >= len(call.texts):
        return None
    before = nearest.texts[shared] if shared < len(nearest.texts) else None
    label = call.labels[shared]
    offset = sum(len(text.encode()) for text in call.texts[:shared])
    if before is None:
        return Break("content", f"{label} is another one than before.", shared, None, offset)
    found = difference(call.texts[shared], before)
    if found is None:
        return Break(
            "content", f"{label} has another meaning than before and the same text.", shared, None, offset
        )
    return Break(
        "content",
        f"{label} differs from byte {found.byte:,} on (line {found.line}, {found.kind}).",
        shared,
        found,
        offset + found.byte,
    )


def _other_scope(call: Sent, nearest: Sent) -> Break | None:
    if call.scope == nearest.scope:
        return None
    renderer, provider, model, *_ = call.scope
    was_renderer, was_provider, was_model, *_ = nearest.scope
    if (provider, model) != (was_provider, was_model):
        said = f"It was sent to {was_provider} {was_model} before; {provider} {model} has a cache of its own."
        return Break("model", said, 0, None, 0)
    if renderer != was_renderer:
        said = f"{was_renderer} rendered it before, and {renderer} does now: the bytes may be others from the first on."
        return Break("renderer", said, 0, None, 0)
    return Break("cache key", "It was sent under another key, which keeps prefixes apart.", 0, None, 0)


def _advice(
    rendered: Rendered,
    call: Sent,
    nearest: Sent | None,
    predicted: Prediction,
    broken: Break,
    rates: Rates | None,
) -> tuple[Advice, ...]:
    """What to move or to mend, with what it would save in a call like this one."""
    at = broken.segment
    if broken.cause == "expired":
        said = "Ask for a longer life (prefix_ttl='1h') where pauses are this long."
        return (_saved(said, predicted.expired_tokens, rates),)
    if nearest is None or at is None:
        return ()
    if broken.cause == "breakpoint":
        said = f"Keep a breakpoint behind {call.labels[at]!r}, where the last call had one."
        return (_saved(said, sum(call.tokens[: at + 1]) - predicted.read_tokens, rates),)
    if broken.cause != "content" or broken.difference is None:
        return ()
    segment = rendered.segments[at]
    if segment.kind in {"message", "turn"}:
        return ()
    # What comes after it and was sent before, word for word, up to the history.
    known = set(nearest.hashes)
    behind = [
        index
        for index, each in enumerate(rendered.segments)
        if index > at and each.hash in known and each.kind != "turn"
    ]
    saved = sum(call.tokens[index] - predicted.shares[index].read for index in behind)
    kind = broken.difference.kind
    if kind in _SAME_MEANING:
        left = call.tokens[at] - predicted.shares[at].read
        said = f"Of {segment.label!r} {_SAME_MEANING[kind]}: it says the same as before."
        return (_saved(said, saved + left, rates),)
    if not behind:
        return ()
    last = rendered.segments[behind[-1]]
    if segment.kind != "block":
        said = (
            f"Send the same {segment.label!r} each time: what follows up to {last.label!r} stayed the same."
        )
    elif kind in _ANY_TEXT:
        said = (
            f"Move {segment.label!r} behind {last.label!r}, the last that stayed the same: give it a volatility above "
            f"{last.volatility}."
        )
    else:
        said = (
            f"Move the {kind} out of {segment.label!r} behind {last.label!r}, the last that stayed the same."
        )
    return (_saved(said, saved, rates),)


def _saved(message: str, tokens: int, rates: Rates | None) -> Advice:
    amount = None if rates is None else (rates.write_5m - rates.read) * tokens / Decimal(1_000_000)
    return Advice(message, tokens, amount)


def _state(share: Share) -> State:
    most = max(
        (share.read, "cached"), (share.written, "written"), (share.fresh, "fresh"), key=lambda each: each[0]
    )
    return most[1]  # type: ignore[return-value]  # one of the three above


def _amount(share: Share, predicted: Prediction, rates: Rates | None) -> Decimal | None:
    """What a segment costs; where a call writes for two lifetimes, its writes cost what they do on average."""
    if rates is None:
        return None
    written = predicted.write_5m_tokens + predicted.write_1h_tokens
    long = Decimal(predicted.write_1h_tokens) / written if written else Decimal(0)
    write = rates.write_1h * long + rates.write_5m * (1 - long)
    return (rates.read * share.read + write * share.written + rates.fresh * share.fresh) / Decimal(1_000_000)
