"""Copies of damaged files in which only the damaged ranges are written anew, beside the originals until they are right.

They lie in `.xprim/mending` of the model itself, so that each can be renamed into its place, wherever the model lies.
A killed repair leaves them; the next one goes on with what is right in them. `cache/mending` names the models that have
such a directory, so that one that nobody goes on with is found and removed.

Source: spec 2 §Repair ("through a copy that is swapped in atomically").
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from xprim_nb._files import (
    PathLock,
    clone_file,
    preallocate,
    read_plain,
    remove_tree,
    storage_errors,
    write_atomic,
)
from xprim_nb._hashing import Digest, read_range, sha256_hex
from xprim_nb._threads import Check, unhalted
from xprim_nb.cache.health.findings import chunks_of, file_digest
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.partial import ChunkWriter, Partial
from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Segment, VerifiedManifest

__all__ = ["Mending", "begin_mending", "end_mending", "sweep_mending"]

_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0)
# O_NONBLOCK: a named pipe that somebody put in a file's place would be waited for.
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_THREADS = os.cpu_count() or 1


class Mending(Partial):
    """The files of a model that are being mended. Its owner holds the version's lock.

    Args:
        directory: Where the copies lie.
        verified: What the model should be.
        root: The model's directory.
        numbers: The files that are mended.
        foreign: Files that are left as they are although they are not the manifest's: chunks that have bytes of them
            cannot be checked as a whole.
    """

    def __init__(
        self,
        directory: Path,
        verified: VerifiedManifest,
        root: Path,
        numbers: Iterable[int],
        foreign: Iterable[int],
    ) -> None:
        super().__init__(directory, verified)
        self.root, self.numbers, self.foreign = root, sorted(numbers), frozenset(foreign)
        self.written: dict[tuple[int, int], str] = {}
        own = frozenset(self.numbers)
        self._places = {
            digest: [
                index
                for index in indices
                if any(segment.file_index in own for segment in self.manifest.segments(index))
            ]
            for digest, indices in self._candidates(own).items()
        }

    def _candidates(self, own: frozenset[int]) -> dict[Digest, tuple[int, ...]]:
        touched = {index for number in own for index in chunks_of(self.manifest, number)}
        digests = {Digest(self.manifest.chunks[index]) for index in touched}
        return {digest: self.manifest.distinct[digest] for digest in digests}

    def make_copies(self, bases: Mapping[int, Path]) -> None:
        """Put a copy of each file beside it, or an empty file of its size where there is nothing to copy.

        Args:
            bases: For files of which something is right: where that lies.

        Raises:
            StorageError: The disk refused.
        """
        with storage_errors(self.tree, "preparing a repair"):
            self._drop_others()
            for number in self.numbers:
                file, path = self.manifest.files[number], self.tree / self.manifest.files[number].path
                path.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(path) and path.stat().st_size == file.size:
                    continue  # a killed repair made it; what is wrong in it is found out
                temporary = path.with_name(f"{path.name}.copying")
                _copy(bases.get(number), temporary, file.size)
                os.replace(temporary, path)  # noqa: PTH105  # Path.replace hides the two names in its errors

    def _drop_others(self) -> None:
        """Remove what an earlier repair left of files that are not mended now."""
        expected = {self.manifest.files[number].path for number in self.numbers}
        for folder, folders, files in os.walk(self.tree):
            for name in (*folders, *files):
                path = Path(folder, name)
                plain = name in files and path.relative_to(self.tree).as_posix() in expected
                if path.is_symlink() or (name in files and not plain):
                    path.unlink()

    def recall(self, check: Check = unhalted) -> None:
        """Find out which chunks are right already; those of other files count as present.

        Raises:
            HaltedError: `check` did.
        """
        needed = list(self._places)

        def is_right(digest: Digest) -> bool:
            check()
            return self._is_right(digest)

        with ThreadPoolExecutor(_THREADS) as pool:
            right = dict(zip(needed, pool.map(is_right, needed), strict=True))
        self.present = {digest for digest in self.manifest.distinct if right.get(digest, True)}

    def needed_for(self, number: int) -> set[Digest]:
        """The chunks that are still missing in a file."""
        digests = {Digest(self.manifest.chunks[index]) for index in chunks_of(self.manifest, number)}
        return digests - self.present

    def is_whole(self, number: int) -> bool:
        """True when the copy of a file is right, by its bytes as they lie there now."""
        file = self.manifest.files[number]
        path = self.tree / file.path
        if path.stat().st_size != file.size:
            return False
        if file.sha256 is not None:
            return file_digest(path, file.size) == file.sha256
        indices = chunks_of(self.manifest, number)
        with ThreadPoolExecutor(_THREADS) as pool:
            return all(pool.map(lambda index: self._holds(index, number), indices))

    def writer(self, digest: Digest) -> ChunkWriter:
        """A sink that puts one chunk in its places in the files that are mended."""
        return _MendWriter(self, digest)

    def settle(self, digest: Digest) -> None:
        """A chunk's bytes are in place. No list is kept: what is right is found out by hashing."""
        with self._lock:
            self.present.add(digest)

    def places_of(self, digest: Digest) -> list[list[Segment]]:
        """Where a chunk's bytes belong in the files that are mended."""
        own = frozenset(self.numbers)
        return [
            [segment for segment in self.manifest.segments(index) if segment.file_index in own]
            for index in self._places.get(digest, ())
        ]

    def _is_right(self, digest: Digest) -> bool:
        return all(self._is_right_at(index) for index in self._places.get(digest, ()))

    def _is_right_at(self, index: int) -> bool:
        """True when a chunk is right where it belongs; undecided means no."""
        found = hashlib.sha256()
        own = frozenset(self.numbers)
        for segment in self.manifest.segments(index):
            if segment.file_index in self.foreign:
                return False
            tree = self.tree if segment.file_index in own else self.root
            path = tree / self.manifest.files[segment.file_index].path
            if not _hash_into(path, segment, found.update):
                return False
        return found.hexdigest() == self.manifest.chunks[index]

    def _holds(self, index: int, number: int) -> bool:
        """True when a file holds its part of a chunk."""
        segments = list(self.manifest.segments(index))
        if not any(segment.file_index in self.foreign for segment in segments):
            return self._is_right_at(index)
        path = self.tree / self.manifest.files[number].path
        return all(
            file_digest(path, segment.length, segment.file_offset)
            == self.written.get((number, segment.file_offset))
            for segment in segments
            if segment.file_index == number
        )


class _MendWriter(ChunkWriter):
    """Writes one chunk into the copies, and remembers what it wrote beside files that are somebody else's."""

    def __init__(self, mending: Mending, digest: Digest) -> None:
        super().__init__(mending, digest)
        self._mending = mending
        self._places = [place for place in mending.places_of(digest) if place]
        self._marks: dict[tuple[int, int], hashlib._Hash] = defaultdict(hashlib.sha256)

    def restart(self) -> None:
        """Forget what was taken."""
        super().restart()
        self._marks.clear()

    def _take(self, block: memoryview) -> None:
        if self._mending.foreign:
            self._mark(block)
        super()._take(block)
        if self.received == self.size_bytes:
            self._mending.written.update({key: mark.hexdigest() for key, mark in self._marks.items()})

    def _mark(self, block: memoryview) -> None:
        begin, end = self.received, self.received + len(block)
        for segment in (each for place in self._places for each in place):
            first, last = max(begin, segment.chunk_offset), min(end, segment.chunk_offset + segment.length)
            if first < last:
                self._marks[segment.file_index, segment.file_offset].update(
                    block[first - begin : last - begin]
                )


def _hash_into(path: Path, segment: Segment, take: Callable[[memoryview], None]) -> bool:
    try:
        fd = os.open(path, _READ_FLAGS)
        try:
            return read_range(fd, segment.file_offset, segment.length, take) == segment.length
        finally:
            os.close(fd)
    except OSError:
        return False


def _copy(base: Path | None, target: Path, size_bytes: int) -> None:
    """Make `target` a copy of `base` of the right length: shared blocks where the file system can."""
    target.unlink(missing_ok=True)
    fd = os.open(target, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        source = -1
        if base is not None:
            with contextlib.suppress(OSError):  # gone meanwhile: there is nothing to copy then
                source = os.open(base, _READ_FLAGS)
        if source >= 0:
            try:
                if not stat.S_ISREG(os.fstat(source).st_mode) or not clone_file(source, fd):
                    _copy_bytes(source, fd)
            finally:
                os.close(source)
            os.ftruncate(fd, size_bytes)
        else:
            preallocate(fd, size_bytes)
    finally:
        os.close(fd)


def _copy_bytes(source: int, target: int) -> None:
    with os.fdopen(os.dup(source), "rb") as reader, os.fdopen(os.dup(target), "wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


# --- which models have such a directory ------------------------------------------------------------


def _marker(layout: Layout, ref: ModelRef) -> Path:
    return layout.cache / "mending" / f"{sha256_hex(str(ref).encode())[:24]}.json"


def begin_mending(layout: Layout, ref: ModelRef) -> Path:
    """Say that a model is being mended; the result is the directory for its copies. The caller holds its lock.

    Raises:
        StorageError: The disk refused.
    """
    write_atomic(_marker(layout, ref), orjson.dumps({"schema_version": 1, "ref": str(ref)}), durable=False)
    return layout.model_dir(ref) / layout.metadata_name / "mending"


def end_mending(layout: Layout, ref: ModelRef) -> None:
    """Remove the copies. The caller holds the version's lock.

    Raises:
        StorageError: The disk refused.
    """
    remove_tree(layout.model_dir(ref) / layout.metadata_name / "mending")
    with storage_errors(layout.cache, "ending a repair"):
        _marker(layout, ref).unlink(missing_ok=True)


def sweep_mending(layout: Layout, *, idle_s: float = 0.0) -> None:
    """Remove the copies of repairs that nobody went on with for so long.

    Raises:
        StorageError: The disk refused.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted((layout.cache / "mending").iterdir()):
            try:
                if time.time() - path.stat().st_mtime < idle_s:
                    continue
                ref = ModelRef.parse(orjson.loads(read_plain(path))["ref"]).require_version()
            except (OSError, ValueError, KeyError, TypeError, InvalidRefError):
                continue
            lock = PathLock(layout.ref_lock(ref))
            if lock.try_acquire():
                try:
                    end_mending(layout, ref)
                finally:
                    lock.release()
