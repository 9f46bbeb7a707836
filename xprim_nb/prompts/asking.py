"""The flow of a question: redact, look up, resolve, join equal ones in flight, generate, keep.

The room knows no model: whoever answers is handed in with each question.

Source: spec 6 §Caches; seeds/001 (PromptCache.execute).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeAlias

from xprim_nb.errors import MissingExtraError, NotCachedError, StorageError
from xprim_nb.prompts.answers import Answer, Cost, Finish, Generate, OnText
from xprim_nb.prompts.asked import Asked, OnCall, Passed
from xprim_nb.prompts.caches import Caches, Call, Found, MissReason
from xprim_nb.prompts.caches.leases import Wish
from xprim_nb.prompts.calling import Account, Question, quietly, told
from xprim_nb.prompts.flight import Flights
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.resolve import PriceOf, ResolvedScaffold, redacted, resolve_scaffold
from xprim_nb.prompts.turns import OnWait, Turns
from xprim_nb.prompts.values import ResolveInput

__all__ = ["Asker", "Resolve"]

Resolve: TypeAlias = Callable[[ResolveInput], ResolvedScaffold]
"""What is sent for what is asked: `resolve_scaffold` with its settings."""

_log = logging.getLogger("xprim_nb.prompts")


@dataclass(frozen=True, slots=True)
class _Flown:
    """What a flight brings to all who wait for it."""

    answer: Answer
    resolved: ResolvedScaffold
    reason: MissReason
    cost: Cost | None
    not_kept: str
    sent: Call | None = None
    waited: str = ""
    is_theirs: bool = False
    """Another process has asked."""


class Asker:
    """Asks, through the caches. Belongs to one event loop; `async with` closes it, and leaves the caches open.

    Args:
        caches: What was asked before.
        redact: Takes secrets out of what is hashed, sent and stored, and of the answers that are stored.
        resolve: Makes what is sent; `resolve_scaffold` when None.
        price: Knows prices; no cost is told without it.
        on_call: Told each question that is over.
    """

    def __init__(
        self,
        caches: Caches,
        *,
        redact: Redactor | None = None,
        resolve: Resolve | None = None,
        price: PriceOf | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        self.caches, self._redact = caches, redact or Redactor()
        self._resolve = resolve or (lambda asked: resolve_scaffold(asked, redact=self._redact))
        self._price, self._on_call = price, on_call
        self._flights: Flights[_Flown] = Flights()
        self._account = Account(caches, self._redact)
        self._turns = Turns(caches.leases, self._account.writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what is in flight, write what waits."""
        await self._flights.close()
        with contextlib.suppress(StorageError):  # uses alone wait, and `Caches.close` tries again and tells
            await self._account.aside(self.caches.flush)
        self._account.writer.shutdown()

    async def ask(
        self,
        asked: ResolveInput,
        generate: Generate,
        *,
        on_text: OnText | None = None,
        on_wait: OnWait | None = None,
        checkpoint: str = "",
    ) -> Asked:
        """The answer, from the cache as `asked.cache` says, or generated and kept.

        A cache that cannot be read or written costs its use, never the answer.

        Args:
            asked: What is asked, whom, and how.
            generate: Who answers, if the cache does not.
            on_text: Told each piece of the answer; an answer from the cache, or of another process, is one piece.
            on_wait: Told while it waits for another process that asks the same; `bypass` waits for none.
            checkpoint: The checkpoint that the call belongs to.

        Raises:
            NotCachedError: `asked.cache` is `only`, and there is no answer; its reason says what differs.
            PromptError: It cannot be rendered.
            EngineError: Whoever answers could not; any other exception of `generate` is passed on too.
        """
        started = time.perf_counter()
        question = self._look_up(asked, checkpoint, on_wait)
        at_s = self.caches.now() if self._on_call else 0.0
        try:
            done = await self._answered(question, generate, on_text, started)
        except BaseException as error:
            self._tell(question, error, at_s, started)
            raise
        self._tell(question, done, at_s, started)
        return done

    def _tell(self, question: Question, result: Asked | BaseException, at_s: float, started: float) -> None:
        if self._on_call is None:
            return
        total_s = time.perf_counter() - started
        is_sent = question.seat.owns and question.seat.begun
        try:
            self._on_call(
                Passed(question.asked, question.request, question.checkpoint, result, at_s, total_s, is_sent)
            )
        except Exception:  # noqa: BLE001  # the answer is the user's, whoever fails to count it
            _log.exception("whoever counts questions failed at one")

    async def _answered(
        self, question: Question, generate: Generate, on_text: OnText | None, started: float
    ) -> Asked:
        looked_up_s = time.perf_counter() - started
        if question.found.answer is not None:
            return self._from_cache(question, question.found.answer, on_text, looked_up_s)
        if question.asked.cache == "only":
            reason = await self._account.reason(question, self._resolve(question.asked))
            raise NotCachedError(
                f"There is no cached answer. {reason.sentence}",
                subject=question.request,
                reason=reason.sentence,
            )
        key = _flight(question, self._flights)
        flown, joined = await self._flights.join(
            key, lambda told: self._generate(key, question, generate, told), on_text, question.seat
        )
        joined = joined or flown.is_theirs
        return Asked(
            answer=flown.answer,
            source="joined" if joined else "generated",
            request=question.request,
            asked=question.asked,
            resolved=flown.resolved,
            reason=flown.reason,
            cost=None if joined else flown.cost,
            not_kept=flown.not_kept,
            looked_up_s=looked_up_s,
            total_s=time.perf_counter() - started,
            sent=None if joined else flown.sent,
            waited=flown.waited,
        )

    async def ask_samples(
        self,
        asked: ResolveInput,
        generate: Generate,
        samples: int,
        *,
        on_wait: OnWait | None = None,
        checkpoint: str = "",
    ) -> tuple[Asked, ...]:
        """So many answers to one question, by index from `asked.sample_index` on: those that are kept are not asked for.

        All are waited for: one that fails loses none of the others, which are kept.

        Raises:
            ValueError: `samples` is below 1.
            NotCachedError: As `ask`.
            PromptError: As `ask`.
            EngineError: As `ask`; the first failure, by index.
        """
        if samples < 1:
            raise ValueError(f"{samples} samples cannot be asked for")
        indices = range(asked.sample_index, asked.sample_index + samples)
        each = [asked.model_copy(update={"sample_index": index}) for index in indices]
        done = await asyncio.gather(
            *(self.ask(one, generate, on_wait=on_wait, checkpoint=checkpoint) for one in each),
            return_exceptions=True,
        )
        answered = []
        for result in done:
            if isinstance(result, BaseException):
                raise result
            answered.append(result)
        return tuple(answered)

    def _look_up(self, asked: ResolveInput, checkpoint: str, on_wait: OnWait | None) -> Question:
        asked = redacted(asked, self._redact)
        request, found, trouble = request_hash(asked), Found(), ""
        if asked.cache in ("use", "only"):
            try:
                found = self.caches.look_up(request)
            except (StorageError, MissingExtraError) as error:
                trouble = told(error)
        return Question(asked, request, found, trouble, checkpoint, on_wait)

    def _from_cache(
        self, question: Question, answer: Answer, on_text: OnText | None, looked_up_s: float
    ) -> Asked:
        if self.caches.flush_due:
            self._account.writer.submit(quietly, self.caches.flush)
        if on_text is not None and answer.text:
            on_text(answer.text)
        return Asked(
            answer,
            "cache",
            question.request,
            question.asked,
            saved=self._cost(question.asked, answer),
            looked_up_s=looked_up_s,
            total_s=looked_up_s,
        )

    async def _generate(
        self, key: Hashable, question: Question, generate: Generate, on_text: OnText
    ) -> _Flown:
        """The answer of whoever asks: of this process, or of another that was first."""
        resolved = self._resolve(question.asked)
        reason = await self._account.reason(question, resolved)
        if question.asked.cache == "bypass" or question.trouble:
            return await self._sent(key, question, resolved, reason, generate, on_text)
        wish: Wish = "refresh" if question.asked.cache == "refresh" else "use"
        async with self._turns.of(question.request, wish, question.on_wait) as turn:
            if turn.answer is None:
                flown = await self._sent(key, question, resolved, reason, generate, on_text)
                return replace(flown, waited=turn.waited)
            if turn.answer.text:
                on_text(turn.answer.text)
            return _Flown(turn.answer, resolved, reason, None, "", waited=turn.waited, is_theirs=True)

    async def _sent(
        self,
        key: Hashable,
        question: Question,
        resolved: ResolvedScaffold,
        reason: MissReason,
        generate: Generate,
        on_text: OnText,
    ) -> _Flown:
        asked = question.asked
        call = await self._account.before(question, resolved)
        started = time.perf_counter()
        self._flights.begin(key)
        try:
            answer = await generate(asked, resolved.rendered, on_text)
        except BaseException as error:
            finish: Finish = "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
            if asked.cache != "bypass":
                failed = replace(call, finish=finish, latency_s=time.perf_counter() - started)
                self._account.writer.submit(self._account.keep, question, resolved, None, failed)
            raise
        cost = self._cost(asked, answer)
        done = replace(
            call,
            finish=answer.finish,
            usage=answer.usage if answer.usage.reported else None,
            latency_s=answer.latency_s or time.perf_counter() - started,
            first_token_s=answer.first_token_s,
            cost=str(cost.amount) if cost else "",
            cost_kind=cost.kind if cost else "",
        )
        if asked.cache == "bypass":
            return _Flown(answer, resolved, reason, cost, "The cache was not to be used.", done)
        # The answer is paid for: it is kept even when everybody who waited leaves now.
        keeping = self._account.aside(lambda: self._account.keep(question, resolved, answer, done))
        return _Flown(answer, resolved, reason, cost, await asyncio.shield(keeping), done)

    def _cost(self, asked: ResolveInput, answer: Answer) -> Cost | None:
        return None if self._price is None else self._price(asked, answer.usage)


def _flight(question: Question, flights: Flights[_Flown]) -> Hashable:
    """Which work in flight would do.

    1. `bypass` wants an answer of its own: it joins nobody, and nobody joins it.
    2. `refresh` wants one from now on: of those in flight, only another's `refresh` is.
    3. `use` is content with any.
    """
    wish = ("refresh", question.request)
    match question.asked.cache:
        case "bypass":
            return object()
        case "refresh":
            return wish
        case _:
            return wish if wish in flights else ("use", question.request)
