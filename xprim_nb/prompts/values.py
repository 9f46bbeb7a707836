"""What a prompt is made of: blocks, tools and a turn for one model, checked at the door.

These meet disk, wire and tool schemas, so they are frozen pydantic models. None of them knows a clock: what a prompt *is*
never depends on when it was made.

Source: seeds/001 (PromptBlock, PromptScaffold, ResolveInput, ResolvedScaffold); spec 6 §Identity.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "BLOCK_TYPES",
    "PROVIDERS",
    "BlockType",
    "CacheMode",
    "JsonValue",
    "Message",
    "PromptBlock",
    "ResolveInput",
    "Role",
    "Tool",
    "Ttl",
    "Value",
    "normal_text",
]

# Any JSON value: pydantic's own recursive type makes schemas that tool callers cannot read.
JsonValue: TypeAlias = Any

BlockType: TypeAlias = Literal["requirements", "file_map", "style_guide", "context"]
BLOCK_TYPES: tuple[BlockType, ...] = ("requirements", "file_map", "style_guide", "context")
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
CacheMode: TypeAlias = Literal["use", "refresh", "bypass", "only"]
Ttl: TypeAlias = Literal["5m", "1h"]
PROVIDERS = ("openai", "anthropic", "vllm", "sglang", "llama-cpp", "local")
"""Those that come with this package; plug-ins add theirs under the entry points `xprim_nb.providers`."""

_NAME = r"^[^\x00-\x1f\x7f]{1,200}$"  # a name is shown in one line
_Text = Annotated[str, Field(max_length=64 << 20)]  # what one frame to a worker holds


def normal_text(text: str) -> str:
    r"""Text as it is hashed, sent and stored: NFC, lines ended by a line feed, no half of a surrogate pair.

    >>> normal_text("e\u0301\r\n")
    'é\n'

    Raises:
        ValueError: It holds a lone surrogate, which no UTF-8 can carry.
    """
    normal = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    try:
        normal.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half of a surrogate pair at character {error.start}") from error
    return normal


class Value(BaseModel):
    """Frozen, and a field nobody knows is an error: a misspelt setting would change nothing, silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Message(Value):
    """One turn of a conversation."""

    role: Role
    content: _Text

    _normal = field_validator("content")(normal_text)


class Tool(Value):
    """A function that the model may call. `parameters` is a JSON schema."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    parameters: Mapping[str, JsonValue] = Field(default_factory=lambda: {"type": "object", "properties": {}})

    _normal = field_validator("description")(normal_text)


class PromptBlock(Value):
    """A part of a prompt that changes as a whole.

    Attributes:
        type: What it holds; it also says how often it usually changes.
        content: Its text; empty for a file map.
        files: Of a file map: text by path, relative, with `/`.
        name: What people call it; shown, and no part of its identity.
        volatility: 0 for never, 100 for each time; None for what its type says.
        metadata: Whatever its user wants to keep with it; no part of its identity.
    """

    type: BlockType
    content: _Text = ""
    files: Mapping[str, _Text] | None = None
    name: str = Field(default="", max_length=200)
    volatility: int | None = Field(default=None, ge=0, le=100)
    metadata: Mapping[str, JsonValue] = Field(default_factory=dict)

    _normal = field_validator("content")(normal_text)

    @field_validator("files")
    @classmethod
    def _relative(cls, files: Mapping[str, str] | None) -> Mapping[str, str] | None:
        return None if files is None else {_path(path): normal_text(text) for path, text in files.items()}

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.type == "file_map") != (self.files is not None):
            raise ValueError("a file_map has `files`, and no other block has")
        if self.files is not None and self.content:
            raise ValueError("a file_map has its text in `files`, and no `content`")
        return self


def _path(path: str) -> str:
    """The same on every machine: NFC, `/`, relative, no `.` or `..` in it."""
    parts = [part for part in normal_text(path).replace("\\", "/").split("/") if part not in ("", ".")]
    if path.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
        raise ValueError(f"{path!r:.100} is an absolute path, which differs from machine to machine")
    if not parts or ".." in parts:
        raise ValueError(f"{path!r:.100} leads out of its folder, or nowhere")
    return "/".join(parts)


class ResolveInput(Value):
    """What is asked: a turn, what goes before it, whom, and with which settings.

    `identity.CHANGES_ANSWER` and `identity.SAME_ANSWER` say of each field whether it is part of the request's identity.

    Attributes:
        prompt: The turn: what is new in this call, and comes last.
        provider: A name of `PROVIDERS`, or a plug-in's.
        model: As the provider calls it.
        blocks: What goes before the turn, in the order that carries the meaning.
        context: Facts of this call; a `context` block is made of them, as canonical JSON.
        messages: The conversation up to now, between the blocks and the turn.
        tools: What the model may call.
        response_schema: JSON schema of the answer; None for text.
        endpoint: Base URL, where it is not the provider's own: another server may answer otherwise.
        temperature: 0 to 2.
        top_p: Above 0, at most 1.
        top_k: 0 for no limit.
        seed: None where the provider chooses.
        max_tokens: Most tokens of the answer; None for the provider's: of a model on this machine until it ends by itself,
            its context is full, or its time is over.
        stop: Texts that end it.
        parameters: The provider's own settings, by its own names (`reasoning_effort` …).
        loras: LoRA layers of a local model, each with its weight.
        sample_index: Which of several answers to the same request; each has its own place in the cache.
        scaffold_type: What kind of prompt it is; telemetry groups by it.
        rulepacks: What the answer is checked against.
        cache: use: answer from the cache. refresh: ask, and keep. bypass: ask, and keep nothing. only: never ask.
        prefix_ttl: How long the provider should keep the prefix, where it can be told.
        cache_key: Routes equal prefixes to the same machine, where the provider knows such a key.
    """

    prompt: _Text
    provider: str = Field(pattern=_NAME)
    model: str = Field(pattern=_NAME)
    blocks: tuple[PromptBlock, ...] = ()
    context: Mapping[str, JsonValue] | None = None
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    response_schema: Mapping[str, JsonValue] | None = None
    endpoint: str = ""
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    seed: int | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    stop: tuple[str, ...] = ()
    parameters: Mapping[str, JsonValue] = Field(default_factory=dict)
    loras: tuple[tuple[str, float], ...] = ()
    sample_index: int = Field(default=0, ge=0)
    scaffold_type: str = Field(default="", max_length=100)
    rulepacks: tuple[str, ...] = ()
    cache: CacheMode = "use"
    prefix_ttl: Ttl = "5m"
    cache_key: str = Field(default="", max_length=200)

    _normal = field_validator("prompt")(normal_text)

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if not all(stop):
            raise ValueError("holds an empty text, which would end every answer at once")
        return stop
