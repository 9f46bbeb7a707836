"""A manifest that was accepted is consistent in itself and is what its name says; every other one is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb._hashing import sha256_hex
from xprim_nb.errors import HashMismatchError, RegistryError
from xprim_nb.registry.manifest import MAX_CHUNK_BYTES, Manifest, Segment, parse_manifest
from xprim_nb.testing.hostile import GOOD, HOSTILE_MANIFESTS, HostileManifest

_A, _B, _C = "a" * 64, "b" * 64, "c" * 64


def _parsed(document: object) -> Manifest:
    return parse_manifest(json.dumps(document).encode(), ".xprim").manifest


def _model(sizes: list[int], chunk_size: int, **more: object) -> dict[str, Any]:
    total = sum(sizes)
    chunks = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(-(-total // chunk_size))]
    files = [{"path": f"f{number}", "size": size} for number, size in enumerate(sizes)]
    return {"total_size": total, "chunk_size": chunk_size, "chunks": chunks, "files": files, **more}


@st.composite
def _models(draw: st.DrawFn) -> dict[str, Any]:
    """A consistent manifest, with fixed or varying chunks, repeated ones among them."""
    sizes = draw(st.lists(st.integers(0, 30), min_size=1, max_size=6))
    total = sum(sizes)
    files = [{"path": f"d{number % 2}/f{number}", "size": size} for number, size in enumerate(sizes)]
    if draw(st.booleans()):
        chunk_size = draw(st.integers(1, 12))
        lengths = [chunk_size] * (total // chunk_size) + ([total % chunk_size] if total % chunk_size else [])
    else:
        chunk_size, lengths, left = draw(st.integers(0, 12)), [], total
        while left:
            lengths.append(draw(st.integers(1, left)))
            left -= lengths[-1]
    names = [sha256_hex(f"{length}.{draw(st.integers(0, 2))}".encode()) for length in lengths]
    manifest = {"total_size": total, "chunk_size": chunk_size, "chunks": names, "files": files}
    if (
        lengths != [chunk_size] * (len(lengths) - 1) + lengths[-1:]
        or (lengths and lengths[-1] > chunk_size)
        or not chunk_size
    ):
        manifest["chunk_sizes"] = lengths
    return manifest


def _assert_tiles(manifest: Manifest) -> None:
    """Every byte of every file lies in exactly one chunk, in order, and nothing else does."""
    assert sum(manifest.sizes) == manifest.total_size == sum(file.size for file in manifest.files)
    assert len(manifest.sizes) == len(manifest.chunks) == len(manifest.chunk_starts)
    assert len(manifest.file_starts) == len(manifest.files)
    assert all(0 < size <= MAX_CHUNK_BYTES for size in manifest.sizes)
    filled = [0] * len(manifest.files)
    number = 0
    for index, size in enumerate(manifest.sizes):
        offset = 0
        for segment in manifest.segments(index):
            assert segment.length > 0
            assert segment.chunk_offset == offset
            assert segment.file_index >= number
            assert segment.file_offset == filled[segment.file_index]
            number = segment.file_index
            filled[number] += segment.length
            offset += segment.length
        assert offset == size
    assert filled == [file.size for file in manifest.files]
    lengths = {(digest, manifest.sizes[index]) for index, digest in enumerate(manifest.chunks)}
    assert len(lengths) == len(manifest.distinct)
    assert sorted(index for indices in manifest.distinct.values() for index in indices) == list(
        range(len(manifest.chunks))
    )


def test_a_manifest_is_read_with_its_bytes() -> None:
    """The raw bytes, their digest and the parsed value travel together."""
    raw = json.dumps(GOOD, indent=3).encode()
    verified = parse_manifest(raw, ".xprim", expected=sha256_hex(raw))
    assert (verified.raw, verified.digest) == (raw, sha256_hex(raw))
    assert verified.manifest.total_size == 10
    assert [(file.path, file.size, file.sha256) for file in verified.manifest.files] == [
        ("config.json", 3, None),
        ("w/model.safetensors", 7, None),
    ]


def test_bytes_that_are_not_their_name_are_refused() -> None:
    """A manifest with another digest than the index named is a mismatch, though it is a good one."""
    with pytest.raises(HashMismatchError) as caught:
        parse_manifest(json.dumps(GOOD).encode(), ".xprim", expected=_A)
    assert caught.value.subject == _A


def test_unknown_keys_are_kept() -> None:
    """What a later version adds is no error, is kept, and replaces nothing of ours."""
    manifest = _parsed(
        {**GOOD, "signature": "x", "sizes": [1], "distinct": {}, "chunk_starts": None, "model_config": 1}
    )
    assert manifest.model_extra is not None
    assert manifest.model_extra["signature"] == "x"
    assert manifest.sizes == (4, 4, 2)
    _assert_tiles(manifest)


def test_a_manifest_does_not_change() -> None:
    """A parsed manifest and its files are frozen."""
    manifest = _parsed(GOOD)
    for target, name in ((manifest, "total_size"), (manifest.files[0], "path")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(target, name, "x")


def test_segments_cut_files_from_chunks() -> None:
    """A chunk that ends one file and begins others has one segment for each; empty files have none."""
    manifest = _parsed(_model([3, 0, 2, 5, 0], 4))
    assert [list(manifest.segments(index)) for index in range(3)] == [
        [Segment(0, 0, 0, 3), Segment(2, 0, 3, 1)],
        [Segment(2, 1, 0, 1), Segment(3, 0, 1, 3)],
        [Segment(3, 3, 0, 2)],
    ]
    assert list(manifest.segments_of_range(4, 0)) == []
    assert list(manifest.segments_of_range(2, 4)) == [
        Segment(0, 2, 0, 1),
        Segment(2, 0, 1, 2),
        Segment(3, 0, 3, 1),
    ]


@pytest.mark.parametrize("sizes", [[0], [0, 0, 0], [1], [4], [8], [0, 4, 0, 4, 0]])
def test_borders_are_no_special_case(sizes: list[int]) -> None:
    """Empty models, empty files at either end, and chunks that end where files end are tiled exactly."""
    _assert_tiles(_parsed(_model(sizes, 4)))


def test_a_chunk_may_occur_any_number_of_times() -> None:
    """`[A, B, A]` is a model like any other; each distinct chunk knows its places."""
    manifest = _parsed({**_model([12], 4), "chunks": [_A, _B, _A]})
    assert manifest.distinct == {_A: (0, 2), _B: (1,)}
    repeated = _parsed({**_model([12], 4), "chunks": [_A, _A, _B], "chunk_sizes": [5, 5, 2]})
    assert repeated.distinct == {_A: (0, 1), _B: (2,)}


def test_the_largest_chunk_is_allowed() -> None:
    """Exactly 1 GiB is a chunk; a model may be as large as it likes."""
    manifest = _parsed(_model([5 << 30], MAX_CHUNK_BYTES))
    assert manifest.sizes == (MAX_CHUNK_BYTES,) * 5


def test_other_applications_have_other_metadata() -> None:
    """A path is refused for the application whose metadata it would overwrite, and for no other."""
    raw = json.dumps({**_model([4], 4), "files": [{"path": ".mytool/x", "size": 4}]}).encode()
    parse_manifest(raw, ".xprim")
    with pytest.raises(RegistryError, match="metadata"):
        parse_manifest(raw, ".mytool")


@pytest.mark.parametrize("case", HOSTILE_MANIFESTS, ids=lambda case: case.name)
def test_hostile_manifests_are_refused(case: HostileManifest) -> None:
    """Each is a RegistryError that names the manifest in a message that a terminal can show."""
    with pytest.raises(RegistryError) as caught:
        parse_manifest(case.raw, ".xprim", expected=sha256_hex(case.raw))
    message = caught.value.message
    assert len(message) < 600
    assert message.isprintable()
    assert f"manifest {sha256_hex(case.raw)[:12]}" in message
    assert caught.value.hint


def test_a_hostile_manifest_takes_no_more_memory_than_it_must() -> None:
    """A list of half a million wrong entries is refused at the first, without a message for each."""
    raw = json.dumps({**GOOD, "chunks": [0] * 500_000}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(RegistryError, match=r"chunks\.0"):
            parse_manifest(raw, ".xprim")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 << 20


@given(_models())
def test_any_consistent_manifest_is_accepted_and_tiles(document: dict[str, Any]) -> None:
    """What is consistent is accepted, unless a chunk has two lengths, and its segments tile the files exactly."""
    lengths = document.get("chunk_sizes") or []
    assert len(lengths) in (0, len(document["chunks"]))
    _assert_tiles(_parsed(document))


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([_A, 0, 1, 4, 10, 1 << 64]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["total_size", "chunk_size", "chunks", "files", "path", "size", "sha256", "x"]),
            inner,
        )
    ),
    max_leaves=10,
)


@given(st.binary(max_size=200) | _VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused_or_consistent(raw: bytes) -> None:
    """Arbitrary bytes and arbitrary JSON are a RegistryError, or a manifest that tiles."""
    _assert_refused_or_tiles(raw)


@given(_models(), st.data())
def test_a_changed_manifest_is_refused_or_consistent(document: dict[str, Any], data: st.DataObject) -> None:
    """One value of a good manifest replaced, removed or doubled gives a RegistryError, or a manifest that tiles."""
    changed = copy.deepcopy(document)
    place: Any = changed
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        match data.draw(st.sampled_from(["replace", "remove", "double", "add"])):
            case "remove":
                del place[key]
            case "double" if isinstance(place, list):
                place.insert(key, place[key])
            case "add" if type(place[key]) is int:
                place[key] += data.draw(st.integers(-3, 3))
            case _:
                place[key] = data.draw(_VALUES)
        break
    _assert_refused_or_tiles(json.dumps(changed).encode())


@given(_models(), st.data())
def test_flipped_bytes_are_refused_or_consistent(document: dict[str, Any], data: st.DataObject) -> None:
    """A damaged manifest never passes under its name, and without one it is refused or tiles."""
    raw = bytearray(json.dumps(document).encode())
    expected = sha256_hex(raw)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(HashMismatchError):
        parse_manifest(bytes(raw), ".xprim", expected=expected)
    _assert_refused_or_tiles(bytes(raw))


def _assert_refused_or_tiles(raw: bytes) -> None:
    try:
        manifest = parse_manifest(raw, ".xprim").manifest
    except RegistryError:
        return
    assert manifest.files
    _assert_tiles(manifest)
