"""How many tokens the prompts for each model are: by the model's own tokenizer, or estimated and corrected by usage.

A model is learned once for each process. What providers told of earlier calls lies in the record of calls, so that nothing
else has to be kept: the correction is made of it anew.

Source: spec 6 §Resolve (token counts, calibrated from returned usage).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from xprim_nb._threads import settled
from xprim_nb.errors import MissingExtraError, StorageError
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.caches import Caches
from xprim_nb.prompts.calibration import Calibration
from xprim_nb.prompts.providers import provider_named
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.tokens import Counter, TokenCount, counter_for
from xprim_nb.prompts.values import ResolveInput

__all__ = ["CountTokens", "Counting"]


class CountTokens(Protocol):
    """Counts as one model does, exactly."""

    def __call__(self, text: str, /) -> int:
        """Tokens of a part."""
        ...

    def whole(self, body: Mapping[str, Any], /) -> int:
        """Tokens of all that is sent, with what the model puts around it.

        Raises:
            PromptError: The model cannot read it.
        """
        ...


class Counting:
    """Counts, for the models that it has learned. Belongs to one event loop.

    Args:
        caches: What providers told of earlier calls.
    """

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._exact: dict[tuple[str, str, str], CountTokens] = {}
        self._calibration = Calibration()

    def knows(self, asked: ResolveInput) -> bool:
        """Whether the model of a request was learned."""
        return _model_of(asked) in self._counters

    async def learn(self, asked: ResolveInput, own: CountTokens | None) -> None:
        """Learn to count as the model of a request does.

        Args:
            asked: The request.
            own: The model's own count; None for whatever is known of it, corrected by usage.
        """
        if own is not None:
            self._exact[_model_of(asked)] = own
            self._counters[_model_of(asked)] = _exactly(own)
            return
        counter: Counter | None = _plugged(asked)
        if counter is None:
            counter = await settled(counter_for, asked.provider, asked.model)
        method = counter("").method
        calibration = self._calibration
        with contextlib.suppress(StorageError, MissingExtraError):  # without the record nothing is corrected
            for call in await settled(self._caches.calls, asked.provider, asked.model):
                counted = TokenCount(sum(part.tokens for part in call.parts), method)
                if call.usage is not None:
                    calibration = calibration.after(asked.provider, asked.model, counted, call.usage)
        self._calibration, self._counters[_model_of(asked)] = calibration, counter

    def of(self, asked: ResolveInput) -> Counter | None:
        """The count of a text, before any correction; None of a model that was not learned."""
        return self._counters.get(_model_of(asked))

    def segments(self, asked: ResolveInput, rendered: Rendered) -> Sequence[TokenCount]:
        """The count of each segment; empty of a model that was not learned."""
        counter = self.of(asked)
        return [counter(each.text) for each in rendered.segments] if counter is not None else ()

    def whole(self, asked: ResolveInput, rendered: Rendered, segments: Sequence[int]) -> TokenCount | None:
        """Tokens of all that is sent, as well as they are known; None where nobody counted.

        Raises:
            PromptError: The model cannot read it.
        """
        exact, counter = self._exact.get(_model_of(asked)), self.of(asked)
        if exact is not None:
            # What stands between the parts counts too, and a token may span two of them.
            return TokenCount(exact.whole(rendered.body), "tokenizer")
        if counter is None or not segments:
            return None
        total = sum(
            map(counter, (each.text for each in rendered.segments)), TokenCount(0, counter("").method)
        )
        return self._calibration.corrected(asked.provider, asked.model, total)

    def told(self, asked: ResolveInput, segments: Sequence[int], usage: Usage) -> None:
        """Learn from what the provider told of an answer."""
        counter = self.of(asked)
        if counter is None or _model_of(asked) in self._exact or not segments:
            return
        counted = TokenCount(sum(segments), counter("").method)
        self._calibration = self._calibration.after(asked.provider, asked.model, counted, usage)

    def says(self, asked: ResolveInput) -> str:
        """How well a model is counted, as people read it."""
        if _model_of(asked) in self._exact:
            return "counted by the model's own tokenizer"
        return self._calibration.says(asked.provider, asked.model)


def _exactly(own: CountTokens) -> Counter:
    return lambda text: TokenCount(own(text), "tokenizer")


def _plugged(asked: ResolveInput) -> Counter | None:
    """A plug-in's own count; it does not say how good that is."""
    estimate = provider_named(asked.provider).estimate
    if estimate is None:
        return None
    return lambda text: TokenCount(estimate(asked.model, text), asked.provider)


def _model_of(asked: ResolveInput) -> tuple[str, str, str]:
    return asked.provider, asked.model, asked.endpoint
