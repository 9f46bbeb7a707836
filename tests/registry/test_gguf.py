"""`xprim_nb.registry.gguf`: GGUF headers, well-formed and hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.registry.chunking import FileLayout, Span, plan_chunks
from xprim_nb.registry.tensors import HeaderError, TensorFile, parse_tensor_file

# Value types, as the specification numbers them.
U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10


class Tensor(NamedTuple):
    name: str
    kind: int
    shape: tuple[int, ...]  # innermost first, as in the file
    offset: int


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def text(value: str) -> bytes:
    return u64(len(value.encode())) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + u32(kind) + value


def texts(values: Sequence[str]) -> bytes:
    return u32(STRING) + u64(len(values)) + b"".join(map(text, values))


def gguf(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[Tensor] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    out = b"GGUF" + u32(version) + u64(len(tensors)) + u64(len(pairs)) + b"".join(pairs)
    for name, kind, shape, offset in tensors:
        out += text(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)
    return out + bytes(-len(out) % alignment) + data


def parse(data: bytes, name: str = "model.gguf") -> TensorFile:
    found = parse_tensor_file(lambda offset, length: data[offset : offset + length], len(data), name)
    assert found is not None
    return found


VOCABULARY = [f"token{number}" for number in range(50_000)]
PAIRS = [
    pair("general.architecture", STRING, text("llama")),
    pair("llama.block_count", U32, u32(32)),
    pair("llama.rope.freq_base", F32, struct.pack("<f", 0.5)),
    pair("tokenizer.ggml.add_bos_token", BOOL, b"\1"),
    pair("general.size", U64, u64(1 << 40)),
    pair("tokenizer.ggml.tokens", ARRAY, texts(VOCABULARY)),
    pair("tokenizer.ggml.scores", ARRAY, u32(F32) + u64(50_000) + bytes(200_000)),
    pair("nested", ARRAY, u32(ARRAY) + u64(2) + texts(["a"]) + u32(U8) + u64(3) + bytes(3)),
    pair("tokenizer.chat_template", STRING, text("{{ x }}" * 1000)),
]
# Q4_K: 256 elements in 144 bytes; Q8_0: 32 in 34.
TENSORS = [Tensor("blk.0.ffn", 12, (512, 4), 96), Tensor("norm", 0, (20,), 0), Tensor("out", 8, (64,), 1248)]


def model(version: int = 3) -> bytes:
    return gguf(PAIRS, TENSORS, bytes(1248 + 68), version=version)


@pytest.mark.parametrize("version", [2, 3])
def test_a_model_is_read(version: int) -> None:
    """Metadata, and tensors in order of offset with row-major shapes and quantised sizes."""
    found = parse(model(version))
    assert found.format == "gguf"
    assert found.metadata == {
        "general.architecture": "llama",
        "llama.block_count": 32,
        "llama.rope.freq_base": 0.5,
        "tokenizer.ggml.add_bos_token": True,
        "general.size": 1 << 40,
    }
    assert [(each.name, each.dtype, each.shape, each.size_bytes) for each in found.tensors] == [
        ("norm", "F32", (20,), 80),
        ("blk.0.ffn", "Q4_K", (4, 512), 2048 // 256 * 144),
        ("out", "Q8_0", (64,), 68),
    ]
    assert [each.parameters for each in found.tensors] == [20, 2048, 64]
    assert found.tensors[0].offset == found.header_bytes == len(model(version)) - 1248 - 68


@pytest.mark.parametrize("step", [1000, 65_536, 1 << 30])
def test_short_reads_are_enough(step: int) -> None:
    """A reader over small chunks leads to the same contents, with every byte read at most once and in order."""
    data, at = model(), 0

    def read(offset: int, length: int) -> bytes:
        nonlocal at
        assert offset >= at
        part = data[offset : offset + min(length, step)]
        at = offset + len(part)
        return part

    assert parse_tensor_file(read, len(data), "model.gguf") == parse(data)


def test_a_reader_that_stops_at_the_header_is_not_asked_for_tensor_data() -> None:
    """With a chunk boundary after the header, as the publisher cuts it, no other chunk is needed."""
    data = model()
    header_bytes = parse(data).header_bytes

    def read(offset: int, length: int) -> bytes:
        assert offset < header_bytes
        return data[offset : min(offset + length, header_bytes)]

    assert parse_tensor_file(read, len(data), "model.gguf") == parse(data)


def test_contents_become_chunks() -> None:
    """The header is a chunk of its own, and tensors with their padding make up the rest."""
    data = model()
    found = parse(data)
    spans = [Span(each.offset, each.size_bytes, each.name) for each in found.tensors]
    lengths = plan_chunks([FileLayout("model.gguf", len(data), spans)], 1 << 21)
    assert lengths == [found.header_bytes, len(data) - found.header_bytes]


# Bits of one element, times 1000: the block sizes that `ggml.h` computes, checked against their published rates.
RATES = {
    "Q4_0": 4500, "Q4_1": 5000, "Q5_0": 5500, "Q5_1": 6000, "Q8_0": 8500, "Q2_K": 2625, "Q3_K": 3437, "Q4_K": 4500,
    "Q5_K": 5500, "Q6_K": 6562, "IQ2_XXS": 2062, "IQ2_XS": 2312, "IQ3_XXS": 3062, "IQ1_S": 1562, "IQ4_NL": 4500,
    "IQ3_S": 3437, "IQ2_S": 2562, "IQ4_XS": 4250, "IQ1_M": 1750, "TQ1_0": 1687, "TQ2_0": 2062, "MXFP4": 4250,
    "NVFP4": 4500, "BF16": 16_000, "F16": 16_000, "F32": 32_000, "F64": 64_000, "I8": 8000,
}  # fmt: skip


def test_quantised_types_have_their_published_rates() -> None:
    """A tensor of 2,048 elements has the size that its type's bits per weight say."""
    found = {}
    for number in range(43):
        tensor = Tensor("x", number, (2048,), 0)
        (each,) = parse(gguf([], [tensor], bytes(1 << 14))).tensors
        if not each.dtype.startswith("ggml-"):
            found[each.dtype] = each.size_bytes * 8 * 1000 // 2048
    assert {name: found[name] for name in RATES} == RATES


def test_an_unknown_type_reaches_to_the_next_tensor() -> None:
    """A type newer than our table is sized by the gap, and at the end by the file."""
    tensors = [Tensor("a", 9999, (7,), 0), Tensor("b", 24, (3,), 64), Tensor("c", 9999, (7,), 96)]
    found = parse(gguf([], tensors, bytes(100)))
    assert [(each.dtype, each.size_bytes) for each in found.tensors] == [
        ("ggml-9999", 64),
        ("I8", 3),
        ("ggml-9999", 4),
    ]


def test_alignment_moves_the_data() -> None:
    """`general.alignment` says where tensor data begins."""
    pairs = [pair("general.alignment", U32, u32(4096))]
    found = parse(gguf(pairs, [Tensor("a", 24, (3,), 0)], bytes(3), alignment=4096))
    assert found.header_bytes == found.tensors[0].offset == 4096


def test_a_vocabulary_needs_no_padding() -> None:
    """A file without tensors may end where its header ends."""
    data = gguf([pair("a", BOOL, b"\0")], alignment=1)
    found = parse(data)
    assert (found.tensors, found.header_bytes, found.metadata) == ((), len(data), {"a": False})


@pytest.mark.parametrize("name", ["model.bin", "sha256-abc"])
def test_the_signature_counts_whatever_the_name(name: str) -> None:
    """A GGUF file under another name is found by how it begins."""
    assert parse(model(), name) == parse(model())


HOSTILE: dict[str, Callable[[], tuple[bytes, str]]] = {
    "no signature": lambda: (b"GGML" + bytes(40), "begin with GGUF"),
    "nothing": lambda: (b"", "begin with GGUF"),
    "big-endian": lambda: (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
    "version 1": lambda: (gguf(version=1), "version 1"),
    "version 4": lambda: (gguf(version=4), "version 4"),
    "only the signature": lambda: (b"GGUF", "past the end"),
    "countless tensors": lambda: (b"GGUF" + u32(3) + u64(1 << 60) + u64(0), "tensors"),
    "countless pairs": lambda: (b"GGUF" + u32(3) + u64(0) + u64(1 << 60), "pairs"),
    "more tensors than bytes": lambda: (b"GGUF" + u32(3) + u64(1000) + u64(0), "past the end"),
    "an endless key": lambda: (b"GGUF" + u32(3) + u64(0) + u64(1) + u64(1 << 62), "bytes for a name"),
    "an endless text": lambda: (gguf([pair("a", STRING, u64(1 << 63))]), "past the end"),
    "an endless list": lambda: (gguf([pair("a", ARRAY, u32(U64) + u64(1 << 63))]), "past the end"),
    "a list of countless texts": lambda: (gguf([pair("a", ARRAY, u32(STRING) + u64(1 << 40))]), "texts"),
    "a list of an endless text": lambda: (
        gguf([pair("a", ARRAY, u32(STRING) + u64(9) + u64((1 << 64) - 1))]),
        "past the end",
    ),
    "lists in lists": lambda: (
        gguf([pair("a", ARRAY, (u32(ARRAY) + u64(1)) * 5000 + u32(U8) + u64(0))]),
        "nested",
    ),
    "an unknown value": lambda: (gguf([pair("a", 13, b"")]), "unknown type 13"),
    "a list of unknown values": lambda: (gguf([pair("a", ARRAY, u32(77) + u64(1))]), "unknown type 77"),
    "the same key twice": lambda: (gguf([pair("a", BOOL, b"\0")] * 2), "occurs twice"),
    "alignment 0": lambda: (gguf([pair("general.alignment", U32, u32(0))]), "power of two"),
    "alignment 24": lambda: (gguf([pair("general.alignment", U32, u32(24))]), "power of two"),
    "alignment of words": lambda: (gguf([pair("general.alignment", STRING, text("8"))]), "power of two"),
    "nine dimensions": lambda: (gguf([], [Tensor("a", 0, (1,) * 9, 0)], bytes(4)), "dimensions"),
    "a torn block": lambda: (gguf([], [Tensor("a", 12, (255, 256), 0)], bytes(1 << 20)), "whole blocks"),
    "one name twice": lambda: (gguf([], [Tensor("a", 24, (1,), 0)] * 2, bytes(1)), "same name"),
    "an overlap": lambda: (
        gguf([], [Tensor("a", 24, (40,), 0), Tensor("b", 24, (1,), 32)], bytes(64)),
        "overlaps",
    ),
    "a tensor past the end": lambda: (gguf([], [Tensor("a", 24, (9,), 0)], bytes(8)), "ends at byte"),
    "an offset past the end": lambda: (
        gguf([], [Tensor("a", 9999, (9,), 1 << 63)], bytes(8)),
        "ends at byte",
    ),
    "a huge shape": lambda: (gguf([], [Tensor("a", 0, ((1 << 64) - 1,) * 8, 0)], bytes(8)), "ends at byte"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused(case: str) -> None:
    """What is malformed, outsized or outside the file is a `HeaderError` that names the file and says why."""
    data, reason = HOSTILE[case]()
    with pytest.raises(HeaderError, match=reason) as caught:
        parse(data)
    assert caught.value.subject == "model.gguf"
    assert caught.value.hint


@given(cut=st.integers(0, 400), at=st.integers(0, 400), noise=st.binary(max_size=12))
def test_any_bytes_are_contents_or_a_header_error(cut: int, at: int, noise: bytes) -> None:
    """Cut and overwritten files never raise anything but `HeaderError`."""
    small = gguf(
        [PAIRS[0], PAIRS[1], PAIRS[7]], [Tensor("a", 8, (32, 2), 0), Tensor("b", 0, (2,), 96)], bytes(104)
    )
    torn = bytearray(small)
    torn[at : at + len(noise)] = noise
    for candidate in (small[:cut], bytes(torn), b"GGUF" + u32(3) + noise):
        try:
            found = parse(candidate)
        except HeaderError:
            continue
        assert all(each.offset + each.size_bytes <= len(candidate) for each in found.tensors)
