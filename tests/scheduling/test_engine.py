"""The engine from name to text: installed, loaded, queued for, answered, evicted. Backends are scripts here.

What real processes do to it is shown in `test_engine_processes.py`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.scheduling.fakes import FakeBackend, NoModels, until
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import (
    ConfigError,
    GenerationFailedError,
    InvalidRefError,
    LoadFailedError,
    NoCapacityError,
    NotInstalledError,
    ProviderError,
    RateLimitedError,
    TimedOutError,
    WorkerCrashedError,
)
from xprim_nb.events import EventHub, ResidencyChanged, WorkerFailed
from xprim_nb.scheduling.devices import SimulatedDevice
from xprim_nb.scheduling.engine import Engine
from xprim_nb.workers.values import CrashReport

_GB = 1 << 30


async def test_a_prompt_becomes_text(engine: Engine) -> None:
    """The reply has the text, where it ran, and where the time went."""
    reply = await engine.generate("fake:a", "one two three")
    assert reply.text == "one two three "
    assert (reply.model, reply.device, reply.finish_reason, reply.tokens) == ("fake:a", "sim:8gb", "stop", 3)
    assert reply.timings.total_s >= reply.timings.generate_s >= reply.timings.first_token_s > 0
    assert reply.evicted == ()


async def test_pieces_are_streamed(engine: Engine) -> None:
    """Whoever streams hears each piece before the reply is there."""
    heard: list[str] = []
    await engine.generate("fake:a", "one two", stream=heard.append)
    assert heard == ["one ", "two "]


async def test_many_first_requests_cause_one_load(engine: Engine, backend: FakeBackend) -> None:
    """Ten requests for a model that is missing install it once, load it once, and are all answered."""
    backend.missing.add("a")
    replies = await asyncio.gather(*(engine.generate("fake:a", f"number {i}") for i in range(10)))
    assert [reply.text for reply in replies] == [f"number {i} " for i in range(10)]
    assert backend.calls.count(("install", "a")) == 1
    assert backend.loads() == ["a"]


async def test_a_load_outlives_who_asked_first(engine: Engine, backend: FakeBackend) -> None:
    """The first caller leaves while the model loads; it is loaded all the same, for the next one."""
    backend.load_gate.clear()
    first = asyncio.create_task(engine.generate("fake:a", "one"))
    await until(backend.loads)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    backend.load_gate.set()
    assert (await engine.generate("fake:a", "two")).text == "two "
    assert backend.loads() == ["a"]


async def test_an_interrupt_costs_the_answer_not_the_model(engine: Engine, backend: FakeBackend) -> None:
    """Cancelling an answer leaves the model loaded, idle, and ready."""
    await engine.load("fake:a")
    backend.gate.clear()
    answering = asyncio.create_task(engine.generate("fake:a", "one two"))
    await until(lambda: backend.runners[0].requests)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    backend.gate.set()
    assert (await engine.generate("fake:a", "three")).text == "three "
    assert backend.loads() == ["a"]


async def test_the_least_recently_used_leaves(engine: Engine, backend: FakeBackend) -> None:
    """A third model takes the place of the one that was idle the longest, as the plan said."""
    for name in ("a", "b", "a"):
        await engine.generate(f"fake:{name}", "hello")
    plan = await engine.plan("fake:c")
    assert "b" in str(plan)
    reply = await engine.generate("fake:c", "hello")
    assert reply.evicted == ("fake:b",)
    status = {each.key: each.status for each in engine.snapshot().models}
    assert status == {"fake:a": "resident", "fake:b": "absent", "fake:c": "resident"}
    assert "so that c (3.0 GB) fits" in await engine.why("fake:b")


async def test_the_device_is_never_charged_too_much(engine: Engine) -> None:
    """Whatever is asked for at once, models take no more than the budget."""

    async def ask(name: str) -> None:
        for _ in range(3):
            await engine.generate(f"fake:{name}", "one two three")
            device = engine.snapshot().devices[0]
            assert device.charged_bytes <= device.budget_bytes

    await asyncio.gather(*(ask(name) for name in "abc"))


async def test_a_pinned_model_stays(engine: Engine) -> None:
    """A pinned model is not evicted, by nobody; the others take turns beside it."""
    await engine.load("fake:a")
    assert (await engine.pin("fake:a")).pinned
    for name in "bcb":
        await engine.generate(f"fake:{name}", "hello")
    assert engine.view("fake:a").status == "resident"
    assert engine.view("fake:a").why_not_evict == "a is pinned."
    with pytest.raises(NoCapacityError, match="pinned"):
        await engine.evict("fake:a")
    await engine.pin("fake:a", pinned=False)
    assert (await engine.evict("fake:a")).status == "absent"


async def test_what_never_fits_is_told_with_numbers(engine: Engine, backend: FakeBackend) -> None:
    """A model larger than the device is refused at once, and nothing was evicted for it."""
    await engine.generate("fake:a", "hello")
    with pytest.raises(NoCapacityError) as refused:
        await engine.generate("fake:big", "hello")
    assert refused.value.needed_bytes == 9 * _GB
    assert refused.value.available_bytes <= 8 * _GB
    assert "9.0 GB" in str(refused.value)
    assert engine.view("fake:a").status == "resident"
    assert backend.loads() == ["a"]


async def test_a_silent_queue_has_its_limit(tmp_path: Path, backend: FakeBackend) -> None:
    """Who waits too long for a turn is told for what, and leaves the queue."""
    settings = AICapabilities(ledger_dir=tmp_path / "ledger", queue_timeout_s=0.2)
    async with Engine(
        NoModels(),
        settings,
        devices=[SimulatedDevice("sim:8gb", total_bytes=8 * _GB)],
        backends={"fake": backend},
    ) as engine:
        await engine.load("fake:a")
        backend.gate.clear()
        answering = asyncio.create_task(engine.generate("fake:a", "hello"))
        await until(lambda: backend.runners[0].requests)
        with pytest.raises(TimedOutError, match="no turn") as passed:
            await engine.generate("fake:a", "hello")
        assert passed.value.phase == "queue"
        assert engine.snapshot().queue == ()
        backend.gate.set()
        assert (await answering).text == "hello "


async def test_loading_is_no_waiting_for_a_turn(tmp_path: Path, backend: FakeBackend) -> None:
    """A load that takes longer than the queue's limit is waited for: it has a limit of its own."""
    settings = AICapabilities(ledger_dir=tmp_path / "ledger", queue_timeout_s=0.05)
    async with Engine(
        NoModels(),
        settings,
        devices=[SimulatedDevice("sim:8gb", total_bytes=8 * _GB)],
        backends={"fake": backend},
    ) as engine:
        backend.load_gate.clear()
        asking = asyncio.create_task(engine.generate("fake:a", "hello"))
        await until(backend.loads)
        done, _ = await asyncio.wait([asking], timeout=0.3)
        assert not done
        backend.load_gate.set()
        assert (await asking).text == "hello "


async def test_an_eviction_ends_although_the_model_is_wanted_again(
    engine: Engine, backend: FakeBackend
) -> None:
    """Evicting a model for which somebody waits returns when it has left; it is loaded again, and answers."""
    await engine.load("fake:a")
    backend.gate.clear()
    first = asyncio.create_task(engine.generate("fake:a", "one"))
    await until(lambda: backend.runners[0].requests)
    second = asyncio.create_task(engine.generate("fake:a", "two"))
    await until(lambda: engine.snapshot().queue)
    evicting = asyncio.create_task(engine.evict("fake:a"))
    await until(lambda: engine.scheduler.state.models["fake:a"].wanted_out)
    backend.gate.set()
    await evicting
    assert [(await first).text, (await second).text] == ["one ", "two "]
    assert backend.loads() == ["a", "a"]


async def test_the_queue_says_who_asks(engine: Engine, backend: FakeBackend) -> None:
    """The note of whoever waits stands in the queue, and is gone with them."""
    await engine.load("fake:a", note="In [1]")
    backend.gate.clear()
    first = asyncio.create_task(engine.generate("fake:a", "one", note="In [2]"))
    await until(lambda: backend.runners[0].requests)
    second = asyncio.create_task(engine.generate("fake:a", "two", note="train.py:31"))
    await until(lambda: engine.snapshot().queue)
    assert [each.note for each in engine.snapshot().queue] == ["train.py:31"]
    backend.gate.set()
    await asyncio.gather(first, second)
    assert engine.snapshot().queue == ()


async def test_evicted_names_those_that_left_for_this_load(engine: Engine) -> None:
    """A second load of a model does not tell again who left for the first."""
    for name in ("a", "b", "c"):
        await engine.generate(f"fake:{name}", "hello")
    assert (await engine.generate("fake:a", "hello")).evicted == ("fake:b",)
    await engine.evict("fake:c")
    await engine.evict("fake:a")
    assert (await engine.generate("fake:a", "hello")).evicted == ()


async def test_a_fault_that_nobody_foresaw_is_told(engine: Engine, backend: FakeBackend) -> None:
    """An exception that is none of ours ends the waiting too, and leaves no charge."""
    backend.faults["a"] = [OSError("the cable was pulled")]  # type: ignore[list-item]  # no error of ours
    with pytest.raises(LoadFailedError, match="the cable was pulled"):
        await engine.generate("fake:a", "hello")
    assert engine.snapshot().devices[0].charged_bytes == 0
    assert (await engine.load("fake:a")).status == "resident"


async def test_only_answers_are_counted(engine: Engine, backend: FakeBackend) -> None:
    """A request that failed is no answer that was given."""
    await engine.generate("fake:a", "hello")
    backend.runners[0].fault = GenerationFailedError("It broke.", subject="fake:a")
    with pytest.raises(GenerationFailedError):
        await engine.generate("fake:a", "hello")
    assert engine.view("fake:a").served == 1


async def test_a_crash_before_the_first_token_is_repeated(engine: Engine, backend: FakeBackend) -> None:
    """Nobody hears of a worker that died before it said anything, but in the reply and the events."""
    await engine.load("fake:a")
    runner = backend.runners[0]
    runner.fault = WorkerCrashedError("It died.", subject="fake:a", retryable=True)
    told: list[object] = []
    engine.events.subscribe(told.append)
    runner.dies = CrashReport("fake:a", 1, "killed", "It was killed.")
    reply = await engine.generate("fake:a", "hello")
    assert (reply.text, reply.retries) == ("hello ", 1)
    assert backend.loads() == ["a", "a"]
    failed = [each.message for each in told if isinstance(each, WorkerFailed)]
    assert failed == ["The worker of fake:a (pid 1) is gone. It was killed."]
    assert engine.crashes()[0].cause == "killed"


async def test_a_crash_in_mid_answer_is_told(engine: Engine, backend: FakeBackend) -> None:
    """What had been said cannot be unsaid: the error says so, and the next request is served."""
    await engine.load("fake:a")
    backend.runners[0].fault = WorkerCrashedError("It died.", subject="fake:a", retryable=False)
    backend.runners[0].dies = CrashReport("fake:a", 1, "segfault", "It crashed.")
    with pytest.raises(WorkerCrashedError):
        await engine.generate("fake:a", "hello")
    assert (await engine.generate("fake:a", "again")).text == "again "


async def test_a_backends_fault_leaves_the_model(engine: Engine, backend: FakeBackend) -> None:
    """An exception in the backend fails one request; the model serves the next."""
    await engine.load("fake:a")
    backend.runners[0].fault = GenerationFailedError("ZeroDivisionError", subject="fake:a")
    with pytest.raises(GenerationFailedError):
        await engine.generate("fake:a", "hello")
    assert (await engine.generate("fake:a", "again")).text == "again "
    assert backend.loads() == ["a"]


async def test_a_model_that_cannot_be_loaded_is_told(engine: Engine, backend: FakeBackend) -> None:
    """A final fault is what the caller hears; it is tried again when somebody asks again."""
    backend.faults["a"] = [LoadFailedError("Its config is cut short.", subject="a")]
    with pytest.raises(LoadFailedError, match="cut short"):
        await engine.generate("fake:a", "hello")
    await engine.retry("fake:a")
    assert (await engine.generate("fake:a", "hello")).text == "hello "


async def test_a_busy_server_is_asked_again(engine: Engine, backend: FakeBackend) -> None:
    """A server that asks for a little patience gets it; one that asks for an hour is told."""
    backend.remote()
    await engine.load("fake:a")
    backend.runners[0].fault = RateLimitedError("Wait.", subject="a", retry_after_s=0.01)
    assert (await engine.generate("fake:a", "hello")).retries == 1
    backend.runners[0].fault = RateLimitedError("Wait.", subject="a", retry_after_s=3600)
    with pytest.raises(RateLimitedError):
        await engine.generate("fake:a", "hello")
    backend.runners[0].fault = ProviderError("No such thing.", subject="a", status=400)
    with pytest.raises(ProviderError):
        await engine.generate("fake:a", "hello")


async def test_a_servers_model_takes_no_memory(engine: Engine, backend: FakeBackend) -> None:
    """A model elsewhere is charged nowhere, and says so."""
    backend.remote()
    await engine.generate("fake:big", "hello")
    view = engine.view("fake:big")
    assert (view.status, view.size_bytes, view.why_not_evict) == ("elsewhere", 0, "It runs on a server.")


async def test_other_settings_load_it_anew(engine: Engine, backend: FakeBackend) -> None:
    """A model that is asked for with another setting is loaded with it; without one it stays as it is."""
    await engine.generate("fake:a", "hello", dtype="float32")
    await engine.generate("fake:a", "hello")
    assert backend.loads() == ["a"]
    await engine.generate("fake:a", "hello", dtype="bfloat16")
    assert backend.loads() == ["a", "a"]
    assert backend.runners[-1].options.settings == {"dtype": "bfloat16"}


async def test_a_size_can_be_given(engine: Engine) -> None:
    """`footprint_bytes` is charged in place of the estimate."""
    await engine.generate("fake:big", "hello", footprint_bytes=2 * _GB)
    assert engine.view("fake:big").size_bytes == 2 * _GB


async def test_changes_are_told_with_their_reasons(backend: FakeBackend, tmp_path: Path) -> None:
    """Who listens hears of each load and eviction, and why."""
    hub = EventHub()
    told: list[object] = []
    hub.subscribe(told.append)
    async with Engine(
        NoModels(),
        AICapabilities(ledger_dir=tmp_path / "ledger"),
        events=hub,
        devices=[SimulatedDevice("sim:8gb", total_bytes=8 * _GB)],
        backends={"fake": backend},
    ) as engine:
        for name in "abc":
            await engine.generate(f"fake:{name}", "hello")
    changes = [(each.model, each.status) for each in told if isinstance(each, ResidencyChanged)]
    assert changes[:4] == [
        ("fake:a", "loading"),
        ("fake:a", "resident"),
        ("fake:b", "loading"),
        ("fake:b", "resident"),
    ]
    leaving = next(each for each in told if isinstance(each, ResidencyChanged) and each.status == "leaving")
    assert leaving.model == "fake:a"
    assert "so that c (3.0 GB) fits" in leaving.reason


async def test_closing_leaves_nothing(backend: FakeBackend, tmp_path: Path) -> None:
    """After the engine has closed every model is unloaded, the ledger is empty, and who waited was cancelled."""
    settings = AICapabilities(ledger_dir=tmp_path / "ledger")
    engine = Engine(
        NoModels(),
        settings,
        devices=[SimulatedDevice("sim:8gb", total_bytes=8 * _GB)],
        backends={"fake": backend},
    )
    async with engine:
        await engine.generate("fake:a", "hello")
        backend.load_gate.clear()
        waiting = asyncio.create_task(engine.generate("fake:b", "hello"))
        await until(lambda: "b" in backend.loads())
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert all(runner.closed for runner in backend.runners)
    async with Engine(NoModels(), settings, devices=[], backends={}) as other:
        assert await other.ps() == []
        assert [row.state for row in await other.timeline()][-1] == "gone"


@pytest.mark.parametrize(
    ("model", "options", "error"),
    [
        ("nobody:a", {}, InvalidRefError),
        ("fake:", {}, InvalidRefError),
        ("not a name at all", {}, InvalidRefError),
        ("fake:a", {"priority": "urgent"}, ConfigError),
        ("fake:a", {"context_tokens": "many"}, ConfigError),
        ("fake:a", {"footprint_bytes": "large"}, ConfigError),
        ("fake:a", {"max_tokens": 0}, ConfigError),
    ],
)
async def test_what_cannot_be_asked_is_told(
    engine: Engine, model: str, options: dict[str, object], error: type[Exception]
) -> None:
    """A name or an option that means nothing is refused before anything is loaded."""
    with pytest.raises(error):
        await engine.generate(model, "hello", **options)  # type: ignore[arg-type]  # what users type


async def test_what_is_not_awake_cannot_be_evicted(engine: Engine) -> None:
    """Evicting, pinning or retrying what nobody has loaded names it and the way out."""
    for verb in (engine.evict, engine.pin, engine.retry):
        with pytest.raises(NotInstalledError, match="fake:a"):
            await verb("fake:a")
