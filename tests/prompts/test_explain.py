"""The X-ray: each planted change is found at its byte, with its kind, and with what would mend it."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from typing import Any

import pytest

from xprim_nb.prompts.differences import difference
from xprim_nb.prompts.explain import Explanation, explain
from xprim_nb.prompts.prefix import Sent
from xprim_nb.prompts.pricing import Rates
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.rules import cache_rule
from xprim_nb.prompts.tokens import TokenCount, estimate
from xprim_nb.prompts.values import ResolveInput

RATES = Rates(
    Decimal("5"), Decimal("0.5"), Decimal("6.25"), Decimal("10"), Decimal("25"), price_date="2026-11-03"
)
LONG = "Every public function has a docstring that says what comes back. " * 60
RULES = "Answers are short, and name the file and the line that they speak of. " * 60


def _asked(**changes: object) -> ResolveInput:
    whole: dict[str, object] = {
        "prompt": "What does it do?",
        "provider": "anthropic",
        "model": "claude-opus-5",
        "blocks": [
            {"type": "style_guide", "content": LONG},
            {"type": "requirements", "content": RULES},
        ],
        **changes,
    }
    return ResolveInput.model_validate(whole)


def _rendered(asked: ResolveInput) -> tuple[Rendered, list[TokenCount]]:
    rendered = resolve_scaffold(asked, count=estimate).rendered
    return rendered, [estimate(each.text) for each in rendered.segments]


def _sent(asked: ResolveInput, at_s: float = 0.0) -> Sent:
    rule = cache_rule(asked.provider, asked.model)
    assert rule is not None
    rendered, counts = _rendered(asked)
    return Sent.of(rendered, [each.count for each in counts], rule, at_s)


def _explained(
    now: ResolveInput, *before: ResolveInput, pause_s: float = 10.0, rates: Rates | str = RATES
) -> Explanation:
    rule = cache_rule(now.provider, now.model)
    assert rule is not None
    rendered, counts = _rendered(now)
    history = [_sent(each, float(number)) for number, each in enumerate(before)]
    return explain(rendered, counts, history, len(before) - 1 + pause_s, rule, rates)


def _styled(begin: str) -> ResolveInput:
    """With something before the end of the first block."""
    return _asked(
        blocks=[
            {"type": "style_guide", "content": begin + LONG},
            {"type": "requirements", "content": RULES},
        ]
    )


# What stands before the block's content, as each renderer sends it.
_TAG = len(b"<style_guide>\n")

_PLANTED = [
    ("date", "It is 2026-11-28.\n", "It is 2026-11-27.\n", 15, "date"),
    ("time", "Now: 2026-11-28T10:15:00Z\n", "Now: 2026-11-28T10:14:59Z\n", 20, "datetime"),
    (
        "uuid",
        "Run 123e4567-e89b-12d3-a456-426614174000.\n",
        "Run 123e4567-e89b-12d3-a456-426614174999.\n",
        37,
        "uuid",
    ),
    ("path", "Work in /home/anna/project.\n", "Work in /home/bert/project.\n", 14, "path"),
    ("pid", "Server pid 4711 answers.\n", "Server pid 4712 answers.\n", 14, "process"),
    ("address", "<Store at 0x7f3a2b4c5d6e>\n", "<Store at 0x7f3a2b4c5aaa>\n", 21, "address"),
    ("order of a dictionary", '{"a": 1, "b": 2}\n', '{"b": 2, "a": 1}\n', 2, "order of keys"),
    ("order of lines", "- write tests\n- be brief\n", "- be brief\n- write tests\n", 2, "order of entries"),
    ("order of a set", "Use {'ruff', 'mypy'}.\n", "Use {'mypy', 'ruff'}.\n", 6, "order of entries"),
    ("format of a number", "Threshold: 0.50 of all.\n", "Threshold: 0.5 of all.\n", 14, "number format"),
    ("another number", "Threshold: 0.50 of all.\n", "Threshold: 0.75 of all.\n", 13, "number"),
    ("whitespace", "Be brief.  Be exact.\n", "Be brief. Be exact.\n", 10, "whitespace"),
    ("an addition", "Be brief. Be kind. Go.\n", "Be brief. Go.\n", 10, "addition"),
    ("an omission", "Be brief. Go.\n", "Be brief. Be kind. Go.\n", 10, "omission"),
    ("another text", "Be brief.\n", "Be exact.\n", 3, "text"),
    ("a letter of two bytes", "Größe zählt.\n", "Größe zöhlt.\n", 10, "text"),
]


@pytest.mark.parametrize(
    ("now", "before", "byte", "kind"), [each[1:] for each in _PLANTED], ids=[each[0] for each in _PLANTED]
)
def test_a_planted_change_is_found_at_its_byte(now: str, before: str, byte: int, kind: str) -> None:
    """Block, byte, kind, both sides, and that all of the prefix is lost by it."""
    found = _explained(_styled(now), _styled(before))
    broken = found.broken
    assert broken.cause == "content"
    assert broken.segment == 0
    assert broken.difference is not None
    assert (broken.difference.byte, broken.difference.kind) == (_TAG + byte, kind)
    assert broken.offset == _TAG + byte
    mine, theirs = (f"<style_guide>\n{each}".encode() for each in (now, before))
    assert mine[: _TAG + byte] == theirs[: _TAG + byte]
    assert mine[_TAG + byte] != theirs[_TAG + byte]
    assert broken.difference.now != broken.difference.before
    assert [each.state for each in found.segments] == ["breaks", "written", "fresh"]
    assert found.prediction.read_tokens == 0
    assert len(found.advice) == 1
    assert found.advice[0].saved_tokens >= estimate(RULES).count


def test_moving_the_date_saves_what_is_promised() -> None:
    """The advice is followed, and the next call reads as many tokens as it said."""
    promised = _explained(_styled("It is 2026-11-28.\n"), _styled("It is 2026-11-27.\n")).advice[0]
    assert (
        promised.message
        == "Move the date out of 'style_guide' behind 'requirements', the last that stayed the same."
    )

    def moved(day: str) -> ResolveInput:
        return _asked(context={"today": day})

    kept = _explained(moved("2026-11-28"), moved("2026-11-27"))
    assert kept.prediction.read_tokens >= promised.saved_tokens
    assert kept.broken.segment == 2
    assert promised.saved == Decimal("5.75") * promised.saved_tokens / 1_000_000


def test_a_block_that_changes_as_a_whole_is_moved_as_a_whole() -> None:
    """A higher volatility puts it where the advice says, and the promised tokens are read."""
    promised = _explained(_styled("Be brief.\n"), _styled("Be exact.\n")).advice[0]
    assert promised.message.endswith("the last that stayed the same: give it a volatility above 30.")

    def moved(begin: str) -> ResolveInput:
        return _asked(
            blocks=[
                {"type": "style_guide", "content": begin + LONG, "volatility": 31},
                {"type": "requirements", "content": RULES},
            ]
        )

    read = _explained(moved("Be brief.\n"), moved("Be exact.\n")).prediction.read_tokens
    assert read == promised.saved_tokens


def test_a_newline_at_the_end_of_a_block_is_named() -> None:
    """The tag that ends a block does not hide what stands before it."""
    now, before = (_asked(blocks=[{"type": "style_guide", "content": LONG + end}]) for end in ("\n", ""))
    found = _explained(now, before).broken.difference
    assert found is not None
    assert (found.byte, found.kind) == (_TAG + len(LONG) + 1, "trailing newline")


def test_a_trailing_newline_and_a_unicode_form_are_named() -> None:
    """What a person cannot see is said. Blocks are normalised on their way in; texts of another origin may not be."""
    assert difference("a\n\n", "a\n") is not None
    newline = difference("Be brief.\n", "Be brief.")
    assert newline is not None
    assert (newline.byte, newline.kind) == (9, "trailing newline")
    form = difference("Caf\u00e9 noir", "Cafe\u0301 noir")
    assert form is not None
    assert (form.byte, form.kind) == (3, "unicode form")
    ends = difference("a\r\nb", "a\nb")
    assert ends is not None
    assert (ends.byte, ends.kind) == (1, "line ends")
    assert difference("same", "same") is None


def _tools(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "description": "Does one thing. " * 40} for name in names]


def test_the_order_of_tools_breaks_everything_behind_it() -> None:
    """Tools come first in what a cache sees, so that another order of them costs the whole prompt."""
    found = _explained(_asked(tools=_tools("read", "write")), _asked(tools=_tools("write", "read")))
    assert found.broken.segment == 0
    assert found.segments[0].kind == "tools"
    assert found.broken.difference is not None
    assert found.broken.difference.kind == "order of entries"
    assert found.broken.difference.byte == len('[{"name":"')
    assert found.advice[0].message.startswith("Of 'tools' sort its entries")


def test_another_model_and_another_renderer_have_no_bytes_in_common() -> None:
    """Nothing of the text changed, and everything is written again; the reason is not sought in the text."""
    found = _explained(_asked(model="claude-opus-5"), _asked(model="claude-sonnet-5"))
    assert (found.broken.cause, found.broken.segment, found.broken.offset) == ("model", 0, 0)
    assert "claude-sonnet-5" in found.broken.message
    rule = cache_rule("anthropic", "claude-opus-5")
    assert rule is not None
    rendered, counts = _rendered(_asked())
    older = dataclasses.replace(_sent(_asked()), scope=("anthropic/0", *_sent(_asked()).scope[1:]))
    assert explain(rendered, counts, [older], 1.0, rule).broken.cause == "renderer"
    local = {"provider": "vllm", "model": "m"}
    keyed = _explained(_asked(**local, cache_key="a"), _asked(**local, cache_key="b"))
    assert keyed.broken.cause == "cache key"


def test_a_prefix_that_passed_its_time_is_no_change_of_text() -> None:
    """After seven minutes of a life of five the pause is named, and a longer life advised."""
    found = _explained(_asked(), _asked(), pause_s=420.0)
    assert found.broken.cause == "expired"
    assert "7 minutes ago" in found.broken.message
    assert found.broken.difference is None
    assert found.advice[0].saved_tokens == found.prediction.expired_tokens > 1000


def test_a_prefix_below_the_minimum_is_never_kept() -> None:
    """The provider says nothing of it; the X-ray does."""
    short = _asked(blocks=[{"type": "style_guide", "content": "Be brief."}])
    for provider, model, minimum in (("anthropic", "claude-opus-5", "512"), ("openai", "gpt-5.1", "1,024")):
        there = short.model_copy(update={"provider": provider, "model": model})
        found = _explained(there, there)
        assert found.broken.cause == "minimum"
        assert minimum in found.broken.message
        assert {each.state for each in found.segments} == {"fresh"}


def test_a_breakpoint_that_moved_finds_nothing() -> None:
    """The same bytes were sent, and the mark of this call lies where no earlier one did."""
    rule = cache_rule("anthropic", "claude-opus-5")
    assert rule is not None
    rendered, counts = _rendered(_asked())
    tokens = [each.count for each in counts]

    def marked(place: int) -> Rendered:
        segments = [
            dataclasses.replace(each, breakpoint=index == place)
            for index, each in enumerate(rendered.segments)
        ]
        return dataclasses.replace(rendered, segments=tuple(segments))

    before = Sent.of(marked(1), tokens, rule, 0.0)
    found = explain(marked(0), counts, [before], 1.0, rule, RATES)
    assert found.broken.cause == "breakpoint"
    assert found.broken.segment == 2
    assert found.prediction.read_tokens == 0
    assert found.advice[0].saved_tokens > 1000


def test_what_is_read_again_is_said_to_be() -> None:
    """The same prompt with another turn: all but the turn is cached, and the money adds up."""
    found = _explained(_asked(prompt="And then?"), _asked())
    assert [each.state for each in found.segments] == ["cached", "cached", "fresh"]
    assert found.broken.cause == "nothing"
    assert found.advice == ()
    assert found.cost is not None
    assert found.uncached is not None
    assert found.cost.kind == found.uncached.kind == "estimated"
    assert sum(each.amount for each in found.segments if each.amount is not None) == found.cost.amount
    assert found.cost.amount < found.uncached.amount / 5
    assert _explained(_asked(), _asked()).broken.cause == "nothing"


def test_the_first_call_breaks_nowhere() -> None:
    """Nothing was sent before, and nothing is at fault."""
    found = _explained(_asked())
    assert found.broken.cause == "first call"
    assert [each.state for each in found.segments] == ["written", "written", "fresh"]


def test_the_nearest_call_is_the_one_compared_with() -> None:
    """Not the last one, but the one that begins most alike."""
    alike, unlike = _styled("It is 2026-11-27.\n"), _styled("Something else.\n")
    found = _explained(_styled("It is 2026-11-28.\n"), alike, unlike)
    assert found.broken.difference is not None
    assert found.broken.difference.kind == "date"


@pytest.mark.parametrize("provider", ["openai", "vllm", "sglang", "llama-cpp"])
def test_every_provider_has_its_x_ray(provider: str) -> None:
    """The byte is the same whoever keeps the prefix; what is read of it is not."""
    model = "gpt-5.6" if provider == "openai" else "m"
    now, before = (
        _asked(provider=provider, model=model, blocks=[{"type": "style_guide", "content": LONG + day}])
        for day in ("It is 2026-11-28.", "It is 2026-11-27.")
    )
    found = _explained(now, before)
    assert found.broken.difference is not None
    assert found.broken.difference.kind == "date"
    assert found.broken.difference.byte == _TAG + len(LONG) + 15
    assert (found.prediction.read_tokens > 0) is (provider != "openai")


def test_text_and_document_say_the_same() -> None:
    """A terminal and a program read one X-ray; without a price the reason stands in its place."""
    found = _explained(_styled("It is 2026-11-28.\n"), _styled("It is 2026-11-27.\n"))
    text, document = found.text(), json.loads(json.dumps(found.document()))
    assert "✗ style_guide" in text
    assert "breaks here" in text
    assert f"differs from byte {_TAG + 15}" in text
    assert "before: " in text
    assert "prices of 2026-11-03" in text
    assert document["break"]["difference"]["byte"] == _TAG + 15
    assert [each["state"] for each in document["segments"]] == ["breaks", "written", "fresh"]
    assert found.cost is not None
    assert Decimal(document["cost"]["estimated"]) == found.cost.amount
    assert document["tokens"]["method"] == "estimate"
    unpriced = _explained(_asked(), rates="Nobody knows the price.")
    assert unpriced.document()["cost"] is None
    assert unpriced.text().endswith("Nobody knows the price.")
