"""Several processes repair one model, and a process that repairs is killed at random instants."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from xprim_nb.manager import Manager
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room, blocks, listing, require_sound
from .damage import FILES, REF, flip_silently
from .mend_worker import MINE

# Interpreters start in a second; on a loaded machine in many.
_WORKER = Path(__file__).with_name("mend_worker.py")
_SEED = 20250611
# A repair takes some ten milliseconds.
_LONGEST_S = 0.12


def _worker(room: Room, *orders: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, str(_WORKER), str(room.base), room.url, *orders]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1)


async def test_two_processes_repair_once(room: Room, server: FaultyRegistry) -> None:
    """Both end well; one of them mends, and the chunk is fetched once."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
    flip_silently(room.dir(REF) / "w.bin", 4_444)
    server.forget_requests()
    workers = [_worker(room, "once") for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    results = []
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        out, errors = worker.communicate(timeout=90)
        assert worker.returncode == 0, errors
        results.append(json.loads(out))
    assert [each["success"] for each in results] == [True, True]
    assert sorted(each["chunks_network"] for each in results) == [0, 1]
    assert server.count("chunk") == 1
    require_sound(room.base, {REF: FILES})


async def test_a_killed_repair_is_gone_on_with(room: Room, server: FaultyRegistry) -> None:
    """What was fetched and verified before the kill is not fetched again; until then the old file is as it was."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
    (room.dir(REF) / "w.bin").unlink()
    server.forget_requests()
    hold = server.hold(on=room.made.chunks(REF)[15])
    worker = _worker(room, "once")
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    server.wait_for(1, on=room.made.chunks(REF)[15], timeout_s=60)
    worker.kill()
    worker.communicate()
    hold.release()
    assert not (room.dir(REF) / "w.bin").exists()
    done = server.count("chunk")
    assert done >= 13  # four are fetched at a time: three before it may not have been asked for yet
    server.forget_requests()
    async with room.manager() as manager:
        assert (await manager.repair(REF)).success
    assert server.count("chunk") <= 20 - (done - 4)
    require_sound(room.base, {REF: FILES})
    assert not (room.dir(REF) / ".xprim" / "mending").exists()


async def test_a_repair_that_nobody_goes_on_with_is_swept(room: Room, server: FaultyRegistry) -> None:
    """`prune` removes the copies of a broken-off repair."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "w.bin").unlink()
        async with room.manager(offline=True) as offline:
            repaired = await offline.repair(REF)
        assert not repaired.success
        assert (room.dir(REF) / ".xprim" / "mending").exists()
        await manager.prune()
        assert not (room.dir(REF) / ".xprim" / "mending").exists()
        assert list((room.layout.cache / "mending").iterdir()) == []


def _kill_one(nursery: subprocess.Popen[str], seed: str, chance: random.Random) -> None:
    """Let a child work for a random time, then kill it. One that ended by itself has found a fault."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{seed}\n")
    nursery.stdin.flush()
    lines = {nursery.stdout.readline().strip() for _ in range(2)}  # the child may be faster than its parent
    numbers = [int(line) for line in lines if line.isdigit()]
    # A second number is the status of a child that ended by itself, none the end of the nursery.
    assert len(numbers) == 1, (lines, nursery.poll(), nursery.communicate()[1])
    (pid,) = numbers
    threading.Event().wait(
        chance.random() * _LONGEST_S
    )  # not to synchronise: the instant is the random thing
    os.kill(pid, signal.SIGKILL)
    ended = nursery.stdout.readline().strip()
    assert ended == str(-signal.SIGKILL), nursery.communicate()[1]


async def _require_old_or_new(room: Room, manager: Manager, mine: int) -> int:
    """Each file is whole or has its damage; one repair makes the model whole; what was put aside is all there."""
    repaired = await manager.repair(REF)
    assert repaired.success, repaired
    assert (await manager.validate(REF, "full")).findings == ()
    require_sound(room.base, {REF: FILES, "group/other v1": {"x": blocks(3, 4, 5)}})
    kept = [data for path, data in listing(room.layout.cache / "kept").items() if path.endswith("mine.txt")]
    assert all(data == MINE for data in kept)
    assert len(kept) >= mine
    return len(kept)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kills", [20, pytest.param(220, marks=pytest.mark.slow)])
async def test_killed_at_random_every_file_is_whole_or_mendable(room: Room, kills: int) -> None:
    """After each kill one repair makes the model whole again, and nothing that was put aside is ever lost."""
    room.publish({REF: FILES, "group/other v1": {"x": blocks(3, 4, 5)}})
    seed = f"{_SEED}-{kills}"
    chance, mine = random.Random(seed), 0
    nursery = _worker(room)
    try:
        async with room.manager() as manager:
            await manager.pull(REF)
            await manager.pull("group/other v1")
            for number in range(kills):
                _kill_one(nursery, f"{seed}-{number}", chance)
                mine = await _require_old_or_new(room, manager, mine)
    except BaseException:
        print(f"the seed was {seed!r}")
        raise
    finally:
        nursery.communicate()
