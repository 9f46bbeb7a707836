"""Advice is counted over calls that were made: each figure is what comes out when the change is really made."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.prompts.cache_simulators import AnthropicCache, GptCache, Simulator
from xprim_nb.prompts.caches import Call, CallPart
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.prefix import Prediction, Sent, predict
from xprim_nb.prompts.pricing import Rates
from xprim_nb.prompts.resolve import ResolvedScaffold, resolve_scaffold
from xprim_nb.prompts.rules import cache_rule
from xprim_nb.prompts.telemetry import Advice, optimize
from xprim_nb.prompts.values import ResolveInput

_RATES = Rates(Decimal(5), Decimal("0.5"), Decimal("6.25"), Decimal(10), Decimal(25))


def _encode(text: str) -> tuple[int, ...]:
    return tuple(hash(word) for word in text.split(" "))


def _count(text: str) -> int:
    return len(_encode(text))


def _prose(name: str, words: int) -> str:
    dice = random.Random(name)
    return " ".join(f"{dice.randrange(10_000)}" for _ in range(words))


@dataclass(frozen=True)
class _Turn:
    """One call of a session: when, and which version of each block it has."""

    at: float
    versions: tuple[int, ...]


def _session(
    turns: Sequence[_Turn],
    volatilities: Sequence[int],
    *,
    provider: str,
    model: str,
    talks: bool = False,
    **changes: Any,
) -> list[tuple[float, ResolveInput]]:
    talk: list[dict[str, str]] = []
    asked = []
    for place, turn in enumerate(turns):
        blocks = [
            {
                "type": "requirements",
                "name": f"block{index}",
                "content": _prose(f"{index} {version}", 900),
                "volatility": volatility,
            }
            for index, (version, volatility) in enumerate(zip(turn.versions, volatilities, strict=True))
        ]
        whole: dict[str, Any] = {
            "prompt": _prose(f"turn {place}", 30),
            "provider": provider,
            "model": model,
            "blocks": blocks,
        }
        asked.append((turn.at, ResolveInput.model_validate({**whole, "messages": list(talk), **changes})))
        if talks:
            talk += [
                {"role": "user", "content": whole["prompt"]},
                {"role": "assistant", "content": f"answer {place}"},
            ]
    return asked


def _resolved(asked: ResolveInput) -> ResolvedScaffold:
    return resolve_scaffold(asked, count=_count)


def _recorded(session: Sequence[tuple[float, ResolveInput]]) -> list[Call]:
    """What the caches would have recorded of it."""
    calls = []
    for at, asked in session:
        resolved = _resolved(asked)
        rendered = resolved.rendered
        rule = cache_rule(rendered.provider, rendered.model)
        assert rule is not None
        sent = Sent.of(rendered, resolved.segment_tokens, rule, at)
        parts = tuple(
            CallPart(each.kind, each.label, each.hash, prefix, count, each.volatility, each.breakpoint)
            for each, prefix, count in zip(
                rendered.segments, rendered.prefixes, resolved.segment_tokens, strict=True
            )
        )
        calls.append(
            Call(
                *(request_hash(asked), asked.provider, asked.model, at, rendered.renderer, parts),
                ttl=asked.prefix_ttl,
                scope=sent.scope,
                marks=sent.marks,
                looked=sent.looked,
                scaffold_type=asked.scaffold_type,
            )
        )
    return calls


def _predicted(session: Sequence[tuple[float, ResolveInput]]) -> list[Prediction]:
    """What `predict` says of prompts that are really rendered; texts are forgotten, as the record does."""
    history: list[Sent] = []
    found = []
    for at, asked in session:
        resolved = _resolved(asked)
        rule = cache_rule(asked.provider, asked.model)
        assert rule is not None
        found.append(predict(resolved.rendered, resolved.segment_tokens, history, at, rule))
        history.append(replace(Sent.of(resolved.rendered, resolved.segment_tokens, rule, at), texts=()))
    return found


def _read(predictions: Sequence[Prediction]) -> int:
    return sum(each.read_tokens for each in predictions)


def _paid(predictions: Sequence[Prediction]) -> Decimal:
    return sum((_RATES.amount(each.usage()) for each in predictions), Decimal(0))


def _of(advice: Sequence[Advice], kind: str) -> list[Advice]:
    return [each for each in advice if each.kind == kind]


def _moved(advice: Advice, volatilities: Sequence[int]) -> list[int]:
    """What the advice says to do, done."""
    index = int(advice.how.split("'")[1].removeprefix("block"))
    volatility = int(advice.how.split("volatility=")[1].split(":")[0])
    return [volatility if place == index else each for place, each in enumerate(volatilities)]


_FIRST_CHANGES = [_Turn(1000.0 + 60 * place, (place, 0, 0)) for place in range(12)]


def test_a_block_that_changes_each_time_should_stand_last() -> None:
    """A date before two blocks that never change: the advice names the move, its saving to the token, and the way."""
    session = _session(_FIRST_CHANGES, (10, 20, 30), provider="anthropic", model="claude-opus-5")
    (advice,) = _of(optimize(_recorded(session), rates=lambda call: _RATES), "move")
    counts = _resolved(session[0][1]).segment_tokens
    assert advice.saved_tokens == 11 * (counts[1] + counts[2])
    assert advice.message == (
        f"Moving 'block0' after 'block2' would have saved {11 * (counts[1] + counts[2]):,} tokens in the last 12 calls "
        "to claude-opus-5."
    )
    moved = _session(_FIRST_CHANGES, (100, 20, 30), provider="anthropic", model="claude-opus-5")
    assert advice.how.startswith("Give 'block0' volatility=100:")
    assert advice.saved == _paid(_predicted(session)) - _paid(_predicted(moved))
    assert _of(optimize(_recorded(moved)), "move") == []


@settings(max_examples=40, deadline=None)
@given(
    whom=st.sampled_from(
        [
            ("anthropic", "claude-opus-5"),
            ("openai", "gpt-5.6"),
            ("openai", "gpt-4o"),
            ("vllm", "m"),
            ("llama-cpp", "m"),
        ]
    ),
    steps=st.lists(
        st.tuples(st.sampled_from([10, 200, 400, 4000]), st.tuples(*[st.integers(0, 2)] * 4)),
        min_size=2,
        max_size=8,
    ),
    volatilities=st.lists(st.sampled_from([10, 20, 40, 70, 90]), min_size=4, max_size=4),
    talks=st.booleans(),
)
def test_what_is_claimed_is_what_comes_of_it(
    whom: tuple[str, str], steps: list[tuple[int, tuple[int, ...]]], volatilities: list[int], talks: bool
) -> None:
    """For any session: rendered anew as the advice says, it is predicted to read and to cost just so much less."""
    at, turns = 1000.0, []
    for pause, versions in steps:
        at += pause
        turns.append(_Turn(at, versions))
    session = _session(turns, volatilities, provider=whom[0], model=whom[1], talks=talks)
    for advice in _of(optimize(_recorded(session), rates=lambda call: _RATES), "move"):
        changed = _session(turns, _moved(advice, volatilities), provider=whom[0], model=whom[1], talks=talks)
        before, after = _predicted(session), _predicted(changed)
        assert advice.saved_tokens == _read(after) - _read(before) > 0
        assert advice.saved == _paid(before) - _paid(after)


@pytest.mark.parametrize(
    ("provider", "model", "simulator"),
    [
        ("anthropic", "claude-opus-5", lambda: AnthropicCache(_encode, 512)),
        ("openai", "gpt-5.6", lambda: GptCache(_encode)),
    ],
)
def test_a_cache_that_knows_nothing_of_ours_agrees(
    provider: str, model: str, simulator: Callable[[], Simulator]
) -> None:
    """A provider's cache, written from its page alone, reads so many tokens more when the advice is followed."""
    session = _session(_FIRST_CHANGES, (10, 20, 30), provider=provider, model=model)
    (advice,) = _of(optimize(_recorded(session)), "move")
    changed = _session(_FIRST_CHANGES, _moved(advice, (10, 20, 30)), provider=provider, model=model)
    before, after = simulator(), simulator()
    read = sum(before.call(_resolved(asked).rendered.body, at).read for at, asked in session)
    then = sum(after.call(_resolved(asked).rendered.body, at).read for at, asked in changed)
    assert then > read
    assert abs(advice.saved_tokens - (then - read)) <= 0.02 * (then - read)


def test_a_longer_life_pays_where_people_pause() -> None:
    """Ten minutes between calls: an hour would have paid, by the difference of two rendered sessions, and not twice."""
    turns = [_Turn(1000.0 + 600 * place, (0, 0)) for place in range(10)]
    whom: dict[str, Any] = {"provider": "anthropic", "model": "claude-opus-5"}
    short = _session(turns, (10, 20), **whom)
    long = _session(turns, (10, 20), **whom, prefix_ttl="1h")
    (advice,) = _of(optimize(_recorded(short), rates=lambda call: _RATES), "lifetime")
    assert advice.how == "Ask with prefix_ttl='1h'."
    assert advice.saved == _paid(_predicted(short)) - _paid(_predicted(long))
    assert advice.saved_tokens == _read(_predicted(long)) - _read(_predicted(short)) > 0
    assert _of(optimize(_recorded(long), rates=lambda call: _RATES), "lifetime") == []
    assert _of(optimize(_recorded(short)), "lifetime") == []  # no prices, no advice about money


def test_a_shorter_life_does_where_nobody_pauses() -> None:
    """A minute between calls: the hour that is asked for is paid for in vain."""
    turns = [_Turn(1000.0 + 60 * place, (0, place // 3)) for place in range(10)]
    session = _session(turns, (10, 20), provider="anthropic", model="claude-opus-5", prefix_ttl="1h")
    (advice,) = _of(optimize(_recorded(session), rates=lambda call: _RATES), "lifetime")
    assert (advice.how, advice.saved_tokens) == ("Ask with prefix_ttl='5m'.", 0)
    assert advice.saved is not None
    assert advice.saved > 0


def test_what_nobody_reads_should_not_be_written() -> None:
    """All changes each time: the premium on writes is what unmarked blocks save; with one read there is no such advice."""
    turns = [_Turn(1000.0 + 60 * place, (place, place)) for place in range(8)]
    whom: dict[str, Any] = {"provider": "anthropic", "model": "claude-opus-5"}
    session = _session(turns, (10, 20), **whom)
    (advice,) = _of(optimize(_recorded(session), rates=lambda call: _RATES), "unread")
    plain = _session(turns, (78, 78), **whom)
    assert advice.saved == _paid(_predicted(session)) - _paid(_predicted(plain)) > 0
    written = sum(each.write_5m_tokens for each in _predicted(session))
    assert advice.saved_tokens == written > 0
    again = [*turns, _Turn(1500.0, (7, 7))]
    assert (
        _of(optimize(_recorded(_session(again, (10, 20), **whom)), rates=lambda call: _RATES), "unread") == []
    )


def test_only_bills_compare_models() -> None:
    """Twenty bills on both sides, of one kind of prompt; estimates and a handful say nothing."""
    session = _session(
        [_Turn(1000.0, (0, 0))], (10, 20), provider="anthropic", model="claude-opus-5", scaffold_type="t"
    )
    (call,) = _recorded(session)
    dear = [replace(call, at=1000.0 + n, cost="0.02", cost_kind="billed") for n in range(20)]
    cheap = [replace(each, provider="openai", model="gpt-5.6", cost="0.005", parts=()) for each in dear]
    (advice,) = _of(optimize([*dear, *cheap]), "model")
    assert (advice.model, advice.saved, advice.calls) == ("claude-opus-5", Decimal("0.300"), 20)
    assert "model='gpt-5.6'" in advice.how
    assert _of(optimize([*dear, *cheap[:19]]), "model") == []
    assert _of(optimize([*dear, *(replace(each, cost_kind="estimated") for each in cheap)]), "model") == []
    assert _of(optimize([*dear, *(replace(each, scaffold_type="u") for each in cheap)]), "model") == []


def test_where_it_cannot_be_told_there_is_no_advice() -> None:
    """Nobody counted, an unknown cache, marks placed in another manner, two endpoints: nothing is claimed."""
    calls = _recorded(_session(_FIRST_CHANGES, (10, 20, 30), provider="anthropic", model="claude-opus-5"))
    assert optimize(calls)
    uncounted = [replace(each, parts=tuple(replace(part, tokens=0) for part in each.parts)) for each in calls]
    assert optimize(uncounted) == ()
    assert optimize([replace(each, provider="somebody") for each in calls]) == ()
    assert optimize([replace(each, marks=()) for each in calls]) == ()
    same = _recorded(_session([_Turn(1.0, (0, 0)), _Turn(2.0, (0, 1))], (10, 20), provider="vllm", model="m"))
    elsewhere = replace(
        same[1], parts=(replace(same[1].parts[0], prefix=same[1].parts[1].prefix), *same[1].parts[1:])
    )
    assert optimize([same[0], elsewhere]) == ()
    assert optimize([]) == ()


def test_only_the_last_calls_count() -> None:
    """What was mended since brings no advice."""
    old = _session(_FIRST_CHANGES, (10, 20, 30), provider="anthropic", model="claude-opus-5")
    turns = [_Turn(5000.0 + place, (0, 0, 0)) for place in range(6)]
    new = _session(turns, (10, 20, 30), provider="anthropic", model="claude-opus-5")
    assert _of(optimize(_recorded([*old, *new])), "move")
    assert _of(optimize(_recorded([*old, *new]), last=6), "move") == []
