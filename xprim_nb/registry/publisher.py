"""Writes a registry directory that any static host serves.

Chunks first, then the manifest, then its name in `models.json`: stopped anywhere, the registry still serves what
it served before, and publishing again goes on from the chunks that are there.

Source: spec 1 §Publisher.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import rfc8785

from xprim_nb._files import read_plain, storage_errors, sync_dir, write_atomic
from xprim_nb._hashing import Digest, canonical_json, sha256_hex
from xprim_nb.errors import ConfigError, XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.chunking import DEFAULT_CHUNK_BYTES, ChunkMode, FileLayout, Span, plan_chunks
from xprim_nb.registry.folder import (
    METADATA_DIR,
    Folder,
    PublishError,
    SourceFile,
    changed_error,
    identity_of,
    scan_folder,
)
from xprim_nb.registry.manifest import MAX_CHUNK_BYTES, MAX_DOCUMENT_BYTES, VerifiedManifest, parse_manifest
from xprim_nb.registry.naming import name_version, other_bytes, parse_alias, published_hash, set_alias
from xprim_nb.registry.objects import ObjectWriter, is_whole
from xprim_nb.registry.tensors import HeaderError, parse_tensor_file

__all__ = ["JSON", "PublishError", "PublishProgress", "Published", "describe", "publish", "set_alias"]

JSON = Mapping[str, "JSON"] | Sequence["JSON"] | str | int | float | bool | None

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """How far a publication is.

    Attributes:
        chunks_total: Chunks of the model.
        chunks_completed: Of those, how many are in place.
        bytes_total: Size of the model, in bytes.
        bytes_completed: Of those, how many are in place.
        bytes_new: Bytes that had to be written, so far.
        current_file: The file that is being read; empty before the first.
    """

    chunks_total: int
    chunks_completed: int
    bytes_total: int
    bytes_completed: int
    bytes_new: int
    current_file: str


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication did.

    Attributes:
        ref: The version.
        manifest_hash: Digest of its manifest.
        total_size: In bytes.
        files: How many files it has.
        chunks_total: How many chunks it has, repeated ones counted each time.
        chunks_new: How many had to be written.
        bytes_new: Bytes of those.
        aliases: The further names it was given.
        updated: False when `models.json` said all this before and was not touched.
        skipped: Hidden files and litter that were left out; directories end in `/`.
    """

    ref: ModelRef
    manifest_hash: Digest
    total_size: int
    files: int
    chunks_total: int
    chunks_new: int
    bytes_new: int
    aliases: tuple[str, ...]
    updated: bool
    skipped: tuple[str, ...]


def publish(
    source: Path,
    ref: ModelRef | str,
    *,
    to: Path,
    alias: Sequence[str] = (),
    metadata: Mapping[str, JSON] | None = None,
    chunk_size: int = DEFAULT_CHUNK_BYTES,
    mode: ChunkMode = "aligned",
    replace: bool = False,
    progress: Callable[[PublishProgress], None] | None = None,
) -> Published:
    """Put the files of a directory into a registry, under a version.

    Hidden files and directories, and litter such as `__pycache__`, are left out (see `is_skipped`). Publishing
    the same again changes nothing. Other processes may publish to the same registry meanwhile.

    Args:
        source: The directory with the files.
        ref: The version to publish, `"group/model version"`.
        to: The registry's directory; it is created.
        alias: Further names for the version, `latest`; they are moved here from wherever they pointed.
        metadata: What the index shall say about it; None leaves what it says now.
        chunk_size: The longest a chunk may be, in bytes, 1 to 1 GiB. Three of them are held in memory.
        mode: `aligned` follows files and tensors, so that versions share chunks; `fixed` cuts at equal lengths.
        replace: Let the version name other bytes than it does now. Whoever installed it sees it change.
        progress: Called before the first chunk and after each, in the caller's thread. What it raises stops the
            publication; chunks that are in place stay for the next try.

    Raises:
        InvalidRefError: The version or an alias is no name.
        ConfigError: A setting is out of range, or the metadata is no JSON.
        PublishError: The directory cannot be published as it is, or changed meanwhile.
        VersionExistsError: The version has other bytes; or a name is taken by a version or alias.
        RegistryError: The registry's `models.json` cannot be used.
        StorageError: The disk refused.
    """
    ref = ModelRef.parse(ref).require_version()
    aliases = [parse_alias(ref, each) for each in ([alias] if isinstance(alias, str) else alias)]
    metadata = _checked_settings(metadata, chunk_size, mode)
    folder = scan_folder(source)
    _require_apart(folder.root, to)
    before = published_hash(to, ref, aliases, replace=replace)
    admit = _admission(to / "data", before, ref)
    manifest, writer = _write_chunks(folder, to / "data", chunk_size, mode, admit, progress)
    if before not in (None, manifest.digest):
        raise other_bytes(ref)
    folder.require_unchanged()
    _write_manifest(to / "data", manifest)
    total = manifest.manifest.total_size
    updated = name_version(
        to, ref, manifest.digest, total, aliases=aliases, metadata=metadata, replace=replace
    )
    _log.info("published %s", ref, extra={"ref": str(ref), "new_bytes": writer.new_bytes, "updated": updated})
    return _result(ref, folder, manifest, writer, tuple(each.version for each in aliases), updated=updated)


def describe(
    folder: Folder, *, chunk_size: int = DEFAULT_CHUNK_BYTES, mode: ChunkMode = "aligned"
) -> VerifiedManifest:
    """The manifest that publishing these files would write. Reads each of them once, and writes nothing.

    Raises:
        ConfigError: A setting is out of range.
        PublishError: A file changed meanwhile, or there are too many.
        StorageError: A file cannot be read.
    """
    _checked_settings(None, chunk_size, mode)
    layouts = [
        _layout(file) if mode == "aligned" else FileLayout(file.path, file.size) for file in folder.files
    ]
    lengths, chunks = plan_chunks(layouts, chunk_size, mode), list[Digest]()
    buffer = memoryview(bytearray(max(lengths, default=0)))
    with closing(_Stream(folder.files)) as stream:
        for length in lengths:
            stream.fill(buffer[:length])
            chunks.append(sha256_hex(buffer[:length]))
        return _manifest(folder, chunks, lengths, stream.finish(), chunk_size)


def _result(
    ref: ModelRef,
    folder: Folder,
    manifest: VerifiedManifest,
    writer: ObjectWriter,
    aliases: tuple[str, ...],
    *,
    updated: bool,
) -> Published:
    return Published(
        ref=ref,
        manifest_hash=manifest.digest,
        total_size=manifest.manifest.total_size,
        files=len(folder.files),
        chunks_total=len(manifest.manifest.chunks),
        chunks_new=writer.new_count,
        bytes_new=writer.new_bytes,
        aliases=aliases,
        updated=updated,
        skipped=folder.skipped,
    )


def _checked_settings(
    metadata: Mapping[str, JSON] | None, chunk_size: int, mode: str
) -> Mapping[str, Any] | None:
    if not 1 <= chunk_size <= MAX_CHUNK_BYTES:
        raise ConfigError(f"chunk_size is {chunk_size}, and must be 1 to {MAX_CHUNK_BYTES} bytes.")
    if mode not in ("fixed", "aligned"):
        raise ConfigError(f"mode is {mode!r}, and must be 'fixed' or 'aligned'.")
    if metadata is None:
        return None
    try:
        # There and back: what is compared and written later is plain JSON, whatever types came in.
        plain = json.loads(canonical_json(metadata))
    except (rfc8785.CanonicalizationError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"The metadata is no JSON: {error}", hint="Use text, numbers up to 2**53, lists and dictionaries."
        ) from error
    if not isinstance(plain, dict):
        raise ConfigError("The metadata is not a dictionary.")
    return plain


def _require_apart(source: Path, to: Path) -> None:
    registry = Path(os.path.realpath(to))
    if registry == source or source in registry.parents:
        raise PublishError(
            f"The registry {to} lies inside the directory that is published.",
            subject=str(to),
            hint="Keep the registry beside the model, not in it.",
        )


def _layout(file: SourceFile) -> FileLayout:
    with storage_errors(file.place, "reading"), file.place.open("rb", buffering=0) as opened:

        def read(offset: int, length: int) -> bytes:
            opened.seek(offset)
            return opened.read(length) or b""

        try:
            found = parse_tensor_file(read, file.size, file.path)
        except HeaderError as error:
            # A model is published as it is; a loader will say the same of this file.
            _log.warning("%s Its tensors get no chunks of their own.", error, extra={"path": file.path})
            found = None
    spans = [Span(each.offset, each.size_bytes, each.name) for each in found.tensors] if found else ()
    return FileLayout(file.path, file.size, spans)


def _admission(data: Path, before: Digest | None, ref: ModelRef) -> Callable[[Digest], None]:
    """What stops a version from changing at the first chunk it does not have, before anything is written."""
    known: frozenset[str] | None = None
    if before is not None:
        # An unreadable manifest tells nothing; the new one's digest decides then.
        with suppress(OSError, XprimError):
            raw = read_plain(data / before)
            known = frozenset(parse_manifest(raw, METADATA_DIR, expected=before).manifest.chunks)

    def admit(digest: Digest) -> None:
        if known is not None and digest not in known:
            raise other_bytes(ref)

    return admit


def _write_chunks(
    folder: Folder,
    data: Path,
    chunk_size: int,
    mode: ChunkMode,
    admit: Callable[[Digest], None],
    progress: Callable[[PublishProgress], None] | None,
) -> tuple[VerifiedManifest, ObjectWriter]:
    """Put the chunks of the folder in place; the manifest that lists them is not written yet."""
    layouts = [
        _layout(file) if mode == "aligned" else FileLayout(file.path, file.size) for file in folder.files
    ]
    lengths = plan_chunks(layouts, chunk_size, mode)
    with ObjectWriter(data, max(lengths, default=0), admit) as writer:
        chunks, digests = _store(folder.files, lengths, writer, progress)
    return _manifest(folder, chunks, lengths, digests, chunk_size), writer


def _write_manifest(data: Path, manifest: VerifiedManifest) -> None:
    if not is_whole(data / manifest.digest, len(manifest.raw)):
        write_atomic(data / manifest.digest, manifest.raw)
    with storage_errors(data, "writing"):
        sync_dir(data)  # the names of the chunks, too, before anything points at them


class _Stream:
    """The bytes of the files, one file after the other, each read once. Owns one open file until `close`."""

    def __init__(self, files: Iterable[SourceFile]) -> None:
        self.current = ""
        self.digests: list[Digest] = []
        self._files = iter(files)
        self._opened: FileIO | None = None
        self._left, self._hash = 0, hashlib.sha256()

    def fill(self, view: memoryview) -> None:
        """Read as many of the next bytes as the view is long."""
        while view:
            if self._opened is None:
                self._begin(next(self._files))
                continue
            with storage_errors(self.current, "reading"):
                got = self._opened.readinto(view[: self._left])
            if not got:
                raise changed_error(self.current)
            self._hash.update(view[:got])
            view, self._left = view[got:], self._left - got
            if not self._left:
                self._end(self._opened)

    def finish(self) -> list[Digest]:
        """The digest of each file, when all bytes have been read; files at the end may be empty."""
        for file in self._files:
            self._begin(file)
        return self.digests

    def close(self) -> None:
        """Close what is open. Idempotent."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _begin(self, file: SourceFile) -> None:
        with storage_errors(file.place, "reading"):
            self._opened = opened = file.place.open("rb", buffering=0)
        self.current, self._left, self._hash = file.path, file.size, hashlib.sha256()
        self._identity = file.identity
        if not file.size:
            self._end(opened)

    def _end(self, opened: FileIO) -> None:
        if identity_of(os.fstat(opened.fileno())) != self._identity:
            raise changed_error(self.current)
        self.digests.append(Digest(self._hash.hexdigest()))
        self.close()


def _store(
    files: Sequence[SourceFile],
    lengths: Sequence[int],
    writer: ObjectWriter,
    progress: Callable[[PublishProgress], None] | None,
) -> tuple[list[Digest], list[Digest]]:
    """Put every chunk in place; the digests of the chunks and of the files."""
    chunks: list[Digest] = []
    completed, total = 0, sum(lengths)
    under_way: deque[Future[Digest]] = deque()

    def tell() -> None:
        if progress is not None:
            done, new = len(chunks), writer.new_bytes
            progress(PublishProgress(len(lengths), done, total, completed, new, stream.current))

    with closing(_Stream(files)) as stream:
        tell()
        for index, length in enumerate(lengths):
            buffer = writer.buffer()
            stream.fill(memoryview(buffer)[:length])
            under_way.append(writer.submit(buffer, length))
            last = index == len(lengths) - 1
            while under_way and (last or under_way[0].done()):
                chunks.append(under_way.popleft().result())
                completed += lengths[len(chunks) - 1]
                tell()
        return chunks, stream.finish()


def _manifest(
    folder: Folder, chunks: list[Digest], lengths: list[int], digests: list[Digest], chunk_size: int
) -> VerifiedManifest:
    document: dict[str, JSON] = {
        "total_size": sum(lengths),
        "chunk_size": chunk_size,
        "chunks": chunks,
        "files": [
            {"path": file.path, "size": file.size, "sha256": digest}
            for file, digest in zip(folder.files, digests, strict=True)
        ],
    }
    if any(length != chunk_size for length in lengths[:-1]):
        document["chunk_sizes"] = lengths
    raw = canonical_json(document)
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise PublishError(
            f"The manifest would have {len(raw)} bytes; the limit is {MAX_DOCUMENT_BYTES}.",
            subject=str(folder.root),
            hint="Publish with a larger chunk_size.",
        )
    return parse_manifest(raw, METADATA_DIR)
