"""Judge a model by its headers: tensors, dtypes, parameters, for the price of a few chunks.

What is fetched is kept in `cache/chunks`, where the pull that may follow finds it.

Source: spec 1 §Manager (`peek`); research pull §5 ("peek").
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from pathlib import Path

from xprim_nb._files import open_plain, storage_errors
from xprim_nb._hashing import Digest, read_range
from xprim_nb._threads import settled
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.loose import LooseChunk
from xprim_nb.cache.values import Peeked
from xprim_nb.errors import StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.manifest import Manifest, VerifiedManifest
from xprim_nb.registry.tensors import TensorFile, parse_tensor_file

__all__ = ["peek_installed", "peek_remote"]

_SUFFIXES = (".safetensors", ".gguf")


def peek_installed(ref: ModelRef, root: Path, verified: VerifiedManifest) -> Peeked:
    """What the tensor files below `root` hold.

    Raises:
        HeaderError: A file is no well-formed tensor file.
        StorageError: It cannot be read.
    """
    files: dict[str, TensorFile] = {}
    read_bytes = 0
    for file in verified.manifest.files:
        if not _is_tensor_file(file.path):
            continue
        with (
            storage_errors(root / file.path, "reading"),
            os.fdopen(open_plain(root / file.path), "rb", buffering=0) as opened,
        ):

            def read(offset: int, length: int, /, fd: int = opened.fileno()) -> bytes:
                nonlocal read_bytes
                os.lseek(fd, offset, os.SEEK_SET)
                got = os.read(fd, length)
                read_bytes += len(got)
                return got

            found = parse_tensor_file(read, file.size, file.path)
        if found is not None:
            files[file.path] = found
    return Peeked(ref, verified.digest, verified.manifest.total_size, files, read_bytes)


async def peek_remote(
    ref: ModelRef, verified: VerifiedManifest, layout: Layout, client: RegistryClient, local: LocalChunks
) -> Peeked:
    """The same for a model that is not installed; only the chunks that hold headers are fetched.

    Raises:
        HeaderError: A file is no well-formed tensor file.
        NetworkError, HashMismatchError, StorageError: A chunk could not be had.
    """
    reader = _ChunkReader(verified.manifest, layout.chunks)
    files: dict[str, TensorFile] = {}
    fetched = 0
    for number, file in enumerate(verified.manifest.files):
        while _is_tensor_file(file.path):
            try:
                found = await settled(parse_tensor_file, reader.of_file(number), file.size, file.path)
            except _MissingChunkError as missing:
                # From the beginning again when it is there: headers are small, and no thread waits for the loop.
                fetched += await _bring(reader, missing, client, local)
                continue
            if found is not None:
                files[file.path] = found
            break
    return Peeked(ref, verified.digest, verified.manifest.total_size, files, fetched)


def _is_tensor_file(path: str) -> bool:
    return path.lower().endswith(_SUFFIXES)


async def _bring(
    reader: _ChunkReader, missing: _MissingChunkError, client: RegistryClient, local: LocalChunks
) -> int:
    """Put a chunk among the loose ones; bytes fetched for it."""
    fetched = 0
    if not await settled(reader.verify, missing.number):
        with LooseChunk(reader.directory, missing.digest, missing.size_bytes) as sink:
            if await settled(local.copy, missing.digest, sink) is None:
                await client.chunk(missing.digest, sink)
                fetched = missing.size_bytes
            await settled(sink.keep)
        reader.believe(missing.number)
    return fetched


class _MissingChunkError(Exception):
    """A header cannot be read on before this chunk is there."""

    def __init__(self, number: int, digest: Digest, size_bytes: int) -> None:
        super().__init__(digest)
        self.number, self.digest, self.size_bytes = number, digest, size_bytes


class _ChunkReader:
    """Reads a model's files through loose chunks, each verified once. Used by one thread at a time."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        self.directory = directory
        self._manifest = manifest
        self._right: set[int] = set()

    def of_file(self, number: int) -> _FileReader:
        return _FileReader(self, self._manifest.file_starts[number], self._manifest.files[number].size)

    def verify(self, number: int) -> bool:
        """True when the chunk lies there already, left by another peek or by the original client."""
        found = hashlib.sha256()
        try:
            fd = open_plain(self._path(number))
            try:
                read_range(fd, 0, self._manifest.sizes[number], found.update)
                whole = os.fstat(fd).st_size == self._manifest.sizes[number]
            finally:
                os.close(fd)
        except OSError:  # not there, or not to be read
            return False
        if whole and found.hexdigest() == self._manifest.chunks[number]:
            self._right.add(number)
        return number in self._right

    def believe(self, number: int) -> None:
        """The chunk was verified while it was written."""
        self._right.add(number)

    def read(self, position: int, length: int) -> bytes:
        """At most `length` bytes of the stream from `position`, none past the end of that chunk.

        Raises:
            _MissingChunkError: They are not here.
        """
        number = bisect_right(self._manifest.chunk_starts, position) - 1
        begin, size = position - self._manifest.chunk_starts[number], self._manifest.sizes[number]
        if number not in self._right:
            raise _MissingChunkError(number, Digest(self._manifest.chunks[number]), size)
        try:
            path = self._path(number)
            with storage_errors(path, "reading"), os.fdopen(open_plain(path), "rb") as file:
                file.seek(begin)
                return file.read(min(length, size - begin))
        except StorageError:
            if self._path(number).exists():
                raise
            self._right.discard(number)  # somebody pruned it
            raise _MissingChunkError(number, Digest(self._manifest.chunks[number]), size) from None

    def _path(self, number: int) -> Path:
        return self.directory / self._manifest.chunks[number]


class _FileReader:
    """One file of a `_ChunkReader`, as `parse_tensor_file` wants it."""

    def __init__(self, chunks: _ChunkReader, start: int, size: int) -> None:
        self._chunks, self._start, self._size = chunks, start, size

    def __call__(self, offset: int, length: int, /) -> bytes:
        length = min(length, self._size - offset)
        return self._chunks.read(self._start + offset, length) if length > 0 else b""
