"""The model and its training loop.

In: a recipe and batches. Out: a trained torch module and what it cost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from xprim_nb.demo.train.bytetokens import BOS_ID, EOS_ID, PAD_ID
from xprim_nb.demo.train.corpus import Rows
from xprim_nb.demo.train.recipe import Shape, Stage

log = logging.getLogger(__name__)

WARM_UP_SHARE = 0.04
"""Enough for Muon's and Adam's running averages to settle; longer only costs steps."""

Draw = Callable[[int, int], tuple[Rows, Rows]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one stage cost; `final_loss` is the mean of its last tenth, in nats/token."""

    steps: int
    tokens: int
    wall_s: float
    threads: int
    final_loss: float


def new_model(shape: Shape, *, seed: int) -> Any:
    """A freshly initialised float32 `LlamaForCausalLM` of this shape."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(llama_config(shape))


def llama_config(shape: Shape) -> Any:
    """The transformers configuration of this shape."""
    return LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=False,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )


def fit(model: Any, draw: Draw, stage: Stage) -> Figures:
    """Train every parameter of `model` that asks for a gradient, in place.

    Args:
        model: a causal language model whose weights are float32.
        draw: `(rows, length)` to ids and labels, each `(rows, length) int64`.
        stage: steps, batch and rates. Rates rise linearly, then fall linearly to zero.
    """
    optimisers = _optimisers(model, stage)
    peaks = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    losses: list[float] = []
    tokens = 0
    began = time.monotonic()
    model.train()
    for step in range(stage.steps):
        late = step >= stage.steps * (1 - stage.long_share)
        length = stage.long_context_tokens if late else stage.context_tokens
        ids, labels = (torch.from_numpy(rows) for rows in draw(stage.batch_tokens // length, length))
        factor = _rate_factor(step, stage.steps)
        groups = (group for optimiser in optimisers for group in optimiser.param_groups)
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * factor
        # bfloat16 activations, float32 weights: twice the speed where the CPU has bfloat16 dot products
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        tokens += ids.numel()
        if step % 50 == 0 or step == stage.steps - 1:
            log.info(
                "step %d of %d: loss %.3f, %.0f s",
                step + 1,
                stage.steps,
                losses[-1],
                time.monotonic() - began,
            )
    last = losses[-max(1, stage.steps // 10) :]
    return Figures(
        steps=stage.steps,
        tokens=tokens,
        wall_s=time.monotonic() - began,
        threads=torch.get_num_threads(),
        final_loss=float(np.mean(last)),
    )


def _rate_factor(step: int, steps: int) -> float:
    """The share of the peak rate at `step`, 0 to 1."""
    warm_up = max(1, round(steps * WARM_UP_SHARE))
    return min((step + 1) / warm_up, (steps - step) / (steps - warm_up + 1))


def _optimisers(model: Any, stage: Stage) -> list[Any]:
    """Muon for the blocks' matrices where the stage has a rate for it, AdamW for everything else."""
    matrices: list[Any] = []
    others: list[Any] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            muon = stage.matrix_lr > 0 and parameter.ndim == 2 and ".layers." in name
            (matrices if muon else others).append(parameter)
    optimisers: list[Any] = []
    if matrices:
        # after 120 steps of the base, Muon stood at 2.8 bits/byte of prose, AdamW alone at 3.4
        optimisers.append(
            torch.optim.Muon(matrices, lr=stage.matrix_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        )
    if others:
        optimisers.append(torch.optim.AdamW(others, lr=stage.other_lr, betas=(0.9, 0.98), weight_decay=0.01))
    return optimisers


def freeze_all_but(model: Any, parts: tuple[str, ...]) -> list[str]:
    """Freeze every parameter whose name contains none of `parts`; the names of those still training."""
    training: list[str] = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
        if parameter.requires_grad:
            training.append(name)
    return training
