"""The forward pass of Llama and its kin in NumPy: tokens come in, hidden states and logits go out, keys and values stay.

Everything is float32. A block of tokens goes through at once; a token of the answer is a block of one.

Source: spec 4 §Install on first use ("logits equal to transformers within 1e-4"); transformers' `modeling_llama`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .llama_config import EMBEDDINGS, OUTPUT, Rope, Shape, linear_modules, needed_tensors
from .tensorfiles import Float32, TensorFiles

__all__ = [
    "CancelledError",
    "Deltas",
    "KeyValues",
    "LlamaModel",
    "Weights",
    "inverse_frequencies",
    "read_weights",
]

Deltas: TypeAlias = Mapping[str, tuple[Float32, Float32]]
"""What LoRA layers add: by the module's name `A` transposed, `(inputs, rank)`, and scaled `B` transposed,
`(rank, outputs)`."""

# Buffers that older files hold, and that are computed here.
_COMPUTED = "rotary_emb.inv_freq"


class CancelledError(Exception):
    """Nobody waits for the answer any more; the block that was being computed is not whole."""


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer: its name in the files, its transposed weight `(inputs, outputs)`, and its bias or None."""

    name: str
    weight: Float32
    bias: Float32 | None


@dataclass(frozen=True, slots=True)
class _Block:
    attention_norm: Float32
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    mlp_norm: Float32
    gate: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's tensors, by what they do."""

    embeddings: Float32
    blocks: tuple[_Block, ...]
    norm: Float32
    head: Linear


def read_weights(files: TensorFiles, shape: Shape, progress: Callable[[float], object]) -> Weights:
    """Every tensor of the model, checked before the first is read.

    Args:
        files: Where they lie.
        shape: The architecture.
        progress: Called with the fraction of the bytes that was read.

    Raises:
        ValueError: One is missing, superfluous, or has another shape or dtype.
    """
    wanted = needed_tensors(shape, files.tensors)
    _check_tensors(files, wanted)
    arrays: dict[str, Float32] = {}
    total = sum(files.tensors[name].size_bytes for name in wanted)
    done = 0
    for name in wanted:
        arrays[name] = files.read(name)
        done += files.tensors[name].size_bytes
        progress(done / total)
    for one, other in ((OUTPUT, EMBEDDINGS), (EMBEDDINGS, OUTPUT)):
        if one not in arrays:
            arrays[one] = arrays[other]
    return _arranged(arrays, shape)


def _check_tensors(files: TensorFiles, wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name, size in wanted.items():
        tensor = files.tensors.get(name)
        if tensor is None:
            raise ValueError(f"The weights lack the tensor {name!r:.100}.")
        if tensor.shape != size:
            raise ValueError(f"The tensor {name!r:.100} is {tensor.shape}, and config.json says {size}.")
    for name in files.tensors:
        if name not in wanted and not name.endswith(_COMPUTED):
            raise ValueError(f"The tensor {name!r:.100} belongs to an architecture that is not built.")


def _arranged(arrays: Mapping[str, Float32], shape: Shape) -> Weights:
    linear = {
        name: Linear(name, arrays[f"{name}.weight"].T, arrays.get(f"{name}.bias"))
        for name in linear_modules(shape)
    }
    blocks = []
    for number in range(shape.layers):
        name = f"model.layers.{number}"
        blocks.append(
            _Block(
                attention_norm=arrays[f"{name}.input_layernorm.weight"],
                query=linear[f"{name}.self_attn.q_proj"],
                key=linear[f"{name}.self_attn.k_proj"],
                value=linear[f"{name}.self_attn.v_proj"],
                out=linear[f"{name}.self_attn.o_proj"],
                mlp_norm=arrays[f"{name}.post_attention_layernorm.weight"],
                gate=linear[f"{name}.mlp.gate_proj"],
                up=linear[f"{name}.mlp.up_proj"],
                down=linear[f"{name}.mlp.down_proj"],
            )
        )
    return Weights(arrays[EMBEDDINGS], tuple(blocks), arrays["model.norm.weight"], linear["lm_head"])


def inverse_frequencies(rope: Rope, head_dim: int) -> Float32:
    """Radians a position for each pair of a head's numbers, `(head_dim / 2,) float32`."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    found: Float32 = np.float32(1) / np.power(np.float32(rope.theta), exponents)
    stretched = found / np.float32(rope.factor)
    if rope.kind != "llama3":
        return stretched  # by 1, unless it is linear
    wavelengths = np.float32(2 * np.pi) / found
    low = rope.original_context_tokens / rope.low_frequency_factor
    high = rope.original_context_tokens / rope.high_frequency_factor
    share = (rope.original_context_tokens / wavelengths - rope.low_frequency_factor) / (
        rope.high_frequency_factor - rope.low_frequency_factor
    )
    between = (1 - share) * stretched + share * found
    return np.where(wavelengths > low, stretched, np.where(wavelengths < high, found, between))


class KeyValues:
    """Keys and values of every token so far, `(layers, heads, context, head_dim) float32`; allocated whole.

    The memory is written once at the start, so that what a worker takes is seen when it has loaded, not later.
    """

    def __init__(self, shape: Shape, context_tokens: int) -> None:
        size = (shape.layers, shape.key_value_heads, context_tokens, shape.head_dim)
        self.keys = np.full(size, 0.0, np.float32)
        self.values = np.full(size, 0.0, np.float32)


class LlamaModel:
    """Weights, and the keys and values of one conversation.

    Args:
        shape: The architecture.
        weights: Its tensors.
        context_tokens: Room for prompt and answer.
    """

    def __init__(self, shape: Shape, weights: Weights, context_tokens: int) -> None:
        self.shape, self.context_tokens = shape, context_tokens
        self._weights, self._memory = weights, KeyValues(shape, context_tokens)
        turns = np.outer(
            np.arange(context_tokens, dtype=np.float32), inverse_frequencies(shape.rope, shape.head_dim)
        )
        # (context, 1, head_dim / 2): the same for each head.
        self._cos, self._sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
        self._scale = np.float32(1 / math.sqrt(shape.head_dim))

    def forward(
        self, ids: Sequence[int], start: int, deltas: Deltas, cancelled: Callable[[], bool] = lambda: False
    ) -> Float32:
        """The hidden states of these tokens, `(tokens, hidden) float32`; their keys and values are kept.

        Args:
            ids: The tokens at positions `start` and following; all before them have gone through.
            start: Position of the first.
            deltas: What LoRA layers add.
            cancelled: Asked before each layer.

        Raises:
            CancelledError: It said yes.
        """
        # A far negative gate overflows exp() to infinity, and gives the zero that it should.
        with np.errstate(over="ignore"):
            x = self._weights.embeddings[np.asarray(ids)]
            for number, block in enumerate(self._weights.blocks):
                if cancelled():
                    raise CancelledError
                x += self._attend(self._norm(x, block.attention_norm), block, number, start, deltas)
                inner = self._norm(x, block.mlp_norm)
                gate, up = _apply(inner, block.gate, deltas), _apply(inner, block.up, deltas)
                gate /= 1 + np.exp(-gate)
                gate *= up
                x += _apply(gate, block.down, deltas)
            return self._norm(x, self._weights.norm)

    def logits(self, hidden: Float32, deltas: Deltas) -> Float32:
        """Scores of each token of the vocabulary, `(tokens, vocabulary) float32`."""
        return _apply(hidden, self._weights.head, deltas)

    def _norm(self, x: Float32, weight: Float32) -> Float32:
        mean = np.add.reduce(x * x, axis=-1, keepdims=True)
        mean *= np.float32(1 / self.shape.hidden_size)
        mean += np.float32(self.shape.norm_epsilon)
        found: Float32 = np.divide(x, np.sqrt(mean))
        found *= weight
        return found

    def _attend(self, x: Float32, block: _Block, number: int, start: int, deltas: Deltas) -> Float32:
        shape, count = self.shape, len(x)
        end, groups = start + count, shape.heads // shape.key_value_heads
        query = self._turned(_apply(x, block.query, deltas).reshape(count, shape.heads, -1), start)
        query *= self._scale
        key = self._turned(_apply(x, block.key, deltas).reshape(count, shape.key_value_heads, -1), start)
        value = _apply(x, block.value, deltas).reshape(count, shape.key_value_heads, -1)
        keys, values = self._memory.keys[number], self._memory.values[number]
        keys[:, start:end] = key.swapaxes(0, 1)
        values[:, start:end] = value.swapaxes(0, 1)
        window = shape.windows[number]
        first = max(0, end - count - window + 1) if window else 0
        # Heads that share keys stand in one matrix, one token after the other: (pairs, groups * tokens, head_dim).
        query = query.reshape(count, shape.key_value_heads, groups, -1).transpose(1, 2, 0, 3)
        query = query.reshape(shape.key_value_heads, groups * count, -1)
        scores = query @ keys[:, first:end].swapaxes(1, 2)
        if count > 1:
            mask = _mask(start, count, first if window else start, window)
            scores.reshape(shape.key_value_heads, groups, count, -1)[..., -mask.shape[1] :] += mask
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= np.add.reduce(scores, axis=-1, keepdims=True)
        mixed = (scores @ values[:, first:end]).reshape(shape.key_value_heads, groups, count, -1)
        return _apply(mixed.transpose(2, 0, 1, 3).reshape(count, -1), block.out, deltas)

    def _turned(self, x: Float32, start: int) -> Float32:
        """Heads turned by their positions, `(tokens, heads, head_dim)`; the halves of a head are its pairs."""
        cos, sin = self._cos[start : start + len(x)], self._sin[start : start + len(x)]
        half = x.shape[-1] // 2
        left, right = x[..., :half], x[..., half:]
        found = np.empty_like(x)
        np.subtract(left * cos, right * sin, out=found[..., :half])
        np.add(right * cos, left * sin, out=found[..., half:])
        return found


def _mask(start: int, count: int, first: int, window: int) -> Float32:
    """What is added to the scores of tokens from `first` on, for each of `count` tokens, `(count, tokens) float32`.

    It is 0, or -inf for those that the token may not look at.
    """
    here = np.arange(start, start + count)[:, None]
    there = np.arange(first, start + count)[None, :]
    hidden = there > here
    if window:
        hidden |= there <= here - window
    return np.where(hidden, np.float32(-np.inf), np.float32(0))


def _apply(x: Float32, linear: Linear, deltas: Deltas) -> Float32:
    found: Any = x @ linear.weight
    if linear.bias is not None:
        found += linear.bias
    if deltas and linear.name in deltas:
        a, b = deltas[linear.name]
        found += (x @ a) @ b
    return found  # type: ignore[no-any-return]  # matmul of float32 is float32
