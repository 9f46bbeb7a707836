"""Where a provider is told that a prefix ends: at the seams of what changes seldom and what changes often.

    1  in a conversation, at the turn, which the next call sends as history, and at the history that is sent already
    2  at the end of what changes seldom enough for a write to pay
    3  at the seams before it, the deepest first

No place lies below the model's minimum where tokens are known. Lifetimes fall from front to back, as Anthropic wants it.

Source: spec 6 §Resolve; research/prompts §5 (limits), §9 (2: the write premium).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.rules import CacheRule
from xprim_nb.prompts.values import Ttl

__all__ = ["PAYS_BELOW", "WANTED_S", "place_breakpoints"]

# A write costs 1.25 times the plain price and a read a tenth: with a chance p of being read, 0.1 p + 1.25 (1 - p) is less
# than 1 when p is above 0.25 / 1.15. Where reads are cheaper still, it pays a little earlier.
PAYS_BELOW = 78
"""A prefix that changes in more than so many percent of the calls is written more dearly than it is read cheaply."""

WANTED_S: Mapping[Ttl, int] = {"5m": 300, "1h": 3600}
"""Seconds that a `prefix_ttl` asks for."""


def place_breakpoints(
    parts: Sequence[Part],
    rule: CacheRule,
    *,
    markable: Sequence[bool],
    ttl: Ttl,
    counts: Sequence[int] | None = None,
    most: int | None = None,
) -> dict[int, str]:
    """The parts at whose end a prefix is to be kept, each with the provider's name for how long.

    Args:
        parts: In the order in which they are sent.
        rule: What the provider's cache does.
        markable: For each part, whether the provider takes a mark there.
        ttl: How long it should be kept, at the least.
        counts: Tokens of each of them; None where nobody counted.
        most: Fewer than the rule allows, where some are in use.
    """
    places = min(rule.breakpoints, rule.breakpoints if most is None else most)
    if places <= 0:
        return {}
    tokens = list(accumulate(counts)) if counts is not None else None

    def fits(index: int) -> bool:
        return markable[index] and (tokens is None or tokens[index] >= rule.minimum_tokens)

    talk = [each for each in _conversation(parts, markable) if fits(each)][:places]
    seams = [each for each in _seams(parts, markable) if fits(each)][: places - len(talk)]
    kept, unasked = rule.lifetime(WANTED_S[ttl]), next(iter(rule.lifetimes_s), "")
    return {index: kept if index in seams else unasked for index in sorted({*seams, *talk})}


def _conversation(parts: Sequence[Part], markable: Sequence[bool]) -> list[int]:
    """The turn, and the last of the history that can be marked; nothing where there is no history."""
    history = [index for index, part in enumerate(parts) if part.kind == "message"]
    turn = [index for index, part in enumerate(parts) if part.kind == "turn" and markable[index]]
    return [*turn, *[index for index in history if markable[index]][-1:]] if history else []


def _seams(parts: Sequence[Part], markable: Sequence[bool]) -> list[int]:
    """Ends of parts that change less often than what follows; the last of them first, then the deepest."""
    stable = [
        index
        for index, part in enumerate(parts)
        if markable[index] and part.kind in {"tools", "schema", "block"} and part.volatility < PAYS_BELOW
    ]
    if not stable:
        return []
    depth = {
        index: parts[following].volatility - parts[index].volatility for index, following in pairwise(stable)
    }
    return [stable[-1], *sorted((each for each in depth if depth[each] > 0), key=lambda each: -depth[each])]
