"""Why there was no hit, to the first byte that differs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.prompts.caches import Caches, Found, MissReason
from xprim_nb.prompts.caches.reasons import first_different_byte
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.values import ResolveInput

from .helpers import RULES, keep, question


def _why(caches: Caches, asked: ResolveInput) -> MissReason:
    return caches.why_missed(request_hash(asked), asked, resolve_scaffold(asked).rendered, Found())


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_the_first_byte_that_differs(same: bytes, one: bytes, other: bytes) -> None:
    """Found by halves as by looking at one after the other."""
    now, was = same + one, same + other
    expected = next(
        (i for i, (a, b) in enumerate(zip(now, was, strict=False)) if a != b), min(len(now), len(was))
    )
    assert first_different_byte(now, was) == expected


def test_nothing_was_asked_before(caches: Caches) -> None:
    """A new base says so, and so does the first question to another model."""
    assert _why(caches, question()).kind == "first"
    keep(caches, question())
    assert _why(caches, question(model="another")).kind == "first"
    assert _why(caches, question(provider="anthropic")).kind == "first"


def test_the_byte_of_the_block_that_differs(caches: Caches) -> None:
    """A date in the middle of a style guide is found, with its place, its line and both texts."""
    old = RULES.replace("30: write", "30: on 2026-01-01 write")
    new = RULES.replace("30: write", "30: on 2026-01-02 write")
    earlier = keep(caches, question(blocks=[{"type": "style_guide", "content": old, "name": "style"}]))
    asked = question(blocks=[{"type": "style_guide", "content": new, "name": "style"}])
    reason = _why(caches, asked)
    segment = next(each for each in resolve_scaffold(asked).rendered.segments if each.kind == "block")
    expected = segment.text.encode().index(b"2026-01-02") + len("2026-01-0")
    assert (reason.kind, reason.field, reason.part) == ("content", "blocks", segment.label)
    assert reason.byte == expected
    assert reason.line == segment.text[: segment.text.index("2026-01-02")].count("\n") + 1
    assert "2 write" in reason.now
    assert "1 write" in reason.was
    assert reason.earlier == earlier
    assert f"from byte {expected}" in reason.sentence


def test_a_byte_inside_a_character_is_shown_as_characters(caches: Caches) -> None:
    """Two letters that share their first byte: the byte is exact, the excerpt is text."""
    keep(caches, question(prompt="abc é"))
    reason = _why(caches, question(prompt="abc è"))
    assert reason.byte is not None
    assert resolve_scaffold(question(prompt="abc è")).rendered.segments[-1].text.encode()[reason.byte] == 0xA8
    assert "è" in reason.now
    assert "é" in reason.was


@pytest.mark.parametrize(
    ("changes", "field", "now", "was"),
    [
        ({"temperature": 0.5}, "temperature", "0.5", "0"),
        ({"seed": 2**60}, "seed", '{"$int":"1152921504606846976"}', "null"),
        ({"sample_index": 3}, "sample_index", "3", "0"),
        ({"stop": ["END"]}, "stop", '["END"]', "[]"),
        ({"parameters": {"reasoning_effort": "high"}}, "parameters", '{"reasoning_effort":"high"}', "{}"),
        ({"endpoint": "http://localhost:1"}, "endpoint", '"http://localhost:1"', '""'),
    ],
)
def test_a_setting_that_differs_is_named(
    caches: Caches, changes: dict[str, Any], field: str, now: str, was: str
) -> None:
    """Its name, and both values, where the text is the same to the last byte."""
    keep(caches, question())
    reason = _why(caches, question(**changes))
    assert (reason.kind, reason.field, reason.now, reason.was) == ("setting", field, now, was)
    assert reason.byte is None
    assert field in reason.sentence


def test_a_setting_comes_before_a_text_and_neither_is_hidden(caches: Caches) -> None:
    """Where both differ the sentence tells both."""
    keep(caches, question())
    reason = _why(caches, question(temperature=1.0, prompt="Write the tests."))
    assert (reason.kind, reason.field) == ("setting", "temperature")
    assert reason.part in reason.also
    assert reason.byte is not None
    assert reason.part in reason.sentence


def test_the_nearest_is_the_one_that_shares_most(caches: Caches) -> None:
    """Not the latest request is compared, but the one with the longest beginning in common."""
    long = [{"role": "user", "content": f"turn {n}"} for n in range(6)]
    near = keep(caches, question(messages=long))
    keep(caches, question(messages=long[:2]))
    keep(caches, question(blocks=[{"type": "style_guide", "content": "Something else."}]))
    reason = _why(caches, question(messages=[*long[:5], {"role": "user", "content": "turn six"}]))
    assert reason.earlier == near
    assert reason.field == "messages"
    assert "six" in reason.now


def test_of_equally_near_ones_the_latest(caches: Caches) -> None:
    """Two that share as much: the later is compared."""
    keep(caches, question(prompt="one"))
    later = keep(caches, question(prompt="two"))
    assert _why(caches, question(prompt="three")).earlier == later


def test_another_order_of_the_same_blocks(caches: Caches) -> None:
    """Blocks that are sent alike and were declared otherwise are told apart by that."""
    one = {"type": "style_guide", "content": RULES}
    two = {"type": "requirements", "content": "It sorts."}
    keep(caches, question(blocks=[one, two]))
    reason = _why(caches, question(blocks=[two, one]))
    assert (reason.kind, reason.field, reason.byte) == ("order", "blocks", None)


def test_a_reason_has_a_sentence(caches: Caches) -> None:
    """Each kind is told in a sentence of its own."""
    kinds = (
        *("first", "setting", "content", "order", "renderer", "not_kept", "gone", "damaged", "version"),
        *("unavailable", "refresh", "bypass"),
    )
    sentences = {MissReason(kind).sentence for kind in kinds}  # type: ignore[arg-type]  # from a tuple of literals
    assert len(sentences) == len(kinds)
