"""What usage teaches about counting: by how much a provider's own count differs from ours, for each model.

A count of ours misses what a provider puts around the text, and an estimate misses the vocabulary besides. Each answer
tells the true number; after a few of them the next count is corrected, and its error is what the answers still scatter:
"±0.8 % over 120 calls". Values only: an update makes a new `Calibration`, which is kept and sent as JSON.

Source: spec 6 §Resolve; research/prompts §9 (8); Welford's and West's updates of a weighted variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from xprim_nb._text import format_count
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.tokens import TokenCount

__all__ = ["Calibration", "Learned"]

# Fewer say nothing of how much they scatter.
_ENOUGH: Final = 5
# An older call weighs less from here on: a provider that changes its vocabulary is followed within so many calls.
_WINDOW: Final = 200
# Of a normal spread, 19 in 20 lie within so many standard deviations.
_SIGMAS: Final = 1.96
_CORRECTED: Final = "calibrated:"


@dataclass(frozen=True, slots=True)
class Learned:
    """What the answers of one model said about one way of counting.

    Attributes:
        calls: How many.
        ratio: The provider's count for one of ours, on average.
        spread: Variance of that ratio.
    """

    calls: int = 0
    ratio: float = 1.0
    spread: float = 0.0

    def after(self, ratio: float) -> Learned:
        """With one answer more."""
        calls = self.calls + 1
        weight = 1 / min(calls, _WINDOW)
        off = ratio - self.ratio
        mean = self.ratio + weight * off
        return Learned(calls, mean, (1 - weight) * (self.spread + weight * off * off) if self.calls else 0.0)

    @property
    def error(self) -> float:
        """Within which part of a corrected count 19 in 20 of the next ones lie."""
        seen = min(self.calls, _WINDOW)
        if seen < 2 or self.ratio <= 0:
            return 1.0
        unbiased = self.spread * seen / (seen - 1)
        return _SIGMAS * math.sqrt(unbiased * (1 + 1 / seen)) / self.ratio


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learned, by provider, model and way of counting."""

    learned: Mapping[tuple[str, str, str], Learned] = field(default_factory=dict)

    def after(self, provider: str, model: str, counted: TokenCount, usage: Usage) -> Calibration:
        """With what one answer taught; unchanged by a usage that was not reported, and by counts of nothing.

        Args:
            provider: Who answered.
            model: As it was asked for.
            counted: What was counted before the call, of the whole prompt and before any correction.
            usage: What the provider told.
        """
        if not usage.reported or usage.input_tokens <= 0 or counted.count <= 0:
            return self
        if counted.method.startswith(_CORRECTED):
            raise ConfigError(
                "A corrected count was given to learn from, which would teach that there is nothing to correct.",
                subject=model,
                hint="Hand in the count as the counter made it.",
            )
        key = (provider, model, counted.method)
        known = self.learned.get(key, Learned())
        more = {**self.learned, key: known.after(usage.input_tokens / counted.count)}
        return Calibration(MappingProxyType(more))

    def corrected(self, provider: str, model: str, counted: TokenCount) -> TokenCount:
        """A count as the provider would make it, with the error that is left; unchanged until enough is known."""
        known = self.learned.get((provider, model, counted.method))
        if known is None or known.calls < _ENOUGH:
            return counted
        return TokenCount(round(counted.count * known.ratio), _CORRECTED + counted.method, known.error)

    def says(self, provider: str, model: str) -> str:
        """How well this model is counted, as people read it; of several ways of counting, the most used.

        >>> Calibration({("openai", "m", "estimate"): Learned(120, 1.04, 1.8e-5)}).says("openai", "m")
        '±0.8 % over 120 calls'
        """
        ways = [known for key, known in self.learned.items() if key[:2] == (provider, model)]
        known = max(ways, key=lambda each: each.calls, default=Learned())
        if known.calls < _ENOUGH:
            return f"not calibrated yet: {format_count(known.calls, 'call')} of {_ENOUGH}"
        return f"±{100 * known.error:.1f} % over {format_count(known.calls, 'call')}"

    def document(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [
            {
                "provider": provider,
                "model": model,
                "method": method,
                "calls": known.calls,
                "ratio": known.ratio,
                "spread": known.spread,
            }
            for (provider, model, method), known in sorted(self.learned.items())
        ]

    @classmethod
    def from_document(cls, document: list[dict[str, Any]]) -> Calibration:
        """From JSON.

        Raises:
            ConfigError: It is not what `document` makes.
        """
        try:
            read = {
                (str(row["provider"]), str(row["model"]), str(row["method"])): Learned(
                    int(row["calls"]), float(row["ratio"]), float(row["spread"])
                )
                for row in document
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"A calibration cannot be read: {error!r}", subject="calibration") from error
        return cls(MappingProxyType(read))
