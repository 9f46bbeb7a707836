"""A worker is started in a group and an environment of its own, by a thread that stays."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from xprim_nb.workers.process import ProcessRunner
from xprim_nb.workers.spawn import command, environment, spawn
from xprim_nb.workers.values import Environment, LoadOptions

from .working import ask, children, lives, until

Start = Callable[..., Awaitable[ProcessRunner]]


def test_what_makes_an_interpreter_this_one_is_left_out() -> None:
    """Paths of this interpreter do not reach another; what the user names for the worker does."""
    mine = {"PYTHONPATH": "a", "PYTHONHOME": "b", "PYTHONSTARTUP": "c", "HOME": "/h", "CUDA": "0"}
    where = Environment(variables={"CUDA": "1", "PYTHONPATH": "theirs"})
    assert environment(where, mine).items() >= {"HOME": "/h", "CUDA": "1", "PYTHONPATH": "theirs"}.items()
    assert environment(Environment(), mine).keys() & mine.keys() == {"HOME", "CUDA"}
    assert environment(Environment(), mine)["CUDA"] == "0"


def test_the_allocator_keeps_memory_unless_the_user_says_otherwise() -> None:
    """A worker does not give its heap back for each token; who has set how much is kept is obeyed."""
    assert int(environment(Environment(), {})["MALLOC_TRIM_THRESHOLD_"]) >= 1 << 20
    theirs = Environment(variables={"MALLOC_TRIM_THRESHOLD_": "1"})
    assert environment(theirs, {"MALLOC_TRIM_THRESHOLD_": "0"})["MALLOC_TRIM_THRESHOLD_"] == "1"
    assert environment(Environment(), {"MALLOC_TRIM_THRESHOLD_": "0"})["MALLOC_TRIM_THRESHOLD_"] == "0"


def test_the_command_names_interpreter_and_kernel() -> None:
    """This interpreter where none is named; unbuffered; with the pid whose death is watched."""
    assert command(Environment())[:2] == [sys.executable, "-u"]
    assert command(Environment(python=Path("/x/python")))[0] == "/x/python"
    assert command(Environment())[-1] == str(os.getpid())


async def test_python_variables_do_not_reach_the_worker(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONPATH of the kernel is not on the worker's path."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere/of/mine")
    monkeypatch.setenv("XPRIM_SEEN", "yes")
    runner = await start(options=LoadOptions(environment=Environment(variables={"MORE": "1"})))
    assert "/somewhere/of/mine" not in (await ask(runner, "!say path"))[0]
    told = (await ask(runner, "!say env"))[0]
    assert "'XPRIM_SEEN': 'yes'" in told
    assert "'MORE': '1'" in told


async def test_all_are_started_by_one_thread_that_stays(start: Start) -> None:
    """A worker outlives the thread, and the loop's pool, that asked for it: only the starting thread is its parent."""
    ran: list[ProcessRunner] = []

    def elsewhere() -> None:
        ran.append(asyncio.run(_start_and_leave()))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    # That loop is closed, and nobody is left to answer for: the next word of the worker ends it.
    assert [each.name for each in threading.enumerate()].count("xprim-spawn") == 1
    pid = ran[0].pid
    ran[0]._worker.post("ping", 0)
    await until(lambda: not lives(pid))


async def _start_and_leave() -> ProcessRunner:
    from .working import start_echo

    runner = await start_echo()
    await asyncio.to_thread(lambda: None)
    assert (await ask(runner, "a"))[0] == "a"
    return runner


async def test_a_start_that_is_given_up_leaves_nothing() -> None:
    """Cancelled before the process is there, it is killed when it is."""
    before = set(children())
    for _ in range(5):
        task = asyncio.ensure_future(spawn([sys.executable, "-c", "input()"], os.environ))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: set(children()) <= before)


async def test_a_killed_group_is_killed_once() -> None:
    """When the leader has been reaped its number may be another's, and nothing is sent to it."""
    group = await spawn([sys.executable, "-c", "input()"], os.environ)
    group.kill()
    assert await asyncio.to_thread(group.wait) == -9
    sent: list[object] = []
    real = os.killpg
    try:
        os.killpg = lambda *each: sent.append(each)
        group.kill()
        group.terminate()
    finally:
        os.killpg = real
    assert sent == []
    for pipe in group.pipes:
        pipe.close()


async def test_a_fork_of_the_kernel_starts_workers_too() -> None:
    """The thread is not there in a fork; one is made anew."""
    code = (
        "import asyncio, os, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from xprim_nb.workers.values import Environment\n"
        "from xprim_nb.workers.worker import Worker\n"
        "async def run():\n"
        "    worker = await Worker.start(Environment(), 10)\n"
        "    await worker.close()\n"
        "asyncio.run(run())\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try: asyncio.run(run())\n"
        "    except BaseException: os._exit(1)\n"
        "    os._exit(0)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    root = Path(__file__).resolve().parents[2]
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "ignore", "-c", code, str(root))
    assert await asyncio.wait_for(process.wait(), 20) == 0
