"""Frames hold what was put in, and damage is told before it is believed."""

from __future__ import annotations

import ast
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.workers import wire

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=10,
)


def _reader(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)


@given(st.lists(st.tuples(st.dictionaries(st.text(), _JSON), st.binary()), max_size=4))
def test_frames_come_out_as_they_went_in(frames: list[tuple[dict[str, object], bytes]]) -> None:
    """Whatever JSON can hold and any raw bytes survive, one frame after another."""
    written = [({**header, "op": "x"}, raw) for header, raw in frames]
    stream = _reader(b"".join(wire.pack(header, raw) for header, raw in written))
    assert [wire.unpack(stream.read) for _ in written] == written
    assert wire.unpack(stream.read) is None


@given(st.binary(min_size=1, max_size=200))
def test_noise_is_an_error_and_nothing_else(noise: bytes) -> None:
    """Bytes that nobody packed raise the module's own error, and no other."""
    try:
        frame = wire.unpack(_reader(noise).read)
    except wire.FrameError:
        return
    assert frame is not None, "there was something to read"


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 20])
def test_a_stream_that_ends_inside_a_frame_is_damage(cut: int) -> None:
    """A frame that lacks its end is not taken for the end of the stream."""
    frame = wire.pack({"op": "chunk", "id": 1}, b"raw")
    with pytest.raises(wire.CutError, match="ends inside"):
        wire.unpack(_reader(frame[:cut]).read)


@pytest.mark.parametrize(
    ("total", "header"), [(0, 0), (3, 0), (2**32 - 1, 2), (100, 97), (64 << 20, (16 << 20) + 1)]
)
def test_lengths_are_not_believed(total: int, header: int) -> None:
    """A length out of its bounds is refused before anything of that size is read or allocated."""
    asked: list[int] = []

    def read(count: int) -> bytes:
        asked.append(count)
        return struct.pack("<II", total, header)

    with pytest.raises(wire.FrameError, match="No frame has the lengths"):
        wire.unpack(read)
    assert asked == [8]


@pytest.mark.parametrize("header", [b"", b"nul", b"[]", b"{}", b'{"op":1}', b"[" * 100_000, b"\xff\xfe"])
def test_a_header_is_an_object_with_an_op(header: bytes) -> None:
    """JSON of another shape, or none at all, is refused."""
    frame = struct.pack("<II", 4 + len(header), len(header)) + header
    with pytest.raises(wire.FrameError, match="header is no"):
        wire.unpack(_reader(frame).read)


def test_what_is_too_large_is_not_sent() -> None:
    """The sender refuses what the other end would not believe, with the size in the message."""
    with pytest.raises(wire.FrameError, match="larger than"):
        wire.pack({"op": "generate", "prompt": "x" * wire.MAX_HEADER_BYTES})
    with pytest.raises(wire.FrameError, match="larger than"):
        wire.pack({"op": "x"}, bytes(wire.MAX_FRAME_BYTES))


def test_paths_cross_and_other_objects_do_not() -> None:
    """A path becomes its text; an object that JSON does not know is the sender's mistake."""
    assert wire.unpack(_reader(wire.pack({"op": "x", "path": Path("a/b")})).read) == (
        {"op": "x", "path": "a/b"},
        b"",
    )
    with pytest.raises(TypeError):
        wire.pack({"op": "x", "thing": object()})


def test_what_came_before_the_preamble_is_told_apart() -> None:
    """A banner that a wrapper printed is handed over, and the frames behind it are whole."""
    stream = _reader(b"Welcome!\n" + wire.PREAMBLE + wire.pack({"op": "hello"}))
    assert wire.skip_to_preamble(stream.read) == b"Welcome!\n"
    assert wire.unpack(stream.read) == ({"op": "hello"}, b"")


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", "only b''"), (b"y\n" * 4, "only b'y"), (b"y\n" * (1 << 20), "No worker speaks here")],
)
def test_a_stream_without_a_preamble_is_given_up(data: bytes, error: str) -> None:
    """One that ends, or floods, is no worker; the message shows what came."""
    with pytest.raises(wire.FrameError, match=error):
        wire.skip_to_preamble(_reader(data).read)


@pytest.mark.parametrize("name", ["wire.py", "child.py", "guard.py"])
def test_older_interpreters_can_read_what_a_worker_starts_with(name: str) -> None:
    """Python 3.9 parses these files, so that it can say how old it is instead of a syntax error."""
    source = Path(wire.__file__).with_name(name).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 9))
