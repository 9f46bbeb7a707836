"""What checkpoints, nodes, artifacts and traces hold: stored by content, beside and shared with the savers' values.

A payload is a few named parts, such as state and metadata. Each value of a part is stored as a channel's value is, so that
a state that a saver has as well is there once. What the store needs is held by thread 0, which no saver has: taking
away a thread never takes a payload's blob, nor the other way round. A payload that was erased keeps its digest.

Source: spec 6 §Checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from xprim_nb.errors import ConfigError, StorageError
from xprim_nb.prompts.identity import tagged_hash
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.values import JsonValue

from .database import Session, chunks, marks
from .encoding import (
    Blob,
    Parts,
    Ref,
    children,
    decode,
    digests_of,
    encode,
    pack_channels,
    resolve,
    seal,
    unpack_channels,
    unseal,
)
from .langgraph_parts import SerializerProtocol
from .reading import read_blobs

__all__ = [
    "Payload",
    "PayloadDraft",
    "PayloadParts",
    "draft_payload",
    "drop_payloads",
    "keep_payloads",
    "payload_hash",
    "read_payloads",
]

PayloadParts: TypeAlias = Mapping[str, JsonValue]

# Numbers of threads begin at 1.
_HOLDER = 0
# Parts' names have none of it, so that the first one in a channel's name ends the part's.
_DOT = "."
_TAG = "xprim/payload/v1"


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload as it lies in the database; `parts` makes it readable, outside of any transaction."""

    refs: Mapping[str, Ref]
    found: Parts

    def parts(self, serde: SerializerProtocol) -> dict[str, Any]:
        """What was kept: new objects, each time."""
        parts: dict[str, Any] = {}
        for channel, ref in self.refs.items():
            part, dot, key = channel.partition(_DOT)
            value = decode(ref, self.found, serde)
            if dot:
                parts.setdefault(part, {})[key] = value
            else:
                parts[part] = value
        return parts


@dataclass(frozen=True, slots=True)
class PayloadDraft:
    """A payload that is ready to be stored.

    Args:
        digest: The hash of its parts.
        parts: These, without their secrets.
        manifest: The references of their values.
        blobs: What the references need.
    """

    digest: str
    parts: PayloadParts
    manifest: bytes
    blobs: Mapping[bytes, Blob]

    @property
    def payload(self) -> Payload:
        """As it will lie in the database."""
        return Payload(unpack_channels(self.manifest), Parts(dict(self.blobs)))


def draft_payload(
    what: str, parts: PayloadParts, redactor: Redactor, serde: SerializerProtocol
) -> PayloadDraft:
    """What is to be stored of these parts, once secrets are out.

    Raises:
        ConfigError: They hold what JSON cannot, or whole numbers of more than 64 bits.
    """
    made = Parts()
    try:
        clean = {part: _plain(redactor.json(value)) for part, value in parts.items()}
        digest = tagged_hash(_TAG, clean)
        refs: dict[str, Ref] = {}
        for part, value in clean.items():
            channels = (
                {f"{part}{_DOT}{key}": each for key, each in value.items()}
                if _is_open(value)
                else {part: value}
            )
            refs.update({channel: encode(each, serde, made) for channel, each in channels.items()})
    except (ConfigError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"A {what} holds what cannot be kept: {str(error).removeprefix('A prompt holds ')}",
            subject=what,
            hint="Keep texts, numbers, lists and mappings here; a graph's own objects belong to its saver.",
        ) from error
    return PayloadDraft(digest, clean, pack_channels(refs), made.blobs)


def keep_payloads(session: Session, drafts: Iterable[PayloadDraft]) -> list[str]:
    """Store those that are not there. One that was erased is there again, for it was said again: these are told."""
    wanted = {draft.digest: draft for draft in drafts}
    restored: list[str] = []
    for some in chunks(sorted(wanted)):
        for digest, is_there in session.rows(
            "SELECT digest, CASE WHEN manifest IS NULL THEN 0 ELSE 1 END FROM xprim_payloads"
            f" WHERE digest IN ({marks(len(some))})",
            some,
        ):
            if is_there:
                del wanted[digest]
            else:
                restored.append(digest)
    blobs = {digest: blob for draft in wanted.values() for digest, blob in draft.blobs.items()}
    # What is held already stays while this transaction lasts, for whoever lets go of it works alone.
    for held in chunks(list(blobs)):
        for (digest,) in session.rows(
            "SELECT b.digest FROM xprim_blobs b JOIN xprim_held h ON h.blob = b.id AND h.thread = ?"
            f" WHERE b.digest IN ({marks(len(held))})",
            (_HOLDER, *held),
        ):
            del blobs[digest]
    # In one order for everybody, savers included, who would wait for each other otherwise.
    ordered = sorted(blobs)
    if ordered:
        session.run_many(
            "INSERT INTO xprim_blobs (digest, is_node, sealed) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING",
            [(digest, int(blobs[digest].is_node), seal(blobs[digest])) for digest in ordered],
        )
        session.run_many(
            "INSERT INTO xprim_held (thread, blob) SELECT ?, id FROM xprim_blobs WHERE digest = ?"
            " ON CONFLICT DO NOTHING",
            [(_HOLDER, digest) for digest in ordered],
        )
    if wanted:
        session.run_many(
            "INSERT INTO xprim_payloads (digest, manifest) VALUES (?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET manifest = excluded.manifest",
            [(draft.digest, draft.manifest) for _, draft in sorted(wanted.items())],
        )
    return restored


def read_payloads(session: Session, digests: Iterable[str]) -> dict[str, Payload]:
    """These payloads by their digest; those that were erased are missing.

    Raises:
        StorageError: A value is absent or damaged.
    """
    manifests: dict[str, dict[str, Ref]] = {}
    for some in chunks(sorted(set(digests))):
        for digest, manifest in session.rows(
            f"SELECT digest, manifest FROM xprim_payloads WHERE digest IN ({marks(len(some))})", some
        ):
            if manifest is not None:
                manifests[digest] = _unpacked(digest, manifest)
    refs = [ref for each in manifests.values() for ref in each.values()]
    found = resolve(refs, lambda wanted: read_blobs(session, wanted), {})
    return {digest: Payload(each, found) for digest, each in manifests.items()}


def drop_payloads(session: Session, digests: Sequence[str], *, erased: bool) -> None:
    """Take the content of payloads away, and every blob that nobody needs then. The caller writes alone.

    Args:
        session: Of a `write` with `alone`.
        digests: Which.
        erased: Keep the digest, for something still has it; else the row goes too.
    """
    for some in chunks(digests):
        what = "UPDATE xprim_payloads SET manifest = NULL" if erased else "DELETE FROM xprim_payloads"
        session.run(f"{what} WHERE digest IN ({marks(len(some))})", some)
    needed = _needed(session)
    gone = [
        number
        for number, digest in session.rows(
            "SELECT b.id, b.digest FROM xprim_held h JOIN xprim_blobs b ON b.id = h.blob WHERE h.thread = ?",
            (_HOLDER,),
        )
        if digest not in needed
    ]
    for numbers in chunks(gone):
        named = marks(len(numbers))
        session.run(f"DELETE FROM xprim_held WHERE thread = ? AND blob IN ({named})", (_HOLDER, *numbers))
        session.run(
            f"DELETE FROM xprim_blobs WHERE id IN ({named})"
            " AND NOT EXISTS (SELECT 1 FROM xprim_held h WHERE h.blob = xprim_blobs.id)",
            numbers,
        )


def payload_hash(parts: PayloadParts) -> str:
    """The digest that these parts have."""
    return tagged_hash(_TAG, parts)


def _needed(session: Session) -> set[bytes]:
    """Every blob that some payload needs, all the way down."""
    wanted: set[bytes] = set()
    for digest, manifest in session.rows(
        "SELECT digest, manifest FROM xprim_payloads WHERE manifest IS NOT NULL"
    ):
        wanted.update(digests_of(_unpacked(digest, manifest).values()))
    below = {
        digest: children(unseal(sealed))
        for digest, sealed in session.rows(
            "SELECT b.digest, b.sealed FROM xprim_held h JOIN xprim_blobs b ON b.id = h.blob"
            " WHERE h.thread = ? AND b.is_node = 1",
            (_HOLDER,),
        )
    }
    needed: set[bytes] = set()
    while wanted:
        needed |= wanted
        wanted = {each for digest in wanted for each in below.get(digest, ())} - needed
    return needed


def _unpacked(digest: str, manifest: bytes) -> dict[str, Ref]:
    try:
        return unpack_channels(manifest)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise StorageError(f"A stored payload is damaged: {error}", subject=digest) from error


def _is_open(value: JsonValue) -> bool:
    """Whether each of its values is stored for itself; an empty mapping has none, and would be lost."""
    return isinstance(value, dict) and bool(value)


def _plain(value: JsonValue) -> JsonValue:
    """A JSON value of Python's own lists, dictionaries and numbers, as it will be read."""
    match value:
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case _:
            return value
