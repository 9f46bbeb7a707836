"""Handles and the loop thread across whole processes: forks, interrupts, and the end of the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]

_FORK = """
import asyncio, os, threading
from xprim_nb._bridge import Handle, home_loop
async def who(): return os.getpid(), id(asyncio.get_running_loop())
parent = Handle(who(), "look").result(20)
child = os.fork()
if child == 0:
    found = Handle(who(), "look").result(20)
    os._exit(0 if found[0] == os.getpid() and found[0] != parent[0] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert Handle(who(), "look").result(20) == parent
print("end")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_begins_anew() -> None:
    """After a fork the child has a loop of its own, and the parent keeps its one."""
    assert _run(_FORK) == "end"


_INTERRUPTED = """
import asyncio, os, signal, sys, threading
from xprim_nb._bridge import Handle, home_loop
said = []
def is_waited_for():
    frame, names = sys._current_frames()[threading.main_thread().ident], []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names.count("result") == 2  # the handle's, and the future's below it
async def work():
    try:
        while not is_waited_for():
            await asyncio.sleep(0.001)
        print("begun", flush=True)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)
        said.append("cleaned up")
        raise
handle = Handle(work(), "work")
try:
    handle.result()
except KeyboardInterrupt:
    said.append("interrupted")
async def tasks(): return len(asyncio.all_tasks())
print(said, handle.done, repr(handle), Handle(tasks(), "count").result(20), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal for another process")
def test_an_interrupt_stops_the_work_and_is_raised_again() -> None:
    """Ctrl-C while waiting cancels the work, waits for its clean-up, and leaves no zombie behind."""
    process = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().strip() == "begun"
        process.send_signal(signal.SIGINT)
        out, err = process.stdout.read(), process.stderr.read()
    assert (out.strip(), err) == ("['cleaned up', 'interrupted'] True <Handle: work, cancelled> 1", "")
    assert process.returncode == 0


def test_a_process_ends_with_work_under_way() -> None:
    """A script that ends without waiting ends: the work is cancelled, and cleans up."""
    code = """
import asyncio, threading
from xprim_nb._bridge import Handle
begun = threading.Event()
async def work():
    try:
        begun.set()
        await asyncio.sleep(60)
    finally:
        print("cleaned up", flush=True)
handle = Handle(work(), "work")
begun.wait()
"""
    assert _run(code) == "cleaned up"


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
