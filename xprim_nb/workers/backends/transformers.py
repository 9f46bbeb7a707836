"""Installed safetensors models, run by transformers and PEFT in worker processes, on CPU, CUDA or MPS.

Neither torch nor transformers is imported here: they belong to the worker, whose interpreter may be another one.

Source: spec 4 §Install on first use (`transformers` (+peft; CPU, CUDA, MPS; dtype and quantisation options)).
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from xprim_nb.errors import ConfigError, MissingExtraError
from xprim_nb.registry.headers import TensorInfo
from xprim_nb.workers.backends.local import LocalModels, check_settings
from xprim_nb.workers.backends.modelfiles import ModelFiles, facts_of
from xprim_nb.workers.contract import BackendContext, OnInstall, Runner
from xprim_nb.workers.engines import hf_choices
from xprim_nb.workers.engines.hf_choices import DTYPES, STORED, held_dtype
from xprim_nb.workers.process import start_runner
from xprim_nb.workers.spare import Spare
from xprim_nb.workers.values import Capabilities, LoadOptions, ModelFacts, Recommended

__all__ = ["PRELOAD", "TransformersBackend", "create"]

PRELOAD = ("torch", "transformers", "transformers.modeling_utils", "transformers.generation")
"""What a spare worker can import in waiting: most of the seconds that the first model of a worker takes."""

_NAME, _ENGINE, _EXTRA = "transformers", "hf_transformers", "transformers"
# What another interpreter needs, which has no package of ours that could name it.
_PACKAGES = "torch transformers peft accelerate"
# Tables that older files have and that transformers computes anew: rotations, and GPT-2's causal masks.
_COMPUTED = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|attn\.masked_bias)\Z")
_MASK = re.compile(r"(.*\.)?attn\.bias\Z")
_HEAD = re.compile(r"(.*\.)?(lm_head|embed_out)\.weight\Z")
# bitsandbytes keeps one float32 for 64 numbers of 4 bits, and the 16 values themselves; for 8 bits one for each row.
_BLOCK, _CODE_BYTES, _SCALE_BYTES = 64, 16 * 4, 4


class TransformersBackend:
    """The backend; see `Backend` for what each verb promises.

    Args:
        context: Where its models are found.
    """

    def __init__(self, context: BackendContext) -> None:
        self._models = LocalModels(context, _NAME, _refuses)
        self._spare = Spare(preload=PRELOAD) if context.hot_spare else None

    @property
    def name(self) -> str:
        """As it stands before the colon in `backend:model`."""
        return _NAME

    @property
    def capabilities(self) -> Capabilities:
        """What it can do. Only models on CUDA that are not quantised can be parked."""
        return Capabilities(
            has_process=True, lora="merge", can_park=True, uses_library=True, devices=("cpu", "cuda", "mps")
        )

    async def check_model_availability(self, names: Sequence[str]) -> list[str]:
        """Which of these are not installed."""
        return await self._models.check_model_availability(names)

    async def install_model(self, name: str, progress: OnInstall) -> None:
        """Install it from the registry."""
        await self._models.install_model(name, progress)

    async def get_recommended_models(self) -> list[Recommended]:
        """What the registry has to try."""
        return await self._models.get_recommended_models()

    async def facts(self, name: str, options: LoadOptions) -> ModelFacts:
        """The exact bytes of the weights as they will be held, from headers alone.

        Raises:
            ConfigError: A setting is unknown or cannot work.
            NotInstalledError, UnsupportedModelError, LoadFailedError: See `LocalModels.open`.
        """
        settings = _checked(options)
        found = await self._models.open(name)
        dtype = _dtype(found.files, settings, options.device)
        return facts_of(
            found.model,
            found.files,
            backend=_NAME,
            held_bytes=_held(found.files, dtype, str(settings.get("quantization", "none"))),
            cache_item_bytes=DTYPES[dtype],
        )

    async def load(self, name: str, options: LoadOptions, progress: Callable[[float, str], object]) -> Runner:
        """Load it in a worker process of its own.

        Raises:
            ConfigError: A setting is unknown or cannot work.
            NotInstalledError, UnsupportedModelError: See `facts`.
            WorkerStartError, WorkerCrashedError, WorkerMemoryError, WorkerHungError: Its process is at fault.
            LoadFailedError: transformers refused it.
            MissingExtraError: The worker's interpreter lacks a package.
        """
        settings = _checked(options)
        found = await self._models.open(name)

        async def start() -> Runner:
            return await start_runner(
                model=found.model.name,
                engine=_ENGINE,
                spec={"path": str(found.model.path), "settings": dict(settings)},
                options=options,
                progress=progress,
                spare=self._spare,
                can_park=options.device.startswith("cuda") and settings.get("quantization", "none") == "none",
            )

        try:
            return await self._models.held(name, start)
        except MissingExtraError as error:
            raise _named(error, options) from error

    async def aclose(self) -> None:
        """End the worker that waits for the next model, where one does."""
        if self._spare is not None:
            await self._spare.aclose()


def create(context: BackendContext) -> TransformersBackend:
    """The backend `transformers`."""
    return TransformersBackend(context)


def _checked(options: LoadOptions) -> Mapping[str, object]:
    check_settings(options.settings, hf_choices.SETTINGS, _NAME)
    try:
        hf_choices.check_settings(options.settings)
    except ValueError as error:
        text = str(error)
        raise ConfigError(f"The {_NAME} backend: {text}", subject=text.partition(" ")[0]) from error
    return options.settings


def _refuses(files: ModelFiles) -> str:
    if files.format != "safetensors":
        return 'its weights are GGUF; `ollama` and servers of llama.cpp run those ("ollama:model").'
    if not isinstance(files.config.get("model_type"), str):
        return "its config.json names no model_type."
    return ""


def _named(error: MissingExtraError, options: LoadOptions) -> MissingExtraError:
    """The same, told by the extra where it brings what is missing."""
    if error.subject not in (*_PACKAGES.split(), "safetensors", "jinja2", "tokenizers"):
        return error  # bitsandbytes, which no extra brings, or a broken installation
    own = options.environment.python is None
    python = options.environment.python or sys.executable
    return MissingExtraError(
        f"{error.message} The extra {_EXTRA!r} has what the {_NAME} backend needs.",
        subject=_EXTRA,
        hint=f'pip install "xprim-nb[{_EXTRA}]"' if own else f"{python} -m pip install {_PACKAGES}",
    )


# --- what the weights take --------------------------------------------------------------------------


def _dtype(files: ModelFiles, settings: Mapping[str, object], device: str) -> str:
    found = sorted((each.name, each.dtype) for each in files.tensors if each.dtype in STORED)
    stored = found[0][1] if found else ""
    return held_dtype(str(settings.get("dtype", "auto")), device, files.config, stored)


def _held(files: ModelFiles, dtype: str, quantization: str) -> Callable[[TensorInfo], int]:
    config, number = files.config, DTYPES[dtype]
    vocabulary = config.get("vocab_size")
    is_tied = config.get("tie_word_embeddings") is True
    is_quantised = bool(config.get("quantization_config"))  # as published: held as it is stored

    def held(tensor: TensorInfo) -> int:
        if _COMPUTED.match(tensor.name) or (_MASK.match(tensor.name) and len(tensor.shape) == 4):
            return 0
        if is_tied and _HEAD.match(tensor.name):
            return 0  # the table of embeddings, which is counted
        if tensor.dtype not in STORED:
            return tensor.size_bytes
        is_matrix = len(tensor.shape) == 2 and tensor.shape[0] != vocabulary and not is_quantised
        if quantization == "8bit" and is_matrix:
            return tensor.parameters + _SCALE_BYTES * tensor.shape[0]
        if quantization == "4bit" and is_matrix:
            blocks = math.ceil(tensor.parameters / _BLOCK)
            return math.ceil(tensor.parameters / 2) + _SCALE_BYTES * blocks + _CODE_BYTES
        return tensor.parameters * number

    return held
