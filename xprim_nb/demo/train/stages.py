"""The three stages of a run, each reading what the one before it wrote: base, refined, adapters."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from xprim_nb.demo.train import cards
from xprim_nb.demo.train.corpus import Domain, draw_adapter, draw_mixture
from xprim_nb.demo.train.directories import (
    parameter_count,
    read_model,
    shared_bytes,
    write_adapter,
    write_model,
)
from xprim_nb.demo.train.fit import fit, freeze_all_but, new_model
from xprim_nb.demo.train.measure import PROMPTS, TEMPERATURE, bits_per_byte, mixture_bits, sample
from xprim_nb.demo.train.recipe import DOMAINS, AdapterRecipe, Recipe

log = logging.getLogger(__name__)

V1_STORY = "The first version, trained from scratch on a mixture of all three texts."
V2_NOTE = "Version 2: the last block's feed-forward layer, the norms around it and lm_head trained further."


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What all stages need: where to write, the recipe, the texts."""

    out: Path
    recipe: Recipe
    domains: tuple[Domain, ...]
    own_prose: bool

    @property
    def v1(self) -> Path:
        """Where version 1 of the base lies."""
        return self.out / "tiny-llama" / "v1"

    @property
    def v2(self) -> Path:
        """Where version 2 of the base lies."""
        return self.out / "tiny-llama" / "v2"


def train_base(run: Run) -> None:
    """Train version 1 from scratch and write its directory."""
    recipe = run.recipe
    model = new_model(recipe.shape, seed=recipe.seed)
    untrained = bits_per_byte(model, run.domains)
    rng = np.random.default_rng([recipe.seed, 1])
    figures = fit(model, partial(_mixture, rng, run), recipe.base)
    write_model(run.v1, model, recipe.shape)
    bits = {"untrained": untrained, "v1": bits_per_byte(read_model(run.v1), run.domains)}
    card = cards.base_card(
        version="v1",
        parameters=parameter_count(run.v1),
        recipe=recipe,
        domains=run.domains,
        figures=figures,
        bits=bits,
        versions=library_versions(),
        own_prose=run.own_prose,
        story=V1_STORY,
    )
    (run.v1 / "README.md").write_text(card, encoding="utf-8")
    _report("v1", bits, run)


def train_refined(run: Run) -> None:
    """Train version 2 from version 1 with all but a few tensors frozen, and write its directory.

    Training starts from the float16 weights on disk, so that frozen tensors come out bit for bit the same.
    """
    recipe = run.recipe
    torch.manual_seed(recipe.seed + 2)
    model = read_model(run.v1)
    before = bits_per_byte(model, run.domains)
    last = f"layers.{recipe.shape.layers - 1}."
    parts = (f"{last}mlp.", f"{last}post_attention_layernorm.", "model.norm.", "lm_head.")
    freeze_all_but(model, parts)
    rng = np.random.default_rng([recipe.seed, 2])
    figures = fit(model, partial(_mixture, rng, run), recipe.refined)
    write_model(run.v2, model, recipe.shape, note=V2_NOTE)
    bits = {"v1": before, "v2": bits_per_byte(read_model(run.v2), run.domains)}
    same, total, changed = shared_bytes(run.v1, run.v2)
    story = (
        f"The second version: trained further from version 1 with all frozen but {len(changed)} tensors. "
        f"{same:,} of its {total:,} tensor bytes ({same / total:.0%}) are version 1's own; new are "
        + ", ".join(f"`{name}`" for name in changed)
        + "."
    )
    card = cards.base_card(
        version="v2",
        parameters=parameter_count(run.v2),
        recipe=recipe,
        domains=run.domains,
        figures=figures,
        bits=bits,
        versions=library_versions(),
        own_prose=run.own_prose,
        story=story,
    )
    (run.v2 / "README.md").write_text(card, encoding="utf-8")
    log.info("%s", story)
    _report("v2", bits, run)


def train_adapters(run: Run) -> None:
    """Train the LoRA layers on version 2, one after the other, and write their directories."""
    for number, adapter in enumerate(run.recipe.adapters):
        _train_adapter(run, adapter, number)


def _train_adapter(run: Run, adapter: AdapterRecipe, number: int) -> None:
    recipe = run.recipe
    base = read_model(run.v2)
    before = bits_per_byte(base, run.domains)
    torch.manual_seed(recipe.seed + 10 + number)
    settings = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=0.0,
        target_modules=list(adapter.target_modules),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(base, settings)
    rng = np.random.default_rng([recipe.seed, 10 + number])
    target = DOMAINS.index(adapter.domain)
    figures = fit(
        adapted,
        lambda rows, length: draw_adapter(rng, run.domains, target, rows=rows, length=length),
        recipe.adapter,
    )
    folder = run.out / adapter.domain / "v1"
    write_adapter(folder, adapted, adapter)
    loaded = PeftModel.from_pretrained(read_model(run.v2), folder)
    bits = {"v2 alone": before, f"v2 + {adapter.domain}": bits_per_byte(loaded, run.domains)}
    samples = [sample(loaded, prompt, temperature=TEMPERATURE) for prompt in PROMPTS]
    card = cards.adapter_card(
        adapter=adapter,
        parameters=parameter_count(folder),
        recipe=recipe,
        domains=run.domains,
        figures=figures,
        bits=bits,
        samples=samples,
        versions=library_versions(),
        own_prose=run.own_prose,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    for text in samples:
        log.info("%s:\n%s\n", adapter.domain, text)
    _report(adapter.domain, bits, run)


def library_versions() -> str:
    """The versions a card names, such as "CPython 3.11.7, torch 2.13.0"."""
    named = [f"{name} {version(name).split('+')[0]}" for name in ("torch", "transformers", "peft")]
    return ", ".join([f"CPython {platform.python_version()}", *named])


def _mixture(rng: np.random.Generator, run: Run, rows: int, length: int) -> Any:
    return draw_mixture(rng, run.domains, run.recipe.shares, rows=rows, length=length)


def _report(title: str, bits: dict[str, dict[str, float]], run: Run) -> None:
    for column, values in bits.items():
        figures = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        mean = mixture_bits(values, run.recipe.shares)
        log.info("%s: bits/byte of %s: %s; mixture %.4f", title, column, figures, mean)


STAGES: Sequence[tuple[str, Any]] = (
    ("base", train_base),
    ("refined", train_refined),
    ("adapters", train_adapters),
)
"""In the order in which they run."""
