"""Scores come in, one token goes out: the same for the same seed, whatever ran before and wherever it runs.

Source: spec 4 §Workers ("seeds honoured"); the order of temperature, top_k and top_p is that of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers.generation import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

__all__ = ["Chooser"]

_GREEDY_BELOW = 1e-6  # scores divided by less leave the range of float32


class Chooser:
    """Chooses the tokens of one answer.

    Args:
        request: `temperature` (0.0: always the most likely), `top_k` (0: all), `top_p` (1.0: all) and `seed`.

    Raises:
        ValueError: One of them is out of its range; the message names it.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        temperature, top_p, top_k = request["temperature"], request["top_p"], request["top_k"]
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature is {temperature}, and must be 0.0 or above.")
        if not 0 <= top_p <= 1:
            raise ValueError(f"top_p is {top_p}, and must be from 0.0 to 1.0.")
        if top_k < 0:
            raise ValueError(f"top_k is {top_k}, and must be 0 or above.")
        self._warp: LogitsProcessorList | None = None
        if temperature >= _GREEDY_BELOW:
            steps = [TemperatureLogitsWarper(float(temperature))]
            steps += [TopKLogitsWarper(top_k)] if top_k else []
            steps += [TopPLogitsWarper(float(top_p))] if top_p < 1 else []
            self._warp = LogitsProcessorList(steps)
        # Drawn on the CPU: generators of other devices give other numbers for the same seed.
        self._generator = torch.Generator().manual_seed(request["seed"] % (1 << 63))

    def choose(self, ids: Any, scores: Any) -> int:
        """The next token.

        Args:
            ids: The tokens so far, `(1, tokens) int64`.
            scores: Of each token of the vocabulary, `(1, vocabulary) float32`.
        """
        if self._warp is None:
            return int(scores[0].argmax())
        chances = torch.softmax(self._warp(ids, scores)[0].cpu(), dim=-1)
        return int(torch.multinomial(chances, 1, generator=self._generator))
