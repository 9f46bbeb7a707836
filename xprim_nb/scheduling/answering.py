"""One answer of a loaded model, read piece by piece inside its limits of time.

Source: spec 4 §Workers ("Timeouts apart").
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from xprim_nb._text import format_count
from xprim_nb.errors import GenerationFailedError, TimedOutError
from xprim_nb.scheduling.asking import Asking
from xprim_nb.workers.contract import Runner
from xprim_nb.workers.values import Ended, GenerateRequest, Piece

__all__ = ["Limits", "Read", "read"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Longest times of one answer, in seconds; None for no limit."""

    first_token_s: float
    between_tokens_s: float
    total_s: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """A whole answer: how it ended, and the seconds to its first token and to its end.

    `limit_s` is the limit of time that cut it; None when none did.
    """

    ended: Ended
    first_token_s: float
    total_s: float
    limit_s: float | None = None


async def read(runner: Runner, request: GenerateRequest, limits: Limits, asking: Asking) -> Read:
    """Read an answer to its end; whatever ends it early, the model serves the next one.

    One that has no limit of tokens is cut by the limit of its whole time, as by one of tokens: what came is not thrown away.

    Raises:
        TimedOutError: A limit was passed; `phase` says which.
        WorkerError, GenerationFailedError, ProviderError: See `Runner.generate`.
    """
    began = time.monotonic()
    first: float | None = None
    asking.phase = "reading"
    stream = runner.generate(request)
    try:
        while True:
            try:
                item = await _next(stream, limits, began, first, asking)
            except TimedOutError as error:
                if error.phase != "total" or first is None or request.sampling.max_tokens is not None:
                    raise
                took = time.monotonic() - began
                return Read(Ended("length", tokens=asking.tokens), first, took, limits.total_s)
            if isinstance(item, Ended):
                took = time.monotonic() - began
                return Read(item, first if first is not None else took, took)
            if first is None:
                first = time.monotonic() - began
            asking.add(item.text, item.tokens)
    finally:
        await stream.aclose()


async def _next(
    stream: AsyncGenerator[Piece | Ended, None],
    limits: Limits,
    began: float,
    first: float | None,
    asking: Asking,
) -> Piece | Ended:
    phase = "first_token" if first is None else "between_tokens"
    limit = limits.first_token_s if first is None else limits.between_tokens_s
    if limits.total_s is not None and (left := limits.total_s - (time.monotonic() - began)) < limit:
        phase, limit = "total", max(0.0, left)
    try:
        async with asyncio.timeout(limit):
            return await anext(stream)
    except TimeoutError as error:
        raise _timed_out(phase, limits, asking) from error
    except StopAsyncIteration:
        raise GenerationFailedError(
            f"{asking.model} stopped answering without an end.", subject=asking.model
        ) from None


def _timed_out(phase: str, limits: Limits, asking: Asking) -> TimedOutError:
    came = format_count(asking.tokens, "token")
    match phase:
        case "first_token":
            told = f"gave no token for {limits.first_token_s:g} s"
        case "between_tokens":
            told = f"was silent for {limits.between_tokens_s:g} s after {came}"
        case _:
            told = f"was not done after {limits.total_s or 0:g} s and {came}"
    hint = "" if phase == "total" else f"`{phase}_timeout_s` is the setting."
    return TimedOutError(f"{asking.model} {told}.", subject=asking.model, hint=hint, phase=phase)
