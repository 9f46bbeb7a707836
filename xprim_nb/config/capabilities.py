"""What models may use on this machine: the engine's settings, as one frozen value.

Source: seeds/003 §Configuration (`AICapabilities`); spec 4 §Residency, §Workers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, TypeAlias

from xprim_nb.config.masking import mask_url
from xprim_nb.errors import ConfigError

__all__ = ["AICapabilities", "AutoInstall", "parse_bytes"]

AutoInstall: TypeAlias = Literal["yes", "ask", "never"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*\Z", re.IGNORECASE)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
# Variables of the environment, and the setting each of them is.
_VARIABLES = {
    "XPRIM_MAX_VRAM": "max_vram_bytes",
    "XPRIM_MAX_CONCURRENT_WORKERS": "max_concurrent_workers",
    "XPRIM_MAX_RAM_PER_WORKER": "max_ram_per_worker_bytes",
    "XPRIM_AUTO_INSTALL_MODELS": "auto_install_models",
    "XPRIM_MAX_MODEL_CACHE_SIZE": "max_model_cache_size_bytes",
}
# Where servers are, and the keys they want, by the names that their own programs use.
_ENDPOINTS = {
    "ollama": ("OLLAMA_HOST", ""),
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "anthropic": ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
    "openai_compatible": ("XPRIM_OPENAI_COMPATIBLE_URL", "XPRIM_OPENAI_COMPATIBLE_KEY"),
}
# What each of them stands for while nobody has set it.
_UNSET = {
    "max_vram_bytes": "all of each accelerator, but for a safety margin",
    "max_ram_bytes": "three quarters of the machine's memory",
    "max_ram_per_worker_bytes": "what the machine has",
    "max_model_cache_size_bytes": "no limit",
    "model_storage_path": "data_dir",
    "timeout_s": "no limit",
    "worker_python": "this one",
    "ledger_dir": "the platform's runtime directory",
}


def parse_bytes(text: str, subject: str) -> int:
    """A size written by a person, powers of 1024.

    >>> parse_bytes("8GB", "max_vram"), parse_bytes("1.5 g", "max_vram"), parse_bytes("4096", "max_vram")
    (8589934592, 1610612736, 4096)

    Raises:
        ConfigError: It is no size; `subject` names the setting.
    """
    found = _SIZE.match(text)
    if found is None:
        raise ConfigError(
            f"{subject} is {text!r:.60}, and must be a size like 8GB or 512MB.", subject=subject
        )
    return int(float(found[1]) * 1024 ** _UNITS[found[2].upper()])


def _written(size_bytes: int) -> str:
    """A size as `parse_bytes` reads it, in the largest unit that is not above it."""
    unit = next((each for each in "TGMK" if size_bytes >= 1024 ** _UNITS[each]), "")
    return f"{size_bytes / 1024 ** _UNITS[unit]:.4g}{unit}B"


@dataclass(frozen=True, slots=True, repr=False)
class AICapabilities:
    """What models may use here. Sizes in bytes, times in seconds.

    Attributes:
        max_vram_bytes: Of each accelerator, for all models together; None for all of it but a safety margin.
        max_ram_bytes: Of the machine's memory, for all models on the CPU together; None for three quarters of it.
        max_concurrent_workers: Worker processes at once, of this process.
        max_ram_per_worker_bytes: Of one worker; None for what the machine has.
        auto_install_models: Whether a model that is not there is installed when it is asked for.
        max_model_cache_size_bytes: Models not used lately are cleaned up above it after an installation; None: never.
        model_storage_path: Where models are installed; None for `Config.data_dir`.
        context_tokens: Room for prompt and answer that is reserved for each model.
        timeout_s: Longest time of one answer, counted when the model is loaded; None for no limit.
        queue_timeout_s: Longest wait for a turn, installation not counted.
        load_stall_timeout_s: Longest silence of a model that is being loaded.
        first_token_timeout_s: Longest wait for an answer's first token.
        between_tokens_timeout_s: Longest silence inside an answer.
        allow_smaller_context: Where the context does not fit, halve it, down to 512 tokens, and say so.
        allow_cpu: Where no accelerator can hold a model, run it on the CPU, and say so.
        hot_spare: Keep one worker of transformers started, its imports done, for the next load: some 300 MB of the
            machine's memory that no model is charged with, and seconds less of waiting.
        worker_python: The interpreter of workers; None for this one.
        ledger_dir: Where the ledger of this user and machine lies; None for the platform's runtime directory.
        endpoints: Base URL by backend: `ollama`, `openai`, `anthropic`, `openai_compatible`, or a name of one's own,
            which is an OpenAI-compatible server.
        keys: API key by the same names. Never shown.

    Raises:
        ConfigError: A value is out of its range; the message names it.
    """

    max_vram_bytes: int | None = None
    max_ram_bytes: int | None = None
    max_concurrent_workers: int = 4
    max_ram_per_worker_bytes: int | None = None
    auto_install_models: AutoInstall = "yes"
    max_model_cache_size_bytes: int | None = None
    model_storage_path: Path | None = None
    context_tokens: int = 4096
    timeout_s: float | None = 30.0
    queue_timeout_s: float = 300.0
    load_stall_timeout_s: float = 120.0
    first_token_timeout_s: float = 60.0
    between_tokens_timeout_s: float = 30.0
    allow_smaller_context: bool = False
    allow_cpu: bool = False
    hot_spare: bool = False
    worker_python: Path | None = None
    ledger_dir: Path | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "max_vram_bytes",
            "max_ram_bytes",
            "max_ram_per_worker_bytes",
            "max_model_cache_size_bytes",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} is {value}, and must be above 0 bytes.", subject=name)
        for name in ("max_concurrent_workers", "context_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, and must be at least 1.", subject=name)
        for name in (each.name for each in fields(self) if each.name.endswith("timeout_s")):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise ConfigError(f"{name} is {value}, and must be above 0 seconds.", subject=name)
        if self.auto_install_models not in ("yes", "ask", "never"):
            raise ConfigError(
                f"auto_install_models is {self.auto_install_models!r:.60}, and must be yes, ask or never.",
                subject="auto_install_models",
            )

    def with_environment(self, environ: Mapping[str, str]) -> AICapabilities:
        """The same with the environment's values where nothing else is set.

        Raises:
            ConfigError: A variable has a value that cannot work; the message names it.
        """
        changed: dict[str, object] = {}
        default = AICapabilities()
        for variable, name in _VARIABLES.items():
            text = environ.get(variable, "").strip()
            if text and getattr(self, name) == getattr(default, name):
                changed[name] = _read(text, name, variable)
        endpoints, keys = dict(self.endpoints), dict(self.keys)
        for name, (url, key) in _ENDPOINTS.items():
            if environ.get(url):
                endpoints.setdefault(name, environ[url])
            if key and environ.get(key):
                keys.setdefault(name, environ[key])
        return replace(self, endpoints=endpoints, keys=keys, **changed)  # type: ignore[arg-type]  # read by name

    def shown(self) -> dict[str, object]:
        """Every setting by name, keys and passwords masked: what may be printed and logged."""
        values: dict[str, object] = {item.name: getattr(self, item.name) for item in fields(self)}
        values["endpoints"] = {name: mask_url(url) for name, url in self.endpoints.items()}
        values["keys"] = dict.fromkeys(self.keys, "***")
        return values

    def told(self) -> dict[str, str]:
        """The same in a reader's words: sizes with their unit, and what an unset one stands for.

        >>> AICapabilities(max_vram_bytes=8 * 1024**3).told()["max_vram"]
        '8GB'
        """
        told: dict[str, str] = {}
        for name, value in self.shown().items():
            if value is None:
                told[name.removesuffix("_bytes")] = _UNSET[name]
            elif name.endswith("_bytes") and isinstance(value, int):
                told[name.removesuffix("_bytes")] = _written(value)
            elif isinstance(value, Mapping):
                told[name] = ", ".join(f"{key} {text}" for key, text in value.items()) or "none"
            else:
                told[name] = f"{value:g}" if isinstance(value, float) else str(value)
        return told

    def __repr__(self) -> str:
        return f"AICapabilities({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"


def _read(text: str, name: str, variable: str) -> object:
    if name.endswith("_bytes"):
        return parse_bytes(text, variable)
    if name != "max_concurrent_workers":
        return text.lower()
    if not text.isdecimal():
        raise ConfigError(f"{variable} is {text!r:.60}, and must be a whole number.", subject=variable)
    return int(text)
