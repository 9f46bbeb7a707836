"""One model of a server, as a `Runner`: it keeps stop texts, counts, and ends what is being answered on `close`.

Source: `xprim_nb.workers.contract.Runner`; STYLE rule 11.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from xprim_nb.errors import ProviderError, UnsupportedModelError, XprimError
from xprim_nb.workers.backends.failures import broken_failure, closed_failure
from xprim_nb.workers.backends.stops import StopText
from xprim_nb.workers.values import CrashReport, Ended, GenerateRequest, Measured, Piece, WorkerStats

__all__ = ["RemoteRunner", "Served", "Talk"]

_log = logging.getLogger("xprim_nb.workers")

# As long as a worker of ours has to shut down.
_UNLOAD_S = 5.0
_NOTHING = Measured(0, 0, "reported")

Talk: TypeAlias = Callable[[GenerateRequest], AsyncGenerator[Piece | Ended, None]]
"""Asks the server; what goes wrong is raised as ours, `retryable` as if nothing had been sent. Without an `Ended` at its
end the answer broke off."""


@dataclass(frozen=True, slots=True)
class Served:
    """One loaded model, as its runner needs it.

    Attributes:
        model: Its name.
        where: The server, fit to be shown.
        context_tokens: Room for prompt and answer.
        talk: Asks it.
        unload: Called once, when the runner closes.
        sleep: Makes the server leave its accelerator; None where it cannot.
        wake: Brings it back.
    """

    model: str
    where: str
    context_tokens: int
    talk: Talk
    unload: Callable[[], Awaitable[None]] | None = None
    sleep: Callable[[], Awaitable[None]] | None = None
    wake: Callable[[], Awaitable[None]] | None = None


class _Answer:
    """One answer under way. Whoever reads it can be stopped by another task, with an error that says why."""

    def __init__(self, source: AsyncGenerator[Piece | Ended, None]) -> None:
        self._source = source
        self._reading: asyncio.Timeout | None = None
        self._error: ProviderError | None = None
        self._ending, self._over = asyncio.Lock(), asyncio.Event()

    async def next(self) -> Piece | Ended | None:
        """What comes next; None when the source ended without a word."""
        item: Piece | Ended | None = None
        try:
            if self._error is None:
                async with asyncio.timeout(None) as self._reading:
                    item = await anext(self._source, None)
        except TimeoutError:
            if self._error is None:
                raise
        finally:
            self._reading = None
        if self._error is not None:  # also when something came at the same moment: `stop` waits for `finish`
            raise self._error
        return item

    async def finish(self) -> None:
        """Let go of the connection. Idempotent."""
        try:
            async with self._ending:
                await self._source.aclose()
        finally:
            self._over.set()

    async def stop(self, error: ProviderError) -> None:
        """Make `next` raise the error; when this returns, the connection is let go of."""
        self._error = error
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())
            await self._over.wait()
        else:  # whoever reads is busy elsewhere, and may never come back
            await self.finish()


class RemoteRunner:
    """See `xprim_nb.workers.contract.Runner`."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._live: set[_Answer] = set()
        self._closing: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[CrashReport | None] = asyncio.get_running_loop().create_future()
        self._steps = 0

    def __repr__(self) -> str:
        return f"RemoteRunner({self._served.model!r}, {self._served.where!r})"

    @property
    def pid(self) -> int | None:
        """None: it runs elsewhere."""
        return None

    @property
    def measured(self) -> Measured:
        """Nothing: it needs no memory here."""
        return _NOTHING

    @property
    def context_tokens(self) -> int:
        """Room for prompt and answer."""
        return self._served.context_tokens

    @property
    def ended(self) -> asyncio.Future[CrashReport | None]:
        """Done after `close`; a caller that is cancelled while it waits does not cancel it."""
        return asyncio.shield(self._ended)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Ended, None]:
        """See `Runner.generate`.

        Raises:
            ProviderError: The server refused, broke off, or this was closed; `retryable` only when no piece had come.
            NotInstalledError: The server has the model no more.
            GenerationFailedError, UnsupportedModelError: It cannot be asked so.
        """
        if self._closing is not None:
            raise closed_failure(self._served.where, self._served.model)
        answer, stops = _Answer(self._served.talk(request)), StopText(request.sampling.stop)
        self._live.add(answer)
        ended: Ended | None = None
        tokens = 0
        try:
            while ended is None:
                item = await answer.next()
                if isinstance(item, Ended):
                    ended = item
                elif stops.met and (item is None or item.text):
                    ended = Ended("stop")  # the server does not know this stop text, and would go on
                elif item is None:
                    raise broken_failure(self._served.where, self._served.model)
                elif not stops.met:
                    tokens, self._steps = tokens + item.tokens, self._steps + item.tokens
                    yield Piece(stops.feed(item.text), item.tokens)
        except ProviderError as error:
            error.retryable = error.retryable and not tokens
            raise
        finally:
            self._live.discard(answer)
            await answer.finish()
        if rest := stops.rest():
            yield Piece(rest, 0)
        yield replace(ended, reason="stop" if stops.met else ended.reason, tokens=ended.tokens or tokens)

    async def stats(self) -> WorkerStats:
        """Tokens that have come; there is no process to account for, so `pid` is 0."""
        return WorkerStats(pid=0, measured=_NOTHING, steps=self._steps)

    async def park(self) -> Measured:
        """Make the server leave its accelerator; nothing of that is counted here.

        Raises:
            UnsupportedModelError: It cannot.
            ProviderError: It did not.
        """
        if self._served.sleep is None:
            raise UnsupportedModelError(
                f"{self._served.where} cannot park a model.",
                subject=self._served.model,
                hint="vLLM can, started with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1.",
            )
        await self._served.sleep()
        return _NOTHING

    async def wake(self) -> Measured:
        """Bring it back.

        Raises:
            ProviderError: The server did not.
        """
        if self._served.wake is not None:
            await self._served.wake()
        return _NOTHING

    async def close(self) -> None:
        """Unload. Idempotent; answers under way end with a ProviderError."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            for answer in tuple(self._live):
                with contextlib.suppress(XprimError):  # what the server still has to say is nobody's any more
                    await answer.stop(closed_failure(self._served.where, self._served.model))
            if self._served.unload is not None:
                async with asyncio.timeout(_UNLOAD_S):
                    await self._served.unload()
        except (XprimError, TimeoutError) as error:  # a server that is gone holds no model
            _log.warning(
                "A model was not unloaded.", extra={"model": self._served.model, "error": str(error)}
            )
        finally:
            self._ended.set_result(None)
