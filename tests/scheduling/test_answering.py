"""One answer, read inside its limits of time."""

from __future__ import annotations

import asyncio

import pytest

from tests.scheduling.fakes import FakeRunner, until
from xprim_nb.errors import GenerationFailedError, TimedOutError
from xprim_nb.scheduling.answering import Limits, read
from xprim_nb.scheduling.asking import Asking
from xprim_nb.workers.values import GenerateRequest, LoadOptions, Measured, Sampling

_PATIENT = Limits(first_token_s=20.0, between_tokens_s=20.0, total_s=None)


def _runner(*, is_open: bool = True) -> FakeRunner:
    gate = asyncio.Event()
    if is_open:
        gate.set()
    return FakeRunner("m", LoadOptions(), Measured(0, 0), gate)


async def test_an_answer_is_read_to_its_end() -> None:
    """Every piece arrives, and the end tells how it ended."""
    asking = Asking("fake:m")
    done = await read(_runner(), GenerateRequest("one two three"), _PATIENT, asking)
    assert asking.snapshot().text == "one two three "
    assert done.ended.reason == "stop"
    assert 0 < done.first_token_s <= done.total_s


@pytest.mark.parametrize(
    ("limits", "phase"),
    [
        (Limits(0.02, 20.0, None), "first_token"),
        (Limits(20.0, 20.0, 0.02), "total"),
    ],
)
async def test_a_silent_model_is_not_waited_for(limits: Limits, phase: str) -> None:
    """The limit that was passed is named, and the model is let go for the next request."""
    runner = _runner(is_open=False)
    with pytest.raises(TimedOutError) as passed:
        await read(runner, GenerateRequest("one"), limits, Asking("fake:m"))
    assert passed.value.phase == phase
    assert runner.endings == ["cancelled"]


async def test_silence_inside_an_answer_is_measured_anew() -> None:
    """After a token the other limit counts."""
    runner, asking = _runner(), Asking("fake:m")
    asking.on_text = lambda _: runner.gate.clear()
    with pytest.raises(TimedOutError) as passed:
        await read(runner, GenerateRequest("one two"), Limits(20.0, 0.02, None), asking)
    assert passed.value.phase == "between_tokens"
    assert "after 1 token" in str(passed.value)


@pytest.mark.parametrize("most", [None, 256])
async def test_without_a_limit_of_tokens_the_time_is_the_limit(most: int | None) -> None:
    """What came is the answer, cut; with one, an answer that takes too long is an error."""
    runner, asking = _runner(), Asking("fake:m")
    asking.on_text = lambda _: runner.gate.clear()
    asked = GenerateRequest("one two", sampling=Sampling(max_tokens=most))
    reading = read(runner, asked, Limits(20.0, 20.0, 0.2), asking)
    if most is None:
        done = await reading
        assert (done.ended.reason, done.ended.tokens, done.limit_s) == ("length", 1, 0.2)
    else:
        with pytest.raises(TimedOutError):
            await reading
    assert runner.endings == ["cancelled"]


async def test_who_is_interrupted_lets_the_model_go() -> None:
    """Cancelling whoever reads ends the answer before the cancellation goes on."""
    runner = _runner(is_open=False)
    reading = asyncio.create_task(read(runner, GenerateRequest("one"), _PATIENT, Asking("fake:m")))
    await until(lambda: runner.requests)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert runner.endings == ["cancelled"]


async def test_a_backends_fault_passes() -> None:
    """What the backend raises is what the caller hears."""
    runner = _runner()
    runner.fault = GenerationFailedError("It broke.", subject="fake:m")
    with pytest.raises(GenerationFailedError, match="It broke"):
        await read(runner, GenerateRequest("one"), _PATIENT, Asking("fake:m"))
