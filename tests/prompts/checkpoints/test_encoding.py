"""Values become blobs and values again, and a list that grew is what a list made at once is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from xprim_nb.errors import StorageError
from xprim_nb.prompts.checkpoints.encoding import (
    Blob,
    Image,
    Parts,
    Ref,
    decode,
    encode,
    pack_channels,
    pack_ref,
    resolve,
    seal,
    unpack_channels,
    unpack_ref,
    unseal,
)

_SERDE = JsonPlusSerializer()
_ITEMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.text(max_size=5),
    st.integers(0, 20).map(lambda number: f"long {number} " * 20),
    st.binary(min_size=70, max_size=90),
)
_LISTS = st.lists(_ITEMS, max_size=80)


def _read(ref: Ref, blobs: Mapping[bytes, Blob], images: Mapping[bytes, Image] | None = None) -> object:
    """The value, from nothing but what is stored, or with what is remembered."""

    def fetch(digests: Sequence[bytes]) -> dict[bytes, Blob]:
        return {digest: unseal(seal(blobs[digest])) for digest in digests}

    return decode(ref, resolve([ref], fetch, images or {}), _SERDE)


@settings(max_examples=60)
@given(_LISTS, st.integers(0, 80), _LISTS)
def test_a_list_that_grew_is_what_it_would_be_anew(old: list[object], kept: int, more: list[object]) -> None:
    """Made from an earlier list or anew, a list has the same name and the same blobs; only what is new is made."""
    new = [*old[:kept], *more]
    first, grown, anew = Parts(), Parts(), Parts()
    before = encode(old, _SERDE, first)
    image = first.images.get(before) if isinstance(before, bytes) else None
    after = encode(new, _SERDE, grown, image)
    assert after == encode(new, _SERDE, anew)
    assert {**first.blobs, **grown.blobs}.items() >= anew.blobs.items()
    assert grown.images.keys() == anew.images.keys()
    assert all(grown.images[root].digests() == set(anew.blobs) for root in grown.images)
    assert grown.blobs.items() <= anew.blobs.items()
    for images in (None, grown.images, anew.images):
        assert _read(after, anew.blobs, images) == new
        assert [type(each) for each in _as_list(_read(after, anew.blobs, images))] == [
            type(each) for each in new
        ]


def _as_list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


@pytest.mark.parametrize("size", [1, 15, 16, 17, 256, 257, 4096, 4097])
def test_trees_of_every_height(size: int) -> None:
    """Lists at the edges of a level come back, and one more item costs a node a level."""
    items = [f"item {number} " * 10 for number in range(size)]
    parts = Parts()
    root = encode(items, _SERDE, parts)
    assert _read(root, parts.blobs) == items
    assert isinstance(root, bytes)
    more = Parts()
    grown = encode([*items, "more " * 20], _SERDE, more, parts.images[root])
    assert len(more.blobs) <= 1 + 4
    assert _read(grown, {**parts.blobs, **more.blobs}) == [*items, "more " * 20]


def test_what_was_changed_in_place_is_found() -> None:
    """An item that was changed in the middle of a list that is handed in again is made anew."""
    items = [{"text": f"item {number} " * 10} for number in range(40)]
    parts, more = Parts(), Parts()
    root = encode(items, _SERDE, parts)
    items[3]["text"] = "changed"
    assert isinstance(root, bytes)
    changed = encode(items, _SERDE, more, parts.images[root])
    assert _read(changed, {**parts.blobs, **more.blobs}) == items
    assert _read(root, parts.blobs) != items


def test_a_digest_is_the_hash_of_type_and_bytes() -> None:
    """A blob's name can be worked out by anyone, and depends on its type."""
    assert Blob("msgpack", b"abc").digest == hashlib.sha256(b"msgpack\0abc").digest()
    assert Blob("bytes", b"abc").digest != Blob("msgpack", b"abc").digest


@given(st.binary(max_size=300), st.integers(1, 5))
def test_sealed_blobs_come_back(raw: bytes, times: int) -> None:
    """What is stored of a blob is the blob, and never much longer than it."""
    blob = Blob("msgpack", raw * times)
    assert unseal(seal(blob)) == blob
    assert len(seal(blob)) <= len(blob.raw) + 9


@pytest.mark.parametrize(
    "sealed", [b"", b"\x00", b"\x09\x01xabc", b"\x01\x07msgpackno zstd", b"\x00\x02\xff\xff"]
)
def test_damaged_columns_are_told(sealed: bytes) -> None:
    """A column that is not what was stored is a StorageError."""
    with pytest.raises(StorageError):
        unseal(sealed)


def test_references_come_back() -> None:
    """Digests and small values are told apart in a column, also a small value of 32 bytes."""
    refs: dict[str, Ref] = {"a": b"d" * 32, "b": ("bytes", b"d" * 32), "c": ("null", b"")}
    assert unpack_channels(pack_channels(refs)) == refs
    assert {name: unpack_ref(pack_ref(ref)) for name, ref in refs.items()} == refs
