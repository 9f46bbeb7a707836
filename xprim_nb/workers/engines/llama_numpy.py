"""Llama-architecture models in NumPy: the default inference, which needs no torch.

    llama_numpy   one answer: prompt, tokens, end
      ├─▶ llama_config   what a config.json asks for; stdlib alone
      ├─▶ llama_model    the forward pass, keys and values
      │     └─▶ tensorfiles   safetensors by memory map
      ├─▶ lora           LoRA layers as low-rank deltas
      ├─▶ tokenizing     text to tokens and back
      │     ├─▶ bytetokens   without any package
      │     └─▶ chat         the chat template
      ├─▶ sampling       logits become a token
      └─▶ textstream     tokens become pieces of text

Source: spec 4 §Install on first use (`numpy` backend), §Workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .jsonfiles import read_json
from .llama_config import Shape, linear_modules, read_shape
from .llama_model import CancelledError, Deltas, LlamaModel, read_weights
from .lora import Adapters
from .sampling import Sampler
from .tensorfiles import Float32, TensorFiles
from .textstream import TextStream
from .tokenizing import PromptTooLongError, Tokenizer

__all__ = ["NumpyLlama", "create"]

# Tokens of a prompt that go through at once. Cancelling waits for one layer of a block, and a layer of a 7B model
# takes less than a second for so many; more are hardly faster for each token.
_BLOCK_TOKENS = 64
# Share of the loading that reads the weights; the rest is the first token.
_READ_SHARE = 0.95


@dataclass(slots=True)
class _Loaded:
    """A model that can answer.

    Attributes:
        model: Weights, keys and values.
        tokenizer: Text to tokens and back.
        adapters: LoRA layers.
        ends: Tokens that end an answer.
        kept: The prompt of the last answer in whole blocks, whose keys and values are still there.
        kept_under: The LoRA layers that they were computed with.
    """

    model: LlamaModel
    tokenizer: Tokenizer
    adapters: Adapters
    ends: frozenset[int]
    kept: list[int] = field(default_factory=list)
    kept_under: object = ()


class NumpyLlama:
    """The engine; see `Engine` for what each verb promises."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None
        self._steps = 0

    def load(self, spec: Mapping[str, Any], progress: Callable[[float, str], object]) -> dict[str, Any]:
        """Load the model in `spec["path"]`, and compute one token with it.

        Raises:
            ValueError: It is another architecture, damaged, or cannot be read here; the message says which.
            ImportError: Its tokenizer needs a package that is not installed here.
            OSError: A file cannot be read.
        """
        if spec.get("device", "cpu") != "cpu":
            raise ValueError(f"The device {spec['device']!r:.40} was asked for; NumPy computes on the cpu.")
        folder = Path(spec["path"])
        config = read_json(folder / "config.json")
        shape = read_shape(config)
        context_tokens = min(int(spec["context_tokens"]), shape.context_tokens)
        if context_tokens < 2:
            raise ValueError("A context needs room for a token of the prompt and one of the answer.")
        tokenizer = Tokenizer(folder)  # first: it is read fastest, and fails most
        with TensorFiles.of_model(folder) as files:
            weights = read_weights(files, shape, lambda done: progress(_READ_SHARE * done, "reads weights"))
        model = LlamaModel(shape, weights, context_tokens)
        progress(_READ_SHARE, "computes a token")
        # Weights that lie in a file are in memory from now on, and count where memory is measured.
        model.logits(model.forward([0], 0, {}), {})
        self._loaded = _Loaded(
            model, tokenizer, Adapters(linear_modules(shape)), _end_tokens(folder, config, shape)
        )
        progress(1.0, "loaded")
        return {
            "context_tokens": context_tokens,
            "device_bytes": None,
            "dtype": "float32",
            "architecture": shape.family,
        }

    def generate(self, request: Mapping[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """The answer, a piece for each token.

        Raises:
            ValueError: The request is refused: no room, no chat template, a layer that does not fit, a setting out of
                its range.
            RuntimeError: No model is loaded.
        """
        loaded = self._loaded
        if loaded is None:
            raise RuntimeError("No model is loaded.")
        ids = _prompt_ids(loaded, request)
        room = loaded.model.context_tokens - len(ids)
        if room < 1:
            raise PromptTooLongError(len(ids), loaded.model.context_tokens)
        max_tokens = request.get("max_tokens")
        if type(max_tokens) is not int or max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens!r:.40}, and must be a whole number of at least 1.")
        sampler = Sampler(request)
        stream = TextStream(loaded.tokenizer.decode, request.get("stop") or ())
        started = time.perf_counter()
        key, deltas = loaded.adapters.combined(request.get("loras") or ())
        answer = _Answer(loaded, ids, sampler, key, deltas)
        answer.times["lora_s"] = time.perf_counter() - started
        yield from self._pieces(answer, stream, min(room, max_tokens), cancelled)

    def _pieces(
        self, answer: _Answer, stream: TextStream, limit: int, cancelled: Callable[[], bool]
    ) -> Iterator[dict[str, Any]]:
        count, reason = 0, "length"
        while count < limit:
            token = None if cancelled() else answer.step(cancelled)
            if token is None:
                reason = "cancelled"
                break
            self._steps += 1
            if token in answer.ends:
                reason = "stop"
                break
            count += 1
            yield {"text": stream.push(token), "tokens": 1}
            if stream.stopped:
                reason = "stop"
                break
        rest = stream.finish() if reason != "cancelled" else ""
        if rest:
            yield {"text": rest, "tokens": 0}
        if reason == "length" and stream.stopped:
            reason = "stop"  # what was held back completed a stop text
        ended = {"reason": reason, "prompt_tokens": answer.prompt_tokens, "tokens": count}
        yield {"ended": {**ended, **answer.times}}

    def park(self) -> dict[str, Any]:
        """Not offered: there is no accelerator to leave."""
        raise NotImplementedError("A model in NumPy has no accelerator to leave.")

    def wake(self) -> dict[str, Any]:
        """Not offered, see `park`."""
        raise NotImplementedError("A model in NumPy has no accelerator to come back to.")

    def stats(self) -> dict[str, Any]:
        """Tokens made since it was loaded; memory is the process's resident set."""
        return {"steps": self._steps, "device_bytes": None}

    def unload(self) -> None:
        """Let go of the weights."""
        self._loaded = None


class _Answer:
    """One answer: the prompt, block by block, then token by token."""

    def __init__(
        self, loaded: _Loaded, ids: list[int], sampler: Sampler, key: object, deltas: Deltas
    ) -> None:
        self._loaded, self._ids, self._sampler = loaded, ids, sampler
        self._key, self._deltas = key, deltas
        self._done = 0  # tokens whose keys and values are there
        self.prompt_tokens, self.ends = len(ids), loaded.ends
        self.times = {"lora_s": 0.0, "prefill_s": 0.0, "decode_s": 0.0}

    def step(self, cancelled: Callable[[], bool]) -> int | None:
        """The next token; None when nobody waits for it any more."""
        started, phase = time.perf_counter(), "decode_s" if self._done else "prefill_s"
        try:
            hidden = self._forward(cancelled) if self._done else self._prefill(cancelled)
        except CancelledError:
            return None
        token = self._sampler.choose(self._loaded.model.logits(hidden[-1:], self._deltas)[0])
        self._ids.append(token)
        self.times[phase] += time.perf_counter() - started
        return token

    def _prefill(self, cancelled: Callable[[], bool]) -> Float32:
        """Whole blocks that the last answer's prompt began with are still there, and are what they would be again.

        The same tokens go through in the same blocks whatever is kept, so that no bit of the result depends on it.
        """
        loaded, ids = self._loaded, self._ids
        same = _common(loaded.kept, ids[:-1]) if loaded.kept_under == self._key else 0
        self._done = same - same % _BLOCK_TOKENS
        loaded.kept, loaded.kept_under = ids[: self._done], self._key
        while True:
            end = min(self._done + _BLOCK_TOKENS, len(ids))
            hidden = loaded.model.forward(ids[self._done : end], self._done, self._deltas, cancelled)
            if end - self._done == _BLOCK_TOKENS:
                loaded.kept = ids[:end]
            self._done = end
            if end == len(ids):
                return hidden

    def _forward(self, cancelled: Callable[[], bool]) -> Float32:
        hidden = self._loaded.model.forward(self._ids[self._done :], self._done, self._deltas, cancelled)
        self._done = len(self._ids)
        return hidden


def create() -> NumpyLlama:
    """A new engine."""
    return NumpyLlama()


def _prompt_ids(loaded: _Loaded, request: Mapping[str, Any]) -> list[int]:
    messages = request.get("messages") or ()
    prompt = request.get("prompt")
    if bool(messages) == (prompt is not None):
        raise ValueError("An answer needs a prompt or messages, and not both.")
    tokenizer, vocabulary = loaded.tokenizer, loaded.model.shape.vocabulary
    ids = tokenizer.encode_chat(messages) if messages else tokenizer.encode_prompt(str(prompt))
    if max(ids) >= vocabulary:
        raise ValueError(f"The tokenizer makes token {max(ids)}, and the model has {vocabulary}.")
    return ids


def _end_tokens(folder: Path, config: Mapping[str, Any], shape: Shape) -> frozenset[int]:
    """The tokens that end an answer: those of `generation_config.json`, or of the configuration where it has none."""
    file = folder / "generation_config.json"
    found = (read_json(file) if file.is_file() else {}).get("eos_token_id")
    found = config.get("eos_token_id") if found is None else found
    several = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(each) is int and each >= 0 for each in several):
        raise ValueError(f"eos_token_id is {found!r:.80}, and must be a token or several.")
    return frozenset(each for each in several if each < shape.vocabulary)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts have in common from their beginning on."""
    for number, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return number
    return min(len(one), len(other))
