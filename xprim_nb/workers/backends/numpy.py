"""Installed Llama-architecture models, run by NumPy in worker processes: the default inference, which needs no torch.

Source: spec 4 §Install on first use (`numpy` backend).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from xprim_nb.errors import ConfigError, UnsupportedModelError
from xprim_nb.registry.headers import TensorInfo
from xprim_nb.workers.backends.local import LocalModels, OpenedModel, check_settings
from xprim_nb.workers.backends.modelfiles import ModelFiles, facts_of
from xprim_nb.workers.contract import BackendContext, OnInstall, Runner
from xprim_nb.workers.engines.llama_config import held_tensors, refusal
from xprim_nb.workers.process import start_runner
from xprim_nb.workers.values import Capabilities, Environment, LoadOptions, ModelFacts, Recommended

__all__ = ["NumpyBackend", "create", "supports"]

_NAME, _ENGINE = "numpy", "llama_numpy"
_SETTINGS = ("threads",)
_FLOAT32_BYTES = 4
# What tensors may be stored in; the engine widens the last two when it reads them.
_STORED = ("F32", "F16", "BF16")
# More hardly help a model that is small enough for NumPy, and other workers compute too.
_MOST_THREADS = 4
# Below it one thread has multiplied a matrix with a token before another is awake: on two busy cores the demo model
# makes half as many tokens with two threads as with one.
_ONE_THREAD_BYTES = 64 << 20
# Each of the libraries that NumPy may have been built with reads one of these when it is loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def supports(config: Mapping[str, Any]) -> str:
    """Why a model with this `config.json` cannot be run by NumPy, as the end of a sentence; `""` when it can.

    >>> supports({"architectures": ["GPT2LMHeadModel"]})
    "the architecture 'GPT2LMHeadModel' is none of LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM."
    """
    return refusal(config)


class NumpyBackend:
    """The backend; see `Backend` for what each verb promises.

    Args:
        context: Where its models are found.
    """

    def __init__(self, context: BackendContext) -> None:
        self._models = LocalModels(context, _NAME, _refuses)

    @property
    def name(self) -> str:
        """As it stands before the colon in `backend:model`."""
        return _NAME

    @property
    def capabilities(self) -> Capabilities:
        """What it can do: one answer at a time, on the CPU, with any sum of LoRA layers."""
        return Capabilities(has_process=True, lora="merge", uses_library=True)

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
        """The exact bytes of the weights as they will be held, from headers alone: four for each number.

        Raises:
            ConfigError: A setting is unknown or cannot work.
            NotInstalledError, UnsupportedModelError, LoadFailedError: See `LocalModels.open`.
        """
        _check(options)
        return _facts(await self._models.open(name))

    async def load(self, name: str, options: LoadOptions, progress: Callable[[float, str], object]) -> Runner:
        """Load it in a worker process of its own.

        Raises:
            ConfigError: A setting is unknown or cannot work.
            NotInstalledError: It is not there.
            UnsupportedModelError: It is another architecture, or for another device than the CPU.
            WorkerStartError, WorkerCrashedError, WorkerMemoryError, WorkerHungError: Its process is at fault.
            LoadFailedError: The engine refused it, or a file is damaged.
            MissingExtraError: The worker's interpreter lacks numpy, or `tokenizers` where the model needs it.
        """
        _check(options)
        found = await self._models.open(name)
        if options.device != "cpu":
            raise UnsupportedModelError(
                f"The {_NAME} backend computes on the CPU, not on {options.device}.",
                subject=name,
                hint="Choose the backend `transformers` for an accelerator.",
            )

        threads = options.settings.get("threads") or _threads(_facts(found).weight_bytes)

        async def start() -> Runner:
            return await start_runner(
                model=found.model.name,
                engine=_ENGINE,
                spec={"path": str(found.model.path), "settings": dict(options.settings)},
                options=replace(options, environment=_with_threads(options.environment, threads)),
                progress=progress,
            )

        return await self._models.held(name, start)

    async def aclose(self) -> None:  # house: it holds nothing
        """It holds nothing."""


def create(context: BackendContext) -> NumpyBackend:
    """The backend `numpy`."""
    return NumpyBackend(context)


def _refuses(files: ModelFiles) -> str:
    if files.format != "safetensors":
        return 'its weights are GGUF; `ollama` and servers of llama.cpp run those ("ollama:model").'
    why = supports(files.config)
    if why:
        return why
    held = held_tensors(files.config, [tensor.name for tensor in files.tensors])
    strange = next((each for each in files.tensors if each.name in held and each.dtype not in _STORED), None)
    if strange is not None:
        return f"its tensor {strange.name!r:.100} is {strange.dtype}; {', '.join(_STORED)} can be read."
    return ""


def _facts(found: OpenedModel) -> ModelFacts:
    held = held_tensors(found.files.config, [tensor.name for tensor in found.files.tensors])

    def held_bytes(tensor: TensorInfo) -> int:
        return tensor.parameters * _FLOAT32_BYTES if tensor.name in held else 0

    return facts_of(
        found.model, found.files, backend=_NAME, held_bytes=held_bytes, cache_item_bytes=_FLOAT32_BYTES
    )


def _check(options: LoadOptions) -> None:
    """Refuse a setting that is unknown or cannot work."""
    check_settings(options.settings, _SETTINGS, _NAME)
    threads = options.settings.get("threads", 1)
    # `type is int`: True is an int to isinstance.
    if type(threads) is not int or threads < 1:
        raise ConfigError(
            f"threads is {threads!r:.40}, and must be a whole number of at least 1.", subject="threads"
        )


def _threads(weight_bytes: int) -> int:
    """How many threads a model of this size is run with where nobody says."""
    return 1 if weight_bytes < _ONE_THREAD_BYTES else min(_MOST_THREADS, _cores())


def _cores() -> int:
    """Cores that this process may use: a container is often given fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _with_threads(where: Environment, threads: object) -> Environment:
    """The same with the number of threads, which is read when numpy is imported; a user's own variables win."""
    return replace(where, variables={**dict.fromkeys(_THREAD_VARIABLES, str(threads)), **where.variables})
