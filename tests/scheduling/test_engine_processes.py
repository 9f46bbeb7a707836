"""The engine over real worker processes, real weights and the embedded registry."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import jinja2
import markupsafe
import numpy
import psutil
import pytest

from tests.scheduling.fakes import until
from xprim_nb.config import Config
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import GenerationFailedError, NoCapacityError, WorkerCrashedError, XprimError
from xprim_nb.manager import Manager
from xprim_nb.manager.engines import open_engine
from xprim_nb.scheduling.devices import SimulatedDevice
from xprim_nb.scheduling.engine import Engine

_GB = 1 << 30
_MODEL = "demo/tiny-llama v2"
_PROMPT = "Once upon a time"


def _config(folder: Path, **changed: object) -> Config:
    settings = AICapabilities(ledger_dir=folder / "ledger", **changed)  # type: ignore[arg-type]  # by name
    return Config(data_dir=folder / "models", ai=settings)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine on this machine's memory, with no model installed."""
    async with Manager(_config(tmp_path)) as manager, open_engine(manager) as engine:
        yield engine


def _alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def test_the_demo_model_is_installed_and_speaks(engine: Engine) -> None:
    """The first request installs the model, loads it in a process of its own and answers; the second finds it."""
    first = await engine.generate(_MODEL, _PROMPT, max_tokens=24)
    assert first.tokens == 24
    assert first.worker_pid not in (None, os.getpid())
    assert first.timings.install_s > 0
    assert first.timings.load_s > 0
    second = await engine.generate(_MODEL, _PROMPT, max_tokens=24)
    assert (second.text, second.worker_pid) == (first.text, first.worker_pid)
    assert (second.timings.install_s, second.timings.load_s) == (0, 0)


async def test_a_prompt_that_does_not_fit_says_how_to_get_more_room(engine: Engine) -> None:
    """A model stays as somebody asked for it before; the way out that the error names is one."""
    await engine.load(_MODEL, context_tokens=24)
    long = "Once upon a time there was a little dog, and the dog liked to play in the park all day."
    with pytest.raises(
        GenerationFailedError, match=r"leaves no room for an answer in a context of 24\."
    ) as caught:
        await engine.generate(_MODEL, long, max_tokens=4)
    assert "context_tokens" in caught.value.hint
    assert (await engine.generate(_MODEL, long, max_tokens=4, context_tokens=200)).tokens == 4


async def test_seeds_are_honoured(engine: Engine) -> None:
    """Same prompt and seed, same bytes, whatever was asked in between; another seed, another text."""

    async def ask(seed: int | None) -> str:
        return (await engine.generate(_MODEL, _PROMPT, max_tokens=32, temperature=0.9, seed=seed)).text

    first, other, again = await ask(7), await ask(8), await ask(7)
    assert first == again != other
    made_up = await engine.generate(_MODEL, _PROMPT, max_tokens=32, temperature=0.9)
    assert await ask(made_up.seed) == made_up.text


@pytest.mark.alone
async def test_the_loop_is_free_while_a_worker_computes(engine: Engine) -> None:
    """While three answers are computed the loop is never held for 50 ms, and other questions are answered."""
    await engine.load(_MODEL)
    longest, running = 0.0, True

    async def watch() -> None:
        nonlocal longest
        while running:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - began - 0.005)

    watching = asyncio.create_task(watch())
    answers = [asyncio.create_task(engine.generate(_MODEL, _PROMPT, max_tokens=200)) for _ in range(3)]
    await until(lambda: engine.view("numpy:demo/tiny-llama v2").in_flight)
    assert len(await engine.ps()) == 1
    await asyncio.gather(*answers)
    running = False
    await watching
    assert longest < 0.05


async def test_a_killed_worker_is_replaced(engine: Engine) -> None:
    """kill -9 in mid-answer is told with its report; the next request has a new worker and the same text."""
    before = await engine.generate(_MODEL, _PROMPT, max_tokens=16)
    assert before.worker_pid is not None
    heard: list[str] = []
    answering = asyncio.create_task(
        engine.generate(_MODEL, _PROMPT, max_tokens=900, timeout=None, stream=heard.append)
    )
    await until(lambda: heard)
    os.kill(before.worker_pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError) as died:
        await answering
    assert not died.value.retryable
    assert engine.crashes()[0].cause == "killed"
    after = await engine.generate(_MODEL, _PROMPT, max_tokens=16)
    assert after.text == before.text
    assert after.worker_pid != before.worker_pid


async def test_an_interrupted_answer_keeps_its_worker(engine: Engine) -> None:
    """Cancelling an answer is heard by the worker, which serves the next request."""
    loaded = await engine.load(_MODEL)
    heard: list[str] = []
    answering = asyncio.create_task(
        engine.generate(_MODEL, _PROMPT, max_tokens=900, timeout=None, stream=heard.append)
    )
    await until(lambda: heard)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    reply = await engine.generate(_MODEL, _PROMPT, max_tokens=4)
    assert reply.worker_pid == loaded.worker_pid


async def test_an_adapter_changes_the_text(engine: Engine) -> None:
    """A LoRA layer is installed like a model and heard in the answer; without it the text is as before."""
    base = await engine.generate(_MODEL, _PROMPT, max_tokens=48)
    layered = await engine.generate(_MODEL, _PROMPT, max_tokens=48, loras="demo/lora-json v1")
    assert layered.text != base.text
    assert layered.loras == ("demo/lora-json v1",)
    assert (await engine.generate(_MODEL, _PROMPT, max_tokens=48)).text == base.text


async def test_closing_leaves_no_process(tmp_path: Path) -> None:
    """When the engine is left its workers are gone, and the ledger has no lease."""
    async with Manager(_config(tmp_path)) as manager:
        async with open_engine(manager) as engine:
            pid = (await engine.load(_MODEL)).worker_pid
            assert pid is not None
            assert _alive(pid)
        assert not _alive(pid)
        async with open_engine(manager) as engine:
            assert await engine.ps() == []


async def test_five_models_take_turns_on_eight_gigabytes(tmp_path: Path) -> None:
    """Five models of 3.2 GB share a simulated 8 GB: all serve, the predicted one leaves, the hot one stays."""
    async with Manager(_config(tmp_path)) as manager:
        source = (await manager.pull(_MODEL)).path
        names = []
        for letter in "abcde":
            shutil.copytree(source, tmp_path / f"model-{letter}")
            names.append(str(tmp_path / f"model-{letter}"))
        device = SimulatedDevice("sim:8gb", total_bytes=8 * _GB)
        async with open_engine(manager, devices=[device]) as engine:
            replies = []
            for name in (*names, *names):
                hot = await engine.generate(names[0], _PROMPT, max_tokens=8, footprint_bytes=32 * _GB // 10)
                plan = await engine.plan(name, footprint_bytes=32 * _GB // 10)
                reply = await engine.generate(name, _PROMPT, max_tokens=8, footprint_bytes=32 * _GB // 10)
                assert all(evicted.partition(":")[2] in str(plan) for evicted in reply.evicted)
                sim = engine.snapshot().devices[0]
                assert sim.charged_bytes <= sim.budget_bytes
                replies.append((hot, reply))
            assert len({reply.text for _, reply in replies}) == 1
            assert len({hot.worker_pid for hot, _ in replies}) == 1
            with pytest.raises(NoCapacityError) as refused:
                await engine.generate(names[4], _PROMPT, footprint_bytes=9 * _GB)
            assert refused.value.needed_bytes == 9 * _GB


@pytest.mark.parametrize("priority", ["realtime", "system"])
async def test_who_is_urgent_overtakes(tmp_path: Path, priority: str) -> None:
    """A realtime request overtakes ten batch ones, which all finish too."""
    async with Manager(_config(tmp_path)) as manager, open_engine(manager) as engine:
        worker = (await engine.load(_MODEL)).worker_pid
        assert worker is not None
        order: list[str] = []

        async def ask(name: str, priority: str) -> None:
            await engine.generate(_MODEL, _PROMPT, max_tokens=12, priority=priority)
            order.append(name)

        # The first does not end before all others stand in line.
        os.kill(worker, signal.SIGSTOP)
        batch = [asyncio.create_task(ask(f"batch {i}", "batch")) for i in range(10)]
        await until(lambda: len(engine.snapshot().queue) == 9)
        urgent = asyncio.create_task(ask("urgent", priority))
        await until(lambda: len(engine.snapshot().queue) == 10)
        os.kill(worker, signal.SIGCONT)
        await asyncio.gather(urgent, *batch)
        assert order.index("urgent") <= 2
        assert len(order) == 11


async def test_three_models_answer_at_the_same_time(tmp_path: Path) -> None:
    """Three models in three processes are all in the middle of an answer at one moment."""
    async with Manager(_config(tmp_path)) as manager:
        source = (await manager.pull(_MODEL)).path
        names = [str(shutil.copytree(source, tmp_path / f"model-{letter}")) for letter in "abc"]
        async with open_engine(manager) as engine:
            workers = {name: (await engine.load(name)).worker_pid or 0 for name in names}
            assert len({*workers.values()} - {0}) == 3
            heard: set[str] = set()

            async def ask(name: str) -> int | None:
                def hears(_: str) -> None:
                    if name not in heard:
                        os.kill(workers[name], signal.SIGSTOP)  # until the others have come as far
                    heard.add(name)

                return (
                    await engine.generate(name, _PROMPT, max_tokens=300, timeout=None, stream=hears)
                ).worker_pid

            answers = [asyncio.create_task(ask(name)) for name in names]
            await until(lambda: len(heard) == 3 or any(each.done() for each in answers))
            assert not any(each.done() for each in answers)
            for pid in workers.values():
                os.kill(pid, signal.SIGCONT)
            assert {*await asyncio.gather(*answers)} == {*workers.values()}


async def test_two_engines_never_take_the_same_memory(tmp_path: Path) -> None:
    """Two engines with one ledger share a device: what one holds the other cannot have, but asks for and gets."""
    device = {"total_bytes": 4 * _GB}
    async with (
        Manager(_config(tmp_path)) as manager,
        open_engine(manager, devices=[SimulatedDevice("sim:4gb", **device)], label="first") as first,
    ):
        await first.generate(_MODEL, _PROMPT, max_tokens=4, footprint_bytes=3 * _GB)
        assert [each.status for each in await first.ps()] == ["resident"]
        sim = first.snapshot().devices[0]
        assert (sim.charged_bytes, sim.available_bytes) == (3 * _GB, _GB)
        with pytest.raises(XprimError):
            await first.generate(_MODEL, _PROMPT, max_tokens=4, footprint_bytes=5 * _GB)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The interpreter of an environment that has NumPy and Jinja, and nothing of ours."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=25)
    (packages,) = folder.glob("lib/python*/site-packages")
    for package in (numpy, jinja2, markupsafe):
        source = Path(str(package.__file__)).parent
        for each in (source, *source.parent.glob(f"{source.name}.libs")):
            (packages / each.name).symlink_to(each)
    python = folder / "bin" / "python"
    tried = subprocess.run(
        [python, "-I", "-c", "import numpy, xprim_nb"],
        check=False,
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert "No module named 'xprim_nb'" in tried.stderr
    return python


async def test_models_run_in_another_environment(tmp_path: Path, elsewhere: Path) -> None:
    """`worker_python` names the interpreter of workers: one without this package answers the same."""
    texts = []
    for where in (elsewhere, None):
        async with Manager(_config(tmp_path, worker_python=where)) as manager, open_engine(manager) as engine:
            reply = await engine.generate(_MODEL, _PROMPT, max_tokens=16)
            texts.append(reply.text)
            if where is not None:
                assert reply.worker_pid is not None
                assert psutil.Process(reply.worker_pid).cmdline()[0] == str(where)
    assert texts[0] == texts[1]
