"""Llamas for tests: the demo models as they are installed, and tiny random ones made by transformers on the spot."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xprim_nb import Config, Manager
from xprim_nb.demo.train.bytetokens import write_tokenizer
from xprim_nb.workers.engines.jsonfiles import read_json
from xprim_nb.workers.engines.llama_config import read_shape
from xprim_nb.workers.engines.llama_model import Deltas, LlamaModel, read_weights
from xprim_nb.workers.engines.llama_numpy import NumpyLlama
from xprim_nb.workers.engines.tensorfiles import Float32, TensorFiles

__all__ = [
    "BASE",
    "LORAS",
    "TOLERANCE",
    "answer",
    "installed",
    "load",
    "make_model",
    "our_logits",
    "our_model",
    "their_logits",
    "their_model",
    "their_steps",
]

BASE = "demo/tiny-llama v2"
LORAS = ("demo/lora-json v1", "demo/lora-prose v1", "demo/lora-python v1")
# What spec 4 promises.
TOLERANCE = 1e-4


@functools.cache
def installed(ref: str) -> Path:
    """The directory of a demo model, installed once for a run in its own home. Not from within an event loop."""

    async def pull() -> Path:
        async with Manager(Config(data_dir=Path.home() / "llamas")) as manager:
            return (await manager.pull(ref)).path

    return asyncio.run(pull())


def make_model(
    folder: Path, family: str = "Llama", *, shard_bytes: int = 0, dtype: str = "float32", **config: Any
) -> Path:
    """A random model whose logits are of the size of a trained one's, with byte tokens; the result is `folder`."""
    torch, transformers = _torch()
    settings: dict[str, Any] = {
        "vocab_size": 259, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258,
    }  # fmt: skip
    made = getattr(transformers, f"{family}Config")(**{**settings, **config})
    torch.manual_seed(7)
    model = getattr(transformers, f"{family}ForCausalLM")(made)
    with torch.no_grad():
        for name, each in model.named_parameters():
            # Everything is random, biases and norms too, or a mistake in them would not be seen.
            each.copy_(1 + 0.3 * torch.randn_like(each) if "norm" in name else 0.18 * torch.randn_like(each))
        model.model.embed_tokens.weight.mul_(5)
    model.to(getattr(torch, dtype)).save_pretrained(
        folder, **({"max_shard_size": shard_bytes} if shard_bytes else {})
    )
    write_tokenizer(folder, max_positions=made.max_position_embeddings)
    return folder


def their_model(folder: Path) -> Any:
    """The same in transformers: float32, CPU, eager attention."""
    torch, transformers = _torch()
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def their_logits(model: Any, ids: Sequence[int]) -> Float32:
    """Of every position, `(tokens, vocabulary) float32`."""
    torch, _ = _torch()
    with torch.no_grad():
        found: Float32 = model(torch.tensor([list(ids)])).logits[0].numpy()
    return found


def their_steps(model: Any, ids: Sequence[int], count: int) -> tuple[list[int], Float32]:
    """Prompt and greedy answer with their own cache, and the logits of each step, `(steps, vocabulary) float32`."""
    torch, _ = _torch()
    prompt = torch.tensor([list(ids)])
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count, min_new_tokens=count, do_sample=False,
        output_logits=True, return_dict_in_generate=True, pad_token_id=258,
    )  # fmt: skip
    return out.sequences[0].tolist(), torch.cat(out.logits).numpy()


def our_model(folder: Path, context_tokens: int = 1024) -> LlamaModel:
    """The forward pass alone."""
    shape = read_shape(read_json(folder / "config.json"))
    with TensorFiles.of_model(folder) as files:
        return LlamaModel(shape, read_weights(files, shape, lambda _: None), context_tokens)


def our_logits(
    model: LlamaModel, ids: Sequence[int], deltas: Deltas | None = None, blocks: Sequence[int] = (64,)
) -> Float32:
    """Of every position; the tokens go through in blocks of these sizes, the last size over and over."""
    found, at, sizes = [], 0, list(blocks)
    while at < len(ids):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        hidden = model.forward(ids[at : at + size], at, deltas or {})
        found.append(model.logits(hidden, deltas or {}))
        at += size
    return np.concatenate(found)


def load(folder: Path, context_tokens: int = 1024) -> NumpyLlama:
    """The whole engine, loaded."""
    engine = NumpyLlama()
    engine.load({"path": str(folder), "device": "cpu", "context_tokens": context_tokens}, lambda *_: None)
    return engine


def answer(
    engine: NumpyLlama, prompt: str | None, cancelled: Callable[[], bool] = lambda: False, **request: Any
) -> tuple[str, Mapping[str, Any], list[dict[str, Any]]]:
    """The text, how it ended, and the pieces."""
    asked = {
        "prompt": prompt,
        "max_tokens": 32,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "seed": 0,
        **request,
    }
    *pieces, last = engine.generate(asked, cancelled)
    assert not any("ended" in piece for piece in pieces)
    return "".join(piece["text"] for piece in pieces), last["ended"], pieces


def _torch() -> tuple[Any, Any]:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers
