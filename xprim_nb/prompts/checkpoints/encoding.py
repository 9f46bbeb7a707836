"""Values become blobs with the hash of their bytes for a name, and become values again. Pure: no database.

A value is a reference: its bytes themselves where these are fewer than a name and a row would be, the name of a blob
otherwise. A list is a tree of nodes, sixteen references each, over one blob for each item; the tree depends on
nothing but the items, so equal lists have equal names, and a list that has grown by one shares all but the last node
of each level with the one before. Every caller gets objects of its own, and what it does to them reaches nobody else:
who decodes the same values often gives `Models`, which keep one that nobody else has, to copy from.

A blob's digest is the SHA-256 of its type, a zero byte, and its bytes as the serialiser made them.

Source: spec 6 §Checkpoints; research prompts §4.2.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from xprim_nb.errors import StorageError

from .copying import Models
from .langgraph_parts import DeltaSnapshot, JsonPlusSerializer, SerializerProtocol, ormsgpack, zstandard

__all__ = [
    "Blob",
    "Fetch",
    "Image",
    "Parts",
    "Ref",
    "children",
    "decode",
    "digests_of",
    "encode",
    "pack_channels",
    "pack_ref",
    "resolve",
    "seal",
    "unpack_channels",
    "unpack_ref",
    "unseal",
]

Ref: TypeAlias = bytes | tuple[str, bytes]
"""A blob's digest, or a small value's type and bytes."""


class Blob(NamedTuple):
    """What a digest names: the serialiser's type tag, or one of `_NODES`, and its bytes."""

    type: str
    raw: bytes

    @property
    def is_node(self) -> bool:
        """True when it refers to other blobs."""
        return self.type in _NODES

    @property
    def digest(self) -> bytes:
        """Its name, 32 bytes."""
        hashed = hashlib.sha256(self.type.encode() + b"\0")
        hashed.update(self.raw)
        return hashed.digest()


Fetch: TypeAlias = Callable[[Sequence[bytes]], Mapping[bytes, Blob]]
"""Gives the blobs that have these digests; raises when it lacks one."""

# No serialiser's tag has a slash.
_LEAF, _BRANCH, _SNAPSHOT = "list/items", "list/nodes", "delta/snapshot"
_NODES = frozenset({_LEAF, _BRANCH, _SNAPSHOT})
# An appended item costs one new node a level: 16 references of 33 bytes, half full on average. With 8 there are more
# levels, and so more rows, with 32 longer nodes; both take more bytes for a list of 300.
_FAN_OUT = 16
# A digest takes 32 bytes, its row about 60 more.
_INLINE_BYTES = 64
# What Python adds to an item in an image: three entries of lists, a tuple, a digest.
_ENTRY_BYTES = 200
_RAW, _ZSTD = 0, 1
# Below this, zstd's frame eats what it saves.
_COMPRESSED_FROM_BYTES = 96
# Level 3 took 40 % of level 9's time for 4 % more bytes on chat messages.
_ZSTD_LEVEL = 3
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Image:
    """A list as its tree has it: bytes and digests, never a value. It follows from the root's digest alone.

    Args:
        items: Type and bytes of each item.
        refs: The reference of each item.
        levels: The digests of the nodes, the lowest level first; the last level is the root.
    """

    items: Sequence[Blob]
    refs: Sequence[Ref]
    levels: Sequence[Sequence[bytes]]

    @property
    def size_bytes(self) -> int:
        """What it would take if it shared nothing with others."""
        return sum([len(item.raw) for item in self.items]) + _ENTRY_BYTES * len(self.items)

    def digests(self) -> set[bytes]:
        """Every blob that the list needs."""
        needed = set(digests_of(self.refs))
        return needed.union(*self.levels)


@dataclass(slots=True)
class Parts:
    """Blobs by digest, and the images of lists by the digest of the root."""

    blobs: dict[bytes, Blob] = field(default_factory=dict)
    images: dict[bytes, Image] = field(default_factory=dict)

    def fresh_images(self) -> dict[bytes, Image]:
        """The images that were made of the blobs, and not found."""
        return {root: image for root, image in self.images.items() if root in self.blobs}

    def size_of(self, ref: Ref) -> int:
        """About how many bytes a value took, serialised; its own only, where it is a node that was not read yet."""
        if isinstance(ref, tuple):
            return len(ref[1])
        return self.images[ref].size_bytes if ref in self.images else len(self.blobs[ref].raw)

    def keep(self, blob: Blob) -> bytes:
        """Add a blob; its digest."""
        digest = blob.digest
        self.blobs[digest] = blob
        return digest


_EMPTY = Image((), (), ())


def encode(value: object, serde: SerializerProtocol, made: Parts, earlier: Image | None = None) -> Ref:
    """The reference of a value; the blobs that it needs, all the way down, are put into `made`.

    Args:
        value: Is not changed, and not kept.
        serde: What makes bytes of it.
        made: Gets what is made.
        earlier: A list that this one may have grown from. What both have is not made again, and not in `made`.
    """
    if type(value) is list:
        return _encode_list(value, serde, made, earlier or _EMPTY)
    if type(value) is DeltaSnapshot:
        return made.keep(Blob(_SNAPSHOT, _pack([encode(value.value, serde, made)])))
    return _encode_plain(value, serde, made)


def decode(ref: Ref, found: Parts, serde: SerializerProtocol, models: Models | None = None) -> Any:  # noqa: ANN401  # any value
    """A new object equal to the one that was encoded; `found` has all that it needs (`resolve`)."""
    if isinstance(ref, tuple):
        return serde.loads_typed(ref)
    image = found.images.get(ref)
    if image is None:
        blob = found.blobs[ref]
        if not blob.is_node:
            return _decode_items([ref], [blob], serde, models)[0]
        if blob.type == _SNAPSHOT:
            return DeltaSnapshot(decode(_unpack(blob.raw)[0], found, serde, models))
        image = found.images[ref] = _image_of(ref, found.blobs)
    return _decode_items(image.refs, image.items, serde, models)


def resolve(refs: Iterable[Ref], fetch: Fetch, images: Mapping[bytes, Image]) -> Parts:
    """All that these references need: the images that there are, and blobs fetched level by level."""
    found = Parts()
    wanted = {ref for ref in refs if isinstance(ref, bytes)}
    while wanted:
        found.images.update({digest: images[digest] for digest in wanted if digest in images})
        fetched = fetch([digest for digest in wanted if digest not in found.images])
        found.blobs.update(fetched)
        below = {each for blob in fetched.values() if blob.is_node for each in children(blob)}
        wanted = below - found.blobs.keys()
    return found


def children(blob: Blob) -> list[bytes]:
    """The blobs that a node refers to."""
    return digests_of(_unpack(blob.raw))


def digests_of(refs: Iterable[Ref]) -> list[bytes]:
    """The digests among references."""
    return [ref for ref in refs if isinstance(ref, bytes)]


def pack_ref(ref: Ref) -> bytes:
    """A reference as a column holds it."""
    return ormsgpack.packb(ref)


def unpack_ref(packed: bytes) -> Ref:
    """The reverse of `pack_ref`."""
    return _as_ref(ormsgpack.unpackb(packed))


def pack_channels(refs: Mapping[str, Ref]) -> bytes:
    """The references of a checkpoint's channels as a column holds them."""
    return ormsgpack.packb(dict(refs))


def unpack_channels(packed: bytes) -> dict[str, Ref]:
    """The reverse of `pack_channels`."""
    return {channel: _as_ref(ref) for channel, ref in ormsgpack.unpackb(packed).items()}


def seal(blob: Blob) -> bytes:
    """A blob as a column holds it: how it is compressed, its type, its bytes."""
    codec, payload = _RAW, blob.raw
    if len(payload) >= _COMPRESSED_FROM_BYTES:
        smaller = _compressor().compress(payload)
        if len(smaller) < len(payload):
            codec, payload = _ZSTD, smaller
    tag = blob.type.encode()
    return bytes((codec, len(tag))) + tag + payload


def unseal(sealed: bytes) -> Blob:
    """The reverse of `seal`.

    Raises:
        StorageError: It is damaged, or compressed in a way that this version does not know.
    """
    try:
        codec, tag_end = sealed[0], 2 + sealed[1]
        tag, payload = sealed[2:tag_end].decode(), sealed[tag_end:]
        if codec == _ZSTD:
            payload = _decompressor().decompress(payload)
        elif codec != _RAW:
            raise StorageError(f"A stored value has codec {codec}.", hint="Update xprim-nb.")
    except (IndexError, UnicodeDecodeError, zstandard.ZstdError) as error:
        raise StorageError(f"A stored value is damaged: {error}") from error
    return Blob(tag, payload)


def _encode_plain(value: object, serde: SerializerProtocol, made: Parts) -> Ref:
    return _ref_of(_serialised(value, serde), made)


def _serialised(value: object, serde: SerializerProtocol) -> Blob:
    tag, raw = serde.dumps_typed(value)
    return Blob(tag, raw if type(raw) is bytes else bytes(raw))


def _ref_of(blob: Blob, made: Parts) -> Ref:
    return (blob.type, blob.raw) if len(blob.raw) <= _INLINE_BYTES else made.keep(blob)


def _encode_list(values: list[object], serde: SerializerProtocol, made: Parts, earlier: Image) -> Ref:
    items = [_serialised(value, serde) for value in values]
    refs: list[Ref] = []
    same = 0  # so many items at the beginning are the earlier list's
    for number, (item, old) in enumerate(zip(items, earlier.items, strict=False)):
        if item == old:
            # The bytes are equal, so the digest is; and the bytes that are kept already serve for both.
            items[number], same = old, same + (same == number)
            refs.append(earlier.refs[number])
        else:
            refs.append(_ref_of(item, made))
    refs += [_ref_of(item, made) for item in items[len(refs) :]]
    if len(refs) <= _FAN_OUT and not any(isinstance(ref, bytes) for ref in refs):
        return _encode_plain(values, serde, made)
    levels: list[list[bytes]] = []
    kind, below, covered = _LEAF, refs, 1
    while kind == _LEAF or len(below) > 1:
        covered *= _FAN_OUT
        old_level = earlier.levels[len(levels)] if len(levels) < len(earlier.levels) else ()
        level = [
            old_level[number]
            if (number + 1) * covered <= same and number < len(old_level)
            else made.keep(Blob(kind, _pack(below[number * _FAN_OUT : (number + 1) * _FAN_OUT])))
            for number in range((len(below) + _FAN_OUT - 1) // _FAN_OUT)
        ]
        levels.append(level)
        kind, below = _BRANCH, list[Ref](level)
    root = levels[-1][0]
    made.images[root] = Image(items, refs, levels)
    return root


def _image_of(root: bytes, blobs: Mapping[bytes, Blob]) -> Image:
    level, levels = [root], list[list[bytes]]()
    while True:
        levels.insert(0, level)
        refs = [ref for digest in level for ref in _unpack(blobs[digest].raw)]
        if blobs[level[0]].type == _LEAF:
            items = [blobs[ref] if isinstance(ref, bytes) else Blob(*ref) for ref in refs]
            return Image(items, refs, levels)
        level = digests_of(refs)


def _decode_items(
    refs: Sequence[Ref], items: Sequence[Blob], serde: SerializerProtocol, models: Models | None
) -> list[Any]:
    if models is None:
        return _decoded(items, serde)
    return models.values(
        [ref if isinstance(ref, bytes) else None for ref in refs],
        [len(item.raw) for item in items],
        lambda places: _decoded([items[place] for place in places], serde),
    )


def _decoded(items: Sequence[Blob], serde: SerializerProtocol) -> list[Any]:
    # MessagePack's array is a head and its items' bytes in a row, so that one call decodes what were many values; a
    # call for each took a third longer.
    if isinstance(serde, JsonPlusSerializer) and {item.type for item in items} == {"msgpack"}:
        joined = _array_head(len(items)) + b"".join([item.raw for item in items])
        values: list[Any] = serde.loads_typed(("msgpack", joined))
        return values
    return [serde.loads_typed(item) for item in items]


def _array_head(count: int) -> bytes:
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")


def _pack(refs: Sequence[Ref]) -> bytes:
    return ormsgpack.packb(list(refs))


def _unpack(raw: bytes) -> list[Ref]:
    return [_as_ref(each) for each in ormsgpack.unpackb(raw)]


def _as_ref(unpacked: bytes | list[Any]) -> Ref:
    return unpacked if isinstance(unpacked, bytes) else (unpacked[0], unpacked[1])


def _compressor() -> zstandard.ZstdCompressor:
    """One for each thread: they are not made for two at once."""
    known: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if known is None:
        known = _local.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    return known


def _decompressor() -> zstandard.ZstdDecompressor:
    known: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if known is None:
        known = _local.decompressor = zstandard.ZstdDecompressor()
    return known
