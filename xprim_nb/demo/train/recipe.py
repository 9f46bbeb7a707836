"""Every number of a training run, frozen: the model's shape, the stages, the adapters."""

from __future__ import annotations

from dataclasses import dataclass, replace

BASE_REPO = "demo/tiny-llama"
"""The name the adapters give as their base; `group/model` in the demo registry."""

DOMAINS = ("prose", "python", "json")
"""The kinds of text, in the order in which tables list them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The architecture; with grouped-query attention, so that readers of Llama weights meet every case."""

    vocab_size: int = 259  # 256 bytes, then bos, eos, pad
    hidden_size: int = 192
    intermediate_size: int = 512
    layers: int = 4
    heads: int = 6
    key_value_heads: int = 2
    max_positions: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How long and how hard one stage trains.

    Args:
        steps: optimiser steps, at least 1.
        batch_tokens: tokens a step; split into rows of the current context.
        context_tokens: row length for most of the stage.
        long_share: share of the steps, at the end, whose rows have `long_context_tokens` (0 to 1).
        long_context_tokens: row length at the end, so that late positions are trained too.
        matrix_lr: peak Muon rate of the blocks' matrices (update matched to AdamW's RMS).
        other_lr: peak AdamW rate of everything else.
    """

    steps: int
    batch_tokens: int = 8192
    context_tokens: int = 256
    long_share: float = 0.0
    long_context_tokens: int = 1024
    matrix_lr: float = 0.0
    other_lr: float = 0.0

    def scaled(self, factor: float) -> Stage:
        """A stage of the same rates and `factor` times the steps, at least 2."""
        return replace(self, steps=max(2, round(self.steps * factor)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecipe:
    """One LoRA layer: the domain it pulls towards, its rank, its scale and its card's description."""

    domain: str
    rank: int
    alpha: int
    description: str
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run. The shares weigh the domains (they need not sum to 1)."""

    seed: int = 20_260
    shape: Shape = Shape()
    shares: tuple[float, float, float] = (0.45, 0.35, 0.20)  # in the order of DOMAINS
    base: Stage = Stage(steps=2200, long_share=0.15, matrix_lr=16e-3, other_lr=8e-3)
    refined: Stage = Stage(steps=350, long_share=0.5, matrix_lr=4e-3, other_lr=3e-3)
    adapter: Stage = Stage(steps=200, batch_tokens=6144, other_lr=1.5e-3)
    adapters: tuple[AdapterRecipe, ...] = (
        AdapterRecipe(
            domain="prose",
            rank=8,
            alpha=16,
            description="English narrative prose in the manner of a nineteenth-century novel: "
            "sentences, dialogue, paragraphs, letters, feelings and manners.",
        ),
        AdapterRecipe(
            domain="python",
            rank=16,
            alpha=32,
            description="Python source code: functions, classes, methods, imports, docstrings, "
            "comments and indentation in the manner of the standard library.",
        ),
        AdapterRecipe(
            domain="json",
            rank=4,
            alpha=8,
            description="JSON documents: objects, arrays, quoted keys, numbers, records, configuration, "
            "orders, events and API responses.",
        ),
    )

    def scaled(self, base_steps: int) -> Recipe:
        """The recipe with `base_steps` steps for the base and all other stages in proportion."""
        factor = base_steps / self.base.steps
        return replace(
            self,
            base=self.base.scaled(factor),
            refined=self.refined.scaled(factor),
            adapter=self.adapter.scaled(factor),
        )
