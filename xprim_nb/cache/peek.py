"""Judge a model by its headers: tensors, dtypes, parameters, for the price of a few chunks.

What is fetched is kept in `cache/chunks`, where the pull that may follow finds it.

Source: spec 1 §Manager (`peek`); research pull §5 ("peek").
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from pathlib import Path

from xprim_nb._files import storage_errors
from xprim_nb._hashing import Digest
from xprim_nb._threads import settled
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.loose import LooseChunk
from xprim_nb.cache.values import Peeked
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
        if not file.path.endswith(_SUFFIXES):
            continue
        with (
            storage_errors(root / file.path, "reading"),
            (root / file.path).open("rb", buffering=0) as opened,
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
    reader = _ChunkReader(verified.manifest, layout, client, local)
    files: dict[str, TensorFile] = {}
    for number, file in enumerate(verified.manifest.files):
        if not file.path.endswith(_SUFFIXES):
            continue
        found = await asyncio.to_thread(parse_tensor_file, reader.of_file(number), file.size, file.path)
        if found is not None:
            files[file.path] = found
    return Peeked(ref, verified.digest, verified.manifest.total_size, files, reader.bytes_read)


class _ChunkReader:
    """Reads a model's files through its chunks, fetching each once. Made on the loop, read from threads."""

    def __init__(
        self, manifest: Manifest, layout: Layout, client: RegistryClient, local: LocalChunks
    ) -> None:
        self._manifest, self._layout = manifest, layout
        self._client, self._local = client, local
        self._loop = asyncio.get_running_loop()
        self.bytes_read = 0

    def of_file(self, number: int) -> _FileReader:
        return _FileReader(self, self._manifest.file_starts[number], self._manifest.files[number].size)

    def read(self, position: int, length: int) -> bytes:
        """At most `length` bytes of the stream from `position`, none past the end of that chunk."""
        number = bisect_right(self._manifest.chunk_starts, position) - 1
        digest = Digest(self._manifest.chunks[number])
        begin = position - self._manifest.chunk_starts[number]
        length = min(length, self._manifest.sizes[number] - begin)
        path = self._layout.chunks / digest
        if not path.is_file() or path.stat().st_size != self._manifest.sizes[number]:
            asyncio.run_coroutine_threadsafe(
                self._fetch(digest, self._manifest.sizes[number]), self._loop
            ).result()
        with storage_errors(path, "reading"), path.open("rb") as file:
            file.seek(begin)
            return file.read(length)

    async def _fetch(self, digest: Digest, size_bytes: int) -> None:
        with LooseChunk(self._layout.chunks, digest, size_bytes) as sink:
            if await settled(self._local.copy, digest, sink) is None:
                await self._client.chunk(digest, sink)
                self.bytes_read += size_bytes
            await settled(sink.keep)


class _FileReader:
    """One file of a `_ChunkReader`, as `parse_tensor_file` wants it."""

    def __init__(self, chunks: _ChunkReader, start: int, size: int) -> None:
        self._chunks, self._start, self._size = chunks, start, size

    def __call__(self, offset: int, length: int, /) -> bytes:
        length = min(length, self._size - offset)
        return self._chunks.read(self._start + offset, length) if length > 0 else b""
