"""A model loaded in a worker process of its own, as a `Runner`.

Decides what an engine's exception means for its worker. After a failed answer the worker lives, unless it cannot be
trusted: the device context is poisoned (CUDA answers nothing after an illegal access), the model may be half moved
(an exception in `park` or `wake`), or memory was wanting twice in a row with no answer between.

Source: spec 4 §Workers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, get_args

from xprim_nb.errors import (
    GenerationFailedError,
    LoadFailedError,
    UnsupportedModelError,
    WorkerError,
    XprimError,
)
from xprim_nb.workers import wire
from xprim_nb.workers.crash import Verdict
from xprim_nb.workers.health import Health
from xprim_nb.workers.limits import Sample
from xprim_nb.workers.refusals import generation_error, load_error
from xprim_nb.workers.routes import to_the_end
from xprim_nb.workers.spare import Spare
from xprim_nb.workers.values import (
    CrashReport,
    Ended,
    FinishReason,
    GenerateRequest,
    LoadOptions,
    Measured,
    Piece,
    WorkerStats,
)
from xprim_nb.workers.worker import Worker

__all__ = ["ProcessRunner", "start_runner"]

# An engine asks once a token whether it is cancelled; no token of a model that is worth running takes longer.
_CANCEL_S = 2.0
# `stats` promises a second, and looking at the process takes some of it.
_STATS_S = 0.8
# Chunks read before the worker is told: fewer frames than one for each chunk, and it never runs dry.
_CREDIT_STEP = wire.CREDITS // 4


def _silent(fraction: float, text: str) -> None:  # house: nobody wants to know
    """Progress that nobody looks at."""


async def start_runner(
    *,
    model: str,
    engine: str,
    spec: Mapping[str, object],
    options: LoadOptions,
    progress: Callable[[float, str], object] = _silent,
    slots: int = 1,
    can_park: bool = False,
    spare: Spare | None = None,
) -> ProcessRunner:
    """A model loaded in a worker process of its own. When it fails or is cancelled, no process is left.

    Args:
        model: Its name, for messages.
        engine: A module in `workers/engines`, or the absolute path of a Python file with `create()`.
        spec: What `Engine.load` is given: JSON values and paths. `device`, `context_tokens` and `device_limit_bytes`
            are those of `options` where it does not name them.
        options: The interpreter, the limits and the timeouts.
        progress: Called with the fraction that is loaded and a text.
        slots: Answers at once. Above 1 the engine makes them in turns, a piece each, and must bear that.
        can_park: Whether the engine has `park` and `wake`.
        spare: Taken where it has a worker of an equal environment, and refilled afterwards.

    Raises:
        WorkerStartError: The interpreter cannot be started, says no hello, or is older than 3.11.
        WorkerCrashedError, WorkerMemoryError, WorkerHungError: The process died, or stood still.
        LoadFailedError: The engine raised.
        UnsupportedModelError: The engine cannot run it.
        MissingExtraError: The worker's interpreter lacks a package.
    """
    worker = spare.take(options.environment) if spare is not None else None
    if worker is None:
        worker = await Worker.start(options.environment, options.start_timeout_s, model)
    try:
        worker.adopt(model, options)
        result = await _load(worker, engine, spec, options, progress, slots)
        return ProcessRunner(worker, result, options, slots=slots, can_park=can_park)
    except BaseException:
        await to_the_end(worker.end_now())
        raise
    finally:
        if spare is not None:
            spare.refill()


async def _load(
    worker: Worker,
    engine: str,
    spec: Mapping[str, object],
    options: LoadOptions,
    progress: Callable[[float, str], object],
    slots: int,
) -> Mapping[str, Any]:
    whole = {
        "device": options.device,
        "context_tokens": options.context_tokens,
        "device_limit_bytes": options.device_limit_bytes,
        **spec,
    }
    try:
        answer = await worker.ask(
            "load",
            "load",
            options.stall_timeout_s,
            lambda header: progress(float(header["fraction"]), str(header["text"])),
            engine=engine,
            spec=whole,
            slots=slots,
        )
    except wire.FrameError as error:
        raise LoadFailedError(f"{worker.model} could not be loaded: {error}", subject=worker.model) from error
    if answer["op"] == "error":
        verdict = Verdict("out_of_memory", f"The engine raised {answer['type']}: {answer['text']}")
        raise load_error(answer, worker.model, engine, worker.python, worker.report(None, verdict))
    return dict(answer["result"] or {})


class Answer:
    """One answer on its way; the route of its frames.

    Args:
        runner: Whose it is.
    """

    doing = "generate"

    def __init__(self, runner: ProcessRunner) -> None:
        self._runner, self._loop = runner, asyncio.get_running_loop()
        self._items: deque[Piece | Ended | XprimError] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._came = 0
        self.over: asyncio.Future[None] = self._loop.create_future()

    async def next(self) -> Piece | Ended:
        """What comes next.

        Raises:
            WorkerError: The worker is gone.
            GenerationFailedError: The engine raised.
        """
        while not self._items:
            self._waiting = self._loop.create_future()
            await self._waiting
        item = self._items.popleft()
        if isinstance(item, XprimError):
            raise item
        return item

    def take(self, header: dict[str, Any]) -> None:
        """A frame came."""
        if header["op"] == "chunk":
            self._came += 1
            self._put(Piece(_text(header["text"]), int(header["tokens"])))
        elif header["op"] == "done":
            self._runner.answered()
            self._end(_ended(header["ended"]))
        elif header["op"] == "error":
            self._end(self._runner.failed(header, retryable=not self._came))

    def fail(self, error: Callable[[bool], WorkerError]) -> None:
        """The worker is gone."""
        self._end(error(not self._came))

    def _end(self, item: Ended | XprimError) -> None:
        if not self.over.done():
            self.over.set_result(None)
            self._put(item)

    def _put(self, item: Piece | Ended | XprimError) -> None:
        self._items.append(item)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    return value


def _ended(words: Mapping[str, Any]) -> Ended:
    reason = words.get("reason", "stop")
    if reason not in get_args(FinishReason):
        raise ValueError(f"no answer ends by {reason!r:.80}")
    return Ended(
        reason,
        prompt_tokens=int(words.get("prompt_tokens", 0)),
        tokens=int(words.get("tokens", 0)),
        lora_s=float(words.get("lora_s", 0.0)),
        prefill_s=float(words.get("prefill_s", 0.0)),
        decode_s=float(words.get("decode_s", 0.0)),
    )


def _words(request: GenerateRequest, context_tokens: int) -> dict[str, object]:
    sampling = request.sampling
    return {
        "prompt": request.prompt,
        "messages": [{"role": each.role, "content": each.content} for each in request.messages],
        "max_tokens": sampling.max_tokens or context_tokens,  # no engine writes past its context
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "loras": [{"name": each.name, "path": each.path, "weight": each.weight} for each in request.loras],
    }


class ProcessRunner:
    """A `Runner` in a process. Made by `start_runner`; lives until `close`, or until its process ends.

    Args:
        worker: Which has loaded the model.
        result: What the engine said of it.
        options: How it was loaded.
        slots: Answers at once.
        can_park: Whether it can leave its accelerator.
    """

    def __init__(
        self, worker: Worker, result: Mapping[str, Any], options: LoadOptions, *, slots: int, can_park: bool
    ) -> None:
        self._worker, self._options, self._can_park = worker, options, can_park
        self.facts = dict(result)
        self._turns = asyncio.Semaphore(slots)
        self._wants = 0  # answers in a row that ended for want of memory
        self._steps = 0
        self._measured = self._measure(result.get("device_bytes"), worker.watch.sample())

    @property
    def pid(self) -> int:
        """Of its worker process."""
        return self._worker.pid

    @property
    def measured(self) -> Measured:
        """Memory it took when it had been loaded, parked or woken last."""
        return self._measured

    @property
    def context_tokens(self) -> int:
        """Room for prompt and answer that it was loaded with."""
        return int(self.facts.get("context_tokens") or self._options.context_tokens)

    @property
    def ended(self) -> asyncio.Future[CrashReport | None]:
        """Done when it is gone: None after `close`, a report after a crash. Cancelling it changes nothing."""
        return asyncio.shield(self._worker.ended)

    @property
    def health(self) -> Health:
        """`ready`, `suspect` (its reader is silent and it computes), or `hung`; as of the last question."""
        return self._worker.watch.health

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Ended, None]:
        """The answer, piece by piece, and `Ended` as the last; see `Runner.generate`.

        Raises:
            WorkerCrashedError, WorkerMemoryError, WorkerHungError: `retryable` only when no piece had come.
            GenerationFailedError: The engine raised; the model stays loaded.
        """
        worker, unread = self._worker, 0
        async with self._turns:
            answer = Answer(self)
            try:
                number = worker.open(
                    answer, "generate", request=_words(request, self.context_tokens), credits=wire.CREDITS
                )
            except wire.FrameError as error:
                raise GenerationFailedError(str(error), subject=worker.model) from error
            try:
                while not isinstance(item := await answer.next(), Ended):
                    yield item
                    unread += 1
                    if unread == _CREDIT_STEP:
                        worker.post("credit", number, count=unread)
                        unread = 0
            finally:
                if not answer.over.done():
                    await to_the_end(self._stop(number, answer))
                worker.shut(number)
        yield item  # outside of its turn: whoever reads no further holds nobody up

    async def _stop(self, number: int, answer: Answer) -> None:
        self._worker.post("cancel", number)
        if not (await asyncio.wait([answer.over], timeout=_CANCEL_S))[0]:
            await self._worker.condemned("hung", f"It did not stop within {_CANCEL_S:g} s of being told to.")

    def answered(self) -> None:
        """An answer went to its end."""
        self._wants = 0

    def failed(self, words: Mapping[str, Any], *, retryable: bool) -> XprimError:
        """The error of an answer that the engine ended by an exception; a worker in doubt is ended."""
        said = f"The engine raised {words['type']}: {words['text']}"
        verdict = Verdict("out_of_memory", said)
        error = generation_error(
            words, self._worker.model, self._worker.report(None, verdict), retryable=retryable
        )
        self._wants = self._wants + 1 if words["kind"] == "memory" else 0
        if words["poisoned"]:
            self._worker.kill("exception", f"Its device answers nothing after this. {said}")
        elif self._wants > 1:
            self._worker.kill("out_of_memory", f"Memory was wanting twice in a row. {said}")
        return error

    async def stats(self) -> WorkerStats:
        """Its own account of itself, within a second; what the system knows of it, where it does not answer.

        Raises:
            WorkerError: It has ended.
        """
        self._worker.watch.sample()
        told: Mapping[str, Any] = {}
        try:
            async with asyncio.timeout(_STATS_S):
                told = (await self._worker.ask("stats"))["stats"]
        except TimeoutError:
            pass  # `health` says what that means
        seen = self._worker.watch.sample()
        self._steps = int(told.get("steps", self._steps))
        measured = self._measure(told.get("device_bytes"), seen)
        return WorkerStats(self.pid, measured, seen.cpu_s if seen else 0.0, self._steps)

    def _measure(self, device_bytes: int | None, seen: Sample | None) -> Measured:
        host = seen.rss_bytes if seen else 0
        if device_bytes is None:
            return Measured(host, host, "rss")
        return Measured(int(device_bytes), host, "reported")

    async def park(self) -> Measured:
        """Leave the accelerator, keep the process; the result is the residue.

        Raises:
            UnsupportedModelError: It cannot.
            WorkerError: It failed, and the worker with it: the model may be half moved.
        """
        return await self._move("park")

    async def wake(self) -> Measured:
        """Come back to the accelerator.

        Raises:
            UnsupportedModelError: It cannot.
            WorkerError: It failed, and the worker with it.
        """
        return await self._move("wake")

    async def _move(self, op: str) -> Measured:
        worker = self._worker
        refusal = f"{worker.model} cannot leave its device and keep its process."
        if not self._can_park:
            raise UnsupportedModelError(refusal, subject=worker.model)
        answer = await worker.ask(op, "load", self._options.stall_timeout_s)
        if answer["op"] == "error":
            if answer["kind"] == "unsupported":
                raise UnsupportedModelError(refusal, subject=worker.model)
            cause: Any = "out_of_memory" if answer["kind"] == "memory" else "exception"
            raise await worker.condemned(cause, f"{op} failed by {answer['type']}: {answer['text']}")
        self._measured = self._measure((answer["result"] or {}).get("device_bytes"), worker.watch.sample())
        return self._measured

    async def close(self) -> None:
        """Unload: shutdown frame, 5 s, terminate, 1 s, kill, reap. Idempotent; ends what is being answered."""
        await self._worker.close()
