"""Text comes as it is certain: never half a character, nothing of a stop text, and in the end all of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.workers.engines.textstream import TextStream


def _decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def _pieces(data: bytes, stops: Sequence[str] = ()) -> tuple[list[str], bool]:
    stream, found = TextStream(_decode, stops), []
    for byte in data:
        found.append(stream.push(byte))
        if stream.stopped:
            return found, True
    found.append(stream.finish())
    return found, stream.stopped


def test_a_character_comes_whole() -> None:
    """Of four bytes the first three give nothing, the last the character."""
    assert _pieces("a😀é".encode()) == (["a", "", "", "", "😀", "", "é", ""], False)


def test_half_a_character_at_the_end_is_what_a_decoder_makes_of_it() -> None:
    """Nothing more comes that could make it whole."""
    assert _pieces(b"ok\xf0\x9f")[0] == ["o", "k", "", "", "\ufffd"]


def test_broken_bytes_do_not_hold_up_what_follows() -> None:
    """Bytes that can never be a character are passed on as such, at the latest with the next one that is whole."""
    pieces, _ = _pieces(b"\xff\xff\xff\xff\xff\xff and on")
    assert "".join(pieces[:6]) == "\ufffd" * 3
    assert "".join(pieces) == "\ufffd" * 6 + " and on"


@given(st.binary(max_size=60))
def test_all_pieces_are_the_text(data: bytes) -> None:
    """Whatever bytes come, the pieces together are what they decode to, and no piece ends amid a character."""
    pieces, stopped = _pieces(data)
    assert "".join(pieces) == _decode(data)
    assert not stopped


@given(st.text("ab€", max_size=40), st.lists(st.text("ab€", min_size=1, max_size=4), max_size=3))
def test_an_answer_ends_before_the_first_stop_text(text: str, stops: list[str]) -> None:
    """What comes is the text up to the first byte that completes a stop text, and nothing of that."""
    pieces, stopped = _pieces(text.encode(), stops)
    ends = [at + len(stop) for stop in stops if (at := text.find(stop)) >= 0]
    seen = text[: min(ends)] if ends else text
    cut = min((seen.find(stop) for stop in stops if stop in seen), default=len(text))
    assert "".join(pieces) == text[:cut]
    assert stopped == bool(ends)


def test_the_beginning_of_a_stop_text_waits() -> None:
    """Letters that may be one are held back until they are not."""
    assert _pieces(b"a--b", ["--x"])[0] == ["a", "", "", "--b", ""]
    assert _pieces(b"a--", ["--x"])[0] == ["a", "", "", "--"]


def test_a_token_may_hold_more_than_the_stop_text() -> None:
    """What stands before it in the same token comes, what stands behind does not."""
    words = {1: "one st", 2: "op two"}
    stream = TextStream(lambda ids: "".join(words[each] for each in ids), ["stop"])
    assert (stream.push(1), stream.push(2), stream.stopped, stream.finish()) == ("one ", "", True, "")


def test_a_space_belongs_to_the_token_that_brings_it() -> None:
    """A decoder that drops the first space of a text drops it of the answer's first token alone."""
    words = {1: " one", 2: " two", 3: "."}
    stream = TextStream(lambda ids: "".join(words[each] for each in ids).removeprefix(" "))
    assert [stream.push(each) for each in (1, 2, 3, 2, 2)] == ["one", " two", ".", " two", " two"]


def test_an_empty_stop_text_is_refused() -> None:
    """It would end every answer before it began."""
    with pytest.raises(ValueError, match="empty"):
        TextStream(_decode, ["a", ""])
