"""What somebody asks of a model: checked before anything is started, and how far it is.

Source: spec 4 §Faces (`generate(model, prompt|messages, *, …)`).
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from xprim_nb.errors import ConfigError
from xprim_nb.scheduling.state import PRIORITIES
from xprim_nb.scheduling.values import GenerateProgress, Phase
from xprim_nb.workers.values import GenerateRequest, Message, Sampling

__all__ = [
    "DEFAULT",
    "Asking",
    "LoraWish",
    "MessageLike",
    "Timeout",
    "build_request",
    "check_priority",
    "parse_loras",
]

MessageLike: TypeAlias = Message | Mapping[str, str]
LoraWish: TypeAlias = str | tuple[str, float]
_ROLES = ("system", "user", "assistant")


class _Default:
    """The setting's value."""

    def __repr__(self) -> str:
        return "the setting's"


DEFAULT = _Default()
"""Stands for `AICapabilities.timeout_s`, where None means no limit."""

Timeout: TypeAlias = float | _Default | None


def build_request(
    prompt: str | None,
    messages: Sequence[MessageLike] | None,
    body: Mapping[str, object] | None = None,
    *,
    max_tokens: int | None,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int | None,
    stop: Sequence[str] | str,
) -> GenerateRequest:
    """The request that these make.

    Raises:
        ConfigError: One of them cannot work; the message names it.
    """
    if sum(each is not None for each in (prompt, messages, body)) != 1:
        raise ConfigError("Give either a prompt, or messages, or a body.", subject="prompt")
    if not isinstance(prompt, str | None):
        raise ConfigError(f"The prompt is text, not {type(prompt).__name__}.", subject="prompt")
    _check(max_tokens is None or max_tokens >= 1, "max_tokens", max_tokens, "at least 1")
    _check(0 <= temperature < math.inf, "temperature", temperature, "0 or above")
    _check(0 < top_p <= 1, "top_p", top_p, "above 0, and 1 at most")
    _check(top_k >= 0, "top_k", top_k, "0 or above")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(each and isinstance(each, str) for each in stops):
        raise ConfigError("stop holds a text that is empty, or no text.", subject="stop")
    if seed is None:
        # Told in the reply, so that any answer can be had again.
        seed = secrets.randbits(31) if temperature > 0 else 0
    sampling = Sampling(max_tokens, float(temperature), float(top_p), top_k, seed, stops)
    return GenerateRequest(prompt, tuple(map(_message, messages or ())), sampling, body=body)


def check_priority(priority: str) -> str:
    """The priority, when there is one of this name.

    Raises:
        ConfigError: There is none.
    """
    if priority not in PRIORITIES:
        raise ConfigError(
            f"priority is {priority!r:.60}, and must be one of {', '.join(PRIORITIES)}.", subject="priority"
        )
    return priority


def parse_loras(wishes: Sequence[LoraWish] | str) -> tuple[tuple[str, float], ...]:
    """LoRA layers by name, each with its weight.

    >>> parse_loras("demo/lora-json v1, demo/lora-prose v1 * 0.5")
    (('demo/lora-json v1', 1.0), ('demo/lora-prose v1', 0.5))

    Raises:
        ConfigError: A weight is no number, or a name is missing or given twice.
    """
    listed = wishes.split(",") if isinstance(wishes, str) else wishes
    found = tuple(_lora(each) for each in listed if each)
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"A LoRA layer is named twice: {', '.join(names)}.", subject="loras")
    return found


def _lora(wish: LoraWish) -> tuple[str, float]:
    name, weight = wish if isinstance(wish, tuple) else wish.partition("*")[::2]
    try:
        number = float(weight) if weight != "" else 1.0
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or not str(name).strip():
        raise ConfigError(f"{wish!r:.100} is no LoRA layer with a weight.", subject="loras")
    return str(name).strip(), number


def _message(message: MessageLike) -> Message:
    if isinstance(message, Message):
        return message
    try:
        role, content = message["role"], message["content"]
    except (KeyError, TypeError) as error:
        raise ConfigError("A message needs a role and a content.", subject="messages") from error
    if role not in _ROLES or not isinstance(content, str):
        raise ConfigError(
            f"A message's role is one of {', '.join(_ROLES)}, and its content is text.", subject="messages"
        )
    return Message(cast(Literal["system", "user", "assistant"], role), content)


def _check(holds: bool, name: str, value: object, must: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r:.60}, and must be {must}.", subject=name)


@dataclass(slots=True)
class Asking:
    """How far one request is. Written by the engine's loop, read by anybody.

    Attributes:
        model: As its user named it, then `backend:name`.
        on_text: Called with each piece of text, in the loop's thread.
        note: What asks: a cell, a command.
    """

    model: str
    on_text: Callable[[str], object] | None = None
    phase: Phase = "queued"
    request_id: str = ""
    fraction: float = 0.0
    reason: str = ""
    tokens: int = 0
    pieces: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    where: Callable[[Asking], tuple[int, str, float]] | None = None
    note: str = ""

    def add(self, text: str, tokens: int) -> None:
        """Take a piece of the answer."""
        self.phase = "answering"
        self.tokens += tokens
        if text:
            self.pieces.append(text)
            if self.on_text is not None:
                self.on_text(text)

    def wait(self, reason: str) -> None:
        """Wait for something that is no turn with a model, and say why; an empty reason ends it."""
        self.phase, self.reason, self.where = "queued", reason, None

    def snapshot(self) -> GenerateProgress:
        """The progress now."""
        position, reason, fraction = 0, self.reason, self.fraction
        if self.phase in ("queued", "loading") and self.where is not None:
            position, reason, fraction = self.where(self)
        return GenerateProgress(
            self.model,
            self.phase,
            "".join(self.pieces),
            self.tokens,
            position,
            reason,
            fraction,
            time.monotonic() - self.began,
        )
