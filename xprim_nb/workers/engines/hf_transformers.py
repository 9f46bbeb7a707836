"""Models that transformers can load, answered token by token, with PEFT's LoRA layers, on CPU, CUDA or MPS.

    hf_transformers   one answer: prompt, steps, end
      ├─▶ hf_loading    a directory becomes a model: offline, no code of its own, whole or refused
      ├─▶ hf_lora       layers chosen for each answer
      │     └─▶ hf_adapter   what an adapter is, from its header
      ├─▶ hf_sampling   scores become a token
      ├─▶ textstream    tokens become text
      ├─▶ hf_parking    weights leave an accelerator and come back
      ├─▶ hf_devices    what torch has here, limits, use
      └─▶ hf_choices    settings and dtypes; needs no torch

What CUDA, MPS and bitsandbytes need is written after their documentation; the tests run it on the CPU alone.

Source: spec 4 §Install on first use, §Workers; spec 5 §Hot swap.
"""

from __future__ import annotations

# First, see there.
from . import hf_offline  # noqa: F401

# isort: split
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import transformers
from jinja2.exceptions import TemplateError
from torch.nn.modules.module import register_module_forward_pre_hook

from .hf_choices import MAX_LORAS
from .hf_devices import place, release_unused, used_bytes
from .hf_loading import Loaded, in_words, load
from .hf_lora import Layers
from .hf_parking import Parking
from .hf_sampling import Chooser
from .textstream import TextStream
from .tokenizing import PromptTooLongError

__all__ = ["HFTransformers", "create"]


class _CancelledError(Exception):
    """Nobody waits for this prompt any more."""


class HFTransformers:
    """The engine; see `Engine` for what each verb promises."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None
        self._layers: Layers | None = None
        self._parking: Parking | None = None
        self._steps = 0

    def load(self, spec: Mapping[str, Any], progress: Callable[[float, str], object]) -> dict[str, Any]:
        """Load the model in `spec["path"]`; see `hf_loading.load` for what is refused."""
        found = load(spec, progress)
        limit = (spec.get("settings") or {}).get("max_loras", MAX_LORAS)
        self._layers = Layers(found.model, found.device, limit)
        self._parking = Parking(found.model, found.device, pinned=place(found.device) == "cuda")
        self._loaded = found
        return {
            "context_tokens": found.context_tokens,
            "device_bytes": used_bytes(found.device),
            "dtype": found.dtype,
            "quantization": found.quantization,
            "architecture": type(found.model).__name__,
            "parameters": sum(each.numel() for each in found.model.parameters()),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def generate(self, request: Mapping[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """The answer, a piece for each token.

        Raises:
            ValueError: The request is refused: no room, no chat template, a layer that does not fit.
            RuntimeError: The model is parked, or none is loaded.
        """
        loaded, layers, parking = self._loaded, self._layers, self._parking
        if loaded is None or layers is None or parking is None:
            raise RuntimeError("No model is loaded.")
        if parking.is_parked:
            raise RuntimeError("The model is parked; wake it first.")
        chooser = Chooser(request)
        ids = _prompt_ids(loaded, request)
        room = loaded.context_tokens - len(ids)
        if room < 1:
            raise PromptTooLongError(len(ids), loaded.context_tokens)
        if request["max_tokens"] < 1:
            raise ValueError(f"max_tokens is {request['max_tokens']}, and must be at least 1.")
        started = time.perf_counter()
        with in_words():
            layers.use(request.get("loras") or ())
        lora_s = time.perf_counter() - started
        answer = _Answer(loaded, ids, min(room, request["max_tokens"]), chooser, request.get("stop") or ())
        answer.times["lora_s"] = lora_s
        yield from self._pieces(answer, cancelled)

    def _pieces(self, answer: _Answer, cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        reason, stream = "", answer.stream
        while not reason:
            try:
                token = None if cancelled() else answer.step(cancelled)
            except _CancelledError:
                token = None
            if token is None:
                reason = "cancelled"
                break
            self._steps += 1
            if token in answer.ends:
                reason = "stop"
                break
            text = answer.take(token)
            if stream.stopped:
                reason = "stop"
            elif answer.is_full:
                reason = "length"
                text += stream.finish()
            yield {"text": text, "tokens": 1}
        rest = stream.finish() if reason == "stop" else ""
        if rest:
            yield {"text": rest, "tokens": 0}
        ended = {"reason": reason, "prompt_tokens": answer.prompt_tokens, "tokens": answer.tokens}
        yield {"ended": {**ended, **answer.times}}

    def park(self) -> dict[str, Any]:
        """Weights to the machine's memory; what stays on the accelerator is told.

        Raises:
            NotImplementedError: The model is on the CPU, shares its memory, or is quantised.
        """
        loaded, parking = self._need()
        if place(loaded.device) != "cuda":
            raise NotImplementedError(f"A model on {loaded.device} has no other memory to be parked in.")
        if loaded.quantization != "none":
            raise NotImplementedError("A model that bitsandbytes quantised stays where it is.")
        if not parking.is_parked:
            with in_words():
                parking.park()
            release_unused(loaded.device)
        return {"device_bytes": used_bytes(loaded.device)}

    def wake(self) -> dict[str, Any]:
        """Weights back to the accelerator."""
        loaded, parking = self._need()
        if parking.is_parked:
            parking.wake()
        return {"device_bytes": used_bytes(loaded.device)}

    def stats(self) -> dict[str, Any]:
        """Tokens made since it was loaded, and the accelerator's bytes."""
        return {
            "steps": self._steps,
            "device_bytes": None if self._loaded is None else used_bytes(self._loaded.device),
        }

    def unload(self) -> None:
        """Let go of the model."""
        device = None if self._loaded is None else self._loaded.device
        self._loaded = self._layers = self._parking = None
        if device is not None:
            release_unused(device)

    def _need(self) -> tuple[Loaded, Parking]:
        if self._loaded is None or self._parking is None:
            raise RuntimeError("No model is loaded.")
        return self._loaded, self._parking


class _Answer:
    """The tokens of one answer, a step each.

    transformers prepares everything as its `generate` does (cache, masks, what the model's authors allow), and hands
    it to a loop of our own: `generate` itself gives a token only when it has made all, and draws from a generator
    that everybody in the process shares.
    """

    def __init__(
        self, loaded: Loaded, ids: list[int], limit: int, chooser: Chooser, stops: tuple[str, ...]
    ) -> None:
        self.ends, self._limit, self._chooser = loaded.ends, limit, chooser
        self.prompt_tokens, self.tokens = len(ids), 0
        self.times = {"lora_s": 0.0, "prefill_s": 0.0, "decode_s": 0.0}
        tokenizer = loaded.tokenizer
        self.stream = TextStream(
            lambda tokens: tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ),
            stops,
        )
        self._loop: _Loop = loaded.model.generate(
            torch.tensor([ids], device=loaded.model.device),
            custom_generate=_Loop,
            do_sample=False,
            max_length=loaded.context_tokens,
        )

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another token, by request or by context."""
        return self.tokens >= self._limit

    def take(self, token: int) -> str:
        """Count the token as part of the answer; the text that is certain now."""
        self.tokens += 1
        return self.stream.push(token)

    def step(self, cancelled: Callable[[], bool]) -> int:
        """The next token.

        Raises:
            _CancelledError: Nobody waits any more, and the prompt has not been read to its end.
        """
        started = time.perf_counter()
        phase = "decode_s" if self._loop.is_begun else "prefill_s"
        try:
            with in_words():
                return self._loop.step(self._chooser, cancelled)
        finally:
            self.times[phase] += time.perf_counter() - started


class _Loop:
    """What transformers calls in place of a decoding loop: keeps what was prepared, and takes a step when asked."""

    def __init__(
        self,
        model: Any,
        input_ids: Any,
        logits_processor: Any,
        stopping_criteria: Any,  # these ends are ours
        generation_config: Any,
        **model_kwargs: Any,
    ) -> None:
        self._model, self._ids, self._allow, self._more = model, input_ids, logits_processor, model_kwargs
        self.is_begun = False

    @torch.inference_mode()
    def step(self, chooser: Chooser, cancelled: Callable[[], bool]) -> int:
        """Run the model over what is new, and choose a token."""
        model, first = self._model, not self.is_begun
        inputs = model.prepare_inputs_for_generation(
            self._ids, next_sequence_length=None if first else 1, is_first_iteration=first, **self._more
        )
        if first:
            # A long prompt takes seconds; it ends within one module of the model.
            watch = register_module_forward_pre_hook(_ending(cancelled))
            try:
                outputs = model(**inputs, return_dict=True)
            finally:
                watch.remove()
            self.is_begun = True
        else:
            outputs = model(**inputs, return_dict=True)
        self._more = model._update_model_kwargs_for_generation(outputs, self._more)
        scores = self._allow(self._ids, outputs.logits[:, -1].to(copy=True, dtype=torch.float32))
        token = chooser.choose(self._ids, scores)
        self._ids = torch.cat([self._ids, self._ids.new_tensor([[token]])], dim=-1)
        return token


def _ending(cancelled: Callable[[], bool]) -> Callable[[Any, Any], None]:
    def check(_: object, __: object) -> None:
        if cancelled():
            raise _CancelledError

    return check


def _prompt_ids(loaded: Loaded, request: Mapping[str, Any]) -> list[int]:
    tokenizer = loaded.tokenizer
    if request.get("messages"):
        ids = _templated(tokenizer, [dict(message) for message in request["messages"]])
    else:
        ids = list(tokenizer(request.get("prompt") or "")["input_ids"])
    if not ids:
        start = loaded.model.generation_config.bos_token_id
        if start is None:
            raise ValueError("The prompt is empty, and the model has no token that a text begins with.")
        ids = [start]
    vocabulary = loaded.model.get_input_embeddings().num_embeddings
    if max(ids) >= vocabulary:
        raise ValueError(
            f"The tokenizer gives token {max(ids)}, and the model knows {vocabulary}: they do not belong together."
        )
    return ids


def _templated(tokenizer: Any, messages: list[dict[str, Any]]) -> list[int]:
    if not tokenizer.chat_template:
        raise ValueError("The model has no chat template: give it a prompt, not messages.")
    try:
        laid_out = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    except TemplateError as error:
        raise ValueError(f"The model's chat template refuses these messages: {error}") from error
    return list(laid_out["input_ids"])


def create() -> HFTransformers:
    """A new engine with nothing loaded."""
    return HFTransformers()
