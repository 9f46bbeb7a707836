"""Model directories in the layout that transformers and PEFT read. In: trained modules; out: folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from xprim_nb.demo.train.bytetokens import BOS_ID, EOS_ID, PAD_ID, write_tokenizer
from xprim_nb.demo.train.fit import llama_config
from xprim_nb.demo.train.problems import TrainingError
from xprim_nb.demo.train.recipe import BASE_REPO, AdapterRecipe, Shape

WEIGHTS, ADAPTER_WEIGHTS = "model.safetensors", "adapter_model.safetensors"


def write_json(file: Path, value: object) -> None:
    """Write `value` as indented JSON with a final newline."""
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def config_document(shape: Shape, *, note: str | None) -> dict[str, Any]:
    """The `config.json`: the architecture's own fields, readable by older and newer transformers alike.

    Args:
        shape: the architecture.
        note: goes under `xprim_note`, a key that readers of Llama ignore.
    """
    config = llama_config(shape)
    document: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.hidden_size // config.num_attention_heads,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "max_position_embeddings": config.max_position_embeddings,
        # transformers 5 reads `rope_parameters`, everything older (and most other readers) `rope_theta`
        "rope_theta": 10000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "pad_token_id": PAD_ID,
    }
    if note is not None:
        document["xprim_note"] = note
    return document


def write_model(folder: Path, model: Any, shape: Shape, *, note: str | None = None) -> None:
    """Write a base model: float16 weights, configuration, generation defaults and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().to(torch.float16).contiguous() for name, value in model.state_dict().items()
    }
    _write_tensors(folder / WEIGHTS, tensors)
    write_json(folder / "config.json", config_document(shape, note=note))
    # greedy by default: a demo that answers the same twice
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID, "max_new_tokens": 200},
    )
    write_tokenizer(folder, max_positions=shape.max_positions)


def read_model(folder: Path) -> Any:
    """The float32 model whose float16 weights are in `folder`.

    Raises:
        TrainingError: there is none.
    """
    if not (folder / WEIGHTS).is_file():
        raise TrainingError(
            "There is no model to train further.",
            subject=str(folder),
            hint="Begin at an earlier stage (see --from).",
        )
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def write_adapter(folder: Path, adapted: Any, recipe: AdapterRecipe) -> None:
    """Write a LoRA layer in PEFT format, float16, its configuration in a fixed order."""
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(adapted)
    tensors = {name: value.detach().to(torch.float16).contiguous() for name, value in state.items()}
    _write_tensors(folder / ADAPTER_WEIGHTS, tensors)
    write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": BASE_REPO,
            "revision": "v2",
            "r": recipe.rank,
            "lora_alpha": recipe.alpha,
            "lora_dropout": 0.0,
            "target_modules": sorted(recipe.target_modules),
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "use_rslora": False,
            "use_dora": False,
            "modules_to_save": None,
            "layers_to_transform": None,
            "rank_pattern": {},
            "alpha_pattern": {},
            "inference_mode": True,
        },
    )


def _write_tensors(file: Path, tensors: dict[str, Any]) -> None:
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(
        0o644
    )  # safetensors writes for its owner alone, which a package cannot be built from elsewhere


def parameter_count(folder: Path) -> int:
    """How many numbers the weights in `folder` hold."""
    file = folder / WEIGHTS
    return sum(
        value.numel() for value in load_file(file if file.is_file() else folder / ADAPTER_WEIGHTS).values()
    )


def shared_bytes(first: Path, second: Path) -> tuple[int, int, list[str]]:
    """How much of the second model is the first one's own.

    Returns:
        Tensor bytes that are bit for bit alike, all tensor bytes, and the names of the tensors that differ.
    """
    same = total = 0
    changed: list[str] = []
    with (
        safe_open(first / WEIGHTS, framework="pt") as old,
        safe_open(second / WEIGHTS, framework="pt") as new,
    ):
        for name in sorted(new.keys()):
            value = new.get_tensor(name)
            size_bytes = value.numel() * value.element_size()
            total += size_bytes
            if torch.equal(old.get_tensor(name).view(torch.int16), value.view(torch.int16)):
                same += size_bytes
            else:
                changed.append(name)
    return same, total, changed
