"""The half of the room's owner that sends nothing: what would be sent, what it would cost, and what is wrong with it.

Source: spec 6 §Resolve, §Caches (`explain`, `lint_volatility`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias

from xprim_nb._threads import settled
from xprim_nb.errors import MissingExtraError, StorageError
from xprim_nb.prompts.answers import Cost, Usage
from xprim_nb.prompts.caches import Found
from xprim_nb.prompts.counting import Counting
from xprim_nb.prompts.inputs import input_of
from xprim_nb.prompts.kept import KeptPrompts
from xprim_nb.prompts.looking import look
from xprim_nb.prompts.mending import Mending, mending_of
from xprim_nb.prompts.models import Models
from xprim_nb.prompts.pricing import Rates, cost_of, rates
from xprim_nb.prompts.providers import provider_named
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.resolve import ResolvedScaffold, redacted, resolve_scaffold
from xprim_nb.prompts.telemetry import Telemetry, record_of_resolving
from xprim_nb.prompts.values import ResolveInput
from xprim_nb.prompts.volatility import Finding, lint_volatility
from xprim_nb.prompts.xray import Explanation

__all__ = ["ResolvingPrompts", "Said"]

Said: TypeAlias = str | ResolveInput | Mapping[str, Any]
"""A turn, or all of what is asked; see `input_of`."""


class ResolvingPrompts(KeptPrompts):
    """See `Prompts`, which opens and closes what these verbs need."""

    _models: Models | None
    _now: Callable[[], datetime]
    _rulepacks: tuple[str, ...]
    _redactor: Redactor
    _counting: Counting
    telemetry: Telemetry

    async def resolve(self, prompt: Said, *, checkpoint: str = "", **fields: Any) -> ResolvedScaffold:
        """What would be sent for what is asked, its tokens and its price, and whether an answer is kept. Asks nobody.

        Args:
            prompt: The turn, or all of it; see `input_of`.
            checkpoint: The checkpoint that it belongs to, for the record.
            **fields: Fields of `ResolveInput`.

        Raises:
            ConfigError: It cannot be sent; the message names what.
        """
        at_s, began = self.caches.now(), time.perf_counter()
        asked = await self._pinned(input_of(prompt, **fields), install=False)
        await self._learn_to_count(asked)
        resolved = self._resolve(asked)
        held, rendered = await self._looked_up(resolved)
        took_s = time.perf_counter() - began
        self.telemetry.record(
            record_of_resolving(resolved, at_s, took_s, checkpoint=checkpoint, known=rendered)
        )
        return replace(resolved, cache_hit=held)

    async def explain(self, prompt: Said, **fields: Any) -> Explanation:
        """The X-ray: whether the answer is kept and why not, what the provider has of the prompt, where that breaks.

        Args:
            prompt: The turn, or all of it; see `input_of`.
            **fields: Fields of `ResolveInput`.

        Raises:
            ConfigError, PromptError: It cannot be sent; the message names what.
            StorageError: The caches cannot be read.
        """
        asked = await self._pinned(input_of(prompt, **fields), install=False)
        await self._learn_to_count(asked)
        resolved = self._resolve(asked)
        rendered, missed = resolved.rendered, None
        held, _ = await self._looked_up(resolved)
        if not held:
            missed = await settled(
                self.caches.why_missed, resolved.request_hash, resolved.asked, rendered, Found()
            )
        return look(
            rendered,
            self._counting.segments(asked, rendered),
            await settled(self.caches.history, rendered.provider, rendered.model),
            self.caches.now(),
            self._rates(resolved),
            count=self._counting.of(asked),
            missed=missed,
        )

    async def lint(self, prompt: Said, **fields: Any) -> tuple[Finding, ...]:
        """What is volatile in the blocks of a prompt that should be kept: dates, ids, paths.

        Args:
            prompt: The turn, or all of it; see `input_of`.
            **fields: Fields of `ResolveInput`.

        Raises:
            ConfigError: It is no prompt.
        """
        return lint_volatility(redacted(input_of(prompt, **fields), self._redactor).blocks)

    async def mended(
        self, prompt: Said, findings: Sequence[Finding] | None = None, **fields: Any
    ) -> ResolveInput:
        """The prompt with what is volatile moved behind what is not; whether it still reads, its writer has to look.

        Args:
            prompt: The turn, or all of it; see `input_of`.
            findings: Those of `lint` to mend; all when None.
            **fields: Fields of `ResolveInput`.

        Raises:
            ConfigError: It is no prompt.
        """
        return (await self.mending(prompt, findings, **fields)).after

    async def mending(
        self, prompt: Said, findings: Sequence[Finding] | None = None, **fields: Any
    ) -> Mending:
        """What `mended` would change, beside what it is now; see there."""
        return mending_of(redacted(input_of(prompt, **fields), self._redactor), findings)

    async def _pinned(self, asked: ResolveInput, *, install: bool) -> ResolveInput:
        return asked if self._models is None else await self._models.pinned(asked, install=install)

    async def _learn_to_count(self, asked: ResolveInput) -> None:
        if not self._counting.knows(asked):
            own = None if self._models is None else await self._models.counter(asked)
            await self._counting.learn(asked, own)

    def _resolve(self, asked: ResolveInput) -> ResolvedScaffold:
        resolved = resolve_scaffold(
            asked,
            redact=self._redactor,
            count=self._counting.of(asked),
            price=self._price,
            known_rulepacks=self._rulepacks,
        )
        total = self._counting.whole(asked, resolved.rendered, resolved.segment_tokens)
        if total is None:
            return resolved
        cost = self._price(resolved.asked, Usage(input_tokens=total.count, reported=False))
        return replace(resolved, token_count=total.count, token_bound=total.error_tokens, estimated_cost=cost)

    async def _looked_up(self, resolved: ResolvedScaffold) -> tuple[bool | None, bool | None]:
        """Whether an answer is kept, and what is sent; None where the cache cannot be read, which costs its use alone."""
        try:
            return await settled(self.caches.holds, resolved.request_hash, resolved.rendered.renderer)
        except StorageError:
            return None, None

    def _price(self, asked: ResolveInput, usage: Usage) -> Cost | None:
        own = provider_named(asked.provider).price
        if own is not None:
            return own(asked.model, usage)
        with contextlib.suppress(MissingExtraError):  # an answer without a price is an answer
            found = cost_of(usage, asked.provider, asked.model, at=self._now(), endpoint=asked.endpoint)
            return found.cost
        return None

    def _rates(self, resolved: ResolvedScaffold) -> Rates | str:
        try:
            return rates(
                resolved.rendered.provider,
                resolved.rendered.model,
                at=self._now(),
                input_tokens=resolved.token_count or 0,
                endpoint=resolved.asked.endpoint,
            )
        except MissingExtraError as error:
            return f"{error.message} {error.hint}"
