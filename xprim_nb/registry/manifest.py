"""What a model is made of: chunks that form one stream, and files cut from it.

Source: spec 1 §Wire format; faults G3, G4, G7 of the original.
"""

from __future__ import annotations

import reprlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Annotated, NamedTuple

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
)

from xprim_nb._hashing import Digest, is_digest, sha256_hex
from xprim_nb._text import format_count
from xprim_nb.errors import HashMismatchError, RegistryError
from xprim_nb.registry.paths import check_paths

__all__ = [
    "MAX_CHUNK_BYTES",
    "MAX_DOCUMENT_BYTES",
    "FileEntry",
    "Manifest",
    "Segment",
    "VerifiedManifest",
    "parse_manifest",
]

# Spec 1 §Client: an answer above these is cut off, whatever it claims to be.
MAX_DOCUMENT_BYTES = 64 << 20
MAX_CHUNK_BYTES = 1 << 30


def _check_digest(text: str) -> Digest:
    if not is_digest(text):
        raise ValueError("not 64 lower-case hexadecimal digits")
    return Digest(text)


_DigestField = Annotated[StrictStr, AfterValidator(_check_digest)]
_Size = Annotated[StrictInt, Field(ge=0, le=1 << 62)]
_ChunkSize = Annotated[StrictInt, Field(ge=1, le=MAX_CHUNK_BYTES)]


class FileEntry(BaseModel):
    """One file of a model.

    Attributes:
        path: Relative, `/`-separated.
        size: In bytes.
        sha256: Of the whole file, where the publisher gave it.
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    path: StrictStr
    size: _Size
    sha256: _DigestField | None = None


class Segment(NamedTuple):
    """A run of bytes that lies in one chunk and in one file."""

    file_index: int
    file_offset: int
    chunk_offset: int
    length: int


class Manifest(BaseModel):
    """A model's chunks and files. One that exists is consistent: the sums agree and the paths are safe.

    Attributes:
        total_size: Sum of the files, in bytes.
        chunk_size: Length of every chunk but the last; with `chunk_sizes`, the publisher's target.
        chunks: Digest of each chunk, in stream order. A chunk may occur any number of times.
        files: In stream order.
        chunk_sizes: Length of each chunk, where they vary.
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    total_size: _Size
    chunk_size: _Size
    # fail_fast: a list of a million wrong entries would become a million error messages, 1 KB each.
    chunks: Annotated[tuple[_DigestField, ...], Field(fail_fast=True)]
    files: Annotated[tuple[FileEntry, ...], Field(fail_fast=True)]
    chunk_sizes: Annotated[tuple[_ChunkSize, ...], Field(fail_fast=True)] | None = None

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Length of each chunk, in bytes."""
        if self.chunk_sizes is not None:
            return self.chunk_sizes
        if not self.chunks:
            return ()
        return (self.chunk_size,) * (len(self.chunks) - 1) + (
            self.total_size - self.chunk_size * (len(self.chunks) - 1),
        )

    @cached_property
    def chunk_starts(self) -> tuple[int, ...]:
        """Offset of each chunk in the stream, in bytes."""
        return (0, *accumulate(self.sizes))[: len(self.chunks)]

    @cached_property
    def file_starts(self) -> tuple[int, ...]:
        """Offset of each file in the stream, in bytes."""
        return (0, *accumulate(file.size for file in self.files))[: len(self.files)]

    @cached_property
    def distinct(self) -> dict[Digest, tuple[int, ...]]:
        """Each distinct chunk, with the indices where it occurs, in order of first occurrence."""
        found: dict[Digest, list[int]] = {}
        for index, digest in enumerate(self.chunks):
            found.setdefault(Digest(digest), []).append(index)
        return {digest: tuple(indices) for digest, indices in found.items()}

    def segments(self, index: int) -> Iterator[Segment]:
        """Where the bytes of chunk `index` belong, in order."""
        yield from self.segments_of_range(self.chunk_starts[index], self.sizes[index])

    def segments_of_range(self, start: int, length: int) -> Iterator[Segment]:
        """Where `length` bytes of the stream from `start` belong; `chunk_offset` counts from `start`."""
        position, end = start, start + length
        number = max(bisect_right(self.file_starts, position) - 1, 0)
        while position < end:
            file_end = self.file_starts[number] + self.files[number].size
            if file_end > position:
                run = min(end, file_end) - position
                yield Segment(number, position - self.file_starts[number], position - start, run)
                position += run
            number += 1


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest together with the raw bytes its digest was computed from."""

    digest: Digest
    raw: bytes
    manifest: Manifest


def parse_manifest(raw: bytes, metadata_dir: str, *, expected: str | None = None) -> VerifiedManifest:
    """The manifest in `raw`, checked against its name and in itself.

    Args:
        raw: The bytes as they were served.
        metadata_dir: Our directory inside an installed model, `.xprim`.
        expected: The digest it is known by; None for bytes that have no name yet.

    Raises:
        HashMismatchError: The bytes have another digest.
        RegistryError: They are no consistent manifest; the message names the entry at fault.
    """
    digest = sha256_hex(raw)
    if expected is not None and digest != expected:
        raise HashMismatchError(f"The manifest {expected} arrived as {digest}.", subject=expected)
    where = f"manifest {digest[:12]}"
    try:
        manifest = Manifest.model_validate(orjson.loads(raw))
    except orjson.JSONDecodeError as error:
        raise RegistryError(f"{where} is not JSON: {error}", subject=digest) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        shown = reprlib.repr(first["input"])  # bounded in depth too: repr() would exceed the stack
        raise RegistryError(f"{where}: {place}: {first['msg']} (found {shown})", subject=digest) from error
    except RecursionError as error:
        raise RegistryError(f"{where} is nested too deeply.", subject=digest) from error
    check_paths((file.path for file in manifest.files), metadata_dir, where=where)
    _check_sums(manifest, where, digest)
    return VerifiedManifest(digest, raw, manifest)


def _check_sums(manifest: Manifest, where: str, digest: str) -> None:
    def refuse(text: str) -> None:
        raise RegistryError(f"{where}: {text}", subject=digest)

    if not manifest.files:
        refuse("files is empty: a model has at least one file.")
    in_files = sum(file.size for file in manifest.files)
    if in_files != manifest.total_size:
        refuse(f"the files hold {format_count(in_files, 'byte')}, total_size says {manifest.total_size}.")
    if manifest.chunk_sizes is not None:
        if len(manifest.chunk_sizes) != len(manifest.chunks):
            refuse(
                f"chunk_sizes is of {len(manifest.chunk_sizes):,}, for {format_count(len(manifest.chunks), 'chunk')}."
            )
        if sum(manifest.chunk_sizes) != manifest.total_size:
            refuse(
                f"the chunks hold {format_count(sum(manifest.chunk_sizes), 'byte')}, total_size says {manifest.total_size}."
            )
        return _check_repeats(manifest, refuse)
    if not manifest.chunks:
        if manifest.total_size:
            refuse(f"chunks is empty, total_size says {manifest.total_size}.")
        return None
    if not 1 <= manifest.chunk_size <= MAX_CHUNK_BYTES:
        refuse(f"chunk_size is {manifest.chunk_size}, and must be 1 to {MAX_CHUNK_BYTES}.")
    wanted = -(-manifest.total_size // manifest.chunk_size)
    if wanted != len(manifest.chunks):
        refuse(
            f"{format_count(manifest.total_size, 'byte')} in chunks of {manifest.chunk_size} are "
            f"{format_count(wanted, 'chunk')}, the list has {len(manifest.chunks)}."
        )
    return _check_repeats(manifest, refuse)


def _check_repeats(manifest: Manifest, refuse: object) -> None:
    assert callable(refuse)
    for chunk, indices in manifest.distinct.items():
        lengths = {manifest.sizes[index] for index in indices}
        if len(lengths) > 1:
            refuse(f"chunk {chunk[:12]} is listed with the lengths {sorted(lengths)}.")
