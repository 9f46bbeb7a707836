"""What an adapter of PEFT's format is, told from its configuration and the header of its tensors alone.

Nothing of the model is touched: an adapter that does not fit is refused before anything changes.

Source: spec 5 §Hot swap ("shape, rank, target modules and base checked from the header"); PEFT's LoRA format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError, safe_open

__all__ = ["Adapter", "Shape", "check_adapter", "shapes_of"]

Shape: TypeAlias = tuple[int, int]

_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<part>[AB])(?:\.weight)?\Z")
# Settings of PEFT's that replace or retrain parts of the base model: several such adapters cannot be added up, and
# what they replaced would not be there again, bit for bit, without them.
_NOT_ADDABLE = (
    "modules_to_save",
    "use_dora",
    "target_parameters",
    "layer_replication",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
)
# Ways to begin a training that take something out of the base weights, which loading then repeats.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter on disk; equal while its file is the same.

    Attributes:
        path: Its directory.
        changed_ns: When its tensors were written, in ns since the epoch.
        size_bytes: Of its tensors.
    """

    path: str
    changed_ns: int
    size_bytes: int

    @classmethod
    def at(cls, name: str, path: str) -> Adapter:
        """The adapter in that directory.

        Raises:
            ValueError: There is none.
        """
        try:
            found = Path(path, _FILE).stat()
        except OSError as error:
            raise ValueError(f"{name} has no {_FILE} in {path}: it is no LoRA layer of PEFT's.") from error
        return cls(path, found.st_mtime_ns, found.st_size)


def shapes_of(model: Any) -> dict[str, Shape]:
    """Inputs and outputs of each module that a LoRA layer can sit on, by its name."""
    found: dict[str, Shape] = {}
    for name, module in model.named_modules():
        if hasattr(module, "in_features"):
            found[name] = (module.in_features, module.out_features)
        elif hasattr(module, "num_embeddings"):
            found[name] = (module.num_embeddings, module.embedding_dim)
        elif type(module).__name__ == "Conv1D":  # GPT-2's, whose weight lies the other way round
            found[name] = (module.weight.shape[0], module.weight.shape[1])
    return found


def check_adapter(name: str, adapter: Adapter, shapes: Mapping[str, Shape]) -> None:
    """Refuse an adapter that does not fit.

    Args:
        name: As the user named it, for messages.
        adapter: Which.
        shapes: Of the base model's modules, see `shapes_of`.

    Raises:
        ValueError: It is damaged, no LoRA, cannot be added to others exactly, or belongs to another base model.
    """
    config = _read_config(name, adapter)
    _check_kind(name, config)
    parts = _read_parts(name, adapter)
    if not parts:
        raise ValueError(f"{name} has no tensors.")
    ranks = _ranks(name, config)
    for module, shape in parts.items():
        if module not in shapes:
            raise ValueError(f"{name} belongs to another base model: this one has no module {module!r:.100}.")
        if not _targets(config["target_modules"], module):
            raise ValueError(
                f"{name} has a tensor for {module!r:.100}, which its target_modules do not name."
            )
        a, b = shape.get("A"), shape.get("B")
        if a is None or b is None:
            raise ValueError(f"{name} has one half alone of its layer for {module!r:.100}.")
        rank, inputs, outputs = a[0], a[1], b[0]
        if rank != b[1] or rank not in ranks:
            raise ValueError(
                f"{name} has rank {rank} in {module!r:.100}, and its configuration says otherwise."
            )
        if (inputs, outputs) != shapes[module]:
            raise ValueError(
                f"{name} belongs to another base model: its layer for {module!r:.100} is {inputs} × {outputs}, "
                f"the module {shapes[module][0]} × {shapes[module][1]}."
            )


def _read_config(name: str, adapter: Adapter) -> dict[str, Any]:
    try:
        config = json.loads(Path(adapter.path, "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The adapter_config.json of {name} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"The adapter_config.json of {name} is no object.")
    return config


def _check_kind(name: str, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{name} is a {config.get('peft_type')!r:.40} adapter; only LORA is run here.")
    for key in _NOT_ADDABLE:
        if config.get(key):
            raise ValueError(f"{name} uses {key}, which cannot be combined with other layers exactly.")
    if config.get("bias", "none") != "none":
        raise ValueError(f"{name} replaces biases, which cannot be combined with other layers exactly.")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise ValueError(
            f"{name} begins with {start!r:.40}, which changes the base model; convert it to plain LoRA."
        )
    targets = config.get("target_modules")
    if not isinstance(targets, str | list) or not targets:
        raise ValueError(f"{name} names no target_modules.")


def _ranks(name: str, config: Mapping[str, Any]) -> set[int]:
    pattern = config.get("rank_pattern") or {}
    ranks = {config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())}
    if not all(type(rank) is int and rank > 0 for rank in ranks):
        raise ValueError(f"{name} has a rank that is no whole number above 0.")
    return ranks


def _targets(targets: Any, module: str) -> bool:
    if isinstance(targets, str):
        # PEFT resolves `all-linear` when it saves; what is left of it names every module.
        return targets == "all-linear" or re.fullmatch(targets, module) is not None
    return any(module == target or module.endswith(f".{target}") for target in targets)


def _read_parts(name: str, adapter: Adapter) -> dict[str, dict[str, Shape]]:
    """By module, the shapes of its two halves as `(rank, inputs)` and `(outputs, rank)`."""
    parts: dict[str, dict[str, Shape]] = {}
    try:
        with safe_open(str(Path(adapter.path, _FILE)), framework="pt") as file:
            sizes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise ValueError(f"The {_FILE} of {name} is damaged: {error}") from error
    for key, size in sizes.items():
        found = _PART.fullmatch(key.removeprefix(_PREFIX))
        if found is None or len(size) != 2:
            raise ValueError(
                f"{name} has a tensor {key!r:.100}, which is no part of a LoRA layer of two dimensions."
            )
        parts.setdefault(found["module"], {})[found["part"]] = size
    return parts
