"""Share whole files with an installed model where the file system can, instead of copying their chunks.

The shared bytes are hashed afterwards, where they now lie: a reflink is a copy that costs nothing, not a promise.

Source: spec 1 §Pull, step 5; research pull §2 (reflink traps: probe succeeds, real clones fail).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from xprim_nb._files import clone_file, storage_errors
from xprim_nb._hashing import Digest
from xprim_nb._threads import Check, unhalted
from xprim_nb.cache.chunkindex import ChunkPlace
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.partial import Partial
from xprim_nb.registry.manifest import Manifest

__all__ = ["reflink_files", "whole_files"]

_log = logging.getLogger("xprim_nb.cache")


def reflink_files(
    partial: Partial, local: LocalChunks, layout: Layout, check: Check = unhalted
) -> dict[Digest, str]:
    """Chunks that are now verified in the partial because a whole file was shared, with the model they came from.

    A file of which the partial has verified chunks already is left to be copied chunk by chunk: the one to be shared
    may be damaged in just these. Stops when the file system cannot share: it cannot share the other files either.

    Raises:
        StorageError: The disk refused.
        HaltedError: `check` did.
    """
    done: dict[Digest, str] = {}
    for number, chunks in whole_files(partial.manifest):
        if not partial.present.isdisjoint(chunks):
            continue
        file = partial.manifest.files[number]
        for place in local.places.get(chunks[0], ()):
            source = _same_file(place, chunks, file.size)
            if source is None:
                continue
            shared = _share(layout.model_dir(place.ref) / source, partial.tree / file.path, file.size)
            if shared is False:
                return done
            if shared:
                for digest in partial.settle_if_right(chunks, check):
                    done[digest] = str(place.ref)
                break
    return done


def whole_files(manifest: Manifest) -> Iterator[tuple[int, list[Digest]]]:
    """Files that consist of whole chunks, with these."""
    starts = {start: number for number, start in enumerate(manifest.chunk_starts)}
    for number, (file, begin) in enumerate(zip(manifest.files, manifest.file_starts, strict=True)):
        first = starts.get(begin)
        if first is None or file.size == 0:
            continue
        last, end = first, begin + file.size
        while last < len(manifest.chunks) and manifest.chunk_starts[last] + manifest.sizes[last] <= end:
            last += 1
        if manifest.chunk_starts[last - 1] + manifest.sizes[last - 1] == end and last > first:
            yield number, [Digest(digest) for digest in manifest.chunks[first:last]]


def _same_file(place: ChunkPlace, chunks: list[Digest], size: int) -> str | None:
    """The path of the file at `place` if it consists of the same chunks."""
    manifest = place.manifest.manifest
    if list(manifest.chunks[place.number : place.number + len(chunks)]) != chunks:
        return None
    segment = next(manifest.segments(place.number))
    file = manifest.files[segment.file_index]
    return file.path if segment.file_offset == 0 and file.size == size else None


def _share(source: Path, target: Path, size_bytes: int) -> bool | None:
    """True when the target now shares the source's blocks, None when there is no such source, False when none can be."""
    try:
        source_fd = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe is not waited for
    except OSError:
        return None
    try:
        if (
            os.fstat(source_fd).st_size < size_bytes
        ):  # refused (EINVAL), as if the file system could not share at all
            return None
        with storage_errors(target, "sharing a file"):
            target_fd = os.open(target, os.O_RDWR)
            try:
                shared = _cloned(source_fd, target_fd)
                # A source that somebody appended to has made the target longer too.
                os.ftruncate(target_fd, size_bytes)
            finally:
                os.close(target_fd)
        return shared
    finally:
        os.close(source_fd)


def _cloned(source_fd: int, target_fd: int) -> bool:
    try:
        return clone_file(source_fd, target_fd)
    except OSError as error:  # copying does the same work, or finds out what is really wrong
        _log.info("a file could not be shared and is copied", extra={"why": str(error)})
        return False
