"""What lies where in a GGUF file, versions 2 and 3.

Source: the GGUF specification; the type numbers and block sizes of `ggml.h` and `ggml-common.h`.
"""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from typing import NamedTuple

from xprim_nb.registry.headers import (
    MAX_METADATA_BYTES,
    MAX_NAME_BYTES,
    MAX_TENSORS,
    Header,
    Scalar,
    TensorFile,
    TensorInfo,
    in_file_order,
    short_values,
)

__all__ = ["SIGNATURE", "parse_gguf"]

SIGNATURE = b"GGUF"

# Real files have some 50 pairs; ggml has 4 dimensions; vocabularies and merges have up to a million texts.
_MAX_PAIRS, _MAX_DIMENSIONS, _MAX_STRINGS = 1 << 16, 8, 1 << 22
# ggml itself reads no list of lists; the specification allows them.
_MAX_NESTING = 4
# Where `general.alignment` is missing (the specification's `GGUF_DEFAULT_ALIGNMENT`).
_DEFAULT_ALIGNMENT = 32


class _Type(NamedTuple):
    """How a tensor is packed: `block` elements in `block_bytes` bytes."""

    name: str
    block: int
    block_bytes: int


# The type numbers of ggml. Those that are missing were withdrawn.
_TYPES = {
    number: _Type(name, block, block_bytes)
    for block, members in {
        1: "0 F32 4, 1 F16 2, 24 I8 1, 25 I16 2, 26 I32 4, 27 I64 8, 28 F64 8, 30 BF16 2",
        32: "2 Q4_0 18, 3 Q4_1 20, 6 Q5_0 22, 7 Q5_1 24, 8 Q8_0 34, 9 Q8_1 40, 20 IQ4_NL 18, 39 MXFP4 17",
        64: "40 NVFP4 36, 42 Q2_0 18",
        128: "41 Q1_0 18",
        256: "10 Q2_K 84, 11 Q3_K 110, 12 Q4_K 144, 13 Q5_K 176, 14 Q6_K 210, 15 Q8_K 292, 16 IQ2_XXS 66,"
        "17 IQ2_XS 74, 18 IQ3_XXS 98, 19 IQ1_S 50, 21 IQ3_S 110, 22 IQ2_S 82, 23 IQ4_XS 136, 29 IQ1_M 56,"
        "34 TQ1_0 54, 35 TQ2_0 66",
    }.items()
    for number, name, block_bytes in (
        (int(first), name, int(last)) for first, name, last in (each.split() for each in members.split(","))
    )
}

# The value types of metadata, in the order of their numbers; 8 and 9 have no fixed length.
_SCALARS = {kind: struct.Struct("<" + code) for kind, code in enumerate("BbHhIif?--Qqd") if code != "-"}
_UINT32, _STRING, _ARRAY = 4, 8, 9
_U32 = _SCALARS[_UINT32]


class _Entry(NamedTuple):
    """A tensor as the header lists it; the offset counts from the start of the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def parse_gguf(header: Header) -> TensorFile:
    """The contents of a GGUF file whose signature has just been read.

    Raises:
        HeaderError: The header is malformed, of another version or byte order, claims more than it may, or
            names bytes outside the file.
    """
    version = header.number(_U32)
    if version & 0xFFFF == 0:  # a small number read from its wrong end
        header.refuse(
            "it is a big-endian GGUF file.", "Convert it with llama.cpp's `gguf_convert_endian.py`."
        )
    if version not in (2, 3):
        header.refuse(
            f"it is GGUF version {version}; versions 2 and 3 can be read.", "Convert it with llama.cpp."
        )
    tensor_count = header.count(MAX_TENSORS, "tensors")
    pairs: dict[str, Scalar | None] = {}
    for _ in range(header.count(_MAX_PAIRS, "metadata pairs")):
        key = _name(header)
        if key in pairs:
            header.refuse(f"the key {key!r:.100} occurs twice.")
        pairs[key] = _value(header, header.number(_U32))
    entries = [_entry(header) for _ in range(tensor_count)]
    alignment = pairs.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        header.refuse(f"general.alignment is {alignment!r:.100}, not a power of two.")
    # A file without tensors need not be padded up to where its data would begin.
    data_start = min(-(-header.position // alignment) * alignment, header.file_size)
    return TensorFile("gguf", _placed(header, entries, data_start), short_values(pairs), data_start)


def _name(header: Header) -> str:
    return header.text(header.count(MAX_NAME_BYTES, "bytes for a name"))


def _value(header: Header, kind: int, depth: int = 0) -> Scalar | None:
    """One value; None for those that are only gone over."""
    if kind in _SCALARS:
        number: int | float = header.number(_SCALARS[kind])
        return number
    if kind == _STRING:
        length: int = header.number()
        if length > MAX_METADATA_BYTES:
            header.skip(length)
            return None
        return header.text(length)
    if kind != _ARRAY:
        header.refuse(f"the value at byte {header.position} has the unknown type {kind}.")
    if depth == _MAX_NESTING:
        header.refuse(f"lists are nested more than {_MAX_NESTING} deep.")
    kind = header.number(_U32)
    if kind in _SCALARS:
        header.skip(header.number() * _SCALARS[kind].size)
    elif kind == _STRING:
        header.skip_strings(header.count(_MAX_STRINGS, "texts in a list"))
    else:
        for _ in range(header.count(_MAX_PAIRS, "lists in a list")):
            _value(header, kind, depth + 1)
    return None


def _entry(header: Header) -> _Entry:
    name = _name(header)
    shape = [header.number() for _ in range(header.count(_MAX_DIMENSIONS, "dimensions", _U32))]
    # ggml names the innermost dimension first; safetensors and NumPy name it last.
    return _Entry(name, tuple(reversed(shape)), header.number(_U32), header.number())


def _placed(header: Header, entries: list[_Entry], data_start: int) -> tuple[TensorInfo, ...]:
    if len({entry.name for entry in entries}) < len(entries):
        header.refuse("two tensors have the same name.")
    starts = sorted({entry.offset for entry in entries})
    gap_ends = dict(pairwise([*starts, header.file_size - data_start]))
    tensors = sorted(
        (_tensor(header, entry, data_start, gap_ends[entry.offset]) for entry in entries), key=in_file_order
    )
    end = data_start
    for tensor in tensors:
        if tensor.offset < end:
            header.refuse(f"tensor {tensor.name!r:.100} overlaps the one before it.")
        end = tensor.offset + tensor.size_bytes
        if end > header.file_size:
            header.refuse(f"tensor {tensor.name!r:.100} ends at byte {end}, the file at {header.file_size}.")
    return tuple(tensors)


def _tensor(header: Header, entry: _Entry, data_start: int, gap_end: int) -> TensorInfo:
    kind, parameters = _TYPES.get(entry.kind), math.prod(entry.shape)
    if kind is None:  # a type newer than this table: it can at most reach to the next tensor
        size, dtype = max(gap_end - entry.offset, 0), f"ggml-{entry.kind}"
    else:
        if (entry.shape[-1] if entry.shape else 1) % kind.block:
            header.refuse(f"tensor {entry.name!r:.100} has rows that are not whole blocks of {kind.name}.")
        size, dtype = parameters // kind.block * kind.block_bytes, kind.name
    return TensorInfo(entry.name, dtype, entry.shape, data_start + entry.offset, size, parameters)
