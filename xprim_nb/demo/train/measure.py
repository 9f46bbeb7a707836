"""What a model is worth: bits per byte on held-out text, and samples to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from xprim_nb.demo.train.bytetokens import EOS_ID, encode
from xprim_nb.demo.train.corpus import Domain

WINDOW_TOKENS = 512
"""Held-out text is scored in windows of this length, each without what came before it."""

WINDOWS = 128
"""Windows a domain: 64 kB of text gives a standard error of about 0.01 bits/byte."""

TEMPERATURE = 0.7
"""Of the samples in the cards: greedy prose circles, and above 0.9 the spelling goes."""

PROMPTS = ("The ", "def ", '{"name": ')


def bits_per_byte(model: Any, domains: Sequence[Domain]) -> dict[str, float]:
    """Mean bits a byte costs on each domain's held-out text, document ends included."""
    return {domain.name: _domain_bits(model, domain) for domain in domains}


@torch.no_grad()
def _domain_bits(model: Any, domain: Domain) -> float:
    model.eval()
    windows = min(WINDOWS, domain.held_out.size // WINDOW_TOKENS)
    ids = torch.from_numpy(domain.held_out[: windows * WINDOW_TOKENS].astype("int64")).view(
        windows, WINDOW_TOKENS
    )
    nats = 0.0
    for rows in torch.split(ids, 16):
        logits = model(input_ids=rows, use_cache=False).logits[:, :-1].float()
        nats += float(
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
        )
    scored_bytes = int((ids[:, 1:] < 256).sum())
    return nats / math.log(2) / scored_bytes


def mixture_bits(bits: Mapping[str, float], shares: Sequence[float]) -> float:
    """The weighted mean over the domains, in the recipe's shares."""
    return sum(value * share for value, share in zip(bits.values(), shares, strict=True)) / sum(shares)


@torch.no_grad()
def sample(model: Any, prompt: str, *, tokens: int = 200, temperature: float = 0.0, seed: int = 0) -> str:
    """The prompt and what the model makes of it, up to the end of the document.

    Args:
        model: a causal language model.
        prompt: at least one character.
        tokens: most bytes to add.
        temperature: 0 is greedy.
        seed: of the draws, where the temperature is above 0.
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    ids = torch.from_numpy(encode(prompt).astype("int64"))[None]
    state = None
    fresh = ids
    for _ in range(tokens):
        answer = model(input_ids=fresh, past_key_values=state, use_cache=True)
        state, logits = answer.past_key_values, answer.logits[0, -1].float()
        if temperature > 0:
            fresh = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)[None]
        else:
            fresh = logits.argmax()[None, None]
        if int(fresh) == EOS_ID:
            break
        ids = torch.cat([ids, fresh], dim=1)
    return bytes(value for value in ids[0].tolist() if value < 256).decode("utf-8", errors="replace")
