"""`xprim_nb.registry.tensors`: safetensors headers, well-formed and hostile."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from xprim_nb.registry.headers import MAX_HEADER_BYTES, Reader
from xprim_nb.registry.tensors import HeaderError, TensorFile, parse_tensor_file


def reader_of(data: bytes) -> Reader:
    return lambda offset, length: data[offset : offset + length]


def parse(data: bytes, name: str = "model.safetensors") -> TensorFile:
    found = parse_tensor_file(reader_of(data), len(data), name)
    assert found is not None
    return found


def raw_file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: object, shape: object, offsets: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def saved() -> bytes:
    tensors = {
        "wte": np.frombuffer(bytes(range(24)), np.float16).reshape(4, 3),
        "bias": np.ones(2, np.float32),
        "empty": np.zeros((0, 5), np.int64),
        "step": np.array(7, np.int64),
    }
    return bytes(save(tensors, {"format": "pt", "log": "x" * 5000}))


def test_a_file_of_the_reference_writer_is_read() -> None:
    """Names, types, shapes, offsets and sizes are those that the reference writer put there."""
    data = saved()
    found = parse(data)
    by_name = {tensor.name: tensor for tensor in found.tensors}
    assert (found.format, found.metadata) == ("safetensors", {"format": "pt"})
    assert [each.offset for each in found.tensors] == sorted(each.offset for each in found.tensors)
    assert (by_name["wte"].dtype, by_name["wte"].shape, by_name["wte"].parameters) == ("F16", (4, 3), 12)
    assert by_name["step"].shape == ()
    assert (by_name["step"].parameters, by_name["empty"].size_bytes) == (1, 0)
    wte = by_name["wte"]
    assert data[wte.offset : wte.offset + wte.size_bytes] == bytes(range(24))
    assert found.header_bytes == min(each.offset for each in found.tensors)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_short_reads_are_enough_and_tensor_data_is_never_read(step: int) -> None:
    """A reader may give fewer bytes than asked, and is never asked for bytes after the header."""
    data = saved()
    asked = []

    def read(offset: int, length: int) -> bytes:
        asked.append(offset + length)
        return data[offset : offset + min(length, step)]

    found = parse_tensor_file(read, len(data), "a/model.SAFETENSORS")
    assert found == parse(data)
    assert max(asked) == parse(data).header_bytes


def test_what_the_reader_raises_passes_through() -> None:
    """An error of the reader reaches the caller as it is."""

    def read(offset: int, length: int) -> bytes:
        raise ConnectionResetError(f"{offset}+{length}")

    with pytest.raises(ConnectionResetError):
        parse_tensor_file(read, 100, "model.safetensors")


@pytest.mark.parametrize("name", ["config.json", "model.bin", "README"])
@pytest.mark.parametrize("data", [b"", b"{}", b"GGU", b"\x08" + bytes(40)])
def test_other_files_are_none(name: str, data: bytes) -> None:
    """A file that is named like neither format and does not begin like one is none."""
    assert parse_tensor_file(reader_of(data), len(data), name) is None


def test_an_unknown_dtype_is_sized_by_its_offsets() -> None:
    """A type newer than our table keeps its name, and its size comes from the header."""
    (tensor,) = parse(raw_file({"x": entry("F3_NEW", [8], [0, 3])}, bytes(3))).tensors
    assert (tensor.dtype, tensor.size_bytes, tensor.parameters) == ("F3_NEW", 3, 8)


def test_packed_floats_count_elements_not_bytes() -> None:
    """Two F4 values share a byte."""
    (tensor,) = parse(raw_file({"x": entry("F4", [2, 4], [0, 4])}, bytes(4))).tensors
    assert (tensor.size_bytes, tensor.parameters) == (4, 8)


HOSTILE: dict[str, Callable[[], tuple[bytes, str]]] = {
    "nothing": lambda: (b"", "too few"),
    "a Git LFS pointer": lambda: (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "a header over the limit": lambda: ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}", "limit"),
    "a header beyond the file": lambda: ((99).to_bytes(8, "little") + b"{}", "past the end"),
    "no JSON": lambda: (raw_file(b"\xff\xfe\xfd"), "not JSON"),
    "a list": lambda: (raw_file(b"[]"), "JSON list"),
    "deep nesting": lambda: (raw_file(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not JSON"),
    "countless values": lambda: (raw_file(b"[" + b"0," * (5 << 20) + b"0]"), "more than"),
    "no description": lambda: (raw_file({"x": []}), "not described"),
    "three offsets": lambda: (raw_file({"x": entry("U8", [1], [0, 1, 2])}, b"x"), "not described"),
    "a number as type": lambda: (raw_file({"x": entry(8, [1], [0, 1])}, b"x"), "not described"),
    "a negative size": lambda: (raw_file({"x": entry("U8", [-1], [0, 1])}, b"x"), "cannot be"),
    "a true size": lambda: (raw_file({"x": entry("U8", [True], [0, 1])}, b"x"), "cannot be"),
    "a fraction": lambda: (raw_file({"x": entry("U8", [1.5], [0, 1])}, b"x"), "cannot be"),
    "offsets backwards": lambda: (raw_file({"x": entry("U8", [1], [1, 0])}, b"x"), "cannot be"),
    "a size that lies": lambda: (raw_file({"x": entry("F32", [2], [0, 4])}, bytes(4)), "otherwise"),
    "a huge shape": lambda: (raw_file({"x": entry("U8", [2**63] * 64, [0, 1])}, b"x"), "otherwise"),
    "too many dimensions": lambda: (raw_file({"x": entry("U8", [1] * 65, [0, 1])}, b"x"), "too long"),
    "a long name": lambda: (raw_file({"x" * 70_000: entry("U8", [1], [0, 1])}, b"x"), "too long"),
    "metadata that is a list": lambda: (raw_file({"__metadata__": [1]}), "__metadata__"),
    "an overlap": lambda: (
        raw_file({"x": entry("U8", [2], [0, 2]), "y": entry("U8", [2], [1, 3])}, bytes(3)),
        "overlaps",
    ),
    "a hole": lambda: (raw_file({"x": entry("U8", [1], [1, 2])}, bytes(2)), "gap"),
    "a tail": lambda: (raw_file({"x": entry("U8", [1], [0, 1])}, bytes(2)), "the tensors end"),
    "a tensor beyond the file": lambda: (
        raw_file({"x": entry("U8", [9], [0, 9])}, bytes(2)),
        "the tensors end",
    ),
    "the same tensor twice": lambda: (
        raw_file(b'{"x":%b,"x":%b}' % ((json.dumps(entry("U8", [1], [0, 1])).encode(),) * 2), bytes(2)),
        "the tensors end",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused(case: str) -> None:
    """What is malformed, outsized or outside the file is a `HeaderError` that names the file and says why."""
    data, reason = HOSTILE[case]()
    with pytest.raises(HeaderError, match=reason) as caught:
        parse(data)
    assert caught.value.subject == "model.safetensors"
    assert caught.value.hint


def test_a_file_that_ends_while_it_is_read_is_refused() -> None:
    """A reader that has fewer bytes than the file was said to have does not hang the parser."""
    data = saved()
    with pytest.raises(HeaderError, match="ended at byte 20"):
        parse_tensor_file(reader_of(data[:20]), len(data), "model.safetensors")


@given(data=st.binary(max_size=200), cut=st.integers(0, 400), seed=st.binary(max_size=8))
def test_any_bytes_are_contents_or_a_header_error(data: bytes, cut: int, seed: bytes) -> None:
    """Random, cut and overwritten files never raise anything but `HeaderError`."""
    good = bytearray(saved()[:cut])
    good[len(good) // 2 : len(good) // 2 + len(seed)] = seed
    for candidate in (data, raw_file(data), bytes(good)):
        try:
            found = parse(candidate)
        except HeaderError:
            continue
        assert sum(tensor.size_bytes for tensor in found.tensors) == len(candidate) - found.header_bytes
