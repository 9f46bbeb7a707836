"""What a provider will find in its cache: within 2 % of simulators that were written from the rules on their own."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import splintr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.prompts.cache_simulators import (
    AnthropicCache,
    GptCache,
    LlamaSlot,
    OldGptCache,
    RadixCache,
    Simulator,
    VllmCache,
)
from xprim_nb.errors import PromptError
from xprim_nb.prompts.prefix import Prediction, Sent, common_letters, predict
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.rules import CacheRule, cache_rule
from xprim_nb.prompts.values import ResolveInput

_WORDS = (
    "the a of to and in it that was for on with as his they be at one have this from or had by word but what some we can "
    "out other were all there when up use your how said an each she which do their time if will way about many then them "
    "write would like so these her long make thing see him two has look more day could go come did number sound no most "
    "people my over know water than call first who may down side been now find any new work part take get place made"
).split()


@functools.cache
def _tokenizer() -> Any:
    return splintr.Tokenizer.from_pretrained("o200k_base")


@functools.lru_cache(maxsize=4096)
def _encode(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer().encode(text))


def _count(text: str) -> int:
    return len(_encode(text))


def _prose(dice: random.Random, words: int) -> str:
    return " ".join(dice.choice(_WORDS) for _ in range(words)).capitalize() + "."


def _session(provider: str, model: str, seed: int) -> Iterator[tuple[float, ResolveInput]]:
    """Fifty turns as people have them: edits of files, pauses for coffee and for the night, a prompt that is asked twice."""
    dice = random.Random(seed)
    style, requirements = _prose(dice, 700), _prose(dice, 900)
    files = {f"src/module_{number}.py": _prose(dice, 250) for number in range(6)}
    messages: list[dict[str, str]] = []
    now = 1000.0
    for turn in range(50):
        now += dice.choice([5, 20, 40, 90, 150, 280, 320, 1500, 2500, 5000])
        if turn % 9 == 4:
            name = dice.choice(sorted(files))
            files[name] = files[name][: dice.randint(20, 400)] + _prose(dice, 80)
        if turn % 17 == 11:
            requirements += " " + _prose(dice, 30)
        if turn % 13 == 12:
            messages = messages[-4:]  # what an agent does when its context is full
        prompt = _prose(dice, dice.randint(5, 60))
        asked = ResolveInput.model_validate(
            {
                "prompt": prompt,
                "provider": provider,
                "model": model,
                "blocks": [
                    {"type": "requirements", "content": requirements},
                    {"type": "file_map", "files": files},
                    {"type": "style_guide", "content": style},
                ],
                "tools": [
                    {"name": f"tool_{number}", "description": _prose(random.Random(number), 20)}
                    for number in range(3)
                ],
                "messages": messages,
                "prefix_ttl": "1h" if seed % 2 else "5m",
            }
        )
        yield now, asked
        messages = [
            *messages,
            {"role": "user", "content": prompt},
            *(
                {"role": role, "content": _prose(dice, dice.randint(20, 120))}
                for role in ["assistant", *["user", "assistant"] * dice.choice([0, 0, 0, 1, 4, 12])]
            ),
        ]


def _rule(provider: str, model: str) -> CacheRule:
    rule = cache_rule(provider, model)
    assert rule is not None
    return rule


def _rendered(asked: ResolveInput) -> tuple[Rendered, tuple[int, ...]]:
    resolved = resolve_scaffold(asked, count=_count)
    return resolved.rendered, resolved.segment_tokens


_CASES: list[tuple[str, str, Callable[[], Simulator]]] = [
    ("anthropic", "claude-opus-5", lambda: AnthropicCache(_encode, 512)),
    ("anthropic", "claude-haiku-4-5", lambda: AnthropicCache(_encode, 4096)),
    ("openai", "gpt-5.1", lambda: OldGptCache(_encode)),
    ("openai", "gpt-5.6", lambda: GptCache(_encode)),
    ("vllm", "Qwen/Qwen3-8B", lambda: VllmCache(_encode)),
    ("sglang", "Qwen/Qwen3-8B", lambda: RadixCache(_encode)),
    ("llama-cpp", "qwen3-8b", lambda: LlamaSlot(_encode)),
]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("provider", "model", "simulator"), _CASES, ids=[f"{a}-{b}" for a, b, _ in _CASES])
def test_fifty_turns_are_predicted_within_two_percent(
    provider: str,
    model: str,
    simulator: Callable[[], Simulator],
    seed: int,
    record_property: Callable[..., None],
) -> None:
    """Reads and writes over a whole session, and the reads of each single call, against the simulator."""
    rule, provider_cache, history = _rule(provider, model), simulator(), list[Sent]()
    read = true_read = written = true_written = whole = 0
    for now, asked in _session(provider, model, seed):
        rendered, tokens = _rendered(asked)
        predicted = predict(rendered, tokens, history, now, rule)
        true = provider_cache.call(rendered.body, now)
        history.append(Sent.of(rendered, tokens, rule, now))
        assert predicted.tokens == true.total
        read, true_read = read + predicted.read_tokens, true_read + true.read
        written += predicted.write_5m_tokens + predicted.write_1h_tokens
        true_written += true.written_5m + true.written_1h
        whole += true.total
        assert abs(predicted.read_tokens - true.read) <= 0.02 * true.total
        assert abs(predicted.write_1h_tokens - true.written_1h) <= 0.02 * true.total
    record_property("read_error", abs(read - true_read) / true_read)
    assert (
        0.1 < true_read / whole < 0.999
    )  # a session in which nothing, or everything, is found shows nothing
    assert abs(read - true_read) <= 0.02 * true_read
    assert abs(written - true_written) <= 0.02 * max(true_written, 1)


def _call(**changes: object) -> ResolveInput:
    dice = random.Random(3)
    whole: dict[str, object] = {
        "prompt": "Go on.",
        "provider": "anthropic",
        "model": "claude-opus-5",
        "blocks": [
            {"type": "style_guide", "content": _prose(dice, 600)},
            {"type": "requirements", "content": _prose(dice, 600)},
        ],
        **changes,
    }
    return ResolveInput.model_validate(whole)


def _twice(first: ResolveInput, second: ResolveInput, pause_s: float) -> tuple[Prediction, Prediction]:
    """Both calls, the second so many seconds after the first."""
    rule = _rule(first.provider, first.model)
    rendered, tokens = _rendered(first)
    before = predict(rendered, tokens, [], 0.0, rule)
    sent = Sent.of(rendered, tokens, rule, 0.0)
    rendered, tokens = _rendered(second)
    return before, predict(rendered, tokens, [sent], pause_s, rule)


def test_what_is_written_once_is_read_the_next_time() -> None:
    """The first call writes up to the last mark; the second reads that, and pays the turn alone."""
    first, second = _twice(_call(), _call(prompt="And then?"), 10)
    assert (first.read_tokens, first.write_5m_tokens) == (0, second.read_tokens)
    assert second.read_tokens > 1000
    assert second.fresh_tokens == _count("And then?")
    assert [share.read > 0 for share in second.shares] == [True, True, False]
    assert first.usage().input_tokens == first.tokens
    assert not first.usage().reported


def test_a_prefix_lives_its_time_and_no_longer() -> None:
    """Five minutes unasked, an hour where it was asked for; what has passed is said."""
    _, in_time = _twice(_call(), _call(), 299)
    _, late = _twice(_call(), _call(), 301)
    _, of_an_hour = _twice(_call(prefix_ttl="1h"), _call(prefix_ttl="1h"), 3599)
    assert in_time.read_tokens > 0
    assert (late.read_tokens, late.expired_tokens) == (0, in_time.read_tokens)
    assert of_an_hour.read_tokens == in_time.read_tokens
    first, _ = _twice(_call(prefix_ttl="1h"), _call(), 1)
    assert (first.write_5m_tokens, first.write_1h_tokens) == (0, in_time.read_tokens)


def test_a_read_starts_the_clock_anew() -> None:
    """Three calls four minutes apart keep one prefix alive beyond its five minutes."""
    rule = _rule("anthropic", "claude-opus-5")
    rendered, tokens = _rendered(_call())
    other, other_tokens = _rendered(_call(blocks=[{"type": "style_guide", "content": "Another prompt."}]))
    history = [Sent.of(rendered, tokens, rule, at) for at in (0.0, 240.0)]
    between = Sent.of(other, other_tokens, rule, 240.0)
    assert predict(rendered, tokens, history, 480.0, rule).read_tokens > 0
    assert predict(rendered, tokens, [history[0], between], 480.0, rule).read_tokens == 0


def test_another_scope_shares_nothing() -> None:
    """Neither another model's cache nor another key's is read."""
    for model in ("claude-sonnet-5", "claude-opus-4-8"):
        _, second = _twice(_call(), _call(model=model), 1)
        assert second.read_tokens == 0
    for key, is_read in (("a", True), ("b", False)):
        first = _call(provider="vllm", model="m", cache_key="a")
        _, second = _twice(first, _call(provider="vllm", model="m", cache_key=key), 1)
        assert (second.read_tokens > 0) is is_read


def test_without_texts_no_part_of_a_segment_is_found() -> None:
    """Whoever kept hashes alone is told less, never more."""
    rule = _rule("sglang", "m")
    rendered, tokens = _rendered(_call(provider="sglang", model="m"))
    other, other_tokens = _rendered(_call(provider="sglang", model="m", prompt="Go on, and on."))
    sent = Sent.of(rendered, tokens, rule, 0.0)
    bare = dataclasses.replace(sent, texts=())
    whole = predict(other, other_tokens, [bare], 1.0, rule).read_tokens
    assert whole == sum(tokens[:2])
    exact = predict(other, other_tokens, [sent], 1.0, rule, count=_count).read_tokens
    assert exact == whole + _count("Go on")


def test_too_many_marks_and_too_few_counts_are_refused() -> None:
    """The provider would refuse the one, and the other has no meaning."""
    rule = _rule("anthropic", "claude-opus-5")
    rendered, tokens = _rendered(_call(messages=[{"role": "user", "content": "a"}] * 5))
    marked = dataclasses.replace(
        rendered, segments=tuple(dataclasses.replace(each, breakpoint=True) for each in rendered.segments)
    )
    with pytest.raises(PromptError, match="has 8 cache breakpoints, and anthropic takes 4"):
        predict(marked, tokens, [], 0.0, rule)
    with pytest.raises(ValueError, match="1 counts for 8 segments"):
        predict(rendered, tokens[:1], [], 0.0, rule)


@given(one=st.text("ab", max_size=30), other=st.text("ab", max_size=30))
def test_the_common_beginning_is_what_letters_say(one: str, other: str) -> None:
    """Halving finds what comparing letter by letter finds."""
    slow = 0
    while slow < min(len(one), len(other)) and one[slow] == other[slow]:
        slow += 1
    assert common_letters(one, other) == slow


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
    calls=st.lists(
        st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 5000)),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=60, deadline=None)
def test_shares_always_add_up(whom: tuple[str, str], calls: list[tuple[list[int], int]]) -> None:
    """Of any history: nothing is negative or counted twice, and the shares of each segment are its tokens."""
    rule, history, now = _rule(*whom), list[Sent](), 0.0
    for blocks, pause in calls:
        now += pause
        asked = _call(
            provider=whom[0],
            model=whom[1],
            blocks=[
                {"type": "style_guide", "content": f"{number} " * 400 * (number + 1)} for number in blocks
            ],
        )
        rendered, tokens = _rendered(asked)
        found = predict(rendered, tokens, history, now, rule)
        assert [share.tokens for share in found.shares] == list(tokens)
        assert all(min(share.read, share.written, share.fresh) >= 0 for share in found.shares)
        assert sum(share.read for share in found.shares) == found.read_tokens
        written = found.write_5m_tokens + found.write_1h_tokens
        assert sum(share.written for share in found.shares) == written
        assert sum(share.fresh for share in found.shares) == found.fresh_tokens
        assert found.expired_tokens >= 0
        usage = found.usage()
        assert usage.fresh_tokens == found.fresh_tokens
        history.append(Sent.of(rendered, tokens, rule, now))


def test_a_slot_holds_one_conversation_and_a_server_many() -> None:
    """After another prompt llama.cpp has forgotten the first; vLLM and SGLang have not."""
    simulators: dict[str, Simulator] = {
        "llama-cpp": LlamaSlot(_encode),
        "vllm": VllmCache(_encode),
        "sglang": RadixCache(_encode),
    }
    for provider, simulator in simulators.items():
        rule, history, read = _rule(provider, "m"), list[Sent](), list[int]()
        one = _call(provider=provider, model="m")
        other = _call(
            provider=provider, model="m", blocks=[{"type": "style_guide", "content": "Other. " * 300}]
        )
        for at, asked in enumerate((one, other, one, one)):
            rendered, tokens = _rendered(asked)
            found = predict(rendered, tokens, history, float(at), rule, count=_count).read_tokens
            # Where two texts part within a word, a token that only one of them has may begin before the place.
            assert abs(found - simulator.call(rendered.body, float(at)).read) <= 2
            history.append(Sent.of(rendered, tokens, rule, float(at)))
            read.append(found)
        assert read[3] > 1000
        assert (read[2] > 1000) is (provider != "llama-cpp")


def test_a_mark_below_the_minimum_keeps_nothing() -> None:
    """It is taken, and is in vain: neither written nor found."""
    rule = _rule("anthropic", "claude-opus-4-6")
    rendered = resolve_scaffold(_call(model="claude-opus-4-6")).rendered  # nobody counted, so marks are set
    tokens = tuple(_count(each.text) for each in rendered.segments)
    assert any(each.breakpoint for each in rendered.segments)
    assert sum(tokens) < rule.minimum_tokens
    first = predict(rendered, tokens, [], 0.0, rule)
    second = predict(rendered, tokens, [Sent.of(rendered, tokens, rule, 0.0)], 1.0, rule)
    assert first.fresh_tokens == second.fresh_tokens == sum(tokens)
    assert second.expired_tokens == 0
