"""`xprim_nb.registry.chunking`: cuts that stay where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.registry.chunking import DEFAULT_CHUNK_BYTES, FileLayout, Span, order_files, plan_chunks

CHUNK = 256
HEADER = b"h" * 30

# Sizes of tensors by name; in the file they lie in this order, each padded to 8 bytes.
Tensors = Mapping[str, int]


def models_of(sizes: st.SearchStrategy[int], least: int, most: int) -> st.SearchStrategy[Tensors]:
    """Models with tensors of these sizes; the seed gives them names that cut elsewhere."""
    return st.builds(
        lambda seed, sizes: {f"{seed}.layers.{index}.weight": size for index, size in enumerate(sizes)},
        st.integers(0, 10_000),
        st.lists(sizes, min_size=least, max_size=most),
    )


models = models_of(st.integers(0, 3 * CHUNK), 1, 30)
# Below a quarter chunk with their padding, and more than one chunk together; the second kind all of one size.
small_models = models_of(st.integers(1, 56), 30, 60)
even_models = models_of(st.just(8), 120, 200)


def bytes_of(name: str, size: int, padded: int) -> bytes:
    """Content that no other tensor has."""
    return (hashlib.sha256(name.encode()).digest() * (size // 32 + 1))[:size] + bytes(padded - size)


def model_file(
    tensors: Tensors, path: str = "model.safetensors"
) -> tuple[FileLayout, bytes, dict[str, range]]:
    """A file's layout, its bytes, and where each tensor and its padding lie."""
    data, spans, places = HEADER, [], {}
    for name, size in tensors.items():
        padded = -(-size // 8) * 8
        spans.append(Span(len(data), size, name))
        places[name] = range(len(data), len(data) + padded)
        data += bytes_of(name, size, padded)
    return FileLayout(path, len(data), spans), data, places


def chunks_of(tensors: Tensors) -> list[tuple[range, bytes]]:
    """Each chunk after the header: where it lies, and its bytes."""
    layout, data, _ = model_file(tensors)
    ends = [0, *accumulate(plan_chunks([layout], CHUNK))]
    return [(range(a, b), data[a:b]) for a, b in pairwise(ends) if a >= len(HEADER)]


def apart_from(tensors: Tensors, name: str) -> set[bytes]:
    """The chunks that hold no byte of one tensor."""
    _, _, places = model_file(tensors)
    place = places[name]
    return {
        data for where, data in chunks_of(tensors) if where.stop <= place.start or where.start >= place.stop
    }


def everything(tensors: Tensors) -> set[bytes]:
    return {data for _, data in chunks_of(tensors)}


def test_two_gib_are_205_chunks() -> None:
    """The default chunk is the original publisher's."""
    assert len(plan_chunks([FileLayout("x", 2 << 30)], DEFAULT_CHUNK_BYTES, "fixed")) == 205


def test_fixed_chunks_ignore_files() -> None:
    """Every chunk but the last has the same length, whatever lies in it."""
    files = [FileLayout("a", 100), FileLayout("b", 0), FileLayout("c", 57)]
    assert plan_chunks(files, 50, "fixed") == [50, 50, 50, 7]
    assert plan_chunks([FileLayout("a", 0)], 50, "fixed") == []


def test_a_file_begins_a_chunk() -> None:
    """A boundary lies at the start of each file, and files without bytes have none."""
    files = [FileLayout("a", 100), FileLayout("b", 0), FileLayout("c", 57), FileLayout("d", 3)]
    assert plan_chunks(files, 50) == [50, 50, 50, 7, 3]
    assert plan_chunks([FileLayout("a", 0)], 50) == []


def test_large_tensors_stand_alone_and_small_ones_are_merged() -> None:
    """Header, run of small tensors, tensor of a quarter chunk, large tensor cut into chunks, run to the end."""
    spans = [
        Span(70, 10, "a"),
        Span(80, 20, "b"),
        Span(100, 25, "quarter"),
        Span(125, 230, "large"),
        Span(355, 3, "c"),
        Span(360, 4, "d"),
    ]
    lengths = plan_chunks([FileLayout("m.safetensors", 370, spans)], 100)
    assert lengths == [70, 30, 25, 100, 100, 30, 15]


def test_a_header_longer_than_a_chunk_is_cut() -> None:
    """A header of two and a half chunks is three chunks, and the first tensor begins another."""
    assert plan_chunks([FileLayout("m.gguf", 300, [Span(250, 50, "x")])], 100) == [100, 100, 50, 50]


@given(tensors=models, chunk=st.integers(1, 300), others=st.lists(st.integers(0, 500), max_size=3))
def test_lengths_cover_the_stream(tensors: Tensors, chunk: int, others: list[int]) -> None:
    """No chunk is empty or too long, all of them together are the files, and each file begins one."""
    files = [model_file(tensors)[0], *(FileLayout(str(index), size) for index, size in enumerate(others))]
    total = sum(file.size for file in files)
    for mode in ("fixed", "aligned"):
        lengths = plan_chunks(files, chunk, mode)
        assert sum(lengths) == total
        assert all(1 <= length <= chunk for length in lengths)
    starts = {0, *accumulate(plan_chunks(files, chunk))}
    assert starts >= set(accumulate(file.size for file in files))


@given(tensors=models, which=st.integers(0), longer=st.integers(1, 100))
def test_a_longer_file_before_it_moves_no_chunk(tensors: Tensors, which: int, longer: int) -> None:
    """However long another file is, a model file is cut at the same places."""
    layout = model_file(tensors)[0]
    alone = plan_chunks([layout], CHUNK)
    assert plan_chunks([FileLayout("a", which % 1000 + longer), layout], CHUNK)[-len(alone) :] == alone


@given(tensors=models, which=st.integers(0))
def test_the_cuts_do_not_depend_on_content(tensors: Tensors, which: int) -> None:
    """With other bytes in one tensor, all chunks that do not hold it stay."""
    name = list(tensors)[which % len(tensors)]
    old = chunks_of(tensors)
    place = model_file(tensors)[2][name]
    layout, data, _ = model_file(tensors)
    changed = data[: place.start] + b"!" * len(place) + data[place.stop :]
    new = [(where, changed[where.start : where.stop]) for where, _ in old]
    assert plan_chunks([layout], CHUNK) == [len(HEADER), *(len(data) for _, data in old)]
    assert {each for each in new if not set(each[0]) & set(place)} <= set(old)


def same_class(size: int, other: int) -> bool:
    """True when both are small tensors, or both stand alone."""
    return (-(-size // 8) * 8 * 4 < CHUNK) == (-(-other // 8) * 8 * 4 < CHUNK)


@given(
    tensors=st.one_of(models, small_models),
    which=st.integers(0),
    size=st.one_of(st.integers(1, 56), st.integers(57, 4 * CHUNK)),
)
def test_a_resized_tensor_moves_no_other_chunk(tensors: Tensors, which: int, size: int) -> None:
    """Grown, all old chunks without it stay; shrunk, all new chunks without it are old ones.

    What is new is therefore the chunk that holds the tensor: joined from its neighbours, or cut into pieces.
    """
    name = list(tensors)[which % len(tensors)]
    if not tensors[name] or not same_class(tensors[name], size):
        size = tensors[name]
    resized = {**tensors, name: size}
    if size >= tensors[name]:
        assert apart_from(tensors, name) <= everything(resized)
    if size <= tensors[name]:
        assert apart_from(resized, name) <= everything(tensors)


@given(tensors=models, which=st.integers(0), size=st.integers(0, 4 * CHUNK))
def test_a_tensor_that_becomes_large_moves_only_its_own_run(tensors: Tensors, which: int, size: int) -> None:
    """Beyond the large tensors on either side of it, all chunks stay, whatever it was and becomes."""
    order = list(tensors)
    at = which % len(order)
    large = [index for index, name in enumerate(order) if -(-tensors[name] // 8) * 8 * 4 >= CHUNK]
    left = max((index for index in large if index < at), default=-1)
    right = min((index for index in large if index > at), default=len(order))
    places = model_file(tensors)[2]
    outside = (
        range(0, places[order[left]].stop if left >= 0 else 0),
        range(places[order[right]].start if right < len(order) else 1 << 40, 1 << 40),
    )
    kept = {
        data
        for where, data in chunks_of(tensors)
        if where.stop <= outside[0].stop or where.start >= outside[1].start
    }
    assert kept <= everything({**tensors, order[at]: size})


@given(tensors=even_models, name=st.text(max_size=5), at=st.integers(0), size=st.integers(1, 8))
def test_an_added_tensor_keeps_the_chunks_around_it(tensors: Tensors, name: str, at: int, size: int) -> None:
    """A tensor put between small ones leaves the chunks as they were that do not touch it."""
    without = list(tensors.items())
    at %= len(without) + 1
    more = dict([*without[:at], (name, size), *without[at:]])
    touched = [name, *(key for key, _ in without[max(at - 1, 0) : at + 1])]
    new = set.intersection(*(apart_from(more, key) for key in touched))
    old = everything(dict(without))
    # Besides them, only what the chunk around the new tensor has to give away to stay within its length.
    assert len(new - old) <= 1


def test_small_tensors_fill_their_chunks_by_half() -> None:
    """The price of cuts that stay: at most about twice the chunks that packing from the left would need."""
    tensors = {f"model.layers.{index}.norm": 8 for index in range(5000)}
    assert len(chunks_of(tensors)) <= 2.2 * 5000 * 8 / CHUNK


def test_order_of_files() -> None:
    """Weights by path whatever their size, then large files, then small ones."""
    sizes = {
        "z.safetensors": 1,
        "README.md": 5,
        "onnx/model.ONNX": 9,
        "tokenizer.json": 2 << 20,
        "model.safetensors.index.json": 40,
        "a/config.json": 7,
        "vocab.txt": 1 << 20,
    }
    assert [each.path for each in order_files([FileLayout(*item) for item in sizes.items()])] == [
        "onnx/model.ONNX",
        "z.safetensors",
        "tokenizer.json",
        "vocab.txt",
        "README.md",
        "a/config.json",
        "model.safetensors.index.json",
    ]


@pytest.mark.parametrize("key", ["", "same"])
def test_keys_that_say_nothing_still_lead_to_chunks(key: str) -> None:
    """Tensors without names of their own are cut too."""
    spans = [Span(10 * index, 10, key) for index in range(20)]
    lengths = plan_chunks([FileLayout("m.gguf", 200, spans)], 50)
    assert sum(lengths) == 200
    assert max(lengths) <= 50
