"""A spare worker is there when a model wants one, and never stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.workers.spare import Spare
from xprim_nb.workers.values import Environment, LoadOptions
from xprim_nb.workers.worker import Worker

from .working import ask, children, lives, start_echo, until


async def test_a_spare_is_taken_and_replaced() -> None:
    """The model runs in the process that waited, and another one waits afterwards."""
    before = set(children())
    async with Spare(pause_s=0.0) as spare:
        assert await spare.ready()
        waiting = set(children()) - before
        runner = await start_echo(spare=spare)
        assert runner.pid in waiting
        assert (await ask(runner, "a"))[0] == "a"
        assert await spare.ready()
        other = await start_echo(spare=spare)
        assert other.pid != runner.pid
        for each in (runner, other):
            await each.close()
    await until(lambda: set(children()) <= before)


async def test_it_imports_in_waiting() -> None:
    """What is preloaded is there when the model loads; what is missing is left out."""
    async with Spare(preload=["wave", "no_such_module"]) as spare:
        assert await spare.ready()
        runner = await start_echo(spare=spare)
        assert "'wave'" in (await ask(runner, "!say modules"))[0]
        await runner.close()
    plain = await start_echo()
    assert "'wave'" not in (await ask(plain, "!say modules"))[0]
    await plain.close()


async def test_the_next_one_starts_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was just loaded has the machine to itself for a while; then the place is filled."""
    started, loaded, start = list[float](), list[float](), Worker.start

    async def noted(*args: Any) -> Worker:
        started.append(time.monotonic())
        return await start(*args)

    monkeypatch.setattr(Worker, "start", noted)
    async with Spare(pause_s=0.5) as spare:
        assert await spare.ready()
        runner = await start_echo(spare=spare, progress=lambda *_: loaded.append(time.monotonic()))
        assert await spare.ready()
        assert len(started) == 2
        assert started[1] - loaded[-1] > 0.49
        await runner.close()


@pytest.mark.parametrize("variables", [{"A": "1"}, {}])
async def test_another_environment_gets_a_worker_of_its_own(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other variables, of the options or of this process, make a spare that does not fit."""
    async with Spare(pause_s=0.0) as spare:
        assert await spare.ready()
        if not variables:
            monkeypatch.setenv("B", "2")
        options = LoadOptions(environment=Environment(variables=variables))
        runner = await start_echo(spare=spare, options=options)
        assert ("A" in (await ask(runner, "!say env"))[0]) or not variables
        assert spare.take(Environment(variables=variables)) is None
        await runner.close()


async def test_a_spare_that_died_is_not_taken() -> None:
    """One that was killed in waiting is noticed, and replaced after the next start."""
    before = set(children())
    async with Spare(pause_s=0.0) as spare:
        assert await spare.ready()
        for pid in set(children()) - before:
            with contextlib.suppress(ProcessLookupError):  # the watcher goes with its worker
                os.kill(pid, signal.SIGKILL)
        await until(lambda: spare.take(Environment()) is None)
        runner = await start_echo(spare=spare)
        assert (await ask(runner, "a"))[0] == "a"
        await runner.close()
        assert await spare.ready()


async def test_where_none_can_be_started_there_is_none(tmp_path: Path) -> None:
    """An interpreter that is not there is told to whoever starts a worker there, and not before."""
    async with Spare(Environment(python=tmp_path / "no-python")) as spare:
        assert not await spare.ready()
        runner = await start_echo(spare=spare)
        assert lives(runner.pid)
        await runner.close()


@pytest.mark.parametrize("pause_s", [0.0, 0.005, 0.05, 0.3])
async def test_closing_it_leaves_no_process(pause_s: float) -> None:
    """At whatever moment of its start it is closed; nothing is started afterwards."""
    before = set(children())
    spare = Spare(preload=["asyncio"], pause_s=0.0)
    spare.refill()
    await asyncio.sleep(pause_s)
    await spare.aclose()
    spare.refill()
    await spare.aclose()
    await until(lambda: set(children()) <= before)
