"""A lock is held by one at a time, across threads and processes, and dies with its holder."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xprim_nb._files import PathLock, locked
from xprim_nb.errors import StorageError

_HOLDER = """
import sys
from pathlib import Path
from xprim_nb._files import PathLock
lock = PathLock(Path(sys.argv[1]))
lock.acquire(20)
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A lock file in a directory that does not exist yet."""
    return tmp_path / "locks" / "one.lock"


@contextmanager
def _held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock; a line to its stdin makes it let go."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def _let_go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "released\n"


def test_one_at_a_time(path: Path) -> None:
    """Two locks on one file exclude each other in one thread too; released, it is free again."""
    one, other = PathLock(path), PathLock(path)
    assert one.try_acquire()
    assert not other.try_acquire()
    one.release()
    assert other.try_acquire()
    other.release()


def test_locks_on_different_files_do_not_meet(path: Path) -> None:
    """Each file is its own lock."""
    one, other = PathLock(path), PathLock(path.with_name("other.lock"))
    assert one.try_acquire()
    assert other.try_acquire()
    one.release()
    other.release()


def test_a_lock_may_be_released_in_another_thread(path: Path) -> None:
    """A pull that takes its lock in one pool thread gives it back in another."""
    lock, outcome = PathLock(path), list[bool]()
    taking = threading.Thread(target=lambda: outcome.append(lock.try_acquire()))
    taking.start()
    taking.join()
    assert outcome == [True]
    lock.release()
    again = PathLock(path)
    assert again.try_acquire()
    again.release()


def test_releasing_what_is_not_held_is_nothing(path: Path) -> None:
    """A release too many harms nobody, not even another holder."""
    lock, holder = PathLock(path), PathLock(path)
    lock.release()
    assert holder.try_acquire()
    lock.release()
    assert not lock.try_acquire()
    holder.release()


def test_a_lock_can_be_forgotten(path: Path) -> None:
    """Asked to, a release deletes the lock file; the next lock makes it again."""
    lock = PathLock(path)
    assert lock.try_acquire()
    lock.release(forget=True)
    assert not path.exists()
    assert lock.try_acquire()
    lock.release()


def test_waiting_ends_with_an_error(path: Path) -> None:
    """Who waits too long is told the file, the time, and what to do."""
    holder = PathLock(path)
    assert holder.try_acquire()
    with pytest.raises(StorageError, match=r"for 0 s") as caught:
        PathLock(path).acquire(0.01)
    assert caught.value.subject == str(path)
    assert "lock file" in caught.value.hint
    holder.release()


def test_a_place_that_cannot_hold_a_lock_is_explained(tmp_path: Path) -> None:
    """A file in the directory's place, and a directory in the file's, are StorageErrors."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.lock").mkdir()
    for path in (tmp_path / "file" / "x.lock", tmp_path / "folder.lock"):
        with pytest.raises(StorageError):
            PathLock(path).try_acquire()


def test_other_processes_are_kept_out(path: Path) -> None:
    """While another process holds the lock it is not free; when that lets go, it is."""
    with _held_elsewhere(path) as child:
        assert not PathLock(path).try_acquire()
        _let_go(child)
        lock = PathLock(path)
        assert lock.try_acquire()
        lock.release()


@pytest.mark.chaos
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_killed_holder_holds_nothing(path: Path) -> None:
    """After SIGKILL of the holder the lock is free, without anybody deleting its file."""
    with _held_elsewhere(path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait(20)
        lock = PathLock(path)
        lock.acquire(20)
        assert lock.held
        lock.release()


_COUNTER = """
import sys
from pathlib import Path
from xprim_nb._files import PathLock, write_atomic
counter, lock = Path(sys.argv[1]), PathLock(Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(25):
    lock.acquire(60)
    number = int(counter.read_text())
    write_atomic(counter, str(number + 1).encode(), durable=False)
    lock.release()
"""


@pytest.mark.chaos
def test_no_update_is_lost_between_processes(path: Path, tmp_path: Path) -> None:
    """Four processes that count in one file under the lock reach the sum."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", _COUNTER, str(counter), str(path)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert counter.read_text() == "100"


async def test_waiting_does_not_block_the_loop(path: Path) -> None:
    """A task that waits for the lock tells so once, lets others run, and gets it when it is free."""
    told: list[str] = []
    order: list[str] = []
    waiting = asyncio.Event()

    def on_wait() -> None:
        told.append("waiting")
        waiting.set()

    async def second() -> None:
        async with locked(path, on_wait):
            order.append("second")

    async with locked(path, lambda: told.append("never")):
        task = asyncio.create_task(second())
        await asyncio.wait_for(waiting.wait(), 20)
        await asyncio.sleep(0.15)  # several polls, so that a second notice would be seen
        order.append("first")
    await asyncio.wait_for(task, 20)
    assert (told, order) == (["waiting"], ["first", "second"])


async def test_a_cancelled_waiter_takes_nothing(path: Path) -> None:
    """Who is cancelled while waiting does not hold the lock afterwards."""
    waiting = asyncio.Event()

    async def wait() -> None:
        async with locked(path, waiting.set):
            pytest.fail("the lock was not free")

    async with locked(path):
        task = asyncio.create_task(wait())
        await asyncio.wait_for(waiting.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    lock = PathLock(path)
    assert lock.try_acquire()
    lock.release()


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
async def test_an_exception_gives_the_lock_back(path: Path, error: type[BaseException]) -> None:
    """However the work inside ends, the lock is free."""

    async def fail() -> None:
        async with locked(path) as lock:
            assert lock.path == path
            assert not PathLock(path).try_acquire()
            raise error

    with pytest.raises(error):
        await fail()
    again = PathLock(path)
    assert again.try_acquire()
    again.release()
