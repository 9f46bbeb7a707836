"""Logits come in, one token goes out; the same seed gives the same tokens.

The order of the filters is transformers': temperature, top_k, top_p.

Source: spec 4 §Workers ("seeds honoured").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .tensorfiles import Float32

__all__ = ["Sampler"]

_Float64: TypeAlias = npt.NDArray[np.float64]


class Sampler:
    """Chooses the tokens of one answer.

    Args:
        request: `temperature` (0.0: always the likeliest), `top_k` (0: all), `top_p` (1.0: all) and `seed`.

    Raises:
        ValueError: One of them is out of its range; the message names it.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._temperature = _number(request, "temperature", 0.0, math.inf)
        self._top_p = _number(request, "top_p", 0.0, 1.0, 1.0)
        top_k = request.get("top_k") or 0
        if type(top_k) is not int or top_k < 0:
            raise ValueError(f"top_k is {top_k!r:.40}, and must be a whole number, 0 for all tokens.")
        self._top_k = top_k
        # A negative seed is as good as another: it names a place in the generator's 64 bits.
        self._generator = np.random.Generator(np.random.PCG64(int(request.get("seed") or 0) % (1 << 64)))

    def choose(self, logits: Float32) -> int:
        """The next token.

        Args:
            logits: Scores of each token, `(vocabulary,) float32`.
        """
        if self._temperature == 0:
            return int(logits.argmax())
        total = np.cumsum(self.chances(logits))
        # The last sum differs from 1 by rounding; what is drawn lies below it, or no token would be there.
        drawn = min(self._generator.random() * total[-1], np.nextafter(total[-1], 0))
        return int(np.searchsorted(total, drawn, side="right"))

    def chances(self, logits: Float32) -> _Float64:
        """The probability of each token at a temperature above 0, `(vocabulary,) float64`; filtered ones have 0."""
        scores = logits.astype(np.float64)
        scores -= scores.max()
        with np.errstate(over="ignore"):  # at a temperature near 0 all but the likeliest are infinitely far
            scores /= self._temperature
        if 0 < self._top_k < len(scores):
            scores[scores < np.partition(scores, -self._top_k)[-self._top_k]] = -np.inf
        found = np.exp(scores)
        found /= found.sum()
        if self._top_p < 1:
            order = np.argsort(-found, kind="stable")
            # Those before a token that already make up top_p leave it out; the first stays in any case.
            before = np.cumsum(found[order]) - found[order]
            beyond = before >= self._top_p
            beyond[0] = False
            found[order[beyond]] = 0
            found /= found.sum()
        return found


def _number(request: Mapping[str, Any], key: str, least: float, most: float, default: float = 0.0) -> float:
    value = request.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{key} is {value!r:.40}, and must be from {least} to {most}.")
    if math.isinf(value):
        raise ValueError(f"{key} is infinite.")
    return float(value)
