"""How a model is held by the transformers engine: settings, dtype and devices. Needs neither torch nor a worker.

The backend asks the same functions before a process exists, so that its estimate is of what the engine will hold.

Source: spec 4 §Install on first use ("dtype and quantisation options").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["DTYPES", "MAX_LORAS", "QUANTIZATIONS", "STORED", "check_settings", "declared_dtype", "held_dtype"]

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""What weights can be held in, and the bytes of one number."""
STORED = {"F32": "float32", "F64": "float32", "BF16": "bfloat16", "F16": "float16"}
"""What safetensors calls numbers, and what they can be held in."""
QUANTIZATIONS = ("none", "8bit", "4bit")
MAX_LORAS = 8
"""Adapters that stay loaded beside the model unless told otherwise: those of rank 16 are 1 % of it each."""

SETTINGS = ("dtype", "max_loras", "quantization", "threads")
"""What can be set; see `check_settings`."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse, by name, a setting that is unknown or has a value that cannot work.

    Args:
        settings: `dtype` (`auto`, `float32`, `bfloat16`, `float16`), `quantization` (`none`, `8bit`, `4bit`),
            `threads` (0 for torch's own choice), `max_loras` (adapters that stay loaded, at least 1).

    Raises:
        ValueError: The message names the setting.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ValueError(f"The setting {unknown[0]!r:.60} is unknown; there are {', '.join(SETTINGS)}.")
    for name, allowed in (("dtype", ("auto", *DTYPES)), ("quantization", QUANTIZATIONS)):
        if name in settings and settings[name] not in allowed:
            raise ValueError(f"{name} is {settings[name]!r:.60}, and must be one of {', '.join(allowed)}.")
    for name, least in (("threads", 0), ("max_loras", 1)):
        value = settings.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r:.60}, and must be a whole number of at least {least}.")


def declared_dtype(config: Mapping[str, Any]) -> str:
    """The dtype that a `config.json` names, `""` when it names none."""
    inner = config.get("text_config")
    for each in (config, inner if isinstance(inner, dict) else {}):
        found = each.get("dtype") or each.get("torch_dtype")
        if isinstance(found, str):
            return found.removeprefix("torch.")
    return ""


def held_dtype(wanted: str, device: str, config: Mapping[str, Any], stored: str) -> str:
    """The dtype that the weights will have in memory.

    `auto` is the one the model was published in. On the CPU float16 becomes float32: a prompt takes longer in float16
    there, and some operations do not exist. bfloat16 stays, which half the memory is worth.

    Args:
        wanted: The setting.
        device: `cpu`, `cuda:0`, `mps`.
        config: The model's `config.json`.
        stored: How its first tensor of floating-point numbers is stored, as safetensors calls it; `""` if unknown.
    """
    if wanted != "auto":
        return wanted
    found = declared_dtype(config) or STORED.get(stored, "float32")
    if found not in DTYPES or (found == "float16" and device == "cpu"):
        return "float32"
    return found
