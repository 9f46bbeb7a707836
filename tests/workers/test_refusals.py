"""What an engine raises is told by type, and its worker lives or goes by what can be trusted after it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest

from xprim_nb.errors import (
    GenerationFailedError,
    LoadFailedError,
    MissingExtraError,
    UnsupportedModelError,
    WorkerMemoryError,
)
from xprim_nb.workers.process import ProcessRunner
from xprim_nb.workers.values import CrashReport

from .working import ask, lives

Start = Callable[..., Awaitable[ProcessRunner]]


@pytest.mark.parametrize(
    ("wish", "error", "text"),
    [
        ("raise ValueError out of range", GenerationFailedError, "ValueError: out of range"),
        ("raise Sticky", GenerationFailedError, "_Sticky"),
        ("raise ImportError no scipy", GenerationFailedError, "ImportError: no scipy"),
        ("raise MemoryError", WorkerMemoryError, "too little memory"),
        ("raise OutOfMemoryError CUDA out of memory", WorkerMemoryError, "CUDA out of memory"),
    ],
)
async def test_what_an_engine_raises_is_told_and_survived(
    start: Start, wish: str, error: type[Exception], text: str
) -> None:
    """Type and text come over, and the same process answers the next request."""
    runner = await start()
    pid = runner.pid
    with pytest.raises(error, match=text) as caught:
        await ask(runner, "!" + wish)
    if isinstance(caught.value, WorkerMemoryError):
        assert caught.value.retryable
        assert isinstance(caught.value.report, CrashReport)
        assert caught.value.report.cause == "out_of_memory"
    assert (await ask(runner, "next"))[0] == "next"
    assert lives(pid)


async def test_want_of_memory_after_a_piece_is_not_retryable(start: Start) -> None:
    """Once something was sent, the same request is not made again by itself."""
    runner = await start()
    with pytest.raises(WorkerMemoryError) as caught:
        await ask(runner, "!raise late MemoryError")
    assert not caught.value.retryable


async def test_want_of_memory_twice_in_a_row_ends_the_worker(start: Start) -> None:
    """What a first failure left behind makes the second; an answer between clears the doubt."""
    runner = await start()
    for wish in ("!raise MemoryError", "fine", "!raise MemoryError"):
        with pytest.raises(WorkerMemoryError) if wish[0] == "!" else contextlib.nullcontext():
            await ask(runner, wish)
    assert not runner.ended.done()
    with pytest.raises(WorkerMemoryError):
        await ask(runner, "!raise MemoryError")
    report = await runner.ended
    assert report is not None
    assert report.cause == "out_of_memory"


async def test_a_poisoned_device_ends_the_worker(start: Start) -> None:
    """After an error that a device context does not survive, the answer fails and the worker goes."""
    runner = await start()
    with pytest.raises(GenerationFailedError, match="illegal memory access"):
        await ask(runner, "!raise RuntimeError CUDA error: an illegal memory access was encountered")
    report = await runner.ended
    assert report is not None
    assert (report.cause, "Traceback (most recent call last):" in report.last_lines) == ("exception", True)


@pytest.mark.parametrize(
    ("wish", "error", "text"),
    [
        ("raise ValueError no config.json", LoadFailedError, "refused to load test/echo v1: no config.json"),
        ("raise KeyError weights", LoadFailedError, "KeyError: 'weights'"),
        ("raise NotImplementedError MoE", UnsupportedModelError, "MoE"),
        ("raise MemoryError", WorkerMemoryError, "does not fit"),
        ("import no_such_package.part", MissingExtraError, "has no package 'no_such_package'"),
        ("raise ImportError cannot import name x", MissingExtraError, "cannot import name x"),
    ],
)
async def test_what_an_engine_raises_while_loading_is_told(
    start: Start, wish: str, error: type[Exception], text: str
) -> None:
    """Refusals, missing packages and want of memory have each their error, and no process is left."""
    with pytest.raises(error, match=text):
        await start(wish)


async def test_a_missing_package_names_the_interpreter(start: Start) -> None:
    """The hint is the command that installs it where it is missing."""
    with pytest.raises(MissingExtraError) as caught:
        await start("import no_such_package")
    assert caught.value.subject == "no_such_package"
    assert caught.value.hint.endswith("-m pip install no_such_package")


@pytest.mark.parametrize("engine", ["no_such_engine", "/no/such/engine.py"])
async def test_an_engine_that_is_not_there_is_told(start: Start, engine: str) -> None:
    """The name of what was looked for is in the message."""
    with pytest.raises(MissingExtraError, match="engine"):
        await start(engine=engine)
