"""Workers and kernels are killed at random instants: whoever asked is answered or told, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from xprim_nb.errors import GenerationFailedError, WorkerError
from xprim_nb.workers.process import ProcessRunner
from xprim_nb.workers.spawn import CHILD
from xprim_nb.workers.values import CrashReport, LoadOptions

from .working import ECHO, ask, children, lives, request, start_echo, until

_SEED = 20260310
_KERNEL = str(Path(__file__).with_name("kernel.py"))
_PROMPTS = (
    "one two three",
    "!sleep 0.05",
    "!spin 0.03",
    "!raise ValueError x",
    "!eat 20",
    "!flood 1",
    "a " * 200,
)
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT)


async def _one(runner: ProcessRunner, chance: random.Random) -> str:
    """One request, which may be given up; what became of it, in a word. Anything but a typed error comes out."""
    prompt, given_up = chance.choice(_PROMPTS), chance.random() < 0.2
    try:
        if given_up:
            answer = runner.generate(request(prompt))
            await anext(answer)
            await answer.aclose()
            return "given up"
        await asyncio.wait_for(ask(runner, prompt), 10)
    except GenerationFailedError:
        return "failed"
    except WorkerError as error:
        return "lost" if isinstance(error.report, CrashReport) else f"lost, and no report: {error}"
    return "answered"


async def _kill_later(runner: ProcessRunner, chance: random.Random) -> None:
    await asyncio.sleep(chance.uniform(0, 0.12))
    os.kill(runner.pid, chance.choice(_SIGNALS))


async def _kill_while_loading(chance: random.Random, before: set[int]) -> bool:
    """Whether a load whose processes are killed at some instant fails by its error, or had ended before."""
    loading = asyncio.ensure_future(start_echo("sleep 0.1"))
    await asyncio.sleep(chance.uniform(0, 0.15))
    for pid in set(children()) - before:
        with contextlib.suppress(psutil.NoSuchProcess):  # the watcher goes with its worker
            psutil.Process(pid).kill()
    try:
        await (await loading).close()
    except WorkerError as error:
        return isinstance(error.report, CrashReport)
    return True


async def _rounds(count: int) -> Counter[str]:
    chance, seen = random.Random(_SEED), Counter[str]()
    before = set(children())
    for number in range(count):
        if number % 5 == 4:
            assert await _kill_while_loading(chance, before)
            continue
        runner = await start_echo(slots=chance.choice((1, 3)), options=LoadOptions(ram_limit_bytes=1 << 30))
        asked = (_one(runner, chance) for _ in range(6))
        killing = asyncio.ensure_future(_kill_later(runner, chance))
        seen.update(await asyncio.gather(*asked))
        await killing
        report = await asyncio.wait_for(runner.ended, 5)
        assert report is not None
        assert report.cause in ("killed", "segfault")
        await runner.close()
        assert not lives(runner.pid)
        successor = await start_echo()
        assert (await ask(successor, "next"))[0] == "next"
        await successor.close()
    await until(lambda: set(children()) <= before)
    return seen


def _workers_of(kernel: int) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command[-2:] == [str(CHILD), str(kernel)] and lives(process.pid):
            found.append(process.pid)
    return found


async def _kernels(count: int) -> None:
    """A kernel that starts a worker and keeps it busy is killed at some instant, at its start or later."""
    chance = random.Random(_SEED)
    for _ in range(count):
        wish = chance.choice(("!spin 60", "!hold 60", "!nurse near", "", "load sleep 60"))
        command = [sys.executable, _KERNEL, ECHO, wish]
        kernel = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE)
        pids: list[int] = []
        if chance.random() < 0.5:
            assert kernel.stdout is not None
            pids = json.loads(await asyncio.to_thread(kernel.stdout.readline))
        else:
            # Its imports take some 300 ms here; its worker starts after them.
            await asyncio.sleep(chance.uniform(0.2, 0.8))
        kernel.kill()
        await asyncio.to_thread(kernel.communicate)
        # A worker whose interpreter has only begun looks for its kernel as soon as it has started.
        await until(lambda: not _workers_of(kernel.pid) and not any(map(lives, pids)))  # noqa: B023


@pytest.mark.chaos
async def test_twenty_kills_lose_nothing() -> None:
    """Every request is answered or fails by a typed error with a report, the next is served, no process is left."""
    seen = await _rounds(20)
    assert sum(seen.values()) == 16 * 6
    assert {"answered", "lost"} <= set(seen) <= {"answered", "lost", "failed", "given up"}


@pytest.mark.chaos
async def test_killed_kernels_leave_nothing() -> None:
    """At whatever instant a kernel is killed, its workers and what they started go too."""
    await _kernels(6)


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_two_hundred_kills_lose_nothing() -> None:
    """The same for two hundred workers and sixty kernels."""
    seen = await _rounds(200)
    assert sum(seen.values()) == 160 * 6
    assert set(seen) == {"answered", "lost", "failed", "given up"}
    await _kernels(60)
