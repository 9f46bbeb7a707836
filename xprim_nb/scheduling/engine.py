"""The public face of the engine: name a model, get text; it is installed, loaded, queued for and unloaded on the way.

    async with Manager() as manager, open_engine(manager) as engine:
        reply = await engine.generate("demo/tiny-llama v2", "Once upon a time")
        print(reply.text, reply.stamp)

Source: spec 4; seeds/003.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from xprim_nb.errors import ConfigError, NotInstalledError, ProviderError, RateLimitedError, WorkerError
from xprim_nb.scheduling.answering import Limits as TimeLimits
from xprim_nb.scheduling.answering import Read, read
from xprim_nb.scheduling.asking import (
    DEFAULT,
    Asking,
    LoraWish,
    MessageLike,
    Timeout,
    build_request,
    check_priority,
    parse_loras,
)
from xprim_nb.scheduling.awake import Awake
from xprim_nb.scheduling.held import Grant, Held
from xprim_nb.scheduling.values import Reply, Timings
from xprim_nb.workers.contract import Backend
from xprim_nb.workers.values import GenerateRequest, InstallProgress, LoraChoice

__all__ = ["Engine"]

# A worker that died before its first token is replaced so often for one request; a third death is no accident.
_RETRIES = 2
# Waits before a server is asked again that said nothing of how long: 0.5 s, 1 s.
_PROVIDER_BACKOFF_S = 0.5
# A server that asks for more patience than this is told to the user instead.
_MAX_RETRY_AFTER_S = 10.0


class Engine(Awake):
    """Runs models. An async context manager: it owns their processes until left.

    For one loop. Several engines, in one process or in many, share the ledger and never take the same memory twice.

    Args:
        library: The models on this machine.
        settings: What models may use.
        events: Where `ResidencyChanged`, `WorkerFailed` and installations are told; a new hub when None.
        offline: Open no socket but to this machine.
        logger: Receives diagnostics.
        devices: Instead of what this machine has: simulated ones, say.
        backends: Instead of those that are found by entry point.
        label: What this process is, for whoever looks at the ledger: a notebook's name.
    """

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def generate(  # house: two thirds of it are its arguments and what they mean
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Sequence[MessageLike] | None = None,
        body: Mapping[str, object] | None = None,
        loras: Sequence[LoraWish] | str = (),
        priority: str = "default",
        max_tokens: int | None = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        stop: Sequence[str] | str = (),
        timeout: Timeout = DEFAULT,  # noqa: ASYNC109  # of the answer alone: not of the queue, nor of loading
        install: bool | None = None,
        stream: Callable[[str], object] | None = None,
        note: str = "",
        asking: Asking | None = None,
        **settings: object,
    ) -> Reply:
        """The answer to a prompt, or to messages.

        Args:
            model: `group/model version`, a directory, or `backend:name`.
            prompt: Continued as it is.
            messages: Laid out by the model's chat template: mappings with `role` and `content`.
            body: Instead of both: a request laid out for a server, which is sent as it stands.
            loras: LoRA layers, by name; `("name", weight)` or `"name*weight"` gives one another weight than 1.
            priority: `system`, `realtime`, `default` or `batch`.
            max_tokens: Most tokens of the answer; None until it ends by itself, its context is full or its time is over.
            temperature: 0 for the most likely token each time.
            top_p: See `Sampling`.
            top_k: See `Sampling`.
            seed: Same model, prompt, settings and seed: same text. One is made up and told when None.
            stop: The answer ends before any of these.
            timeout: Longest time of the answer, in seconds, counted from its turn; None for no limit.
            install: Whether it may be installed now; None for the setting.
            stream: Called with each piece of text, on the engine's loop.
            note: What asks: a cell, a command; shown in the timeline.
            asking: Where the progress is told.
            **settings: The backend's own (`dtype`, `context_tokens` …), which the model is loaded with.

        Raises:
            ConfigError, InvalidRefError: Something that was given cannot work.
            NotInstalledError, ModelNotFoundError, NetworkError, StorageError: It could not be installed.
            NoCapacityError, UnsupportedModelError, LoadFailedError: It could not be loaded.
            TimedOutError: A limit of time was passed.
            WorkerError, GenerationFailedError, ProviderError: It could not answer.
        """
        request = build_request(
            prompt,
            messages,
            body,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stop,
        )
        asking = asking or Asking(str(model))
        asking.on_text, asking.note = stream or asking.on_text, note
        check_priority(priority)
        wishes = parse_loras(loras)
        began = self._now()
        held = await self.ready(model, settings, asking, install=install, note=note)
        if wishes:
            request = replace(request, loras=await self._layers(held.backend, wishes, install=install))
        if body is not None and not held.backend.capabilities.takes_body:
            raise ConfigError(
                f"{model} takes no request that was laid out elsewhere: it runs here.",
                subject="body",
                hint="Give it a prompt or messages.",
            )
        installed_s = self._now() - began if asking.phase == "installing" else 0.0
        return await self._answer(
            held, request, priority, self._time_limits(timeout), asking, began, installed_s
        )

    async def _answer(
        self,
        held: Held,
        request: GenerateRequest,
        priority: str,
        limits: TimeLimits,
        asking: Asking,
        began: float,
        installed_s: float,
    ) -> Reply:
        for retries in range(_RETRIES + 1):
            grant, queued_s = await self._turn(held, priority, asking)
            try:
                done = await read(grant.runner, request, limits, asking)
            except (WorkerError, ProviderError) as error:
                if isinstance(error, WorkerError):
                    await self.scheduler.after_failure(grant, error)
                if not error.retryable or retries == _RETRIES or asking.tokens:
                    raise
                wait_s = _wait_before_retry(error, retries)
            else:
                held.served += 1
                timings = _timings(grant, done, installed_s, queued_s, self._now() - began)
                return self._reply(grant, request, done, asking, timings, retries)
            finally:
                self.scheduler.release(grant)
            await asyncio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _turn(self, held: Held, priority: str, asking: Asking) -> tuple[Grant, float]:
        """A turn with a model, and the seconds that this took."""
        began = self._now()
        asking.phase, asking.where = "queued", self.place_of

        def note_id(number: str) -> None:
            asking.request_id = number

        options = await self.options(held)
        grant = await self.scheduler.acquire(
            held,
            options,
            priority=priority,
            limit_s=self.settings.queue_timeout_s,
            on_id=note_id,
            note=asking.note,
        )
        return grant, self._now() - began

    async def _layers(
        self, backend: Backend, wishes: Sequence[tuple[str, float]], *, install: bool | None
    ) -> tuple[LoraChoice, ...]:
        found = []
        for name, weight in wishes:
            if backend.capabilities.lora == "server":
                found.append(LoraChoice(name, self.no_path, weight))
                continue
            local = await self.library.find(name)
            if local is None:
                allowed = self.settings.auto_install_models == "yes" if install is None else install
                if not allowed:
                    raise NotInstalledError(f"{name} is not installed.", subject=name)
                local = await self.library.install(name, _unheard)
            found.append(LoraChoice(local.name, local.path, weight, local.manifest_hash))
        return tuple(found)

    def _time_limits(self, timeout: Timeout) -> TimeLimits:
        total = self.settings.timeout_s if not isinstance(timeout, int | float | None) else timeout
        return TimeLimits(self.settings.first_token_timeout_s, self.settings.between_tokens_timeout_s, total)

    def _reply(
        self,
        grant: Grant,
        request: GenerateRequest,
        done: Read,
        asking: Asking,
        timings: Timings,
        retries: int,
    ) -> Reply:
        return Reply(
            text="".join(asking.pieces),
            model=grant.held.key,
            finish_reason=done.ended.reason,
            prompt_tokens=done.ended.prompt_tokens,
            tokens=done.ended.tokens or asking.tokens,
            timings=timings,
            seed=request.sampling.seed,
            worker_pid=grant.runner.pid,
            device=grant.option.device,
            degraded=grant.option.degraded,
            evicted=grant.evicted,
            loras=tuple(each.name for each in request.loras),
            retries=retries,
            usage=done.ended.usage,
            cut=_cut(done, request, grant),
            tool_calls=done.ended.tool_calls,
        )


def _unheard(progress: InstallProgress) -> None:  # house: nobody listens
    """A layer is a few hundred kilobytes: its progress is not shown."""


def _timings(grant: Grant, done: Read, install_s: float, queued_s: float, total_s: float) -> Timings:
    return Timings(
        install_s=install_s,
        queue_s=max(0.0, queued_s - grant.loading_s),
        load_s=grant.loading_s,
        lora_s=done.ended.lora_s,
        first_token_s=done.first_token_s,
        generate_s=done.total_s,
        total_s=total_s,
    )


def _cut(done: Read, request: GenerateRequest, grant: Grant) -> str:
    """By what an answer was cut, and what to do; empty where it was not, or a server's own limit did."""
    most = request.sampling.max_tokens
    if done.ended.reason != "length" or request.body is not None:
        return ""
    if done.limit_s is not None:
        return f"its {done.limit_s:g} s were over; give it more with timeout, or max_tokens"
    if most is not None and done.ended.tokens >= most:
        return f"max_tokens={most} was reached; give more"
    if grant.runner.pid is None:
        return ""
    context, longest = grant.runner.context_tokens, grant.held.facts.max_context_tokens
    more = "context_tokens is the setting of a longer one"
    if longest and context >= longest:
        more = "the model has no longer one, and a text of `stop` would end it before"
    return f"its context of {context:,} tokens was full; {more}"


def _wait_before_retry(error: WorkerError | ProviderError, retries: int) -> float:
    """Seconds before the next try; a worker's own back-off is the policy's.

    Raises:
        RateLimitedError: The server asks for more patience than a notebook has.
    """
    if isinstance(error, WorkerError):
        return 0.0
    if isinstance(error, RateLimitedError) and error.retry_after_s > _MAX_RETRY_AFTER_S:
        raise error
    told = error.retry_after_s if isinstance(error, RateLimitedError) else 0.0
    return told or _PROVIDER_BACKOFF_S * 2**retries
