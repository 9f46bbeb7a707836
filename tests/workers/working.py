"""How the tests of workers start one, ask it, and see that it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from xprim_nb.workers.process import ProcessRunner, start_runner
from xprim_nb.workers.values import Ended, GenerateRequest, LoadOptions, Piece, Sampling

ENGINES = Path(__file__).with_name("engines_for_tests")
ECHO = str(ENGINES / "echo.py")


async def start_echo(*wishes: str, options: LoadOptions | None = None, **more: Any) -> ProcessRunner:
    """A runner of the echo engine, which obeys these wishes while it loads; `spec` has more of what it is told."""
    spec = {"path": "/nowhere", "wishes": list(wishes), **more.pop("spec", {})}
    engine = more.pop("engine", ECHO)
    return await start_runner(
        model="test/echo v1", engine=engine, spec=spec, options=options or LoadOptions(), **more
    )


def request(prompt: str, **sampling: Any) -> GenerateRequest:
    """A request with this prompt."""
    return GenerateRequest(prompt=prompt, sampling=Sampling(**sampling))


async def ask(runner: ProcessRunner, prompt: str, **sampling: Any) -> tuple[str, Ended]:
    """The whole answer."""
    text, last = "", None
    async for item in runner.generate(request(prompt, **sampling)):
        if isinstance(item, Piece):
            text += item.text
        else:
            last = item
    assert last is not None
    return text, last


async def first_piece(runner: ProcessRunner, prompt: str) -> Any:
    """The answer's generator, once its first piece has come."""
    answer = runner.generate(request(prompt))
    await anext(answer)
    return answer


async def deaf_answer(runner: ProcessRunner, until: str = "seconds 60") -> Any:
    """An answer that hears nothing now, for so many `seconds …` or until there is a `file …`."""
    answer = await first_piece(runner, f"!deaf {until}")
    while (await runner.stats()).steps < 2:
        pass
    return answer


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))]
    return []


def children() -> list[int]:
    """Descendants of this process that run."""
    return [pid for pid in family(os.getpid())[1:] if lives(pid)]


async def until(holds: Callable[[], object], limit_s: float = 20.0) -> None:
    """Return as soon as it holds.

    Raises:
        AssertionError: It does not, within the limit.
    """
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s} s"
        await asyncio.sleep(0.005)
