"""A directory comes in, a model and its tokenizer go out: offline, with no code of the model's own, whole or refused.

Source: spec 4 §Install on first use, §Workers; seeds/003 phase 1.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as hf_logging

from .hf_choices import STORED, check_settings, held_dtype
from .hf_devices import limit_device, place

__all__ = ["Loaded", "load", "read_json"]

Progress = Callable[[float, str], object]

# Of the whole, what is done when the tokenizer is there, and when the weights are; the rest is the first step.
_TOKENIZER_DONE, _WEIGHTS_DONE = 0.1, 0.95
_OLDEST = (5, 14)  # as in the extra `transformers`; older ones prepare a decoding loop in another way
# A setting of `generation_config.json` that says which tokens may come at all is the model's own and is kept. How the
# others are chosen among is said by each request.
_KEPT = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "no_repeat_ngram_size",
    "pad_token_id",
    "remove_invalid_values",
    "repetition_penalty",
    "sequence_bias",
    "suppress_tokens",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that can answer.

    Attributes:
        model: A causal language model of transformers, in evaluation mode.
        tokenizer: Its tokenizer.
        device: Where it is.
        dtype: What its weights are held in.
        quantization: `none`, `8bit`, `4bit`.
        context_tokens: Room for prompt and answer.
        ends: Tokens that end an answer.
    """

    model: Any
    tokenizer: Any
    device: str
    dtype: str
    quantization: str
    context_tokens: int
    ends: frozenset[int]


def load(spec: Mapping[str, Any], progress: Progress) -> Loaded:
    """Load what `spec` names; see `Engine.load`.

    Raises:
        ValueError: The model or a setting is refused; the message says why.
        ImportError: A package is missing; the message names it.
        MemoryError, torch.OutOfMemoryError: There is no room.
    """
    settings, path = dict(spec.get("settings") or {}), Path(spec["path"])
    device = "cuda:0" if spec["device"] == "cuda" else spec["device"]  # torch sets a limit by number
    check_settings(settings)
    _check_version()
    place(device)
    config = read_json(path / "config.json", required=True)
    _check_architecture(path, config)
    if settings.get("threads"):
        torch.set_num_threads(settings["threads"])
    limit_device(device, spec.get("device_limit_bytes"))
    hf_logging.set_verbosity_error()
    progress(0.0, "Reading the tokenizer")
    tokenizer = _load_tokenizer(path)
    progress(_TOKENIZER_DONE, "Loading weights")
    dtype = held_dtype(settings.get("dtype", "auto"), device, config, _stored_dtype(path))
    quantization = settings.get("quantization", "none")
    model = _load_model(path, device, dtype, quantization, progress)
    _keep_constraints(model)
    progress(_WEIGHTS_DONE, "Trying one token")
    _try_one_token(model)
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    context = min(spec["context_tokens"], longest) if isinstance(longest, int) else spec["context_tokens"]
    progress(1.0, "Loaded")
    return Loaded(model, tokenizer, device, dtype, quantization, context, _ends(model, tokenizer))


def read_json(path: Path, *, required: bool = False) -> dict[str, Any]:
    """The object in a file; empty when there is no file and none is required.

    Raises:
        ValueError: It is missing and required, or no JSON object.
    """
    if not required and not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object.")
    return found


def _check_version() -> None:
    found = tuple(int(part) for part in transformers.__version__.split(".")[:2] if part.isdecimal())
    if found < _OLDEST:
        raise ImportError(
            f"This needs transformers {_OLDEST[0]}.{_OLDEST[1]} or newer; {sys.executable} has "
            f"{transformers.__version__}.",
            name="transformers",
        )


def _check_architecture(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if list(path.glob("*.safetensors")):
            return
        raise ValueError(f"{path} has no .safetensors file. Other formats can hold code, and are not read.")
    if config.get("auto_map"):
        raise ValueError(f"The model in {path} brings Python code of its own, and no such code is run here.")
    raise ValueError(
        f"transformers {transformers.__version__} knows no language model of the type {kind!r:.60} ({path})."
    )


def _load_tokenizer(path: Path) -> Any:
    if "AutoTokenizer" in (read_json(path / "tokenizer_config.json").get("auto_map") or {}):
        raise ValueError(
            f"The tokenizer in {path} brings Python code of its own, and no such code is run here."
        )
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"transformers cannot read the tokenizer in {path}: {error}") from error


def _stored_dtype(path: Path) -> str:
    """How the first of its tensors, by name, of floating-point numbers is stored: what `auto` falls back on."""
    found = []
    for file in path.glob("*.safetensors"):
        with safe_open(str(file), framework="pt") as opened:
            found += [(name, opened.get_slice(name).get_dtype()) for name in opened.keys()]  # noqa: SIM118
    return next((dtype for _, dtype in sorted(found) if dtype in STORED), "")


def _load_model(path: Path, device: str, dtype: str, quantization: str, progress: Progress) -> Any:
    options: dict[str, Any] = {}
    if quantization != "none":
        options["quantization_config"] = _quantized(quantization, dtype)
    if quantization != "none" or device != "cpu":
        # Straight to its device, tensor by tensor: the machine's memory need not hold all of it.
        options["device_map"] = {"": device}
    with _reported(progress), in_words():
        model, told = AutoModelForCausalLM.from_pretrained(
            path,
            config=AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    if told["missing_keys"]:
        # transformers would go on with random numbers in their place.
        missing = sorted(told["missing_keys"])
        raise ValueError(f"{path} lacks {len(missing)} tensors of the model, {missing[0]!r:.100} first.")
    return model.eval().requires_grad_(False)


def _quantized(quantization: str, dtype: str) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError(
            f"quantization={quantization!r} needs the package bitsandbytes, which {sys.executable} does not have.",
            name="bitsandbytes",
        )
    from transformers import BitsAndBytesConfig  # noqa: PLC0415  # asks for the package when it is imported

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
    )


@contextmanager
def in_words() -> Iterator[None]:
    """Torch's RuntimeError for want of the machine's memory becomes a MemoryError, which is what it is."""
    try:
        yield
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error) or "not enough memory" in str(error):
            raise MemoryError(str(error).splitlines()[0]) from error
        raise


class _Bar:
    """Stands where transformers would draw a bar, and tells how far it is."""

    def __init__(self, progress: Progress, items: Any = None, total: int | None = None) -> None:
        self._progress, self._items, self._done = progress, items, 0
        self._total = total if total is not None else len(items) if hasattr(items, "__len__") else 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None  # set_description, close … : whatever a bar can be told

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        before, self._done = self._done, self._done + count
        # A hundred steps are plenty; a mixture of experts has ten thousands of tensors.
        if self._total and before * 100 // self._total != self._done * 100 // self._total:
            share = min(1.0, self._done / self._total)
            part = _TOKENIZER_DONE + share * (_WEIGHTS_DONE - _TOKENIZER_DONE)
            self._progress(part, f"Loading weights, {self._done} of {self._total} tensors")


@contextmanager
def _reported(progress: Progress) -> Iterator[None]:
    def bar(_: object, args: tuple[Any, ...], options: dict[str, Any]) -> _Bar:
        return _Bar(progress, args[0] if args else options.get("iterable"), options.get("total"))

    before = hf_logging.set_tqdm_hook(bar)
    try:
        yield
    finally:
        hf_logging.set_tqdm_hook(before)


def _keep_constraints(model: Any) -> None:
    kept = {name: getattr(model.generation_config, name, None) for name in _KEPT}
    model.generation_config = transformers.GenerationConfig(
        **{name: value for name, value in kept.items() if value is not None}
    )


@torch.inference_mode()
def _try_one_token(model: Any) -> None:
    """Read every weight once: files that are only mapped do not count as memory before, and a fault shows now."""
    with in_words():
        model(input_ids=torch.zeros((1, 1), dtype=torch.int64, device=model.device), use_cache=False)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    found = model.generation_config.eos_token_id
    if found is None:
        found = tokenizer.eos_token_id
    return frozenset(() if found is None else (found,) if isinstance(found, int) else found)
