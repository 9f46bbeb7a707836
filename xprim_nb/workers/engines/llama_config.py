"""What a `config.json` asks for, as numbers that a Llama forward pass needs; or why it cannot be had here.

Imports the standard library alone: the kernel asks the same module whether a model can be run before a worker exists.

Source: spec 4 §Install on first use (`numpy` backend); transformers' Llama, Mistral and Qwen2 configurations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "EMBEDDINGS",
    "OUTPUT",
    "Rope",
    "Shape",
    "held_tensors",
    "linear_modules",
    "needed_tensors",
    "read_shape",
    "refusal",
    "tensor_shapes",
]

# Families that are one forward pass: they differ in biases and in how far a token looks back.
_ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2"}
# What transformers assumes where an older file says nothing.
_CONTEXT = {"llama": 2048, "mistral": 131_072, "qwen2": 32_768}
_KEY_VALUE_HEADS = {"mistral": 8}
_SLIDING_WINDOW = 4096
_MAX_WINDOW_LAYERS = 28
_ROPE_THETA = 10_000.0
_NORM_EPSILON = 1e-6

EMBEDDINGS, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Rope:
    """How positions turn queries and keys.

    Attributes:
        kind: `default`, `linear` or `llama3`.
        theta: Base of the wavelengths.
        factor: By how much the context was stretched.
        low_frequency_factor: Of `llama3`; longer waves than `original_context_tokens` over it are stretched whole.
        high_frequency_factor: Of `llama3`; shorter waves than `original_context_tokens` over it stay.
        original_context_tokens: Of `llama3`: the context it was first trained with.
    """

    kind: str = "default"
    theta: float = _ROPE_THETA
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context_tokens: int = 8192


@dataclass(frozen=True, slots=True)
class Shape:
    """The architecture.

    Attributes:
        family: `llama`, `mistral` or `qwen2`.
        vocabulary: Number of tokens.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the feed-forward layer.
        layers: Number of blocks.
        heads: Heads of queries.
        key_value_heads: Heads of keys and values.
        head_dim: Width of a head; even.
        context_tokens: The longest context.
        norm_epsilon: Added to the mean square.
        rope: How positions are told.
        windows: For each layer how many tokens it looks back, its own included; 0 for all.
        qkv_bias: Queries, keys and values have biases.
        out_bias: The attention's output has one.
        mlp_bias: The feed-forward layer has biases.
        tied: The output layer is the embeddings, where the files have none of its own.
    """

    family: str
    vocabulary: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    context_tokens: int
    norm_epsilon: float
    rope: Rope
    windows: tuple[int, ...]
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    tied: bool


def refusal(config: Mapping[str, Any]) -> str:
    """Why this configuration cannot be run, as a sentence; `""` when it can."""
    try:
        read_shape(config)
    except ValueError as error:
        return str(error)
    return ""


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The architecture that a `config.json` describes.

    Raises:
        ValueError: It is another one, or asks for something that is not built; the message names it.
    """
    family = _family(config)
    _check_plain(config)
    heads = _whole(config, "num_attention_heads")
    hidden_size = _whole(config, "hidden_size")
    layers = _whole(config, "num_hidden_layers")
    key_value_heads = _whole(config, "num_key_value_heads", _KEY_VALUE_HEADS.get(family, heads))
    if heads % key_value_heads:
        raise ValueError(f"{heads} heads of queries cannot share {key_value_heads} heads of keys evenly.")
    context_tokens = _whole(config, "max_position_embeddings", _CONTEXT[family])
    head_dim = _whole(config, "head_dim", hidden_size // heads)
    if head_dim % 2:
        raise ValueError(f"head_dim is {head_dim}, and must be even for rotary embeddings.")
    bias = family == "llama" and bool(config.get("attention_bias"))
    return Shape(
        family=family,
        vocabulary=_whole(config, "vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=_whole(config, "intermediate_size"),
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        head_dim=head_dim,
        context_tokens=context_tokens,
        norm_epsilon=_number(config, "rms_norm_eps", _NORM_EPSILON),
        rope=_rope(config, context_tokens),
        windows=_windows(config, family, layers),
        qkv_bias=bias or family == "qwen2",
        out_bias=bias,
        mlp_bias=family == "llama" and bool(config.get("mlp_bias")),
        tied=bool(config.get("tie_word_embeddings")),
    )


def linear_modules(shape: Shape) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each linear layer, by its name in the files, without `.weight`."""
    query, pair = shape.heads * shape.head_dim, shape.key_value_heads * shape.head_dim
    hidden, wide = shape.hidden_size, shape.intermediate_size
    found: dict[str, tuple[int, int]] = {}
    for number in range(shape.layers):
        attention, mlp = f"model.layers.{number}.self_attn", f"model.layers.{number}.mlp"
        found[f"{attention}.q_proj"] = (query, hidden)
        found[f"{attention}.k_proj"] = found[f"{attention}.v_proj"] = (pair, hidden)
        found[f"{attention}.o_proj"] = (hidden, query)
        found[f"{mlp}.gate_proj"] = found[f"{mlp}.up_proj"] = (wide, hidden)
        found[f"{mlp}.down_proj"] = (hidden, wide)
    found["lm_head"] = (shape.vocabulary, hidden)
    return found


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Every tensor that the model is made of, by its name in the files."""
    hidden = shape.hidden_size
    found: dict[str, tuple[int, ...]] = {EMBEDDINGS: (shape.vocabulary, hidden)}
    for name, size in linear_modules(shape).items():
        found[f"{name}.weight"] = size
        if _has_bias(shape, name):
            found[f"{name}.bias"] = size[:1]
    for number in range(shape.layers):
        found[f"model.layers.{number}.input_layernorm.weight"] = (hidden,)
        found[f"model.layers.{number}.post_attention_layernorm.weight"] = (hidden,)
    found["model.norm.weight"] = (hidden,)
    return found


def held_tensors(config: Mapping[str, Any], names: Collection[str]) -> frozenset[str]:
    """Which of a model's stored tensors are loaded; an output layer that is the embeddings is loaded once.

    Args:
        config: Its `config.json`.
        names: Of the stored tensors.

    Raises:
        ValueError: See `read_shape`.
    """
    return frozenset(needed_tensors(read_shape(config), names)) & frozenset(names)


def needed_tensors(shape: Shape, names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """The tensors that must be among these, with their shapes.

    Where the output layer is the embeddings, one of the two does for both; where both are stored, each is what it
    says, as transformers has it.
    """
    wanted = tensor_shapes(shape)
    if shape.tied:
        for one, other in ((OUTPUT, EMBEDDINGS), (EMBEDDINGS, OUTPUT)):
            if one not in names and other in names:
                del wanted[one]
    return wanted


def _has_bias(shape: Shape, name: str) -> bool:
    module = name.rpartition(".")[2]
    if module in ("q_proj", "k_proj", "v_proj"):
        return shape.qkv_bias
    if module == "o_proj":
        return shape.out_bias
    return shape.mlp_bias and module != "lm_head"


# --- one setting each -------------------------------------------------------------------------------


def _family(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    kind = config.get("model_type")
    architecture = named[0] if isinstance(named, list) and named else ""
    if not architecture:
        architecture = next((each for each, family in _ARCHITECTURES.items() if family == kind), "")
    if architecture not in _ARCHITECTURES:
        runs = ", ".join(_ARCHITECTURES)
        raise ValueError(f"the architecture {architecture or kind or 'unknown'!r:.80} is none of {runs}.")
    family = _ARCHITECTURES[architecture]
    if kind not in (None, family):
        raise ValueError(f"{architecture} with model_type {kind!r:.80} is a variant that is not built.")
    return family


def _check_plain(config: Mapping[str, Any]) -> None:
    act = config.get("hidden_act", "silu")
    if act not in ("silu", "swish"):
        raise ValueError(f"the activation {act!r:.80} is not built; silu is.")
    quantized = config.get("quantization_config")
    if quantized:
        how = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else quantized
        raise ValueError(f"its weights are quantised ({how!r:.80}), and cannot be read here.")


def _rope(config: Mapping[str, Any], context_tokens: int) -> Rope:
    told = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(told, dict):
        raise ValueError(f"the rotary embedding is described by {told!r:.80}, which is no object.")
    kind = told.get("rope_type", told.get("type", "default"))
    partial = told.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if partial not in (None, 1, 1.0):
        raise ValueError(f"partial_rotary_factor {partial!r:.80} is not built.")
    theta = _number(told, "rope_theta", _number(config, "rope_theta", _ROPE_THETA))
    if kind == "default":
        return Rope(theta=theta)
    if kind == "linear":
        return Rope("linear", theta, _number(told, "factor"))
    if kind != "llama3":
        raise ValueError(f"the rotary embedding {kind!r:.80} is not built; default, linear and llama3 are.")
    original = _whole(config, "original_max_position_embeddings", 0) or _whole(
        told, "original_max_position_embeddings", context_tokens
    )
    low, high = _number(told, "low_freq_factor"), _number(told, "high_freq_factor")
    if low == high:
        raise ValueError(
            "low_freq_factor and high_freq_factor are the same, which leaves nothing between them."
        )
    return Rope("llama3", theta, _number(told, "factor"), low, high, original)


def _windows(config: Mapping[str, Any], family: str, layers: int) -> tuple[int, ...]:
    if family == "llama" or (family == "qwen2" and not config.get("use_sliding_window")):
        return _check_types(config, layers, allowed=("full_attention",)) or (0,) * layers
    window = config.get("sliding_window", _SLIDING_WINDOW)
    width = 0 if window is None else _whole(config, "sliding_window", _SLIDING_WINDOW)
    if family == "mistral":
        return (width,) * layers
    types = _check_types(config, layers, allowed=("full_attention", "sliding_attention"), width=width)
    first = _whole(config, "max_window_layers", _MAX_WINDOW_LAYERS, least=0)
    return types or tuple(width if number >= first else 0 for number in range(layers))


def _check_types(
    config: Mapping[str, Any], layers: int, *, allowed: tuple[str, ...], width: int = 0
) -> tuple[int, ...]:
    """The windows that `layer_types` says; nothing when there is no such list."""
    types = config.get("layer_types")
    if types is None:
        return ()
    if not isinstance(types, list) or len(types) != layers or not set(types) <= set(allowed):
        raise ValueError(
            f"layer_types {types!r:.80} is not built; {' and '.join(allowed)} for each layer is."
        )
    return tuple(width if each == "sliding_attention" else 0 for each in types)


def _whole(config: Mapping[str, Any], key: str, default: int | None = None, *, least: int = 1) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    # `type is int`: a JSON true is an int to isinstance.
    if type(value) is not int or value < least:
        raise ValueError(f"{key} is {value!r:.80}, and must be a whole number of at least {least}.")
    return value


def _number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise ValueError(f"{key} is {value!r:.80}, and must be a number above 0.")
    return float(value)
