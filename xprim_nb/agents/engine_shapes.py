"""What the tools about models that run take and give, as closed schemas.

Source: spec 4 §Faces; spec 2 §For agents (the manner of tools).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AwakeModel",
    "GeneratePayload",
    "GenerateResult",
    "PlanPayload",
    "PlanResult",
    "PsPayload",
    "PsResult",
    "Turn",
]

_MODEL = '"group/model version", or "backend:name" of a server. '


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class PsPayload(_Shape):
    """Nothing is asked: everything is listed."""


class AwakeModel(_Shape):
    """A model that is awake."""

    model: str = Field(description='"backend:name".')
    status: str = Field(description="loading, resident, leaving, parked or waking.")
    device: str
    size_bytes: int
    context_tokens: int
    in_flight: int = Field(description="Answers it gives now.")
    idle_s: float
    pinned: bool
    kernel_pid: int = Field(description="The process that holds it.")


class PsResult(_Shape):
    """What is awake, of all notebooks and programs of this user on this machine."""

    models: tuple[AwakeModel, ...]


class PlanPayload(_Shape):
    """The model that might be loaded."""

    model: str = Field(description=f"{_MODEL}It must be installed.")
    context_tokens: int | None = Field(default=None, ge=1, description="Room for prompt and answer.")


class PlanResult(_Shape):
    """What loading it would do."""

    plan: str = Field(
        description="In sentences: who leaves, how much that frees, how long it takes, or why it cannot be."
    )


class Turn(_Shape):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class GeneratePayload(_Shape):
    """A prompt, or messages, and how they are answered."""

    model: str = Field(description=f"{_MODEL}What is not installed is installed first.")
    prompt: str | None = Field(default=None, description="Continued as it is. Give this or messages.")
    messages: tuple[Turn, ...] | None = Field(
        default=None, description="Laid out by the model's chat template."
    )
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0, description="0 takes the most likely token each time.")
    seed: int | None = Field(default=None, description="The same seed gives the same text again.")
    stop: tuple[str, ...] = Field(default=(), description="The answer ends before any of these.")
    loras: tuple[str, ...] = Field(
        default=(), description='LoRA layers: "group/name version", or with "*0.5" behind it.'
    )
    timeout_s: float | None = Field(default=None, gt=0, description="Longest time of the answer itself.")

    @model_validator(mode="after")
    def _either(self) -> GeneratePayload:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either a prompt or messages")
        return self


class GenerateResult(_Shape):
    """The answer, and how it came about."""

    text: str
    tokens: int
    finish_reason: Literal["stop", "length", "cancelled", "refusal", "tool_calls"]
    model: str = Field(description='"backend:name".')
    device: str
    seed: int
    total_s: float
    took: str = Field(description="Where the time went, in a line.")
    degraded: str = Field(description="How it ran with less than was asked for; empty when it did not.")
    evicted: tuple[str, ...] = Field(description="Models that left so that this one could be loaded.")
    worker_pid: int | None = None
