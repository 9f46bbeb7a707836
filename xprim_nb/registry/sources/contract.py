"""What every source promises. `xprim_nb.testing.source_contract` checks it.

Source: spec 1 §Client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from xprim_nb._threads import Lanes
from xprim_nb.errors import NetworkError, StalledError
from xprim_nb.registry.sources.stopping import StopToken

__all__ = ["BlockingSource", "ChunkSink", "Document", "Source", "SourceError", "SourceStalledError"]


class SourceError(NetworkError):
    """One try at one source failed.

    Args:
        message: One sentence.
        subject: The URL or path, passwords masked.
        retryable: False when trying this source again cannot help (404, a refused certificate).
        status: The HTTP status, where there was one.
        retry_after_s: How long the server asked to wait, in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        hint: str = "",
        retryable: bool = True,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.retryable = retryable
        self.status = status
        self.retry_after_s = retry_after_s


class SourceStalledError(SourceError, StalledError):
    """The try ended because the source kept the connection open and sent nothing."""


@dataclass(frozen=True, slots=True)
class Document:
    """An index as it was served.

    Attributes:
        raw: Its bytes; None when the source says that the caller's copy is still right.
        etag: Validator for the next conditional request; empty when there is none.
        last_modified: The same, as an HTTP date.
    """

    raw: bytes | None
    etag: str = ""
    last_modified: str = ""


class ChunkSink(Protocol):
    """Takes the bytes of one chunk in order. Called from one thread at a time."""

    @property
    def digest(self) -> str:
        """The chunk's name."""
        ...

    @property
    def size_bytes(self) -> int:
        """How long the chunk is."""
        ...

    @property
    def received(self) -> int:
        """Bytes taken so far: where a source begins, or goes on by Range."""
        ...

    def write(self, block: memoryview) -> None:
        """Take the next bytes; the buffer belongs to the source again on return."""
        ...

    def restart(self) -> None:
        """Forget what was taken: the next byte is the chunk's first."""
        ...


class Source(Protocol):
    """One place that serves `models.json` and `data/<sha256>`."""

    @property
    def url(self) -> str:
        """The base, fit for a log line: passwords are masked."""
        ...

    @property
    def needs_network(self) -> bool:
        """True when asking opens a socket."""
        ...

    async def index(self, etag: str = "", last_modified: str = "") -> Document:
        """The bytes of `models.json`, or `raw=None` when they still match the validators.

        Raises:
            SourceError: The try failed.
            RegistryError: The answer is larger than `MAX_DOCUMENT_BYTES`.
        """
        ...

    async def document(self, digest: str) -> bytes:
        """The bytes of a small object (a manifest), unverified.

        Raises:
            SourceError: The try failed.
            RegistryError: The answer is larger than `MAX_DOCUMENT_BYTES`.
        """
        ...

    async def chunk(self, digest: str, sink: ChunkSink, lanes: Lanes | None = None) -> None:
        """Feed the sink from `sink.received` to `sink.size_bytes`, not one byte more; unverified.

        On failure and on cancellation the sink keeps what it took, and no thread of the source writes to it
        any more once this has returned or raised.

        Args:
            digest: The chunk.
            sink: What takes its bytes.
            lanes: How many transfers may run at once; the source's own limit when None.

        Raises:
            SourceError: The try failed; what was received stays in the sink.
            HashMismatchError: The source offers a body of another length.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        ...


@runtime_checkable
class BlockingSource(Protocol):
    """A source that a thread can read by itself, chunk after chunk, without asking the event loop in between."""

    @property
    def blocks(self) -> bool:
        """True when `read_chunk` can be used with the settings in force."""
        ...

    def read_chunk(self, digest: str, sink: ChunkSink, stop: StopToken) -> None:
        """See `Source.chunk`; blocks the calling thread.

        Raises:
            SourceError, HashMismatchError: See `Source.chunk`.
            StoppedError: `stop` was called.
        """
        ...
