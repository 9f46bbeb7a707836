"""Models for tests of what runs them: tiny random ones of three architectures, and the demo model with its layers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from xprim_nb import Config, Manager
from xprim_nb.demo.train.bytetokens import BOS_ID, EOS_ID, PAD_ID, write_tokenizer

# Models this small gain nothing by a second thread, and on a busy machine two that wait for each other take seconds.
# With one, like the workers of the tests, every sum is made in the same order.
torch.set_num_threads(1)

KINDS = ("llama", "qwen2", "gpt2")
POSITIONS = 256
_SPECIAL = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID}


def _config(kind: str) -> Any:
    if kind == "gpt2":
        return transformers.GPT2Config(
            vocab_size=259, n_positions=POSITIONS, n_embd=32, n_layer=2, n_head=4, **_SPECIAL
        )
    made = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[kind]
    return made(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=kind == "qwen2",
        **_SPECIAL,
    )


def write_tiny(kind: str, folder: Path, *, dtype: str = "float32", seed: int = 0) -> Path:
    """A random model of that kind with the demo tokenizer, in `folder`; its weights are large enough to have opinions."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(_config(kind))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8.0)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    write_tokenizer(folder, max_positions=POSITIONS)
    return folder


def edit_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file; None takes one out. A file that is not there begins empty."""
    found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    found |= changes
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}), "utf-8")


@dataclass(frozen=True)
class Demo:
    """Where the demo model and its layers are installed.

    Attributes:
        data_dir: Of the manager that installed them.
        model: Of `demo/tiny-llama v2`.
        layers: Of `json`, `prose` and `python`.
    """

    data_dir: Path
    model: Path
    layers: dict[str, Path]

    def loras(self, *chosen: str, **weighted: float) -> list[dict[str, Any]]:
        """The layers as a request names them."""
        weights = dict.fromkeys(chosen, 1.0) | weighted
        return [
            {"name": f"demo/lora-{name} v1", "path": str(self.layers[name]), "weight": weight}
            for name, weight in weights.items()
        ]


def install_demo(folder: Path) -> Demo:
    """Install the demo model and its three layers below `folder`."""

    async def install() -> Demo:
        async with Manager(Config(data_dir=folder)) as manager:
            model = (await manager.pull("demo/tiny-llama v2")).path
            layers = {
                name: (await manager.pull(f"demo/lora-{name} v1")).path
                for name in ("json", "prose", "python")
            }
        return Demo(folder, model, layers)

    return asyncio.run(install())


def spec_of(
    path: Path, *, context_tokens: int = 4096, device: str = "cpu", **settings: object
) -> dict[str, Any]:
    """What an engine's `load` is given."""
    return {
        "path": str(path),
        "device": device,
        "context_tokens": context_tokens,
        "device_limit_bytes": None,
        "settings": settings,
    }


def ask(prompt: str | None = "def ", **changes: object) -> dict[str, Any]:
    """What an engine's `generate` is given: greedy, 24 tokens at most."""
    request: dict[str, Any] = {
        "prompt": prompt,
        "messages": [],
        "max_tokens": 24,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "seed": 0,
        "stop": [],
        "loras": [],
    }
    return request | changes
