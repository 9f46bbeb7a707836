"""LoRA layers beside a model: chosen anew for each answer, added up exactly, and gone without a trace.

PEFT puts them into the model; here is what it leaves open: several with weights at once, a check before anything
changes, the way back after a failure, and how many stay loaded.

Source: spec 5 §Hot swap; research/residency §4.7.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from .hf_adapter import Adapter, check_adapter, shapes_of

__all__ = ["Layers"]


class Layers:
    """The LoRA layers of one model, which it owns: nobody else changes the model's modules.

    Args:
        model: A causal language model of transformers, with no layers.
        device: Where it lies.
        limit: Adapters that stay loaded; those that were used longest ago leave first.
    """

    def __init__(self, model: Any, device: str, limit: int) -> None:
        self._model, self._device, self._limit = model, device, limit
        # Every module with its children as they were: PEFT replaces children, never a module's own tensors.
        self._bare = [(module, dict(module._modules)) for module in model.modules()]
        self._shapes = shapes_of(model)
        self._peft: Any = None
        self._loaded: OrderedDict[Adapter, str] = OrderedDict()
        self._active: dict[Adapter, float] = {}
        self._count = 0

    @property
    def loaded(self) -> list[str]:
        """The directories of the adapters that are loaded, longest unused first."""
        return [adapter.path for adapter in self._loaded]

    def use(self, loras: Sequence[Mapping[str, Any]]) -> bool:
        """Let the next answer be made with these layers, and no others; true when that changed anything.

        Args:
            loras: `name`, `path` and `weight` of each. One that is named twice counts with both weights.

        Raises:
            ValueError: One does not fit; nothing has changed.
            ImportError: PEFT is not installed; nothing has changed.
            torch.OutOfMemoryError: There is no room; nothing has changed.
        """
        wanted: dict[Adapter, float] = {}
        names: dict[Adapter, str] = {}
        for lora in loras:
            adapter = Adapter.at(lora["name"], lora["path"])
            wanted[adapter] = wanted.get(adapter, 0.0) + float(lora["weight"])
            names[adapter] = lora["name"]
        for adapter in wanted:
            if adapter not in self._loaded:
                check_adapter(names[adapter], adapter, self._shapes)
        if wanted == self._active and list(wanted) == list(self._active):
            return False
        loaded, active = list(self._loaded), self._active
        try:
            self._make_room(wanted)
            for adapter in wanted:
                self._load(names[adapter], adapter)
            self._activate(wanted)
        except BaseException as error:
            self._strip()
            if isinstance(error, Exception):
                self._restore(loaded, active, error)
            raise
        return True

    def _restore(self, loaded: Sequence[Adapter], active: Mapping[Adapter, float], error: Exception) -> None:
        """The layers as they were, read again: PEFT has no way back from half a change."""
        try:
            for adapter in loaded:
                self._load(adapter.path, adapter)
            self._activate(active)
        except Exception as again:  # noqa: BLE001  # what came first is raised, and tells of it
            self._strip()
            error.add_note(f"The layers from before could not be read again either: {again}")

    def _make_room(self, wanted: Mapping[Adapter, float]) -> None:
        coming = sum(adapter not in self._loaded for adapter in wanted)
        if not coming:
            return
        leaving = [adapter for adapter in self._loaded if adapter not in wanted]
        leaving = leaving[: max(0, len(self._loaded) + coming - self._limit)]
        if leaving and len(leaving) == len(self._loaded):
            self._strip()  # the last one: PEFT would leave its empty layers behind
            return
        if leaving:
            # None of those that leave may be active: PEFT would choose another in its place, with a warning.
            self._activate({next(adapter for adapter in self._loaded if adapter not in leaving): 1.0})
        for adapter in leaving:
            self._peft.delete_adapter(self._loaded.pop(adapter))

    def _load(self, name: str, adapter: Adapter) -> None:
        if adapter in self._loaded:
            self._loaded.move_to_end(adapter)
            return
        peft = _peft()
        self._count += 1
        inner = f"layer_{self._count}"
        if self._peft is None:
            config = peft.LoraConfig.from_pretrained(adapter.path)
            config.inference_mode = True
            self._peft = peft.PeftModel(self._model, config, inner, low_cpu_mem_usage=True)
        result = self._peft.load_adapter(
            adapter.path, inner, torch_device=self._device, low_cpu_mem_usage=True, local_files_only=True
        )
        if result.missing_keys or result.unexpected_keys:
            key = (result.missing_keys or result.unexpected_keys)[0]
            raise ValueError(f"{name} and its target_modules differ: {key!r:.120} is on one side alone.")
        self._loaded[adapter] = inner

    def _activate(self, wanted: Mapping[Adapter, float]) -> None:
        self._active = {}
        # A weight of nothing adds nothing, and costs nothing so.
        weights = {self._loaded[adapter]: weight for adapter, weight in wanted.items() if weight}
        if not weights:
            if self._peft is not None:
                self._peft.base_model.disable_adapter_layers()
        else:
            tuner = self._peft.base_model
            tuner.enable_adapter_layers()
            tuner.set_adapter(list(weights), inference_mode=True)
            for module in tuner.modules():
                if hasattr(module, "set_scale"):
                    for inner, weight in weights.items():
                        module.set_scale(inner, weight)
        self._active = dict(wanted)

    def _strip(self) -> None:
        """Take every layer out: each module gets back the very children that it had."""
        for module, children in self._bare:
            module._modules.clear()
            module._modules.update(children)
        if hasattr(self._model, "peft_config"):
            del self._model.peft_config
        self._peft = None
        self._loaded.clear()
        self._active = {}


def _peft() -> Any:
    try:
        import peft  # noqa: PLC0415  # an answer without layers needs no PEFT
    except ModuleNotFoundError as error:
        raise ImportError(
            f"LoRA layers need the package peft, which {sys.executable} does not have.", name="peft"
        ) from error
    return peft
