"""One question's account with the caches: why it was missed, what its provider's cache should do, what is kept of it.

Source: spec 6 §Caches, §Telemetry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from xprim_nb._hashing import Digest
from xprim_nb.errors import MissingExtraError, StorageError
from xprim_nb.prompts.answers import Answer
from xprim_nb.prompts.caches import KEPT, Caches, Call, CallPart, Found, MissReason, redacted_answer
from xprim_nb.prompts.flight import Seat
from xprim_nb.prompts.prefix import Sent, predict
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.resolve import ResolvedScaffold
from xprim_nb.prompts.rules import CacheRule, cache_rule
from xprim_nb.prompts.turns import OnWait
from xprim_nb.prompts.values import ResolveInput

__all__ = ["Account", "Question", "quietly", "told"]

_T = TypeVar("_T")
_log = logging.getLogger("xprim_nb.prompts")

# How often a rotation is considered: each reads all rows' sizes, a few milliseconds for ten thousand.
_KEPT_PER_ROTATION = 200


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what the look-up said of it.

    Attributes:
        asked: Without secrets.
        request: Its hash.
        found: What lies in the cache.
        trouble: Why the cache could not be read; empty when it could.
        checkpoint: The checkpoint that it belongs to.
        on_wait: Told why it waits for another process.
        seat: Its place in the flight.
    """

    asked: ResolveInput
    request: Digest
    found: Found
    trouble: str
    checkpoint: str
    on_wait: OnWait | None = None
    seat: Seat = field(default_factory=Seat)


class Account:
    """What the caches say of a call before it is sent, and keep of it after. Its thread is ended by its owner.

    Args:
        caches: What was asked before.
        redact: Takes secrets out of the answers that are stored.
    """

    def __init__(self, caches: Caches, redact: Redactor) -> None:
        self.caches, self._redact = caches, redact
        # One thread: SQLite has one writer anyway, and each thread would have a connection of its own.
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="xprim-prompts")
        self._kept = 0

    async def reason(self, question: Question, resolved: ResolvedScaffold) -> MissReason:
        """Why it is not answered from the cache."""
        if question.asked.cache in ("bypass", "refresh"):
            return MissReason("bypass" if question.asked.cache == "bypass" else "refresh")
        if question.trouble:
            return MissReason("unavailable", detail=question.trouble)
        try:
            return await self.aside(
                lambda: self.caches.why_missed(
                    question.request, question.asked, resolved.rendered, question.found
                )
            )
        except (StorageError, MissingExtraError) as error:
            return MissReason("unavailable", detail=told(error))

    async def before(self, question: Question, resolved: ResolvedScaffold) -> Call:
        """What the record of prefixes will say, but for the answer."""
        call = _call_of(question, resolved, self.caches.now())
        # Names are not searched for secrets before they are sent; these two are the user's own, and are stored.
        kind, checkpoint = self._redact.text(call.scaffold_type), self._redact.text(call.checkpoint)
        call, rule = (
            replace(call, scaffold_type=kind, checkpoint=checkpoint),
            cache_rule(call.provider, call.model),
        )
        history: tuple[Sent, ...] = ()
        if rule is not None and resolved.segment_tokens:
            with contextlib.suppress(StorageError, MissingExtraError):  # told with the reason of the miss
                history = await self.aside(lambda: self.caches.history(call.provider, call.model))
        return call if rule is None else _predicted(call, resolved, rule, history)

    def keep(self, question: Question, resolved: ResolvedScaffold, answer: Answer | None, sent: Call) -> str:
        """Why the answer is not kept; empty when it is. Runs in the writer's thread."""
        try:
            kept = None if answer is None else redacted_answer(answer, self._redact)
            self.caches.keep(question.request, question.asked, resolved.rendered, kept, sent)
        except StorageError as error:
            return told(error)
        except (TypeError, ValueError) as error:
            return f"It cannot be stored: {error}"
        self._kept += 1
        if self._kept % _KEPT_PER_ROTATION == 0:
            quietly(self.caches.rotate)
        if sent.finish in KEPT:
            return ""
        cut = f": {answer.cut}" if answer is not None and answer.cut else ""
        return f"It ended with {sent.finish!r}{cut}."

    async def aside(self, work: Callable[[], _T]) -> _T:
        """What the work returns, done on the caches' thread."""
        return await asyncio.get_running_loop().run_in_executor(self.writer, work)


def _call_of(question: Question, resolved: ResolvedScaffold, now_s: float) -> Call:
    """What is sent, but for the answer and for what its provider keeps."""
    rendered = resolved.rendered
    tokens = resolved.segment_tokens or (0,) * len(rendered.segments)
    parts = tuple(
        CallPart(each.kind, each.label, each.hash, prefix, count, each.volatility, each.breakpoint)
        for each, prefix, count in zip(rendered.segments, rendered.prefixes, tokens, strict=True)
    )
    return Call(
        request=question.request,
        provider=rendered.provider,
        model=rendered.model,
        at=now_s,
        renderer=rendered.renderer,
        parts=parts,
        ttl=question.asked.prefix_ttl,
        scaffold_type=question.asked.scaffold_type,
        checkpoint=question.checkpoint,
    )


def _predicted(call: Call, resolved: ResolvedScaffold, rule: CacheRule, history: tuple[Sent, ...]) -> Call:
    """The same with what its provider's cache should read and write, as far as its tokens are counted."""
    rendered, tokens = resolved.rendered, resolved.segment_tokens
    sent = Sent.of(rendered, tokens or (0,) * len(rendered.segments), rule, call.at)
    call = replace(call, scope=sent.scope, marks=sent.marks, looked=sent.looked)
    if not tokens:
        return call
    found = predict(rendered, tokens, history, call.at, rule)
    written = found.write_5m_tokens + found.write_1h_tokens
    return replace(call, predicted_read_tokens=found.read_tokens, predicted_write_tokens=written)


def told(error: StorageError | MissingExtraError) -> str:
    """An error of the caches, with what to do."""
    return f"{error.message} {error.hint}"


def quietly(work: Callable[[], object]) -> None:
    """Do what nobody waits for."""
    try:
        work()
    except StorageError as error:  # nobody waits for this, and it is tried again
        _log.warning("the prompts' cache: %s", error.message)
