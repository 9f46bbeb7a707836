"""`stops`: what comes out does not depend on how the text was cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.workers.backends.stops import StopText

_LETTERS = st.text("ab\n", max_size=30)


@given(_LETTERS, st.lists(st.text("ab\n", max_size=4), max_size=3), st.lists(st.integers(1, 4), max_size=30))
def test_an_answer_ends_before_the_first_stop_text(text: str, stops: list[str], sizes: list[int]) -> None:
    """However it is cut, the text up to the earliest stop text comes out, and all of it where there is none."""
    stop, out, rest = StopText(stops), "", text
    for size in [*sizes, *[1] * len(text)]:
        if rest and not stop.met:
            out += stop.feed(rest[:size])
            rest = rest[size:]
            assert text.startswith(out)
    out += stop.rest()
    found = [text.index(each) for each in stops if each and each in text]
    assert stop.met == bool(found)
    assert out == (text[: min(found)] if found else text)


@given(_LETTERS)
def test_without_stop_texts_nothing_is_held_back(text: str) -> None:
    """Every piece comes out as it came in."""
    stop = StopText(["", ""])
    assert [stop.feed(each) for each in text] == list(text)
    assert stop.rest() == ""


def test_only_what_may_begin_a_stop_text_is_held_back() -> None:
    """A reader waits for no more text than is needed to tell."""
    stop = StopText(["STOP"])
    assert [stop.feed(each) for each in ("go S", "T", "art S")] == ["go ", "", "STart "]
    assert stop.rest() == "S"


def test_nothing_follows_a_stop_text() -> None:
    """What comes after it is dropped."""
    stop = StopText(["."])
    assert [stop.feed("one. two"), stop.feed("three"), stop.rest()] == ["one", "", ""]
