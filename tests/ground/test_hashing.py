"""Digests of bytes and file ranges are those of hashlib, and canonical JSON is that of RFC 8785."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb._hashing import BLOCK_BYTES, canonical_json, is_digest, read_range, sha256_hex, thread_buffer
from xprim_nb.testing.registries import random_bytes


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_digest_is_sha256(kind: type) -> None:
    """Bytes of any kind have the digest that the world knows (FIPS 180-4's own example)."""
    assert sha256_hex(kind(b"abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("text", ["a" * 64, "0123456789abcdef" * 4, sha256_hex(b"")])
def test_digests_are_recognised(text: str) -> None:
    """64 lower-case hexadecimal digits are a digest."""
    assert is_digest(text)


@pytest.mark.parametrize(
    "thing",
    [
        "",
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "g" * 64,
        "a" * 64 + "\n",
        "\n" + "a" * 63,
        "٣" * 64,
        "ａ" * 64,
        "../" + "a" * 61,
        None,
        7,
        b"a" * 64,
        ["a" * 64],
    ],
)
def test_other_things_are_no_digests(thing: object) -> None:
    """Nothing else may become a file name."""
    assert not is_digest(thing)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Beyond 2**53 a float is written without a point and read as an integer that JSON cannot hold exactly.
_EXACT = 2**53 - 1
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-_EXACT, _EXACT) | st.floats(-_EXACT, _EXACT) | _TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXT, inner, max_size=5),
    max_leaves=10,
)


@given(_VALUES)
def test_canonical_json_is_json_and_stable(value: object) -> None:
    """It means the same when read again, and is then written the same."""
    written = canonical_json(value)
    assert json.loads(written) == value
    assert canonical_json(json.loads(written)) == written


def test_canonical_json_sorts_as_utf_16() -> None:
    """Keys are sorted by UTF-16 code units, as RFC 8785 §3.2.3 shows, and not by code points."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = canonical_json(dict.fromkeys(keys, 0))
    assert list(json.loads(written)) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_canonical_json_writes_numbers_as_ecmascript() -> None:
    """Numbers have their shortest form, the same in every language (RFC 8785 §3.2.2.3)."""
    assert (
        canonical_json([1.0, 1e21, 1e-7, -0.0, 333333333.33333329]) == b"[1,1e+21,1e-7,0,333333333.3333333]"
    )


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 1), (7, 100), (0, 2 * BLOCK_BYTES + 11), (BLOCK_BYTES - 1, 2), (BLOCK_BYTES, BLOCK_BYTES)],
)
def test_a_range_is_read_in_blocks(tmp_path: Path, offset: int, length: int) -> None:
    """The bytes of the range arrive in order, in blocks that are never larger than the buffer."""
    data = random_bytes(1, 2 * BLOCK_BYTES + 11)
    path = tmp_path / "file"
    path.write_bytes(data)
    taken, sizes = bytearray(), []

    def take(block: memoryview) -> None:
        sizes.append(len(block))
        taken.extend(block)

    with path.open("rb") as file:
        assert read_range(file.fileno(), offset, length, take) == length
    assert taken == data[offset : offset + length]
    assert all(0 < size <= BLOCK_BYTES for size in sizes)


def test_a_range_beyond_the_end_is_shorter(tmp_path: Path) -> None:
    """Where the file ends, reading ends, and the count says so."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    taken = bytearray()
    with path.open("rb") as file:
        assert read_range(file.fileno(), 7, 100, taken.extend) == 3
        assert read_range(file.fileno(), 50, 1, taken.extend) == 0
    assert taken == b"789"


def test_reading_a_range_leaves_the_position_alone(tmp_path: Path) -> None:
    """Two readers of one descriptor do not move each other's place."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=0) as file:
        file.seek(4)
        read_range(file.fileno(), 0, 10, lambda block: None)
        if hasattr(os, "preadv"):
            assert file.read(1) == b"4"


def test_each_thread_has_its_buffer() -> None:
    """A thread gets the same buffer again and again, and never another thread's."""
    found: list[memoryview] = []

    def work() -> None:
        assert thread_buffer() is thread_buffer()
        found.append(thread_buffer())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(buffer.obj) for buffer in found}) == 4
    assert {len(buffer) for buffer in found} == {BLOCK_BYTES}


def test_threads_hash_different_ranges_at_once(tmp_path: Path) -> None:
    """Eight threads that read one descriptor each get their own bytes."""
    data = random_bytes(2, 8 * 300_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    digests: dict[int, str] = {}
    with path.open("rb") as file:

        def work(number: int) -> None:
            digest = hashlib.sha256()
            read_range(file.fileno(), number * 300_000, 300_000, digest.update)
            digests[number] = digest.hexdigest()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert digests == {n: sha256_hex(data[n * 300_000 : (n + 1) * 300_000]) for n in range(8)}
