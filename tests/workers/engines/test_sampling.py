"""Tokens are drawn from the distribution that transformers draws from, and the same seed draws the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xprim_nb.workers.engines.sampling import Sampler

_LOGITS = np.random.default_rng(5).normal(0, 3, 50).astype(np.float32)


def _sampler(**request: Any) -> Sampler:
    return Sampler({"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 1, **request})


def test_no_temperature_takes_the_likeliest() -> None:
    """Temperature 0 is greedy, whatever else is set; of two that are alike it takes the first, as torch does."""
    assert _sampler(temperature=0, top_k=3, top_p=0.5).choose(_LOGITS) == int(_LOGITS.argmax())
    assert _sampler(temperature=0).choose(np.array([1, 2, 2], np.float32)) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.3},
        {"temperature": 2.5},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 500},
        {"top_p": 0.9},
        {"top_p": 0.05},
        {"top_p": 0.0},
        {"temperature": 1.7, "top_k": 20, "top_p": 0.8},
    ],
)
def test_chances_are_those_of_transformers(settings: dict[str, Any]) -> None:
    """Temperature, top_k and top_p, alone and together, leave the probabilities that transformers leaves."""
    torch = pytest.importorskip("torch")
    generation = pytest.importorskip("transformers.generation")
    scores = torch.tensor(_LOGITS)[None]
    scores = generation.TemperatureLogitsWarper(float(settings.get("temperature", 1.0)))(None, scores)
    if settings.get("top_k"):
        scores = generation.TopKLogitsWarper(settings["top_k"])(None, scores)
    if "top_p" in settings:
        scores = generation.TopPLogitsWarper(settings["top_p"])(None, scores)
    expected = torch.softmax(scores, -1)[0].numpy()
    found = _sampler(**settings).chances(_LOGITS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found > 0, expected > 0)


def test_tokens_come_as_often_as_their_chances_say() -> None:
    """Ten thousand draws have the frequencies of the distribution, and no filtered token is among them."""
    sampler = _sampler(top_k=6, temperature=2.0)
    chances = sampler.chances(_LOGITS)
    drawn = np.bincount([sampler.choose(_LOGITS) for _ in range(10_000)], minlength=50) / 10_000
    assert (drawn[chances == 0] == 0).all()
    np.testing.assert_allclose(drawn, chances, atol=0.02)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31, 2**64 + 5])
def test_a_seed_names_a_row_of_tokens(seed: int) -> None:
    """The same seed draws the same tokens again, and another draws others."""
    rows = []
    for each in (seed, seed, seed + 1):
        sampler = _sampler(seed=each)
        rows.append([sampler.choose(_LOGITS) for _ in range(40)])
    assert rows[0] == rows[1] != rows[2]


def test_the_end_of_the_range_is_a_token_that_may_come() -> None:
    """A draw just below 1 gives the last token with a chance, never one that was filtered."""

    class Last:
        def random(self) -> float:
            return float(np.nextafter(1, 0))

    sampler = _sampler(top_k=2)
    sampler._generator = Last()  # type: ignore[assignment]  # draws what is drawn once in 2**53 times
    logits = np.array([5, 4, 0, 0, 0], np.float32)
    assert sampler.choose(logits) == 1


def test_a_temperature_near_nothing_is_greedy() -> None:
    """Scores that leave the range of numbers are no error."""
    assert _sampler(temperature=1e-300).choose(_LOGITS) == int(_LOGITS.argmax())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "1"),
        ("top_p", 1.1),
        ("top_p", -0.1),
        ("top_k", -1),
        ("top_k", 2.5),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match=name):
        _sampler(**{name: value})
