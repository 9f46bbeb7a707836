"""What a provider will find of a prompt in its cache, said before it is sent.

Two families of caches, and a rule of `rules` says which one a model has:

    marked     Anthropic, OpenAI from 5.6 on: a prefix is kept at the places that were marked, and found there again. Each
               mark looks back over so many blocks; reading a prefix prolongs its life.
    automatic  everything is kept, in whole steps of tokens, and the longest common prefix is found: with any earlier
               call (OpenAI before 5.6, vLLM, SGLang), or with the last one alone (a slot of llama.cpp).

Pure: the time, the tokens and what was sent before are handed in. What only the provider knows is taken to be at its
best: the call reaches the machine that has the prefix, and nothing was evicted before its time.

Source: spec 6 §Resolve, §Caches; research/prompts §5; the pages that `rules` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, TypeAlias

from xprim_nb._hashing import Digest
from xprim_nb.errors import PromptError
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.rendered import Named, Rendered
from xprim_nb.prompts.rules import CacheRule

__all__ = [
    "CountText",
    "Kept",
    "Mark",
    "Prediction",
    "Sent",
    "Share",
    "common_letters",
    "looked_places",
    "predict",
    "predict_marked",
    "predict_sent",
    "remember",
    "shared_segments",
    "takes_implicit_mark",
]

CountText: TypeAlias = Callable[[str], int]
"""Tokens of a text, where the exact number within a segment matters."""

Kept: TypeAlias = dict[Digest, tuple[float, float]]
"""Each prefix that is kept, with when it ends and how long a use prolongs it."""

_HOUR_S: Final = 3600
# Where a request carries what keeps equal prefixes apart.
_APART: Final = ("prompt_cache_key", "cache_salt", "lora")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place whose prefix the provider is told to keep.

    Attributes:
        index: The segment at whose end it lies.
        lifetime_s: For how long, from the last use on.
    """

    index: int
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class Sent:
    """What is remembered of a call, as far as a provider's cache remembers it.

    Attributes:
        at_s: When, in seconds of any one clock.
        scope: Renderer, provider, model and what keeps its prefixes apart from others': no prefix is found across these.
        prefixes: For each segment, the hash of everything up to its end.
        hashes: For each segment, that of its content.
        tokens: For each segment, how many.
        marks: Where prefixes were kept.
        looked: The segments at whose ends one was looked for, the last first.
        texts: For each segment, what it said; empty when only hashes were kept, and then no part of a segment is found.
        labels: For each segment, what people call it.
    """

    at_s: float
    scope: tuple[str, ...]
    prefixes: tuple[Digest, ...]
    hashes: tuple[Digest, ...]
    tokens: tuple[int, ...]
    marks: tuple[Mark, ...] = ()
    looked: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, rendered: Rendered, tokens: Sequence[int], rule: CacheRule, at_s: float) -> Sent:
        """A call as it is remembered.

        Args:
            rendered: What was sent.
            tokens: For each segment, how many.
            rule: How the provider's cache behaves.
            at_s: When it was sent.

        Raises:
            PromptError: It has more marks than the provider takes.
            ValueError: There is not one number for each segment.
        """
        if len(tokens) != len(rendered.segments):
            raise ValueError(f"{len(tokens)} counts for {len(rendered.segments)} segments")
        marks = _marks(rendered, rule)
        return cls(
            at_s=at_s,
            scope=_scope(rendered),
            prefixes=rendered.prefixes,
            hashes=tuple(each.hash for each in rendered.segments),
            tokens=tuple(tokens),
            marks=marks,
            looked=looked_places(rendered.segments, marks, rule),
            texts=tuple(each.text for each in rendered.segments),
            labels=tuple(each.label for each in rendered.segments),
        )


@dataclass(frozen=True, slots=True)
class Share:
    """The tokens of one segment, by what happens to them; they add up to the segment."""

    read: int
    written: int
    fresh: int

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.read + self.written + self.fresh


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a call will find and leave in the provider's cache.

    Attributes:
        read_tokens: Found.
        write_5m_tokens: Written, to be kept for minutes.
        write_1h_tokens: Written, to be kept for an hour or longer.
        fresh_tokens: Neither; also whatever an automatic cache keeps without asking a price.
        shares: For each segment.
        expired_tokens: What more would have been read, had nothing passed its time.
    """

    read_tokens: int
    write_5m_tokens: int
    write_1h_tokens: int
    fresh_tokens: int
    shares: tuple[Share, ...]
    expired_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All of the prompt."""
        return self.read_tokens + self.write_5m_tokens + self.write_1h_tokens + self.fresh_tokens

    def usage(self, output_tokens: int = 0) -> Usage:
        """As the usage of an answer, which nobody reported."""
        return Usage(
            self.tokens,
            output_tokens,
            self.read_tokens,
            self.write_5m_tokens,
            self.write_1h_tokens,
            reported=False,
        )


def predict(
    rendered: Rendered,
    tokens: Sequence[int],
    history: Iterable[Sent],
    now_s: float,
    rule: CacheRule,
    *,
    count: CountText | None = None,
) -> Prediction:
    """What a call will find, and what it will leave.

    Args:
        rendered: What is to be sent.
        tokens: For each segment, how many.
        history: What was sent before, in any order; of other scopes nothing is found.
        now_s: By the same clock as the history's.
        rule: How the provider's cache behaves.
        count: Counts the common part of two segments that begin alike; without it their tokens are taken to be spread
            evenly over their text.

    Raises:
        PromptError: The prompt has more marks than the provider takes.
        ValueError: There is not one number for each segment.
    """
    return predict_sent(Sent.of(rendered, tokens, rule, now_s), history, rule, count=count)


def predict_sent(
    call: Sent, history: Iterable[Sent], rule: CacheRule, *, count: CountText | None = None
) -> Prediction:
    """The same of a call that is, or would be, remembered like this; see `predict`."""
    past = sorted((each for each in history if each.scope == call.scope), key=lambda each: each.at_s)
    if rule.trigger == "automatic":
        read = _automatic(call, past, rule, count, forget=True)
        kept = _automatic(call, past, rule, count, forget=False)
        return _prediction(call, read, read, read, kept - read)
    return predict_marked(call, _kept(past, rule, forget=True), _kept(past, rule, forget=False), rule)


def predict_marked(call: Sent, kept: Kept, kept_ever: Kept, rule: CacheRule) -> Prediction:
    """The same where prefixes are marked, of what is kept, and of what would be had nothing passed its time."""
    ends = list(accumulate(call.tokens))
    read, ever = (ends[at] if at >= 0 else 0 for at in (_lookup(call, each) for each in (kept, kept_ever)))
    large = [mark for mark in call.marks if ends[mark.index] >= rule.minimum_tokens]
    written = max((ends[mark.index] for mark in large), default=0)
    long = max((ends[mark.index] for mark in large if mark.lifetime_s >= _HOUR_S), default=0)
    return _prediction(call, read, max(read, long), max(read, written), ever - read)


def shared_segments(call: Sent, before: Sent) -> int:
    """How many segments two calls have in common from the first on."""
    pairs = zip(call.prefixes, before.prefixes, strict=False)
    return next(
        (index for index, (one, other) in enumerate(pairs) if one != other),
        min(len(call.prefixes), len(before.prefixes)),
    )


def common_letters(one: str, other: str) -> int:
    """How many letters two texts begin with alike.

    >>> common_letters("It is 12:00", "It is 12:05")
    10
    """
    low, high = 0, min(len(one), len(other))
    while low < high:  # halves are compared whole, far faster than letter by letter
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _automatic(
    call: Sent, past: Sequence[Sent], rule: CacheRule, count: CountText | None, *, forget: bool
) -> int:
    """Tokens that are found; each call is remembered whole, so that a prefix lives as long as its youngest call."""
    lifetime_s = next(iter(rule.lifetimes_s.values()), None)
    # A slot of llama.cpp holds one conversation: what it was used for last.
    known = past[-1:] if rule.provider == "llama-cpp" else past
    if forget and lifetime_s is not None:
        known = [each for each in known if call.at_s - each.at_s <= lifetime_s]
    common = max((_common_tokens(call, each, count) for each in known), default=0)
    common = min(common, sum(call.tokens) - rule.always_computed_tokens)
    if common < rule.minimum_tokens:
        return 0
    return common - (common - rule.minimum_tokens) % rule.step_tokens


def _common_tokens(call: Sent, before: Sent, count: CountText | None) -> int:
    shared = shared_segments(call, before)
    whole = sum(call.tokens[:shared])
    if shared >= min(len(call.prefixes), len(before.prefixes)) or not (call.texts and before.texts):
        return whole
    mine, theirs = call.texts[shared], before.texts[shared]
    begin = mine[: common_letters(mine, theirs)]
    if not begin or begin == mine == theirs:
        return whole
    part = count(begin) if count else call.tokens[shared] * len(begin) // len(mine)
    return whole + min(part, call.tokens[shared])


def _kept(past: Sequence[Sent], rule: CacheRule, *, forget: bool) -> Kept:
    kept: Kept = {}
    for call in past:
        remember(kept, call, rule, forget=forget)
    return kept


def remember(kept: Kept, call: Sent, rule: CacheRule, *, forget: bool) -> None:
    """Enter what a call leaves behind."""
    ends = list(accumulate(call.tokens))
    # Whoever sent it looked it up too: what was found lives on, and so does all that it begins with.
    for prefix in call.prefixes[: _lookup(call, kept) + 1]:
        if prefix in kept:
            kept[prefix] = (call.at_s + kept[prefix][1], kept[prefix][1])
    for mark in call.marks:
        if ends[mark.index] >= rule.minimum_tokens:
            lifetime_s = mark.lifetime_s if forget else float("inf")
            kept[call.prefixes[mark.index]] = (call.at_s + lifetime_s, lifetime_s)


def looked_places(segments: Sequence[Named], marks: Sequence[Mark], rule: CacheRule) -> tuple[int, ...]:
    """The places at which an entry is looked for, the last first."""
    if rule.trigger == "automatic":
        return ()
    marked = {mark.index for mark in marks}
    if rule.trigger == "both":
        # What an earlier call's newest message was, is looked up too: that is how a conversation goes on.
        marked |= {index for index, each in enumerate(segments) if takes_implicit_mark(each)}
    latest = sorted(marked, reverse=True)[: rule.matched_breakpoints or None]
    back = rule.look_back_blocks
    places = {place for index in latest for place in range(index, -1 if back is None else index - back, -1)}
    return tuple(sorted((place for place in places if place >= 0), reverse=True))


def _lookup(call: Sent, kept: Kept) -> int:
    """The last segment up to which something is found; -1 for nothing."""
    ends = ((place, kept.get(call.prefixes[place])) for place in call.looked)
    return next((place for place, entry in ends if entry is not None and entry[0] > call.at_s), -1)


def _marks(rendered: Rendered, rule: CacheRule) -> tuple[Mark, ...]:
    """The marks of a request, and the one that the provider sets by itself."""
    if rule.trigger == "automatic":
        return ()
    usual_s = next(iter(rule.lifetimes_s.values()), 0)

    def lifetime_s(holder: object) -> float:
        for name in ("cache_control", "prompt_cache_breakpoint"):
            told = holder.get(name) if isinstance(holder, Mapping) else None
            if isinstance(told, Mapping):
                return rule.lifetimes_s.get(str(told.get("ttl")), usual_s)
        return usual_s

    marks = {
        index: Mark(index, lifetime_s(_at(rendered.body, each.path)))
        for index, each in enumerate(rendered.segments)
        if each.breakpoint
    }
    last = _implicit(rendered, rule)
    if last is not None and last not in marks:
        marks[last] = Mark(last, lifetime_s(rendered.body))
    if len(marks) > rule.breakpoints:
        raise PromptError(
            f"The prompt has {len(marks)} cache breakpoints, and {rule.provider} takes {rule.breakpoints}.",
            subject=rendered.model,
            hint="Leave the earliest ones out: a later one finds what they would have kept.",
        )
    return tuple(marks[index] for index in sorted(marks))


def _implicit(rendered: Rendered, rule: CacheRule) -> int | None:
    """The segment that the provider marks by itself."""
    if rule.trigger == "breakpoint":
        return len(rendered.segments) - 1 if "cache_control" in rendered.body else None
    options = rendered.body.get("prompt_cache_options")
    if isinstance(options, Mapping) and options.get("mode") == "explicit":
        return None
    places = [index for index, each in enumerate(rendered.segments) if takes_implicit_mark(each)]
    return places[-1] if places else None


def takes_implicit_mark(segment: Named) -> bool:
    """Whether a provider that marks the newest message by itself takes this for one."""
    return segment.kind == "turn" or (segment.kind == "message" and segment.label != "assistant")


def _at(body: Mapping[str, Any], path: Sequence[str | int]) -> object:
    place: Any = body
    for step in path:
        try:
            place = place[step]
        except (KeyError, IndexError, TypeError):
            return None
    return place


def _scope(rendered: Rendered) -> tuple[str, ...]:
    apart = (str(rendered.body.get(name, "")) for name in _APART)
    return (rendered.renderer, rendered.provider, rendered.model, *apart)


def _prediction(call: Sent, read: int, long_end: int, end: int, expired: int) -> Prediction:
    """The cuts between read, written for long, written and fresh, laid over the segments."""
    end = max(end, long_end)
    shares, begin = [], 0
    for tokens in call.tokens:
        stop = begin + tokens
        in_read = max(0, min(stop, read) - begin)
        in_written = max(0, min(stop, end) - max(begin, read))
        shares.append(Share(in_read, in_written, tokens - in_read - in_written))
        begin = stop
    return Prediction(
        read_tokens=read,
        write_5m_tokens=end - long_end,
        write_1h_tokens=long_end - read,
        fresh_tokens=begin - end,
        shares=tuple(shares),
        expired_tokens=max(0, expired),
    )
