"""Counts one pull, and tells about it ten times a second without ever holding it up.

Source: spec 1 §Pull ("a slow callback does not slow the pull").
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

from xprim_nb._threads import DaemonThreads
from xprim_nb.cache.chunkmap import FETCHED, REUSED, ChunkMap
from xprim_nb.cache.partial import ChunkWriter
from xprim_nb.cache.values import Receipt
from xprim_nb.events import EventHub, Phase, PullProgress
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest

__all__ = ["Meter", "telling"]

_log = logging.getLogger("xprim_nb.cache")

# Ten a second look continuous; more would only load whoever draws them.
_INTERVAL_S = 0.1
# The average forgets at this rate: long enough to be steady, short enough to notice a stall.
_SPEED_WINDOW_S = 5.0
# A callback that is still busy at the end is given this long, then left alone.
_LAST_CALL_S = 1.0


class Meter:
    """The counters of one pull. Thread-safe."""

    def __init__(self, ref: ModelRef) -> None:
        self.ref = ref
        self.phase: Phase = "manifest"
        self.waiting_for = ""
        self.retries = 0
        self.reflinked = 0
        self._lock = threading.Lock()
        self._began = self._speed_at = time.monotonic()
        self._manifest: Manifest | None = None
        self._active: set[ChunkWriter] = set()
        self._fetching: dict[ChunkWriter, int] = {}
        self._bytes: Counter[str] = Counter()
        self._chunks: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._network = self._written = 0
        self._speed = 0.0
        self._speed_bytes = 0
        self._file = ""
        self._map = ChunkMap(())

    def begin(self, manifest: Manifest, present: set[str]) -> None:
        """Chunks are about to be gathered; those in `present` are there already."""
        self._map = ChunkMap(manifest.distinct)
        self._manifest, self.phase, self.waiting_for = manifest, "chunks", ""
        for digest in present:
            self.count(digest, "present")
        self._speed_bytes = self._bytes.total()

    def count(self, digest: str, kind: str, model: str = "") -> None:
        """One distinct chunk is verified and in place; `kind` is `present`, `local` or `network`."""
        assert self._manifest is not None, "begin comes first"
        indices = self._manifest.distinct[digest]  # type: ignore[index]  # Digest is a str, checked by the manifest
        with self._lock:
            self._chunks[kind] += 1
            self._bytes[kind] += self._manifest.sizes[indices[0]] * len(indices)
            self._map.put(digest, FETCHED if kind == "network" else REUSED)
            if model:
                self._models[model] += 1

    def watch(self, writer: ChunkWriter) -> None:
        """Count a writer's bytes as in flight from now on."""
        with self._lock:
            self._active.add(writer)
            self._file = writer.current_file

    def unwatch(self, writer: ChunkWriter) -> None:
        """The writer has done what it could."""
        with self._lock:
            self._active.discard(writer)
            self._written += writer.total_written

    @contextlib.contextmanager
    def fetching(self, writer: ChunkWriter) -> Iterator[None]:
        """Count what a writer receives while inside as coming over the network."""
        with self._lock:
            self._fetching[writer] = writer.total_received
        try:
            yield
        finally:
            with self._lock:
                self._network += writer.total_received - self._fetching.pop(writer)

    def retried(self, count: int) -> None:
        """So many tries failed before a good one."""
        with self._lock:
            self.retries += count

    def snapshot(self) -> PullProgress:
        """The counters now."""
        with self._lock:
            return self._snapshot()

    def _snapshot(self) -> PullProgress:
        total = self._manifest.total_size if self._manifest else 0
        done = self._bytes.total()
        left = total - done
        in_flight = sum(writer.received for writer in tuple(self._active))
        return PullProgress(
            ref=self.ref,
            phase=self.phase,
            chunks_total=len(self._manifest.distinct) if self._manifest else 0,
            chunks_completed=self._chunks.total(),
            bytes_total=total,
            bytes_completed=done,
            bytes_network=self._network
            + sum(each.total_received - was for each, was in self._fetching.items()),
            bytes_in_flight=min(in_flight, left),
            bytes_reused=self._bytes["present"] + self._bytes["local"],
            current_file=self._file,
            speed_bytes_s=self._speed,
            eta_s=left / self._speed if self._speed > 0 and left else (0.0 if total and not left else None),
            waiting_for=self.waiting_for,
            chunk_map=self._map.cells(writer.digest for writer in tuple(self._active)),
        )

    def tick(self) -> None:
        """Bring the moving average up to now."""
        now = time.monotonic()
        elapsed = now - self._speed_at
        moved = self._bytes.total() + sum(writer.received for writer in tuple(self._active))
        if elapsed <= 0:
            return
        weight = min(1.0, elapsed / min(_SPEED_WINDOW_S, max(now - self._began, elapsed)))
        self._speed += weight * (max(0, moved - self._speed_bytes) / elapsed - self._speed)
        self._speed_at, self._speed_bytes = now, moved

    def receipt(self) -> Receipt:
        """What was counted."""
        return Receipt(
            bytes_network=self._network,
            bytes_present=self._bytes["present"],
            bytes_local=self._bytes["local"],
            bytes_reflinked=self.reflinked,
            bytes_written=self._written,
            chunks_network=self._chunks["network"],
            chunks_present=self._chunks["present"],
            chunks_local=self._chunks["local"],
            local_models=dict(sorted(self._models.items())),
            seconds=time.monotonic() - self._began,
            retries=self.retries,
        )


@contextlib.asynccontextmanager
async def telling(
    meter: Meter, events: EventHub, callback: Callable[[PullProgress], object] | None
) -> AsyncIterator[None]:
    """Publish the meter's snapshots while inside, the last one at the end.

    The callback runs in a thread of its own, one call at a time: what happens during a slow call is told by the next
    one. Nobody waits for a call that does not come back.
    """
    calls: set[asyncio.Task[None]] = set()
    threads = DaemonThreads(1)

    def call_back(snapshot: PullProgress) -> None:
        assert callback is not None
        try:
            callback(snapshot)
        except BaseException:  # noqa: BLE001  # somebody else's code; a SystemExit would end the loop, not the program
            _log.exception("a progress callback failed", extra={"ref": str(meter.ref)})

    async def call(snapshot: PullProgress) -> None:
        await asyncio.wrap_future(threads.submit(call_back, snapshot))

    def tell() -> None:
        snapshot = meter.snapshot()
        events.publish(snapshot)
        if callback is not None and not calls:
            task = asyncio.create_task(call(snapshot))
            calls.add(task)
            task.add_done_callback(calls.discard)

    async def pump() -> None:
        while True:
            tell()
            await asyncio.sleep(_INTERVAL_S)
            meter.tick()

    pumping = asyncio.create_task(pump())
    try:
        yield
    finally:
        pumping.cancel()
        if calls:
            await asyncio.wait(tuple(calls), timeout=_LAST_CALL_S)
        stuck = bool(calls)
        meter.tick()
        tell()
        if calls and not stuck:
            await asyncio.wait(tuple(calls), timeout=_LAST_CALL_S)
        for task in calls:
            task.cancel()
