"""Calls of the past, sent again on paper: in another order, with another lifetime, or without marks. Pure.

What would have been read and written is what `prefix` predicts of the changed calls, each after those before it. The marks
of a changed call are placed as its renderer would place them; where that cannot be told, because the recorded marks of
the unchanged call do not come out the same, there is no replay, and so no advice.

Source: spec 6 §Telemetry; research/prompts §6 (7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from xprim_nb._hashing import Digest
from xprim_nb.prompts.breakpoints import place_breakpoints
from xprim_nb.prompts.caches import Call, CallPart
from xprim_nb.prompts.identity import prefix_hashes, tagged_hash
from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.prefix import (
    Kept,
    Mark,
    Prediction,
    Sent,
    looked_places,
    predict_marked,
    predict_sent,
    remember,
    takes_implicit_mark,
)
from xprim_nb.prompts.rules import CacheRule, cache_rule
from xprim_nb.prompts.values import Ttl

__all__ = ["Change", "Replay", "replayable", "with_ttl", "with_volatility"]

Change: TypeAlias = Callable[[Call], Call]
"""A call as it would have been sent: `parts` in their order, with their volatilities, and `ttl`."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Calls to one model whose caching can be told.

    Attributes:
        calls: In the order in which they were sent.
        rule: How the provider's cache behaves.
        before: What is predicted of them as they were.
    """

    calls: tuple[Call, ...]
    rule: CacheRule
    before: tuple[Prediction, ...]

    def after(self, change: Change) -> tuple[Prediction, ...]:
        """What is predicted of them when each is changed."""
        return _predictions([change(call) for call in self.calls], self.rule)


def replayable(calls: Iterable[Call]) -> Replay | None:
    """Calls to one model, ready to be replayed; None where it cannot be told what another order would bring.

    That is so where nobody counted tokens, where no rule is known, where blocks were not sent in the order of volatility,
    where marks are placed in a manner that is not ours, and where equal beginnings have unequal prefixes: they went to
    several endpoints.
    """
    listed = tuple(sorted(calls, key=lambda each: each.at))
    if not listed:
        return None
    rule = cache_rule(listed[0].provider, listed[0].model)
    if rule is None or any(not call.parts or not any(each.tokens for each in call.parts) for call in listed):
        return None
    if any(_volatilities(call) != sorted(_volatilities(call)) for call in listed):
        return None
    roots: dict[tuple[tuple[str, ...], Digest], Digest] = {}
    for call in listed:
        first = call.parts[0]
        if roots.setdefault((call.scope, first.hash), first.prefix) != first.prefix:
            return None
        if _marks(call, rule) != call.marks:
            return None
    return Replay(listed, rule, _predictions(listed, rule))


def with_volatility(call: Call, volatilities: dict[str, int]) -> Call:
    """A call whose blocks of these labels change as often as told, and so are sent in another order."""
    parts = [
        replace(part, volatility=volatilities[part.label])
        if part.kind == "block" and part.label in volatilities
        else part
        for part in call.parts
    ]
    blocks = iter(sorted((part for part in parts if part.kind == "block"), key=lambda each: each.volatility))
    return replace(call, parts=tuple(next(blocks) if part.kind == "block" else part for part in parts))


def with_ttl(call: Call, ttl: Ttl) -> Call:
    """A call whose prefix should be kept for another time."""
    return replace(call, ttl=ttl)


def _predictions(calls: Sequence[Call], rule: CacheRule) -> tuple[Prediction, ...]:
    """Each after those before it; what is kept is carried along and not made anew for each."""
    sent = [_sent(call, rule) for call in calls]
    if rule.trigger == "automatic":
        return tuple(predict_sent(each, sent[:place], rule) for place, each in enumerate(sent))
    kept: dict[tuple[str, ...], tuple[Kept, Kept]] = {}
    found = []
    for each in sent:
        now, ever = kept.setdefault(each.scope, ({}, {}))
        found.append(predict_marked(each, now, ever, rule))
        remember(now, each, rule, forget=True)
        remember(ever, each, rule, forget=False)
    return tuple(found)


def _sent(call: Call, rule: CacheRule) -> Sent:
    """Texts are not recorded: a part that begins like another's is taken to share nothing with it."""
    marks = _marks(call, rule)
    hashes = tuple(part.hash for part in call.parts)
    return Sent(
        at_s=call.at,
        scope=call.scope,
        # Only whether two are equal is asked of a prefix, within one scope.
        prefixes=tuple(prefix_hashes(hashes, root=_root(call.scope))),
        hashes=hashes,
        tokens=tuple(part.tokens for part in call.parts),
        marks=marks,
        looked=looked_places(call.parts, marks, rule),
    )


def _volatilities(call: Call) -> list[int]:
    return [part.volatility for part in call.parts if part.kind == "block"]


def _root(scope: Sequence[str]) -> Digest:
    return tagged_hash("xprim/root/v1", list(scope))


def _marks(call: Call, rule: CacheRule) -> tuple[Mark, ...]:
    """As the renderers of `render.anthropic` and `render.openai` place them, and the provider its own."""
    if rule.trigger == "automatic":
        return ()
    talks = any(part.kind == "message" for part in call.parts)
    own = _own_mark(call, rule, talks=talks)
    places = place_breakpoints(
        [Part(part.kind, part.label, "", part.hash, part.volatility) for part in call.parts],
        rule,
        markable=[_is_markable(part, rule, talks=talks) for part in call.parts],
        ttl=call.ttl,
        counts=[part.tokens for part in call.parts],
        most=rule.breakpoints - (talks if rule.trigger == "both" else own is not None),
    )
    marks = {index: Mark(index, rule.lifetimes_s[name]) for index, name in places.items()}
    if rule.trigger == "both" and places and not talks:
        own = None  # the renderer switches it off
    if own is not None and own not in marks:
        marks[own] = Mark(own, next(iter(rule.lifetimes_s.values()), 0))
    return tuple(marks[index] for index in sorted(marks))


def _own_mark(call: Call, rule: CacheRule, *, talks: bool) -> int | None:
    """The part that the provider marks by itself; of Anthropic only where the caller asked for it."""
    if rule.trigger == "both":
        return max(
            (place for place, part in enumerate(call.parts) if takes_implicit_mark(part)), default=None
        )
    last = len(call.parts) - 1
    return (
        last if any(mark.index == last and not call.parts[last].breakpoint for mark in call.marks) else None
    )


def _is_markable(part: CallPart, rule: CacheRule, *, talks: bool) -> bool:
    if rule.trigger == "both":
        if part.kind in ("tools", "schema") or (part.kind == "message" and part.label == "assistant"):
            return False
        return not (talks and part.kind == "turn")
    return part.kind != "schema" and part.tokens > 0
