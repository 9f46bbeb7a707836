"""Bring the chunks of one pull together: a few threads, each taking the next chunk that is still missing.

    1. On this machine: copied, hashed on the way.
    2. Being fetched by another pull: put off, and looked for again a little later, while that pull goes on.
    3. Otherwise claimed and fetched; the claim is dropped by the system if we die.
    4. What a thread cannot finish by itself goes to the event loop: another try, a mirror, an injected client.

Between two chunks a thread asks nobody: on a loaded machine the event loop takes milliseconds to answer. A failure lets
the chunks in flight finish, so that nothing fetched is thrown away, and is raised then.

Source: spec 1 §Pull, step 5 ("chunks they share are fetched once").
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import NamedTuple

from xprim_nb._files import Claim
from xprim_nb._hashing import Digest
from xprim_nb._threads import Lanes, halting, settled
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.partial import AbandonedError, ChunkWriter, Partial
from xprim_nb.cache.patience import Patience
from xprim_nb.cache.progress import Meter
from xprim_nb.cache.reflink import reflink_files
from xprim_nb.errors import HashMismatchError, NetworkError, RegistryError, XprimError
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.sources.stopping import StoppedError, StopToken

__all__ = ["Gatherer"]

_log = logging.getLogger("xprim_nb.cache")

_ELSEWHERE_POLL_S = 0.1
# A cancelled thread ends within milliseconds, but for one that is connecting: it is left behind, and writes nothing.
_ENDING_S = 1.0


class _Turn(NamedTuple):
    """One chunk in hand."""

    digest: Digest
    writer: ChunkWriter
    claim: Claim


class _Pause(NamedTuple):
    """Why a thread came back: a chunk for the event loop, or (no turn) one that another pull is fetching."""

    turn: _Turn | None = None
    failed: XprimError | None = None


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
        self._writers: set[ChunkWriter] = set()
        self._patience = Patience(layout, partial.directory.name)
        self._waited_enough = False

    async def run(self, concurrency: int) -> None:
        """Return when every chunk is verified and in place.

        Raises:
            NetworkError, HashMismatchError, StorageError: The first failure; what was gathered is listed.
        """
        if self._local.places:
            shared = await halting(
                lambda check: reflink_files(self._partial, self._local, self._layout, check)
            )
            for digest, model in shared.items():
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
                for _ in range(min(concurrency, len(self._todo))):
                    group.create_task(self._work(lanes))
        except BaseExceptionGroup as several:  # a fault of ours: the first one, as it was raised
            raise several.exceptions[0] from several
        finally:
            lanes.close()
        if self._failures:
            raise self._failures[0]

    async def _work(self, lanes: Lanes) -> None:
        while self._todo and not self._failures:
            try:
                pause = await self._in_a_thread(lanes)
                if pause is None:
                    return
                if pause.turn is not None:
                    await self._finish(pause.turn, pause.failed, lanes)  # 4
                    continue
            except XprimError as error:
                self._failures.append(error)
                return
            self._meter.waiting_for = "another pull that fetches the same bytes"
            await asyncio.sleep(_ELSEWHERE_POLL_S)
            await settled(self._local.refresh)
            self._waited_enough = await settled(self._patience.is_over)

    async def _in_a_thread(self, lanes: Lanes) -> _Pause | None:
        stop = StopToken()
        running = asyncio.wrap_future(lanes.threads.submit(self._take_turns, stop))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.stop()
            for writer in tuple(self._writers):
                writer.abandon()
            lanes.close()  # who still stands in line has nothing to do any more
            await asyncio.wait([running], timeout=_ENDING_S)
            # The exception is retrieved: the cancellation is what the caller hears.
            if running.done() and not running.cancelled() and running.exception() is None:
                pause = running.result()
                if pause is not None and pause.turn is not None:  # it came back just before it was stopped
                    self._end(pause.turn)
            raise

    def _take_turns(self, stop: StopToken) -> _Pause | None:
        """Runs in a thread: one chunk after another, until none is left or one needs the event loop."""
        while not self._failures and not stop.stopped:
            try:
                digest = self._todo.popleft()
            except IndexError:
                return None
            turn = self._begin(digest)
            pause, goes_on = None, False
            try:
                pause = self._take(turn, stop)
                goes_on = pause is not None and pause.turn is not None and not stop.stopped
            except (StoppedError, AbandonedError):
                return None
            finally:
                if not goes_on:
                    self._end(turn)
            if pause is not None:
                return pause if goes_on else _Pause()
        return None

    def _take(self, turn: _Turn, stop: StopToken) -> _Pause | None:
        source = self._local.copy(turn.digest, turn.writer)
        if source is None and turn.claim.try_acquire():
            self._local.look_again(turn.digest)  # its last owner may have finished it just before
            source = self._local.copy(turn.digest, turn.writer)
        if source is not None:  # 1
            self._meter.count(turn.digest, "local", source)
            return None
        if not turn.claim.held and not self._waited_enough:  # 2
            self._todo.append(turn.digest)
            return _Pause()
        self._meter.waiting_for = ""
        try:
            with self._meter.fetching(turn.writer):
                if not self._client.read_chunk(turn.digest, turn.writer, stop):
                    return _Pause(turn)
        except (NetworkError, HashMismatchError, RegistryError) as error:
            return _Pause(turn, error)
        self._meter.count(turn.digest, "network")  # 3
        return None

    async def _finish(self, turn: _Turn, failed: XprimError | None, lanes: Lanes) -> None:
        """A chunk that a thread could not fetch by itself."""
        try:
            with self._meter.fetching(turn.writer):
                self._meter.retried(await self._client.chunk(turn.digest, turn.writer, lanes, failed=failed))
            self._meter.count(turn.digest, "network")
        finally:
            self._end(turn)

    def _begin(self, digest: Digest) -> _Turn:
        turn = _Turn(digest, self._partial.writer(digest), Claim(self._layout.chunk_lock(digest)))
        self._writers.add(turn.writer)
        self._meter.watch(turn.writer)
        return turn

    def _end(self, turn: _Turn) -> None:
        self._meter.unwatch(turn.writer)
        self._writers.discard(turn.writer)
        turn.writer.close()
        turn.claim.release()
