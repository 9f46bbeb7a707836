"""A model in a process of its own loads, answers, is cancelled, is measured, parked and closed."""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from xprim_nb.errors import (
    MissingExtraError,
    UnsupportedModelError,
    WorkerCrashedError,
    WorkerHungError,
)
from xprim_nb.workers.contract import Runner
from xprim_nb.workers.process import ProcessRunner, start_runner
from xprim_nb.workers.values import (
    Ended,
    GenerateRequest,
    LoadOptions,
    LoraChoice,
    Message,
    Piece,
)

from .working import ECHO, ask, children, deaf_answer, first_piece, lives, request, start_echo, until

Start = Callable[..., Awaitable[ProcessRunner]]


async def test_an_answer_comes_in_pieces_and_ends(start: Start) -> None:
    """Each piece arrives as the engine made it, and the end with what the engine counted."""
    runner: Runner = await start()
    items = [item async for item in runner.generate(request("one two three"))]
    assert items[:-1] == [Piece("one"), Piece(" two"), Piece(" three")]
    assert items[-1] == Ended("stop", prompt_tokens=3, tokens=3, prefill_s=0.25)


async def test_messages_settings_and_loras_reach_the_engine(start: Start, tmp_path: Path) -> None:
    """All of a request crosses, under the names that engines are promised."""
    engine = tmp_path / "mirror.py"
    engine.write_text(
        "def create(): return E()\n"
        "class E:\n"
        "    def load(self, spec, progress): return {}\n"
        "    def generate(self, request, cancelled):\n"
        "        yield {'text': repr(sorted(request.items())), 'tokens': 7}\n"
        "    def stats(self): return {}\n"
        "    def unload(self): pass\n"
    )
    runner = await start(engine=str(engine))
    asked = GenerateRequest(
        messages=(Message("system", "s"), Message("user", "ü\ud800")),
        loras=(LoraChoice("demo/lora v1", tmp_path, 0.5),),
    )
    piece, ended = [item async for item in runner.generate(asked)]
    assert isinstance(piece, Piece)
    assert piece.tokens == 7
    words = dict(eval(piece.text))
    assert words["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "ü\ud800"},
    ]
    assert words["loras"] == [{"name": "demo/lora v1", "path": str(tmp_path), "weight": 0.5}]
    assert set(words) == {
        *("prompt messages max_tokens temperature top_p top_k seed stop loras".split()),
    }
    assert ended == Ended("stop", tokens=7)


async def test_loading_tells_its_progress_and_what_it_found(start: Start) -> None:
    """Progress comes in order, the result sets the context, and the spec has what the options say."""
    seen: list[tuple[float, str]] = []
    options = LoadOptions(device="cpu", context_tokens=99, device_limit_bytes=5)
    runner = await start("sleep 0.02", options=options, progress=lambda *each: seen.append(each))
    assert seen == [(0.5, "step 0"), (0.5, "step 0"), (1.0, "loaded")]
    assert runner.context_tokens == 77
    spec = runner.facts["spec"]
    assert (spec["device"], spec["context_tokens"], spec["device_limit_bytes"]) == ("cpu", 99, 5)
    assert runner.measured.how == "rss"
    assert runner.measured.device_bytes == runner.measured.host_bytes > 1 << 20


async def test_what_progress_raises_ends_the_load(start: Start) -> None:
    """A callback that fails is told to whoever loads, and leaves no process."""

    def fail(_fraction: float, _text: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await start("sleep 1", progress=fail)


@pytest.mark.parametrize("by", ["aclose", "cancel"])
async def test_an_answer_that_is_given_up_leaves_the_model_loaded(start: Start, by: str) -> None:
    """Closing the generator, or cancelling its reader, ends the answer at once; the next request is served."""
    runner = await start()
    pid, began = runner.pid, time.monotonic()
    if by == "aclose":
        answer = await first_piece(runner, "!sleep 30")
        await answer.aclose()
    else:
        task = asyncio.ensure_future(ask(runner, "!sleep 30"))
        while not (await runner.stats()).steps:
            assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await ask(runner, "next"))[0] == "next"
    assert time.monotonic() - began < 15
    assert (runner.pid, runner.ended.done()) == (pid, False)


async def test_an_answer_that_does_not_stop_costs_the_worker(start: Start) -> None:
    """After two seconds of grace the worker is killed; its reader is not told an error that it did not ask for."""
    runner = await start()
    answer = await deaf_answer(runner)
    began = time.monotonic()
    await answer.aclose()
    assert 1.9 < time.monotonic() - began < 15
    report = await runner.ended
    assert report is not None
    assert (report.cause, report.doing) == ("hung", "generate")
    with pytest.raises(WorkerHungError) as caught:
        await ask(runner, "next")
    assert caught.value.report == report


async def test_others_hear_that_the_worker_hung(start: Start) -> None:
    """Whoever still waits for the worker that had to be killed is told so, by type."""
    runner = await start(slots=2)
    deaf = await deaf_answer(runner)
    other = asyncio.ensure_future(ask(runner, "other"))
    await asyncio.sleep(0)
    await deaf.aclose()
    with pytest.raises(WorkerHungError) as caught:
        await other
    assert caught.value.retryable


async def test_a_second_cancellation_does_not_cut_the_clean_up_short(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled again while it stops, it stops all the same, and the cancellation goes on."""
    monkeypatch.setattr("xprim_nb.workers.process._CANCEL_S", 20.0)
    runner = await start()
    answer = await deaf_answer(runner, f"file {tmp_path / 'heard'}")
    task = asyncio.ensure_future(anext(answer))
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    (tmp_path / "heard").touch()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await ask(runner, "next"))[0] == "next"


async def test_answers_take_turns(start: Start) -> None:
    """One slot makes one answer after the other; two make two at once, a piece each in turns."""
    runner = await start()
    long = await first_piece(runner, "!sleep 30")
    short = asyncio.ensure_future(ask(runner, "short"))
    await asyncio.sleep(0.1)
    assert not short.done()
    await long.aclose()
    assert (await short)[0] == "short"

    double = await start(slots=2)
    long = await first_piece(double, "!sleep 30")
    assert (await ask(double, "short"))[0] == "short"
    await long.aclose()


async def test_a_reader_that_stops_reading_holds_nobody_up(start: Start) -> None:
    """Whoever takes the last item and goes, without closing, has given its turn back."""
    runner = await start()
    held = runner.generate(request("a"))
    assert [await anext(held), type(await anext(held))] == [Piece("a"), Ended]
    assert (await asyncio.wait_for(ask(runner, "b"), 5))[0] == "b"
    await held.aclose()


async def test_a_slow_reader_makes_the_engine_wait(start: Start) -> None:
    """Only a bounded number of pieces is on the way to somebody who does not read them, and all come in the end."""
    runner = await start()
    prompt = " ".join(map(str, range(500)))
    answer = runner.generate(request(prompt, max_tokens=500))
    await anext(answer)
    for _ in range(50):  # each takes longer than a piece
        steps = (await runner.stats()).steps
    assert steps <= 32
    pieces = [item.text async for item in answer if isinstance(item, Piece)]
    assert "0" + "".join(pieces) == prompt


async def test_stats_are_told_while_it_answers(start: Start) -> None:
    """A worker that computes tells its steps, memory and processor time all the same."""
    runner = await start(spec={"device_bytes": 1234})
    assert runner.measured.how == "reported"
    answer = await first_piece(runner, "!spin 30")
    stats = await runner.stats()
    assert stats.pid == runner.pid
    assert stats.steps == 1
    assert stats.measured.device_bytes == 1234
    assert stats.measured.host_bytes > 1 << 20
    await until(lambda: runner.health == "ready")
    closing = asyncio.ensure_future(answer.aclose())
    assert (await runner.stats()).cpu_s >= stats.cpu_s
    await closing


async def test_a_held_lock_is_suspect_and_answered_for(start: Start) -> None:
    """While the engine holds the interpreter's lock, what the system knows is told all the same, and it lives."""
    runner = await start()
    # The first question may be answered before the lock is taken; the watch asks again after a second.
    answer = await first_piece(runner, "!hold 7")
    began = time.monotonic()
    stats = await runner.stats()
    assert time.monotonic() - began < 5
    assert stats.measured.host_bytes > 1 << 20
    await until(lambda: runner.health == "suspect")
    assert isinstance(await anext(answer), Ended)
    assert runner.health == "ready"


async def test_cancelling_a_load_leaves_no_process() -> None:
    """At whatever moment it is cancelled no process stays; one that was there is gone when the cancellation comes out."""
    before, loads = set(children()), asyncio.Event()
    for pause_s in (0.0, 0.002, 0.01, 0.03, 0.06, 0.2):
        task = asyncio.ensure_future(start_echo("sleep 30"))
        await asyncio.sleep(pause_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: set(children()) <= before)
    task = asyncio.ensure_future(start_echo("sleep 30", progress=lambda *_: loads.set()))
    await loads.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(children()) <= before


async def test_a_model_is_parked_and_woken(start: Start) -> None:
    """The process stays, and what is measured is what the engine says is left, and then what is back."""
    runner = await start(can_park=True, spec={"device_bytes": 50})
    pid = runner.pid
    parked = await runner.park()
    assert (parked.device_bytes, parked.how, runner.measured) == (5, "reported", parked)
    assert (await runner.wake()).device_bytes == 50
    assert ((await ask(runner, "a"))[0], runner.pid) == ("a", pid)


async def test_what_cannot_park_says_so(start: Start) -> None:
    """Neither a runner that was not made for it nor an engine without it loses its worker by being asked."""
    for more in ({}, {"can_park": True, "spec": {"park": "no"}}):
        runner = await start(**more)
        with pytest.raises(UnsupportedModelError):
            await runner.park()
        assert (await ask(runner, "a"))[0] == "a"


async def test_a_failed_move_ends_the_worker(start: Start) -> None:
    """A model that may be half moved is not asked again."""
    runner = await start(can_park=True, spec={"park": "fail"})
    with pytest.raises(WorkerCrashedError, match="half moved"):
        await runner.park()
    report = await runner.ended
    assert report is not None
    assert report.cause == "exception"


async def test_closing_unloads_and_is_no_crash(start: Start) -> None:
    """The process is gone, `ended` is None, what is asked later is told so; closing again changes nothing."""
    runner = await start()
    pid, ended = runner.pid, runner.ended
    await asyncio.gather(runner.close(), runner.close())
    assert not lives(pid)
    assert await ended is None
    assert runner.ended.result() is None
    with pytest.raises(WorkerCrashedError, match="was unloaded") as caught:
        await ask(runner, "late")
    assert caught.value.retryable
    await runner.close()


async def test_closing_ends_what_is_being_answered(start: Start) -> None:
    """A reader gets the end of its answer, as cancelled; one in line is told that the model was unloaded."""
    runner = await start()
    answer = await first_piece(runner, "!sleep 30")
    waiting = asyncio.ensure_future(ask(runner, "in line"))
    await asyncio.sleep(0)
    await runner.close()
    items = [item async for item in answer]
    assert items[-1] == Ended("cancelled", tokens=len(items))
    with pytest.raises(WorkerCrashedError, match="was unloaded"):
        await waiting


async def test_nobody_cancels_the_end(start: Start) -> None:
    """Whoever waits for `ended` and is cancelled takes nothing from the others who wait for it."""
    runner = await start()
    other = runner.ended
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(runner.ended, 0.01)
    assert not other.done()
    await runner.close()
    assert await other is None


@pytest.mark.alone
async def test_three_models_answer_in_parallel_and_the_loop_stays_awake(start: Start) -> None:
    """While three workers compute, the event loop is never held up for 50 ms, and all three answer."""
    runners = [await start() for _ in range(3)]
    worst, running = 0.0, True

    async def watch() -> None:
        nonlocal worst
        while running:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            worst = max(worst, time.perf_counter() - began - 0.005)

    watching = asyncio.ensure_future(watch())
    answers = await asyncio.gather(*(ask(runner, "!spin 0.5") for runner in runners))
    running = False
    await watching
    assert [text for text, _ in answers] == ["spin"] * 3
    assert worst < 0.05


async def test_an_engine_has_the_name_of_a_module_or_a_path() -> None:
    """A relative path is a name like any other, and there is no such module."""
    with pytest.raises(MissingExtraError):
        await start_runner(model="m", engine=Path(ECHO).name, spec={}, options=LoadOptions())


@pytest.mark.bench
@pytest.mark.alone
async def test_a_request_costs_less_than_a_millisecond(start: Start) -> None:
    """What the process adds to a tiny answer, over calling its engine directly: the median, in the best of five."""
    runner = await start()
    spec = importlib.util.spec_from_file_location("echo", ECHO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    engine = module.create()
    engine.load({}, lambda *_: None)
    words = {"prompt": "a", "messages": [], "max_tokens": 1}

    async def worker() -> None:
        await ask(runner, "a")

    async def direct() -> None:
        list(engine.generate(words, lambda: False))

    added_s = min([await _median_s(worker) - await _median_s(direct) for _ in range(5)])
    assert added_s < 0.001


async def _median_s(work: Callable[[], Awaitable[None]]) -> float:
    taken = []
    for _ in range(200):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
