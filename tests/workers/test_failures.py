"""Whatever happens to a worker: its own error, its own report, and no process left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import psutil
import pytest

from xprim_nb.errors import WorkerCrashedError, WorkerError, WorkerHungError, WorkerMemoryError
from xprim_nb.workers.process import ProcessRunner
from xprim_nb.workers.values import CrashReport, LoadOptions, Piece

from .working import ask, first_piece, lives, request, until

Start = Callable[..., Awaitable[ProcessRunner]]
_MB = 1 << 20


async def _report(runner: ProcessRunner) -> CrashReport:
    report = await asyncio.wait_for(runner.ended, 10)
    assert report is not None
    return report


@pytest.mark.parametrize(
    ("wish", "cause", "exit_code"),
    [
        ("kill 9", "killed", -9),
        ("kill 15", "killed", -15),
        ("kill 6", "segfault", -6),
        ("segfault", "segfault", -11),
        ("exit 3", "exit", 3),
        ("exit 4 softly", "exit", 4),
        ("exit 0", "exit", 0),
        ("raise KeyboardInterrupt x", "exception", 1),
    ],
)
async def test_a_worker_that_dies_is_told_by_its_cause(
    start: Start, wish: str, cause: str, exit_code: int
) -> None:
    """The request fails with the report, which can be made again; so does the next, and `ended` has the same report."""
    runner = await start()
    with pytest.raises(WorkerCrashedError) as caught:
        await ask(runner, "!" + wish)
    report = await _report(runner)
    assert (report.cause, report.exit_code, report.doing) == (cause, exit_code, "generate")
    assert (caught.value.report, caught.value.retryable) == (report, True)
    assert report.pid == runner.pid
    assert report.memory
    with pytest.raises(WorkerCrashedError, match=r"test/echo v1 \(pid \d+\) is gone"):
        await ask(runner, "next")


async def test_a_segfault_shows_where_it_happened(start: Start) -> None:
    """The last lines end in the Python frames of the engine."""
    runner = await start()
    with pytest.raises(WorkerCrashedError):
        await ask(runner, "!segfault")
    assert any("do_segfault" in line for line in (await _report(runner)).last_lines)


async def test_death_after_a_piece_is_not_retryable(start: Start) -> None:
    """What had come is delivered first; then the error says that the request must not be made again by itself."""
    runner = await start()
    answer = await first_piece(runner, "!kill 9 late")
    with pytest.raises(WorkerCrashedError) as caught:
        await anext(answer)
    assert not caught.value.retryable


async def test_death_while_idle_is_noticed(start: Start) -> None:
    """Nobody needs to ask: `ended` is done as soon as the process is gone."""
    runner = await start()
    os.kill(runner.pid, signal.SIGKILL)
    report = await _report(runner)
    assert (report.cause, report.doing) == ("killed", "idle")


@pytest.mark.parametrize(
    ("wish", "error"), [("kill 9", WorkerCrashedError), ("segfault", WorkerCrashedError)]
)
async def test_death_while_loading_is_told(start: Start, wish: str, error: type[WorkerError]) -> None:
    """Whoever loads gets the error with its report."""
    with pytest.raises(error) as caught:
        await start(wish)
    report = caught.value.report
    assert isinstance(report, CrashReport)
    assert report.doing == "load"


async def test_a_load_that_stands_still_is_ended(start: Start) -> None:
    """After the stall timeout without progress, computing or growth, the worker is killed and said to be hung."""
    began = time.monotonic()
    with pytest.raises(WorkerHungError, match="neither computed nor told") as caught:
        await start("still 60", options=LoadOptions(stall_timeout_s=0.6))
    assert time.monotonic() - began < 20  # its process has to start, too
    assert isinstance(caught.value.report, CrashReport)
    assert (caught.value.report.cause, caught.value.report.doing) == ("hung", "load")


@pytest.mark.parametrize("wish", ["sleep 2.5", "spin 2.5", "burn 8000000"])
async def test_a_load_that_does_something_is_borne(start: Start, wish: str) -> None:
    """Progress keeps a slow load alive, and so does computing that tells nothing, even with the lock held."""
    assert (await ask(await start(wish, options=LoadOptions(stall_timeout_s=1.2)), "a"))[0] == "a"


async def test_memory_above_the_limit_ends_the_worker(start: Start) -> None:
    """The request fails for want of memory, with the numbers in the report and the curve that led there."""
    runner = await start(options=LoadOptions(ram_limit_bytes=120 * _MB))
    with pytest.raises(WorkerMemoryError, match="may take 120") as caught:
        await ask(runner, "!eat 4000")
    report = await _report(runner)
    assert caught.value.report == report
    assert report.cause == "out_of_memory"
    assert max(size for _, size in report.memory) > 120 * _MB


async def test_memory_of_helpers_counts(start: Start) -> None:
    """What the engine's own child takes is the worker's, and the child goes with it."""
    runner = await start(options=LoadOptions(ram_limit_bytes=150 * _MB))
    answer = runner.generate(request("!feed 200"))
    piece = await anext(answer)
    assert isinstance(piece, Piece)
    with pytest.raises(WorkerMemoryError):
        await anext(answer)
    await until(lambda: not lives(runner.pid) and not lives(int(piece.text)))


async def test_a_limit_above_the_need_is_not_felt(start: Start) -> None:
    """Memory below the limit is left alone."""
    runner = await start(options=LoadOptions(ram_limit_bytes=400 * _MB))
    assert len((await ask(runner, "!eat 100"))[0]) == 10


async def test_a_flood_neither_blocks_nor_grows(start: Start) -> None:
    """40 MB on stdout, printed and written past Python, corrupt no frame; the kernel keeps the end of it."""
    runner = await start()
    before = psutil.Process().memory_info().rss
    assert (await ask(runner, "!flood 50"))[0] == "flooded"
    assert psutil.Process().memory_info().rss - before < 20 * _MB
    os.kill(runner.pid, signal.SIGKILL)
    lines = (await _report(runner)).last_lines
    assert 0 < sum(map(len, lines)) <= 64 << 10
    assert "flood" in "".join(lines)


@pytest.mark.parametrize(
    ("wish", "text"),
    [("corrupt", "cannot be read"), ("close", "closed its pipe, and lives|an exception that nobody")],
)
async def test_what_is_no_frame_ends_the_worker(start: Start, wish: str, text: str) -> None:
    """An engine that writes to fds that are not its own, or closes them, is found out."""
    runner = await start()
    with pytest.raises(WorkerCrashedError, match=text):
        await ask(runner, "!" + wish)


async def test_an_engine_that_cannot_tell_its_stats_is_answered_for(start: Start) -> None:
    """Stats that raise, or that JSON cannot hold, are left out; the worker lives and the log says why."""
    runner = await start()
    for wish in ("stats raise", "stats odd"):
        assert (await ask(runner, "!" + wish))[0] == "done"
        assert (await runner.stats()).measured.host_bytes > _MB
    assert (await ask(runner, "next"))[0] == "next"


async def test_a_stopped_worker_is_hung(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that neither answers nor computes while somebody waits is ended, with no caller's timeout needed."""
    monkeypatch.setattr("xprim_nb.workers.health.HANG_S", 1.0)
    runner = await start()
    with pytest.raises(WorkerHungError, match="answers nothing") as caught:
        await ask(runner, "!stop")
    assert not caught.value.retryable


@pytest.mark.alone
async def test_a_stopped_idle_worker_is_suspect(start: Start) -> None:
    """Asked for its stats, one that does not answer is known to be suspect; what the system knows is told in a second."""
    runner = await start()
    os.kill(runner.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert (await runner.stats()).measured.host_bytes > _MB
    assert time.monotonic() - began < 1
    await until(lambda: runner.health == "suspect")
    os.kill(runner.pid, signal.SIGCONT)
    await runner.stats()
    assert runner.health == "ready"


@pytest.mark.parametrize("where", ["near", "away"])
async def test_helpers_go_with_the_worker(start: Start, where: str) -> None:
    """A grandchild that ignores SIGTERM, holds the pipes and may have left the group neither stays nor delays."""
    runner = await start()
    answer = runner.generate(request(f"!nurse {where}"))
    piece = await anext(answer)
    assert isinstance(piece, Piece)
    helper = int(piece.text)
    await answer.aclose()
    assert lives(helper)
    began = time.monotonic()
    await runner.close()
    assert time.monotonic() - began < 4.5  # after five, a worker that does not go would have been terminated
    await until(lambda: not lives(helper))


async def test_a_worker_that_will_not_go_is_killed(start: Start) -> None:
    """One that is deaf to the shutdown frame is terminated after five seconds, and that is no crash."""
    runner = await start(spec={"unload": "still 60"})
    pid, began = runner.pid, time.monotonic()
    await runner.close()
    assert 4.9 < time.monotonic() - began < 20
    assert not lives(pid)
    assert await runner.ended is None


@pytest.mark.alone
async def test_a_kernel_that_does_nothing_costs_nothing(start: Start) -> None:
    """With a loaded model and nobody asking, neither the worker nor this process uses the processor."""
    runner = await start()
    await ask(runner, "a")
    await asyncio.sleep(0.3)  # the watch thread looks once more and goes to sleep
    worker, own = psutil.Process(runner.pid), psutil.Process()
    before = sum(worker.cpu_times()[:2]), sum(own.cpu_times()[:2]), worker.num_ctx_switches().voluntary
    await asyncio.sleep(1.0)
    after = sum(worker.cpu_times()[:2]), sum(own.cpu_times()[:2]), worker.num_ctx_switches().voluntary
    assert after[0] - before[0] <= 0.01
    assert after[1] - before[1] <= 0.02
    assert after[2] - before[2] <= 1
