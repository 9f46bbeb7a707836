"""Several processes, and several tasks, on one base: no update is lost, no byte fetched twice, no chunk deleted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from xprim_nb.cache import patience
from xprim_nb.cache.local import NEIGHBOUR
from xprim_nb.events import Event, EventHub, ModelInstalled, PullProgress
from xprim_nb.manager import Manager
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room, Worker, blocks, require_sound

# Up to six interpreters start at once, each in a second; on a loaded machine in many.
_A, _B = "group/a v1", "group/b v1"
# Eight chunks are in both, two in each alone.
_FILES_A = {"w": blocks(*range(8), "a1", "a2"), "x": b"a"}
_FILES_B = {"v": blocks("b1", *reversed(range(8)), "b2"), "y": b"b"}
_DISTINCT_OF_BOTH = 8 + 2 + 2 + 2


def _at_once(room: Room, orders: Sequence[Sequence[str]]) -> list[list[dict[str, object]]]:
    """Start a process for each row of orders, let them begin together, and return what they printed."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(room, "wait", "x", *row)) for row in orders]
        for worker in workers:
            worker.next()
        for worker in workers:
            worker.go_on()
        return [worker.finish()[1:] for worker in workers]


def test_no_name_is_lost_between_processes(room: Room) -> None:
    """Six processes install four models each at the same moment, and remove one: all the names are there."""
    refs = [[f"group/p{number} v{version}" for version in range(4)] for number in range(6)]
    room.publish({ref: {"a": ref.encode()} for row in refs for ref in row})
    orders = [[*(word for ref in row for word in ("pull", ref)), "remove", row[0]] for row in refs]
    results = _at_once(room, orders)
    assert [[each.get("status") for each in row[:4]] for row in results] == [["installed"] * 4] * 6
    require_sound(room.base, {ref: {"a": ref.encode()} for row in refs for ref in row[1:]})


def test_two_processes_pull_one_model_and_one_fetches(room: Room, server: FaultyRegistry) -> None:
    """Held at the server, the first fetches and the second waits; then it reports the model as installed."""
    room.publish({_A: _FILES_A})
    with server.hold("chunk") as gate, Worker(room, "pull", _A) as first:
        gate.wait_reached(4, timeout_s=60)
        with Worker(room, "pull", _A) as second:
            server.wait_for(2, "index", done=True, timeout_s=60)
            gate.release()
            results = [worker.finish()[0]["status"] for worker in (first, second)]
    assert results == ["installed", "already_installed"]
    assert server.count("chunk") == len(set(room.made.chunks(_A)))
    assert server.bytes_sent("chunk") == sum(map(len, _FILES_A.values()))
    require_sound(room.base, {_A: _FILES_A})


def test_many_processes_pull_one_model_at_once(room: Room, server: FaultyRegistry) -> None:
    """Of five that begin together one installs, and every chunk is asked for once."""
    room.publish({_A: _FILES_A})
    results = _at_once(room, [["pull", _A]] * 5)
    assert sorted(str(row[0].get("status")) for row in results) == ["already_installed"] * 4 + ["installed"]
    assert server.count("chunk") == len(set(room.made.chunks(_A)))


def test_two_processes_share_the_chunks_that_two_models_share(room: Room, server: FaultyRegistry) -> None:
    """Different models at the same time: a chunk that both need is fetched by one and copied by the other."""
    room.publish({_A: _FILES_A, _B: _FILES_B})
    results = _at_once(room, [["pull", _A], ["pull", _B]])
    assert [row[0].get("status") for row in results] == ["installed", "installed"]
    assert server.count("chunk") == _DISTINCT_OF_BOTH
    assert sum(int(str(row[0]["network"])) for row in results) == _DISTINCT_OF_BOTH
    require_sound(room.base, {_A: _FILES_A, _B: _FILES_B})


async def test_two_tasks_share_the_chunks_that_two_models_share(room: Room, server: FaultyRegistry) -> None:
    """The same within one manager."""
    room.publish({_A: _FILES_A, _B: _FILES_B})
    async with room.manager() as manager:
        pulled = await asyncio.gather(manager.pull(_A), manager.pull(_B))
    assert server.count("chunk") == _DISTINCT_OF_BOTH
    assert sum(each.receipt.chunks_network for each in pulled) == _DISTINCT_OF_BOTH
    assert {name for each in pulled for name in each.receipt.local_models} <= {_A, _B, NEIGHBOUR}
    require_sound(room.base, {_A: _FILES_A, _B: _FILES_B})


async def test_what_was_installed_meanwhile_is_not_fetched(room: Room, server: FaultyRegistry) -> None:
    """A pull that began before another one had anything looks again before it fetches: that one is installed by then."""
    room.publish({_A: _FILES_A, _B: _FILES_B})
    async with room.manager() as manager:
        with server.hold(room.made.chunks(_B)[0]) as gate:
            late = asyncio.create_task(manager.pull(_B, concurrency=1))
            await asyncio.to_thread(gate.wait_reached)
            await manager.pull(_A)
        pulled = await late
    assert pulled.receipt.local_models == {_A: 8}
    assert server.count("chunk") == _DISTINCT_OF_BOTH


async def test_who_waits_for_a_chunk_says_so_and_no_longer_than_it_does(
    room: Room, server: FaultyRegistry
) -> None:
    """A pull that needs only what another one is fetching tells what it waits for, gets it from there, and is done."""
    room.publish({_A: {"w": blocks(1, 2)}, _B: {"w": blocks(2)}})
    shared = room.made.chunks(_B)[0]
    seen: list[PullProgress] = []
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(progress: PullProgress) -> None:
        seen.append(progress)
        if "another pull" in progress.waiting_for:
            loop.call_soon_threadsafe(waiting.set)

    async with room.manager() as manager:
        with server.hold(shared) as gate:
            first = asyncio.create_task(manager.pull(_A))
            await asyncio.to_thread(gate.wait_reached)
            second = asyncio.create_task(manager.pull(_B, progress=note))
            await asyncio.wait_for(waiting.wait(), 10)
            gate.release()
            await first
            pulled = await second
    assert pulled.receipt.chunks_network == 0
    assert server.count(shared) == 1
    assert seen[-1].waiting_for == ""
    require_sound(room.base, {_A: {"w": blocks(1, 2)}, _B: {"w": blocks(2)}})


async def test_a_chunk_that_the_other_pull_does_not_get_is_fetched_here(
    room: Room, server: FaultyRegistry
) -> None:
    """The pull that had claimed a chunk is cancelled: who waited for it fetches it."""
    room.publish({_A: {"w": blocks(1)}, _B: {"w": blocks(1), "x": b"x"}})
    shared = room.made.chunks(_A)[0]
    async with room.manager() as manager:
        with server.hold(shared, times=1) as gate:
            first = asyncio.create_task(manager.pull(_A))
            await asyncio.to_thread(gate.wait_reached)
            second = asyncio.create_task(manager.pull(_B))
            await asyncio.to_thread(server.wait_for, 1, room.made.chunks(_B)[1], done=True)
            first.cancel()
            assert (await second).receipt.chunks_network == 2
            with pytest.raises(asyncio.CancelledError):
                await first
    require_sound(room.base, {_B: {"w": blocks(1), "x": b"x"}})


async def test_two_names_of_one_manifest_pulled_at_once(room: Room, server: FaultyRegistry) -> None:
    """A version and its alias are one unfinished pull: one fetches, the other takes it from there."""
    latest = "group/a latest"
    room.publish({_A: _FILES_A}, alias={latest: "v1"})
    async with room.manager() as one, room.manager() as two:
        pulled = await asyncio.gather(one.pull(_A), two.pull(latest), one.pull(_A), two.pull(latest))
    assert sorted(each.status for each in pulled) == ["already_installed"] * 2 + ["installed"] * 2
    assert server.count("chunk") == len(set(room.made.chunks(_A)))
    require_sound(room.base, {_A: _FILES_A, latest: _FILES_A})


async def test_the_second_of_two_pulls_announces_nothing(room: Room, server: FaultyRegistry) -> None:
    """Who waited for another pull of the same version has installed nothing, and says nothing."""
    room.publish({_A: _FILES_A})
    heard: list[Event] = []
    hub = EventHub()
    hub.subscribe(heard.append)
    async with room.manager() as first, Manager(room.config(), events=hub) as second:
        with server.hold("chunk") as gate:
            one = asyncio.create_task(first.pull(_A))
            await asyncio.to_thread(gate.wait_reached)
            two = asyncio.create_task(second.pull(_A))
            await asyncio.to_thread(server.wait_for, 2, "index", done=True)
            gate.release()
            assert [(await each).status for each in (one, two)] == ["installed", "already_installed"]
    assert not [event for event in heard if isinstance(event, ModelInstalled)]


async def test_different_models_do_not_wait_for_each_other(room: Room, server: FaultyRegistry) -> None:
    """While one pull is held at the server, another model is installed, updated and removed."""
    room.publish({_A: _FILES_A, "other/model v1": {"a": b"1"}})
    async with room.manager() as manager:
        with server.hold(room.made.chunks(_A)[0]) as gate:
            pulling = asyncio.create_task(manager.pull(_A))
            await asyncio.to_thread(gate.wait_reached)
            await manager.pull("other/model v1")
            room.publish({"other/model v1": {"a": b"2"}})
            assert (await manager.pull("other/model v1")).status == "updated"
            await manager.remove("other/model v1")
            assert not pulling.done()
        await pulling
    require_sound(room.base, {_A: _FILES_A})


def test_a_process_does_not_delete_the_chunks_that_another_needs(room: Room, server: FaultyRegistry) -> None:
    """One installs and removes again and again while the other pulls a model that shares its chunks."""
    room.publish({_A: _FILES_A, _B: _FILES_B})
    churn = ["pull", _A, "remove", _A] * 6
    results = _at_once(room, [churn, ["pull", _B, "force", _B]])
    assert [each for row in results for each in row if "error" in each] == []
    require_sound(room.base, {_B: _FILES_B})


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
async def test_nobody_waits_for_ever_for_a_process_that_was_stopped(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z leaves claims held: who needs the same chunks fetches them too, and both models are whole at the end."""
    monkeypatch.setattr(patience, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(patience, "_LOOK_S", 0.05)
    room.publish({_A: _FILES_A, _B: _FILES_B})
    told: list[str] = []
    with server.hold("chunk", after_bytes=10) as gate, Worker(room, "pull", _A) as stopped:
        await asyncio.to_thread(gate.wait_reached, 4, timeout_s=60)
        stopped.process.send_signal(signal.SIGSTOP)
        gate.release()
        async with room.manager() as manager:
            pulling = manager.pull(_B, progress=lambda progress: told.append(progress.waiting_for))
            pulled = await asyncio.wait_for(pulling, 60)
        stopped.process.send_signal(signal.SIGCONT)
        (first,) = await asyncio.to_thread(stopped.finish)
    assert (pulled.status, first["status"]) == ("installed", "installed")
    assert "another pull that fetches the same bytes" in told
    require_sound(room.base, {_A: _FILES_A, _B: _FILES_B})
