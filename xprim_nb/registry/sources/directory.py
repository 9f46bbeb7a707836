"""A registry in a directory: a checked-out mirror, a USB stick, a network drive, the demo registry."""

from __future__ import annotations

import asyncio
import functools
import os
import stat
from pathlib import Path

from xprim_nb._hashing import is_digest, read_range
from xprim_nb._text import format_count
from xprim_nb._threads import Lanes, settled_in
from xprim_nb.errors import HashMismatchError, RegistryError, XprimError
from xprim_nb.registry.manifest import MAX_DOCUMENT_BYTES
from xprim_nb.registry.sources.contract import ChunkSink, Document, SourceError
from xprim_nb.registry.sources.stopping import StopToken

__all__ = ["DirectorySource"]


class DirectorySource:
    """Reads `models.json` and `data/<sha256>` below a directory. Opens no socket; holds nothing open.

    Args:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        """The directory's path."""
        return str(self.root)

    @property
    def needs_network(self) -> bool:
        """False: a directory answers offline."""
        return False

    async def index(self, etag: str = "", last_modified: str = "") -> Document:
        """See `Source.index`; the validator is the file's identity (inode, size, modification time)."""
        return await asyncio.to_thread(self._index, etag)

    async def document(self, digest: str) -> bytes:
        """See `Source.document`."""
        return await asyncio.to_thread(self._read_small, self._object(digest))

    async def chunk(self, digest: str, sink: ChunkSink, lanes: Lanes | None = None) -> None:
        """See `Source.chunk`."""
        # The sink must not be written to after this has raised, and a local read is soon over.
        work = functools.partial(self._copy, self._object(digest), sink)
        await settled_in(lanes.threads if lanes is not None else None, work)

    @property
    def blocks(self) -> bool:
        """True: a directory is read by the thread that wants its bytes."""
        return True

    def read_chunk(self, digest: str, sink: ChunkSink, stop: StopToken) -> None:
        """See `BlockingSource.read_chunk`."""
        self._copy(self._object(digest), sink, stop)

    async def aclose(self) -> None:  # house: `Source` asks for it, and a directory has nothing to close
        """Nothing is held open."""

    def _object(self, digest: str) -> Path:
        if not is_digest(digest):
            raise RegistryError(
                f"{digest!r:.100} is no digest, and so no object's name.", subject=digest[:100]
            )
        return self.root / "data" / digest

    def _index(self, etag: str) -> Document:
        path = self.root / "models.json"
        try:
            facts = path.stat()
        except OSError as error:
            raise self._unreadable(path, error) from error
        identity = f"{facts.st_ino}-{facts.st_size}-{facts.st_mtime_ns}"
        return Document(None, identity) if etag == identity else Document(self._read_small(path), identity)

    def _read_small(self, path: Path) -> bytes:
        with os.fdopen(self._open(path), "rb") as file:
            try:
                raw = file.read(MAX_DOCUMENT_BYTES + 1)
            except OSError as error:
                raise self._unreadable(path, error) from error
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise RegistryError(f"{path} is larger than {MAX_DOCUMENT_BYTES} bytes.", subject=str(path))
        return raw

    def _open(self, path: Path) -> int:
        # O_NONBLOCK: opening a named pipe would wait for somebody who writes into it.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            fd = os.open(path, flags)
        except OSError as error:
            raise self._unreadable(path, error) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise SourceError(f"{path} is not a plain file.", subject=str(path), retryable=False)
        return fd

    def _copy(self, path: Path, sink: ChunkSink, stop: StopToken | None = None) -> None:
        fd = self._open(path)
        try:
            size = os.fstat(fd).st_size
            if size != sink.size_bytes:
                raise HashMismatchError(
                    f"{path} has {format_count(size, 'byte')}, the manifest says {sink.size_bytes}.",
                    subject=path.name,
                )
            take = sink.write if stop is None else functools.partial(stop.deliver, sink)
            read_range(fd, sink.received, sink.size_bytes - sink.received, take)
        except XprimError:  # ours, or the sink's: a StorageError is an OSError too
            raise
        except OSError as error:
            raise self._unreadable(path, error) from error
        finally:
            os.close(fd)
        if sink.received < sink.size_bytes:
            raise SourceError(f"{path} ended early.", subject=str(path))

    def _unreadable(self, path: Path, error: OSError) -> SourceError:
        missing = isinstance(error, FileNotFoundError)
        hint = f"Is {self.root} a registry? It should hold models.json and data/." if missing else ""
        return SourceError(
            f"{path} cannot be read: {error.strerror}.", subject=str(path), hint=hint, retryable=not missing
        )
