"""The room's one owner: what is asked here is resolved, answered from the caches where it can be, and kept.

    async with Prompts(base / "prompts", generate=engine_answers) as prompts:
        first = await prompts.ask("Why is the sky blue?", provider="openai", model="gpt-5.6")
        again = await prompts.ask("Why is the sky blue?", provider="openai", model="gpt-5.6")
        assert again.hit

Whoever answers is handed in, and so is who knows the models: this room runs without any.

Source: seeds/001 (PromptCache); spec 6 §Resolve, §Caches, §Faces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xprim_nb._threads import settled
from xprim_nb.errors import ConfigError, StorageError
from xprim_nb.prompts.answers import Generate, OnText
from xprim_nb.prompts.asked import Asked
from xprim_nb.prompts.asking import Asker
from xprim_nb.prompts.caches import Caches, Limits
from xprim_nb.prompts.counting import Counting
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.inputs import input_of
from xprim_nb.prompts.key import redaction_key
from xprim_nb.prompts.models import ModelChangedError, Models
from xprim_nb.prompts.providers import provider_named
from xprim_nb.prompts.recorded import RecordedPrompts
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.resolve import redacted
from xprim_nb.prompts.resolving import ResolvingPrompts, Said
from xprim_nb.prompts.telemetry import Telemetry
from xprim_nb.prompts.turns import OnWait
from xprim_nb.prompts.values import ResolveInput

__all__ = ["Prompts"]

# An update between two looks at a model is an accident; two in a row are somebody's doing.
_TRIES = 2


class Prompts(ResolvingPrompts, RecordedPrompts):
    """Resolves and asks. Belongs to one event loop; an async context manager that owns its files until left.

    Args:
        folder: `<base>/prompts`; it is made, for this user alone.
        generate: Who answers where a provider's plug-in does not itself; None for nobody.
        models: Who knows the models; None where their names say all.
        secrets: Values by name that are taken out of whatever is said, besides what looks like a secret.
        limits: How much is kept.
        rulepacks: Names of those there are; when empty, none is checked.
        database: URL of the checkpoints' database; a file in the folder when empty.
        offline: Open no socket but to this machine: checkpoints of another one's database are then out of reach.
        now: The time, for prices.
    """

    def __init__(
        self,
        folder: Path,
        *,
        generate: Generate | None = None,
        models: Models | None = None,
        secrets: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        rulepacks: Collection[str] = (),
        database: str = "",
        offline: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.folder = folder
        self._generate, self._models, self._now = generate, models, now
        self._database, self._offline = database, offline
        self._secrets, self._limits, self._rulepacks = dict(secrets or {}), limits, tuple(rulepacks)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opened:
            self._redactor = Redactor(await settled(redaction_key, self.folder), self._secrets)
            self.caches = Caches(self.folder, limits=self._limits)
            self._counting = Counting(self.caches)
            opened.push_async_callback(settled, self.caches.close)
            self.telemetry = Telemetry(self.folder, redact=self._redactor)
            opened.push_async_callback(settled, self.telemetry.close)
            opened.push_async_callback(self.stop_export)
            self._asker = await opened.enter_async_context(
                Asker(
                    self.caches,
                    redact=self._redactor,
                    resolve=self._resolve,
                    price=self._price,
                    on_call=self.telemetry.observer(),
                )
            )
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    # --- verbs ----------------------------------------------------------------------------------

    async def ask(
        self,
        prompt: Said,
        *,
        on_text: OnText | None = None,
        on_wait: OnWait | None = None,
        generate: Generate | None = None,
        models: Models | None = None,
        checkpoint: str = "",
        **fields: Any,
    ) -> Asked:
        """The answer, from the cache as `cache` says, or generated and kept. Equal requests in flight are one call.

        That holds for those of all processes over the same folder: one asks, the others wait and are told so.

        Args:
            prompt: The turn, or all of it; see `input_of`.
            on_text: Told each piece of the answer, on this loop; an answer from the cache is one piece.
            on_wait: Told while another process is asking the same, and with an empty text when that is over.
            generate: Who answers, instead of the provider's plug-in or the one this was made with.
            models: Who knows the models, instead of the one this was made with.
            checkpoint: The checkpoint that the call belongs to.
            **fields: Fields of `ResolveInput`.

        Raises:
            ConfigError: It cannot be sent, or there is nobody to answer.
            NotCachedError: `cache` is `only`, and there is no answer; its reason says what differs.
            EngineError: Whoever answers could not.
        """
        said = input_of(prompt, **fields)
        asks = self._answering(said, generate)
        for left in reversed(range(_TRIES)):
            asked = await self._ready(said, models or self._models)
            try:
                return self._heard(
                    await self._asker.ask(
                        asked, asks, on_text=on_text, on_wait=on_wait, checkpoint=checkpoint
                    )
                )
            except ModelChangedError:
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def ask_samples(
        self,
        prompt: Said,
        *,
        samples: int,
        on_wait: OnWait | None = None,
        generate: Generate | None = None,
        models: Models | None = None,
        checkpoint: str = "",
        **fields: Any,
    ) -> tuple[Asked, ...]:
        """So many answers to one request, by `sample_index`; those that are kept are not generated again.

        Args:
            prompt: The turn, or all of it; see `input_of`.
            samples: How many, at least 1.
            on_wait: See `ask`.
            generate: See `ask`.
            models: See `ask`.
            checkpoint: See `ask`.
            **fields: Fields of `ResolveInput`.

        Raises:
            ConfigError, NotCachedError, EngineError: As `ask`; those that were answered are kept.
        """
        if samples < 1:
            raise ConfigError(f"samples is {samples}, and must be at least 1.", subject="samples")
        said = input_of(prompt, **fields)
        asks = self._answering(said, generate)
        for left in reversed(range(_TRIES)):
            asked = await self._ready(said, models or self._models)
            try:
                answered = await self._asker.ask_samples(
                    asked, asks, samples, on_wait=on_wait, checkpoint=checkpoint
                )
                return tuple(map(self._heard, answered))
            except ModelChangedError:
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    # --- parts ----------------------------------------------------------------------------------

    def _answering(self, asked: ResolveInput, generate: Generate | None) -> Generate:
        found = generate or provider_named(asked.provider).execute or self._generate
        if found is not None:
            return found
        raise ConfigError(
            f"There is nobody to answer for {asked.provider}.",
            subject=asked.provider,
            hint="Hand in `generate=`.",
        )

    async def _ready(self, said: ResolveInput, models: Models | None) -> ResolveInput:
        """The request as it is asked; where it will be sent, its model's tokens can be counted."""
        asked = said if models is None else await models.pinned(said, install=said.cache != "only")
        if not self._counting.knows(asked):
            # A tokenizer takes up to a second to read, which an answer from the cache need not wait for.
            held = False
            with contextlib.suppress(StorageError):  # whoever looks up next tells it
                held, _ = await settled(self.caches.holds, request_hash(redacted(asked, self._redactor)))
            if asked.cache not in ("use", "only") or not held:
                await self._learn_to_count(asked)
        return asked

    def _heard(self, answered: Asked) -> Asked:
        """What was answered, learned from."""
        if answered.source == "generated" and answered.resolved is not None:
            usage = answered.answer.usage
            self._counting.told(answered.asked, answered.resolved.segment_tokens, usage)
        return answered
