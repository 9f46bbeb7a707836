"""LoRA layers in PEFT's format: checked by their headers, read once, added up as one low-rank delta for each module.

The base weights are never touched: without layers the model is bit for bit what it was, and a layer that is refused
leaves no trace.

Source: spec 4 §Install on first use ("LoRA by delta"), spec 5 §Hot swap; PEFT's `LoraConfig`, `save_and_load`.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .jsonfiles import read_json
from .llama_model import Deltas
from .tensorfiles import Float32, TensorFiles

__all__ = ["Adapter", "Adapters"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight\Z")
# What a plain LoRA may say. `base_model_name_or_path` is a name, and names differ: shapes tell whether it fits.
_HARMLESS = frozenset(
    "auto_mapping base_model_name_or_path revision task_type inference_mode lora_dropout megatron_core peft_version "
    "loftq_config runtime_config corda_config eva_config lora_ga_config ensure_weight_tying qalora_group_size "
    "layers_pattern layers_to_transform exclude_modules".split()
)
_READ = frozenset("peft_type r lora_alpha target_modules rank_pattern alpha_pattern use_rslora".split())
# Ways to begin a training that leave the base weights as they are.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
# Layers of demo size take a megabyte, of a 7B model some hundred: a few are swapped between without reading.
_MAX_CACHED = 8


@dataclass(frozen=True, slots=True)
class Adapter:
    """One LoRA layer in memory: by module `A` transposed, `(inputs, rank)`, and scaled `B` transposed."""

    name: str
    deltas: Deltas


class Adapters:
    """The layers that were used lately, and the sum of those used last.

    Args:
        modules: Outputs and inputs of each module of the base model that a layer can sit on, by its name.
    """

    def __init__(self, modules: Mapping[str, tuple[int, int]]) -> None:
        self._modules = modules
        self._read: OrderedDict[_Stamp, Adapter] = OrderedDict()
        self._key: tuple[tuple[_Stamp, float], ...] = ()
        self._sum: Deltas = {}

    def combined(self, loras: Iterable[Mapping[str, Any]]) -> tuple[object, Deltas]:
        """What these layers add, and a key that is equal only for the same layers with the same weights.

        Args:
            loras: Each with `name`, `path` and `weight`; the same again adds again.

        Raises:
            ValueError: One is no plain LoRA layer of this base model; nothing has changed.
            OSError: It cannot be read.
        """
        wanted = [(_Stamp.of(each), _weight(each)) for each in loras]
        key = tuple((stamp, weight) for stamp, weight in wanted if weight)
        adapters = [
            (self._adapter(stamp), weight) for stamp, weight in wanted
        ]  # those of weight 0 are checked too
        if key != self._key:
            self._sum = _added([(adapter, weight) for adapter, weight in adapters if weight])
            self._key = key
        return key, self._sum

    def _adapter(self, stamp: _Stamp) -> Adapter:
        found = self._read.get(stamp)
        if found is None:
            found = self._read[stamp] = _read_adapter(stamp, self._modules)
            while len(self._read) > _MAX_CACHED:
                self._read.popitem(last=False)
        self._read.move_to_end(stamp)
        return found


@dataclass(frozen=True, slots=True)
class _Stamp:
    """An adapter as it lies on disk; equal while its files are the same."""

    name: str
    path: str
    changed: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, lora: Mapping[str, Any]) -> _Stamp:
        name, folder = str(lora.get("name") or lora["path"]), Path(lora["path"])
        try:
            found = [(folder / each).stat() for each in (_CONFIG, _WEIGHTS)]
        except OSError as error:
            raise ValueError(f"{name} is no LoRA layer of PEFT's format: {error}") from error
        return cls(name, str(folder), tuple((each.st_mtime_ns, each.st_size) for each in found))


def _weight(lora: Mapping[str, Any]) -> float:
    value = lora.get("weight", 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"The weight of {lora.get('name')} is {value!r:.40}, and must be a number.")
    return float(value)


def _added(adapters: Sequence[tuple[Adapter, float]]) -> Deltas:
    """One pair of matrices for each module: side by side, so that their product is the sum of the deltas."""
    found: dict[str, tuple[Float32, Float32]] = {}
    for module in dict.fromkeys(name for adapter, _ in adapters for name in adapter.deltas):
        pairs = [
            (*adapter.deltas[module], weight) for adapter, weight in adapters if module in adapter.deltas
        ]
        found[module] = (
            np.concatenate([a for a, _, _ in pairs], axis=1),
            np.concatenate([b * np.float32(weight) for _, b, weight in pairs], axis=0),
        )
    return found


# --- one adapter ------------------------------------------------------------------------------------


def _read_adapter(stamp: _Stamp, modules: Mapping[str, tuple[int, int]]) -> Adapter:
    folder = Path(stamp.path)
    try:
        config = read_json(folder / _CONFIG)
        _check_config(config)
        with TensorFiles([folder / _WEIGHTS]) as files:
            pairs = _checked_pairs(files, config, modules)
            deltas: dict[str, tuple[Float32, Float32]] = {}
            for module, (a, b) in pairs.items():
                # Contiguous as they are multiplied: rows of `A` are as long as the model is wide.
                scaled = files.read(b).T * np.float32(_scale(config, module))
                deltas[module] = (np.array(files.read(a).T, order="C"), np.array(scaled, order="C"))
    except ValueError as error:
        raise ValueError(f"The LoRA layer {stamp.name} is refused: {error}") from error
    return Adapter(stamp.name, deltas)


def _check_config(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"it is a {kind!r:.40} adapter, and LORA alone is built.")
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        how = config["init_lora_weights"]
        raise ValueError(
            f"it began with {how!r:.40}, which changes the base weights; convert it to plain LoRA."
        )
    # PEFT itself turns this off for linear layers, with a warning; it says nothing of how the tensors lie.
    for key in sorted(set(config) - _READ - _HARMLESS - {"init_lora_weights", "fan_in_fan_out"}):
        if config[key] and config[key] != "none":
            raise ValueError(f"it uses {key}, which is not built.")
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            raise ValueError(f"{key} is no object.")


def _checked_pairs(
    files: TensorFiles, config: Mapping[str, Any], modules: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[str, str]]:
    """The names of `A` and `B` for each module, once all of them are sure to fit."""
    parts: dict[str, dict[str, str]] = {}
    for name in files.tensors:
        match = _KEY.match(name)
        if match is None:
            raise ValueError(f"its tensor {name!r:.120} is no part of a plain LoRA layer.")
        parts.setdefault(match["module"], {})[match["part"]] = name
    if not parts:
        raise ValueError("it has no tensors.")
    for module, pair in parts.items():
        if module not in modules:
            raise ValueError(f"the base model has no linear layer {module!r:.100}.")
        if not _is_target(config.get("target_modules"), module):
            raise ValueError(f"its target_modules do not name {module!r:.100}, for which it has tensors.")
        if set(pair) != {"A", "B"}:
            raise ValueError(f"it has one half alone for {module!r:.100}.")
        _check_pair(files, pair, module, modules[module], _rank(config, module))
    return {module: (pair["A"], pair["B"]) for module, pair in parts.items()}


def _check_pair(
    files: TensorFiles, pair: Mapping[str, str], module: str, size: tuple[int, int], rank: int
) -> None:
    outputs, inputs = size
    for name, wanted in ((pair["A"], (rank, inputs)), (pair["B"], (outputs, rank))):
        tensor = files.tensors[name]
        if tensor.shape != wanted:
            raise ValueError(
                f"its tensor {name!r:.120} is {tensor.shape}; for rank {rank} and this base model it must be {wanted}."
            )
        if tensor.dtype not in ("F32", "F16", "BF16"):
            raise ValueError(f"its tensor {name!r:.120} is {tensor.dtype!r:.40}, which cannot be read.")


def _is_target(targets: object, module: str) -> bool:
    if targets == "all-linear":
        return module != "lm_head"
    if isinstance(targets, str):
        try:
            return re.fullmatch(targets, module) is not None
        except re.error as error:
            raise ValueError(f"target_modules is no regular expression: {error}") from error
    names = targets if isinstance(targets, list) else []
    return any(module == name or module.endswith(f".{name}") for name in names)


def _rank(config: Mapping[str, Any], module: str) -> int:
    rank = _by_pattern(config, "rank_pattern", module, config.get("r"))
    if type(rank) is not int or rank < 1:
        raise ValueError(f"its rank for {module!r:.100} is {rank!r:.40}.")
    return rank


def _scale(config: Mapping[str, Any], module: str) -> float:
    alpha = _by_pattern(config, "alpha_pattern", module, config.get("lora_alpha"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ValueError(f"its lora_alpha for {module!r:.100} is {alpha!r:.40}.")
    rank = _rank(config, module)
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(config: Mapping[str, Any], key: str, module: str, default: object) -> object:
    """The value of the first pattern that a module's name ends with, as PEFT looks it up."""
    for pattern, value in (config.get(key) or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise ValueError(f"{key} has {pattern!r:.80}, which is no regular expression: {error}") from error
    return default
