"""Bring the chunks of one pull together: a few workers, each taking the next chunk that is still missing.

    1. On this machine: copied, hashed on the way.
    2. Being fetched by another pull: put off, and looked for again a little later.
    3. Otherwise claimed and fetched; the claim is dropped by the system if we die.

A failure lets the chunks in flight finish, so that nothing fetched is thrown away, and is raised then.

Source: spec 1 §Pull, step 5 ("chunks they share are fetched once").
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from xprim_nb._files import PathLock
from xprim_nb._hashing import Digest
from xprim_nb._threads import Lanes, settled
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.partial import ChunkWriter, Partial
from xprim_nb.cache.progress import Meter
from xprim_nb.cache.reflink import reflink_files
from xprim_nb.errors import XprimError
from xprim_nb.registry.client import RegistryClient

__all__ = ["Gatherer"]

_log = logging.getLogger("xprim_nb.cache")

_ELSEWHERE_POLL_S = 0.1
# Chunks claimed for each one being fetched: the next stands ready at the thread when one ends.
_IN_LINE = 2


class Gatherer:
    """Fills one partial.

    Args:
        layout: Where things lie.
        client: The registry.
        partial: What is filled; prepared.
        local: Where its chunks lie on this machine.
        meter: What is counted.
    """

    def __init__(
        self, layout: Layout, client: RegistryClient, partial: Partial, local: LocalChunks, meter: Meter
    ) -> None:
        self._layout, self._client = layout, client
        self._partial, self._local, self._meter = partial, local, meter
        self._todo: deque[Digest] = deque()
        self._failures: list[XprimError] = []

    async def run(self, concurrency: int) -> None:
        """Return when every chunk is verified and in place.

        Raises:
            NetworkError, HashMismatchError, StorageError: The first failure; what was gathered is listed.
        """
        if self._local.places:
            for digest, model in (
                await settled(reflink_files, self._partial, self._local, self._layout)
            ).items():
                self._meter.count(digest, "local", model)
                self._meter.reflinked += self._partial.manifest.sizes[
                    self._partial.manifest.distinct[digest][0]
                ]
        self._todo.extend(
            each for each in self._partial.manifest.distinct if each not in self._partial.present
        )
        lanes = Lanes(concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency * _IN_LINE, len(self._todo))):
                    group.create_task(self._work(lanes))
        except BaseExceptionGroup as several:  # a fault of ours: the first one, as it was raised
            raise several.exceptions[0] from several
        finally:
            lanes.close()
        if self._failures:
            raise self._failures[0]

    async def _work(self, lanes: Lanes) -> None:
        while self._todo and not self._failures:
            digest = self._todo.popleft()
            try:
                done = await self._gather(digest, lanes)
            except XprimError as error:
                self._failures.append(error)
                return
            if not done:
                self._todo.append(digest)
                self._meter.waiting_for = "another pull that fetches the same bytes"
                await asyncio.sleep(_ELSEWHERE_POLL_S)
                await settled(self._local.refresh)

    async def _gather(self, digest: Digest, lanes: Lanes) -> bool:
        """False when another pull is fetching the chunk right now."""
        claim = PathLock(self._layout.chunk_lock(digest))
        with self._partial.writer(digest) as writer, self._meter.watching(writer):
            try:
                source = await settled(self._copy_or_claim, digest, writer, claim)
                if source is not None:  # 1
                    self._meter.count(digest, "local", source)
                    return True
                if not claim.held:  # 2
                    return False
                self._meter.waiting_for = ""
                with self._meter.fetching(writer):
                    self._meter.retries += await self._client.chunk(digest, writer, lanes)  # 3
                self._meter.count(digest, "network")
                return True
            finally:
                claim.release(forget=True)

    def _copy_or_claim(self, digest: Digest, writer: ChunkWriter, claim: PathLock) -> str | None:
        """Copy the chunk from this machine and name the place; else try to claim it."""
        source = self._local.copy(digest, writer)
        if source is None and claim.try_acquire():
            source = self._local.copy(digest, writer)  # its last owner may have finished it just before
        return source
