"""The registry as the other rooms see it: an index with its age, verified manifests, verified chunks.

Tries again, goes from mirror to mirror, remembers, and answers from disk when the network may not or cannot be asked.

Source: spec 1 §Client.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from xprim_nb._files import write_atomic
from xprim_nb._hashing import is_digest, sha256_hex
from xprim_nb._threads import Lanes
from xprim_nb.errors import (
    HashMismatchError,
    NetworkError,
    OfflineError,
    RegistryError,
    StorageError,
    XprimError,
)
from xprim_nb.events import EventHub, FetchRetried, IndexStale, TrustNotice
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import Index, parse_index
from xprim_nb.registry.indexcache import CachedIndex, IndexCache
from xprim_nb.registry.manifest import VerifiedManifest, parse_manifest
from xprim_nb.registry.retry import RetryPolicy, gravest, is_final
from xprim_nb.registry.sources import BlockingSource, ChunkSink, Document, Source
from xprim_nb.registry.sources.stopping import StopToken
from xprim_nb.registry.trust import Memory

__all__ = ["IndexAnswer", "RegistryClient", "VerifyingSink"]

_log = logging.getLogger("xprim_nb.registry")
_T = TypeVar("_T")


class VerifyingSink(ChunkSink, Protocol):
    """A sink that can say whether the bytes it took are the chunk."""

    def verify(self) -> None:
        """Return when the bytes taken have the chunk's digest.

        Raises:
            HashMismatchError: They have not.
        """
        ...


@dataclass(frozen=True, slots=True)
class IndexAnswer:
    """The index, and how much it can be relied on.

    Attributes:
        index: What the registry lists.
        source: The base URL it came from.
        age_s: Seconds since the registry confirmed it.
        stale: True when the registry was not asked now, or could not be.
        why_stale: The reason, for a person; empty when fresh.
        notices: What is new against it; `RegistryClient.notice_for` tells what stands.
    """

    index: Index
    source: str
    age_s: float = 0.0
    stale: bool = False
    why_stale: str = ""
    notices: tuple[TrustNotice, ...] = ()
    memory: Memory = field(default_factory=Memory.empty, repr=False)

    def notice_for(self, ref: ModelRef) -> TrustNotice | None:
        """What stands against a version: a rollback, or a rewritten immutable version."""
        model = self.index.models.get(ref)
        return self.memory.notice_for(ref, model.manifest_hash) if model else None


class RegistryClient:
    """Asks one registry through its sources. Owns the sources: `aclose` closes them.

    Args:
        sources: The registry and its mirrors, tried in order for each object; never empty.
        cache_dir: The base directory's `cache`.
        metadata_dir: Our directory inside a model, which manifests may not write into.
        policy: When to try again.
        offline: Ask only sources that need no network.
        events: Where retries, stale answers and trust notices are told.
        sleep: Waits between rounds, in seconds; a test's clock.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        cache_dir: Path,
        metadata_dir: str,
        policy: RetryPolicy | None = None,
        offline: bool = False,
        events: EventHub | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.url = sources[0].url
        self._all = tuple(sources)
        self._sources = tuple(each for each in sources if not (offline and each.needs_network))
        self._cache = IndexCache(cache_dir / "index", self.url)
        self._manifests = cache_dir / "manifests"
        self._metadata_dir = metadata_dir
        self._policy = policy or RetryPolicy()
        self._events = events or EventHub()
        self._sleep = sleep

    async def index(self, *, fresh: bool = False) -> IndexAnswer:
        """What the registry lists now, or listed when it could last be asked.

        Args:
            fresh: Raise instead of answering from the cache.

        Raises:
            OfflineError: Offline, and nothing is cached (or `fresh`).
            NetworkError: Nobody answered, and nothing is cached (or `fresh`).
            RegistryError: No source's answer is an index.
        """
        cached = await asyncio.to_thread(self._cache.load)
        known = cached or CachedIndex(b"", "", "", "", 0.0, Memory.empty())
        try:
            source, (document, index) = await self._ask(
                "the index", lambda each: self._index_from(each, known)
            )
        except NetworkError as error:
            if cached is None or fresh:
                raise
            why = "offline mode is on" if isinstance(error, OfflineError) else error.message
            self._events.publish(IndexStale(self.url, cached.age_s, why))
            index = await asyncio.to_thread(parse_index, cached.raw)
            return IndexAnswer(index, cached.source, cached.age_s, True, why, memory=cached.memory)
        for problem in index.told_problems():
            _log.warning("models.json: %s", problem, extra={"registry": self.url})
        memory, news = known.memory.after(index)
        for notice in news:
            _log.warning(notice.message, extra={"ref": str(notice.ref), "kind": notice.kind})
            self._events.publish(notice)
        raw = known.raw if document.raw is None else document.raw
        saved = CachedIndex(raw, document.etag, document.last_modified, source.url, time.time(), memory)
        await asyncio.to_thread(self._cache.save, saved)
        return IndexAnswer(index, source.url, notices=news, memory=memory)

    async def cached_index(self) -> IndexAnswer | None:
        """The last index on disk, asking nobody; None when there is none."""
        cached = await asyncio.to_thread(self._cache.load)
        if cached is None:
            return None
        return IndexAnswer(
            await asyncio.to_thread(parse_index, cached.raw),
            cached.source,
            cached.age_s,
            True,
            "the registry was not asked",
            memory=cached.memory,
        )

    @property
    def may_ask(self) -> bool:
        """False in offline mode, unless the registry lies on this machine."""
        return bool(self._sources)

    @property
    def needs_network(self) -> bool:
        """False when the registry and all its mirrors lie on this machine."""
        return any(source.needs_network for source in self._all)

    def last_contact_at(self) -> float | None:
        """When the registry last answered, in seconds since the epoch; None when it never did. Reads no answer."""
        return self._cache.saved_at()

    async def manifest(self, digest: str) -> VerifiedManifest:
        """The manifest of that name; from disk for ever after the first time, verified on every read.

        Raises:
            HashMismatchError: Every source served other bytes.
            RegistryError: The bytes are right and break the format.
            OfflineError, NetworkError: It is not on disk and could not be fetched.
        """
        if not is_digest(digest):
            raise RegistryError(
                f"{digest!r:.100} is no digest, and so no manifest's name.", subject=digest[:100]
            )
        path = self._manifests / digest
        try:
            raw = await asyncio.to_thread(path.read_bytes)
            if sha256_hex(raw) == digest:
                return parse_manifest(raw, self._metadata_dir, expected=digest)
            _log.warning("a cached manifest was damaged and is fetched again", extra={"path": str(path)})
        except OSError:  # absent or unreadable: the registry has it
            _log.debug("manifest not cached", extra={"digest": digest})

        async def verified(source: Source) -> VerifiedManifest:
            return parse_manifest(await source.document(digest), self._metadata_dir, expected=digest)

        _, found = await self._ask(f"manifest {digest[:12]}", verified)
        try:
            await asyncio.to_thread(write_atomic, path, found.raw, durable=False)  # verified on each read
        except StorageError as error:  # a full or read-only disk: the manifest itself is still good
            _log.warning("a manifest could not be cached", extra={"path": str(path), "why": str(error)})
        return found

    def read_chunk(self, digest: str, sink: VerifyingSink, stop: StopToken) -> bool:
        """Fill the sink from the first source in the calling thread, trying once.

        For threads that take one chunk after another; what goes wrong is handed to `chunk`.

        Returns:
            False when that source cannot be read this way; nothing was tried.

        Raises:
            NetworkError, HashMismatchError, RegistryError: The try failed; a restarted sink after wrong bytes.
            StoppedError: `stop` was called.
        """
        source = self._sources[0] if self._sources else None
        if not isinstance(source, BlockingSource) or not source.blocks:
            return False
        try:
            source.read_chunk(digest, sink, stop)
            sink.verify()
        except HashMismatchError:
            stop.restart(sink)
            raise
        return True

    async def chunk(
        self,
        digest: str,
        sink: VerifyingSink,
        lanes: Lanes | None = None,
        *,
        failed: XprimError | None = None,
    ) -> int:
        """Fill the sink with the chunk's verified bytes, in one of `lanes` when given.

        Args:
            digest: The chunk.
            sink: What takes it.
            lanes: How many transfers may run at once.
            failed: How `read_chunk` failed: that was the first source's first try.

        Returns:
            How many tries failed before the good one.

        Raises:
            HashMismatchError: Every source served other bytes.
            OfflineError, NetworkError: Nobody could serve it.
        """
        tries = 0

        async def filled(source: Source) -> None:
            nonlocal tries
            tries += 1
            if failed is not None and tries == 1:
                raise failed
            try:
                await source.chunk(digest, sink, lanes)
                sink.verify()
            except HashMismatchError:
                sink.restart()
                raise

        await self._ask(f"chunk {digest[:12]}", filled)
        return tries - 1

    async def aclose(self) -> None:
        """Close every source."""
        for source in self._all:
            await source.aclose()

    async def _index_from(self, source: Source, known: CachedIndex) -> tuple[Document, Index]:
        if known.source != source.url:  # validators belong to the server that gave them
            document = await source.index()
        else:
            document = await source.index(known.etag, known.last_modified)
        # Parsed here, so that a source that serves a login page makes room for its mirrors; and in a thread: ten
        # thousand entries take a tenth of a second, in which no other pull would be looked after.
        raw = known.raw if document.raw is None else document.raw
        return document, await asyncio.to_thread(parse_index, raw)

    async def _ask(self, what: str, once: Callable[[Source], Awaitable[_T]]) -> tuple[Source, _T]:
        """The first good answer; see the decision tree in `retry`."""
        if not self._sources:
            raise OfflineError(f"Offline, and {what} of {self.url} is not on this machine.", subject=what)
        live, attempt, last = list(self._sources), 0, dict[str, XprimError]()
        while True:
            attempt += 1
            failed: Mapping[Source, XprimError] = {}
            for source in tuple(live):
                try:
                    return source, await once(source)  # 1
                except (NetworkError, HashMismatchError, RegistryError) as error:
                    failed = {**failed, source: error}
                    last[source.url] = error
                    if is_final(error):  # 2
                        live.remove(source)
                    _log.info("a try failed", extra={"what": what, "source": source.url, "why": str(error)})
            delay_s = self._policy.delay_s(attempt, random.random(), list(failed.values()))  # jitter
            if not live or delay_s is None:  # 3
                raise _summed_up(what, gravest(list(failed.values())), last)
            reason = gravest(list(failed.values())).message  # 4
            self._events.publish(FetchRetried(what, self.url, attempt + 1, reason, delay_s))
            await self._sleep(delay_s)


def _summed_up(what: str, error: XprimError, last: Mapping[str, XprimError]) -> XprimError:
    """The gravest error, which also tells what the other sources said."""
    if len(last) > 1:
        told = "; ".join(f"{url}: {each.message}" for url, each in last.items())
        error.message = f"No source has {what}. {told}"
        error.args = (error.message,)
    return error
