"""Values in bytes: whole again or refused, without a library that could run what it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.prompts.caches.codec import DamagedValueError, pack, unpack

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_values)
def test_what_is_packed_comes_back(value: object) -> None:
    """Any JSON comes back as it was: integers of any size, texts of any characters."""
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("value", ["\ud800", 2**70, "x" * 5000, {"a": ["é😀" * 300, None, 2**64]}])
def test_the_odd_come_back_too(value: object) -> None:
    """Half of a surrogate pair, an integer beyond 64 bits, and what is worth packing."""
    assert unpack(pack(value)) == value


def test_what_is_long_is_made_short() -> None:
    """Five kilobytes of prose take less than a third of that."""
    assert len(pack("the same words again and again, " * 160)) < 1700


@given(st.binary(max_size=400), st.sampled_from([b"z", b"d", b"j", b"Z", b"q", b""]))
def test_other_bytes_are_refused(data: bytes, letter: bytes) -> None:
    """Whatever lies in a row: a value, or the one error that says it is none."""
    with pytest.raises(DamagedValueError):
        unpack(letter + data)


@pytest.mark.parametrize("value", ["short", "long enough to be packed " * 40])
def test_every_flipped_bit_is_noticed(value: str) -> None:
    """Of a packed value no bit can change unseen."""
    packed = pack(value)
    for position in range(8 * len(packed)):
        data = bytearray(packed)
        data[position // 8] ^= 1 << position % 8
        with pytest.raises(DamagedValueError):
            unpack(bytes(data))


_WITHOUT = "import sys; sys.modules['zstandard'] = None\n"


def _python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_without_zstandard_values_are_packed_otherwise(tmp_path: Path) -> None:
    """Where it is not installed, zlib packs; where it is, that is read."""
    path = tmp_path / "value"
    code = (
        _WITHOUT
        + """
from pathlib import Path
from xprim_nb.prompts.caches.codec import pack, unpack
data = pack(["x" * 5000])
assert data[:1] == b"d" and len(data) < 200 and unpack(data) == ["x" * 5000]
Path(sys.argv[1]).write_bytes(data)
"""
    )
    _python(code, str(path))
    assert unpack(path.read_bytes()) == ["x" * 5000]


def test_without_zstandard_its_values_name_the_extra(tmp_path: Path) -> None:
    """What zstandard packed is no damage where it is missing: the reader is told what to install."""
    path = tmp_path / "value"
    path.write_bytes(pack(["x" * 5000]))
    code = (
        _WITHOUT
        + """
from pathlib import Path
from xprim_nb.errors import MissingExtraError
from xprim_nb.prompts.caches.codec import unpack
try:
    unpack(Path(sys.argv[1]).read_bytes())
except MissingExtraError as error:
    print(error.subject, error.hint)
"""
    )
    assert _python(code, str(path)).split() == ["prompts", "pip", "install", '"xprim-nb[prompts]"']
