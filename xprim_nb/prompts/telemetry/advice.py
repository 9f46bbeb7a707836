"""What would have been better, counted over the calls that were really made. Pure.

    move       a block that changes often stands before one that does not: so much more would have been read
    lifetime   a longer one would have outlived the pauses, or a shorter one would have done
    unread     what was written to the provider's cache was read by nobody
    model      the same kind of prompt was answered for less by another model, by the bills of both

Each figure is what `replay` finds when the change is really made to the recorded calls, beginning with an empty cache as
the unchanged calls do. Where the price is unknown no money is named, and advice that is about money alone is not given.

Source: spec 6 §Telemetry ("counterfactual recommendations"); research/prompts §6 (7), §9 (2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from xprim_nb._text import format_count
from xprim_nb.prompts.breakpoints import PAYS_BELOW, WANTED_S
from xprim_nb.prompts.caches import Call
from xprim_nb.prompts.prefix import Prediction
from xprim_nb.prompts.pricing import Rates
from xprim_nb.prompts.telemetry.replay import Change, Replay, replayable, with_ttl, with_volatility
from xprim_nb.prompts.values import Ttl

__all__ = ["Advice", "AdviceKind", "RatesOf", "optimize"]

AdviceKind: TypeAlias = Literal["move", "lifetime", "unread", "model"]
RatesOf: TypeAlias = Callable[[Call], Rates | None]
"""The prices of a call's tokens; None where nobody knows them."""

# As many calls as people have in mind when they ask what they could do better.
_LOOKED_AT: Final = 50
# Fewer writes that nobody read may yet be read; two bills are no comparison.
_ENOUGH_WRITES: Final = 5
_ENOUGH_BILLS: Final = 20


@dataclass(frozen=True, slots=True)
class Advice:
    """One change, and what it would have brought.

    Attributes:
        kind: What sort of change.
        provider: Of which calls.
        model: The same.
        scaffold_type: The same.
        message: What it would have brought, in one sentence.
        how: What to do, in one sentence.
        saved_tokens: What more would have been read from the provider's cache; of `unread`, what need not have been
            written; below zero where less would be read for less money.
        saved: In US dollars, an estimate; None where nobody knows the prices.
        calls: Over how many calls that is counted.
    """

    kind: AdviceKind
    provider: str
    model: str
    scaffold_type: str
    message: str
    how: str
    saved_tokens: int
    saved: Decimal | None
    calls: int

    def document(self) -> dict[str, Any]:
        """As JSON; money as text, so that no digit is lost."""
        told = {name: getattr(self, name) for name in self.__slots__}
        return told | {"saved": None if self.saved is None else str(self.saved)}

    def __str__(self) -> str:
        return f"{self.message} {self.how}"


def optimize(
    calls: Iterable[Call], *, rates: RatesOf | None = None, last: int = _LOOKED_AT
) -> tuple[Advice, ...]:
    """What would have been better; of each sort the best for each kind of prompt, the largest saving first.

    Args:
        calls: What was sent, of any models; `Caches.calls` tells.
        rates: Knows prices; without it no advice is about money.
        last: So many calls of each model are looked at.
    """
    listed = list(calls)
    groups: dict[tuple[str, ...], list[Call]] = defaultdict(list)
    for call in listed:
        groups[call.provider, call.model, call.renderer].append(call)
    found: list[Advice] = []
    for group in groups.values():
        replay = replayable(sorted(group, key=lambda each: each.at)[-last:])
        for kind in dict.fromkeys(call.scaffold_type for call in replay.calls) if replay else ():
            assert replay is not None
            study = _Study(replay, kind, rates)
            found += [each for each in (study.move(), study.lifetime(), study.unread()) if each]
    found += _cheaper_models(listed)
    return tuple(
        sorted(found, key=lambda each: (-(each.saved or Decimal(0)), -each.saved_tokens, each.message))
    )


class _Study:
    """One kind of prompt among the calls to a model: others' calls are replayed as they were."""

    def __init__(self, replay: Replay, kind: str, rates: RatesOf | None) -> None:
        self._replay, self._kind, self._rates = replay, kind, rates
        self._own = [call for call in replay.calls if call.scaffold_type == kind]
        self._before = self._money(replay.before)

    def move(self) -> Advice | None:
        """The one move of a block that saves most tokens."""
        best: Advice | None = None
        for label, after, volatility in _moves(self._own):
            predicted = self._after(lambda call: with_volatility(call, {label: volatility}))  # noqa: B023  # used at once
            saved = _read(predicted) - _read(self._replay.before)
            if saved > (best.saved_tokens if best else 0):
                best = self._advice(
                    "move",
                    f"Moving {label!r} after {after!r} would have saved {format_count(saved, 'token')} in {self._last}.",
                    f"Give {label!r} volatility={volatility}: it is sent after whatever changes less often.",
                    saved,
                    predicted,
                )
        return best

    def lifetime(self) -> Advice | None:
        """Another lifetime, where it would have been cheaper."""
        ttls = {call.ttl for call in self._own}
        rule = self._replay.rule
        if (
            len(ttls) != 1
            or not rule.can_be_told
            or rule.lifetime(WANTED_S["5m"]) == rule.lifetime(WANTED_S["1h"])
        ):
            return None
        other: Ttl = "1h" if ttls == {"5m"} else "5m"
        predicted = self._after(lambda call: with_ttl(call, other))
        advice = self._advice(
            "lifetime",
            f"A prefix kept for {rule.lifetime(WANTED_S[other])} would have paid in {self._last}.",
            f"Ask with prefix_ttl={other!r}.",
            _read(predicted) - _read(self._replay.before),
            predicted,
        )
        return advice if advice.saved is not None and advice.saved > 0 else None

    def unread(self) -> Advice | None:
        """Nothing marked, where nothing that was written was read."""
        pairs = zip(self._replay.calls, self._replay.before, strict=True)
        own = [(call, each) for call, each in pairs if call.scaffold_type == self._kind]
        writes = sum(1 for _, each in own if _written([each]))
        was_read = any(
            each.read_tokens or (call.usage and call.usage.cache_read_tokens) for call, each in own
        )
        if writes < _ENOUGH_WRITES or was_read:
            return None
        predicted = self._after(_unmarked)
        spared = _written(self._replay.before) - _written(predicted)
        advice = self._advice(
            "unread",
            f"Nobody read the {format_count(spared, 'token')} that {self._last} wrote to the cache.",
            f"Give the blocks volatility={PAYS_BELOW} or more: what changes so often is not marked.",
            spared,
            predicted,
        )
        return advice if advice.saved is not None and advice.saved > 0 else None

    @property
    def _last(self) -> str:
        return f"the last {format_count(len(self._own), 'call')} to {self._own[-1].model}"

    def _after(self, change: Change) -> tuple[Prediction, ...]:
        return self._replay.after(lambda call: change(call) if call.scaffold_type == self._kind else call)

    def _advice(
        self, kind: AdviceKind, message: str, how: str, tokens: int, predicted: Sequence[Prediction]
    ) -> Advice:
        after = self._money(predicted)
        saved = None if self._before is None or after is None else self._before - after
        last = self._own[-1]
        return Advice(
            kind, last.provider, last.model, self._kind, message, how, tokens, saved, len(self._own)
        )

    def _money(self, predicted: Sequence[Prediction]) -> Decimal | None:
        """What the prompts would cost; None when the price of one is unknown."""
        total = Decimal(0)
        for call, each in zip(self._replay.calls, predicted, strict=True):
            rates = self._rates(call) if self._rates else None
            if rates is None:
                return None
            total += rates.amount(each.usage())
        return total


def _moves(calls: Sequence[Call]) -> Iterator[tuple[str, str, int]]:
    """Blocks that change, where each could stand, and the volatility that puts it there and nowhere else.

    1. Only a label that each call has once can be moved. 2. No block may have that volatility already: the declared
    order, which is not recorded, would then decide.
    """
    last = [part for part in calls[-1].parts if part.kind == "block"]
    taken = {part.volatility for call in calls for part in call.parts if part.kind == "block"}
    for place, part in enumerate(last):
        hashes = [
            [each.hash for each in call.parts if each.kind == "block" and each.label == part.label]
            for call in calls
        ]
        if any(len(each) != 1 for each in hashes) or len({each[0] for each in hashes}) == 1:
            continue
        changes = sum(one != other for one, other in pairwise(hashes))
        changed = 100 * changes // max(1, len(hashes) - 1)
        for index in range(place + 1, len(last)):
            lowest = last[index].volatility + 1
            following = last[index + 1].volatility if index + 1 < len(last) else 101
            # How often it really changes, as far as that leaves it in this place: marks are set by that.
            for each in dict.fromkeys((min(max(lowest, changed), following - 1), lowest)):
                if lowest <= each < following and each not in taken:
                    yield part.label, last[index].label, each


def _unmarked(call: Call) -> Call:
    return with_volatility(
        call,
        {part.label: max(part.volatility, PAYS_BELOW) for part in call.parts if part.kind == "block"},
    )


def _read(predicted: Iterable[Prediction]) -> int:
    return sum(each.read_tokens for each in predicted)


def _written(predicted: Iterable[Prediction]) -> int:
    return sum(each.write_5m_tokens + each.write_1h_tokens for each in predicted)


def _cheaper_models(calls: Iterable[Call]) -> Iterator[Advice]:
    """For each kind of prompt and each model, the one that was billed least for a call of the same kind."""
    bills: dict[str, dict[tuple[str, str], list[Decimal]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        if call.cost and call.cost_kind == "billed" and call.finish in ("stop", "tool_calls"):
            bills[call.scaffold_type][call.provider, call.model].append(Decimal(call.cost))
    for kind, models in bills.items():
        means = {
            model: sum(each, Decimal(0)) / len(each)
            for model, each in models.items()
            if len(each) >= _ENOUGH_BILLS
        }
        if len(means) < 2:
            continue
        best = min(means, key=lambda model: (means[model], model))
        for (provider, model), mean in means.items():
            count = len(models[provider, model])
            if mean > means[best]:
                yield Advice(
                    "model",
                    provider,
                    model,
                    kind,
                    f"A call of the kind {kind!r} was billed ${means[best]:.6f} by {best[1]} (mean of "
                    f"{len(models[best])}) and ${mean:.6f} by {model} (of {count}).",
                    f"Try provider={best[0]!r}, model={best[1]!r}, and compare the answers: bills say nothing of them.",
                    0,
                    (mean - means[best]) * count,
                    count,
                )
