"""What a pull tells while it works: in order, without gaps at the end, and at nobody's expense."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest

from xprim_nb.cache.progress import Meter
from xprim_nb.events import Event, EventHub, PullProgress
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import CHUNK, Room, blocks, require_sound

_REF = "group/model v1"
_FILES = {"a.bin": blocks(*range(10), 0, 1), "b": b"tail"}
_PHASES = ["manifest", "chunks", "extracting"]


def _require_in_order(told: list[PullProgress]) -> None:
    assert [_PHASES.index(each.phase) for each in told] == sorted(_PHASES.index(each.phase) for each in told)
    for one, next_ in pairwise(told):
        assert one.bytes_completed <= next_.bytes_completed
        assert one.chunks_completed <= next_.chunks_completed
        assert one.bytes_network <= next_.bytes_network
    for each in told:
        assert 0 <= each.bytes_completed + each.bytes_in_flight <= each.bytes_total
        assert 0.0 <= each.fraction <= 1.0


async def test_the_last_snapshot_is_complete(room: Room, server: FaultyRegistry) -> None:
    """Callback and events see the phases in order, sums that only grow, and at the end everything."""
    room.publish({_REF: _FILES})
    heard: list[Event] = []
    hub = EventHub()
    hub.subscribe(heard.append)
    told: list[PullProgress] = []
    under_way, loop = asyncio.Event(), asyncio.get_running_loop()

    def note(progress: PullProgress) -> None:
        told.append(progress)
        if progress.phase == "chunks":
            loop.call_soon_threadsafe(under_way.set)

    async with Manager(room.config(), events=hub) as manager:
        with server.hold(room.made.chunks(_REF)[-1]):
            pulling = asyncio.create_task(manager.pull(_REF, progress=note))
            await asyncio.wait_for(under_way.wait(), 10)
        await pulling
    events = [event for event in heard if isinstance(event, PullProgress)]
    for snapshots in (told, events):
        _require_in_order(snapshots)
        last = snapshots[-1]
        assert (last.phase, last.fraction, last.waiting_for, last.eta_s) == ("extracting", 1.0, "", 0.0)
        assert (last.chunks_completed, last.chunks_total) == (11, 11)
        assert (last.bytes_completed, last.bytes_total) == (12_004, 12_004)
        assert (last.bytes_network, last.bytes_in_flight, last.bytes_reused) == (10_004, 0, 0)
    assert {"manifest", "chunks"} <= {each.phase for each in events}
    assert told[-1].current_file in _FILES


async def test_reused_bytes_are_told_apart(room: Room, server: FaultyRegistry) -> None:
    """What was here already is counted as reused, and never as coming over the network."""
    room.publish({_REF: _FILES, "group/other v1": {"c.bin": blocks(0, 1, 2, "new")}})
    told: list[PullProgress] = []
    async with room.manager() as manager:
        await manager.pull(_REF)
        await manager.pull("group/other v1", progress=told.append)
    assert (told[-1].bytes_reused, told[-1].bytes_network, told[-1].fraction) == (3 * CHUNK, CHUNK, 1.0)


async def test_a_callback_that_blocks_holds_nobody_up(room: Room, server: FaultyRegistry) -> None:
    """Held in its first call, the callback misses the rest; the model is installed meanwhile, and the pull returns."""
    room.publish({_REF: _FILES})
    entered, go_on = threading.Event(), threading.Event()
    calls: list[PullProgress] = []

    def blocking(progress: PullProgress) -> None:
        calls.append(progress)
        entered.set()
        go_on.wait()

    try:
        async with room.manager() as manager:
            start = time.monotonic()
            pulled = await asyncio.wait_for(manager.pull(_REF, progress=blocking), 10)
            assert time.monotonic() - start < 5
            assert entered.is_set()
            assert len(calls) == 1
            require_sound(room.base, {_REF: _FILES})
        assert pulled.status == "installed"
    finally:
        go_on.set()


async def test_many_blocked_callbacks_leave_threads_for_the_work(room: Room, server: FaultyRegistry) -> None:
    """More pulls than the default pool has threads, each with a stuck callback, all complete."""
    refs = [f"group/model v{number}" for number in range(20)]
    room.publish({ref: {"a": ref.encode()} for ref in refs})
    go_on = threading.Event()
    try:
        async with room.manager() as manager:
            pulls = [manager.pull(ref, progress=lambda progress: go_on.wait()) for ref in refs]
            pulled = await asyncio.wait_for(asyncio.gather(*pulls), 20)
        assert [each.status for each in pulled] == ["installed"] * 20
    finally:
        go_on.set()


async def test_a_callback_that_raises_is_logged_only(
    room: Room, server: FaultyRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """The pull goes on, the callback is called again, and the log names the model."""
    room.publish({_REF: _FILES})
    calls: list[PullProgress] = []

    def raising(progress: PullProgress) -> None:
        calls.append(progress)
        raise ValueError("a bug in somebody's bar")

    async with room.manager() as manager:
        pulled = await manager.pull(_REF, progress=raising)
    assert pulled.status == "installed"
    assert calls[-1].fraction == 1.0
    assert len(calls) >= 2
    assert "a bug in somebody's bar" in caplog.text
    assert all(getattr(record, "ref", _REF) == _REF for record in caplog.records if record.exc_info)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_a_callback_that_wants_to_exit_does_not_end_the_loop(
    room: Room, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """`sys.exit()` in somebody's callback is logged as any other failure: the pull and the loop go on."""
    room.publish({_REF: _FILES})

    def leaving(progress: PullProgress) -> None:
        raise kind(3)

    async with room.manager() as manager:
        assert (await manager.pull(_REF, progress=leaving)).status == "installed"
    assert "a progress callback failed" in caplog.text
    require_sound(room.base, {_REF: _FILES})


async def test_the_callback_is_called_off_the_loop(room: Room) -> None:
    """It runs in another thread than the event loop, one call at a time."""
    room.publish({_REF: _FILES})
    threads: list[threading.Thread] = []
    busy = threading.Lock()

    def note(progress: PullProgress) -> None:
        assert busy.acquire(blocking=False)
        threads.append(threading.current_thread())
        busy.release()

    async with room.manager() as manager:
        await manager.pull(_REF, progress=note)
    assert threading.main_thread() not in threads


async def test_a_pull_that_fails_tells_its_last_state(room: Room, server: FaultyRegistry) -> None:
    """The last snapshot shows what was kept, and nothing is told after the pull has ended."""
    room.publish({_REF: _FILES})
    server.inject(Status(404), on="chunk", times=None, skip=5)
    told: list[PullProgress] = []
    async with room.manager(tries=1) as manager:
        with pytest.raises(ConnectionError):
            await manager.pull(_REF, concurrency=1, progress=told.append)
        count = len(told)
        assert (told[-1].chunks_completed, told[-1].phase) == (5, "chunks")
        await manager.list_installed()
        assert len(told) == count


async def test_an_installed_model_is_told_once(room: Room) -> None:
    """A pull with nothing to do says so little that it cannot be wrong."""
    room.publish({_REF: _FILES})
    async with room.manager() as manager:
        await manager.pull(_REF)
        told: list[PullProgress] = []
        await manager.pull(_REF, progress=told.append)
    _require_in_order(told)
    assert all(each.bytes_network == 0 for each in told)


def test_speed_is_an_average_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of the test: steady work shows its rate, a stall brings it down, and the time left follows."""
    now = [1000.0]
    monkeypatch.setattr("xprim_nb.cache.progress.time.monotonic", lambda: now[0])
    room_bytes = 100 * CHUNK
    from xprim_nb.registry.manifest import Manifest

    digests = tuple(f"{number:064x}" for number in range(100))
    manifest = Manifest.model_validate(
        {
            "total_size": room_bytes,
            "chunk_size": CHUNK,
            "chunks": digests,
            "files": [{"path": "a", "size": room_bytes}],
        }
    )
    meter = Meter(ModelRef.parse(_REF))
    meter.begin(manifest, set())
    assert meter.snapshot().eta_s is None
    for digest in digests[:50]:
        now[0] += 0.1
        meter.count(digest, "network")
        meter.tick()
    snapshot = meter.snapshot()
    assert snapshot.speed_bytes_s == pytest.approx(10 * CHUNK, rel=0.05)
    assert snapshot.eta_s == pytest.approx(5.0, rel=0.05)
    for _ in range(200):
        now[0] += 0.1
        meter.tick()
    assert meter.snapshot().speed_bytes_s < CHUNK
    for digest in digests[50:]:
        meter.count(digest, "local", "group/other v1")
    done = meter.snapshot()
    assert (done.eta_s, done.fraction, done.bytes_reused) == (0.0, 1.0, 50 * CHUNK)
    assert meter.receipt().local_models == {"group/other v1": 50}
