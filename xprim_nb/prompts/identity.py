"""What a prompt is, as SHA-256: four hashes, each with one meaning, the same on every machine and in every language.

    block     what one block says
    prefix    everything up to and including a block: chained, so that the longest shared prefix is one look-up
    request   everything that can change the answer
    rendered  the bytes that are sent, with the renderer that made them

Each is the SHA-256 of a domain tag, a zero byte and canonical JSON (RFC 8785); a tag carries the version of what follows
it, so that no two kinds of hash and no two versions ever meet. Integers beyond 2^53 are written as `{"$int": "…"}`: a
number of JSON is a double, and would be another number elsewhere; a key that begins with `$` gets a second one, so that
no mapping is taken for such an integer. Of a mapping the order of its keys says nothing, except in a JSON schema, where
it is the order in which a model writes. `tests/prompts/vectors.json` holds vectors that Python
and JavaScript both check.

Source: spec 6 §Identity; research/prompts §6 (1–4, 6); RFC 8785; vLLM's chained block hashes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from xprim_nb._hashing import Digest, canonical_json
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.values import Message, PromptBlock, ResolveInput, Tool

__all__ = [
    "CHANGES_ANSWER",
    "SAME_ANSWER",
    "block_hash",
    "canonical",
    "file_map_hash",
    "message_hash",
    "prefix_hashes",
    "rendered_hash",
    "request_hash",
    "request_parts",
    "schema_hash",
    "tagged_hash",
    "tools_hash",
]

# JavaScript's largest integer that is one number and no other.
_SAFE = 2**53 - 1
# Fractions between these are written without an exponent by everybody.
_SAME_SPELLING = (1e-3, 1e15)
# Up to here a character is one unit of UTF-16, and comes before all that are two.
_FIRST_SURROGATE = "\ud800"

CHANGES_ANSWER = frozenset(
    {
        *("prompt", "provider", "model", "blocks", "context", "messages", "tools", "response_schema"),
        *("endpoint", "temperature", "top_p", "top_k", "seed", "max_tokens", "stop", "parameters", "loras"),
        "sample_index",
    }
)
"""Fields of `ResolveInput` that are part of a request's identity: another value may bring another answer."""

SAME_ANSWER = frozenset({"scaffold_type", "rulepacks", "cache", "prefix_ttl", "cache_key"})
"""Fields that only say how a request is treated. A test fails when a field is in neither list."""


def canonical(value: Any) -> bytes:  # noqa: ANN401  # any JSON value is the point
    """Canonical JSON of a value, whatever the size of its integers.

    >>> canonical({"b": 1.0, "a": -0.0, "c": 2**60})
    b'{"a":0,"b":1,"c":{"$int":"1152921504606846976"}}'

    Raises:
        ConfigError: It holds what JSON cannot: NaN, an infinity, half of a surrogate pair, or an object of ours.
    """
    plain = _Plain()
    try:
        whole = plain(value)
        return orjson.dumps(whole, option=orjson.OPT_SORT_KEYS) if plain.is_simple else canonical_json(whole)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"A prompt holds what JSON cannot: {_odd(value, '$')}", subject="prompt") from error


class _Plain:
    """A value made of what JSON knows. `is_simple` while orjson, ten times faster, spells it as RFC 8785 does.

    It does not where a key may sort otherwise by UTF-16, as the RFC has it, or a fraction is one that JavaScript may write
    with an exponent. Exact types are asked for first: each look-up in a cache waits for this.
    """

    __slots__ = ("is_simple",)

    def __init__(self) -> None:
        self.is_simple = True

    def __call__(self, value: Any) -> Any:  # noqa: ANN401  # see `canonical`
        kind = type(value)
        if kind is str or value is None or kind is bool:
            return value
        if kind is dict:
            return {self._key(key): self(each) for key, each in value.items()}
        if kind is list or kind is tuple:
            return [self(each) for each in value]
        if isinstance(value, int):
            number = int(value)
            return number if -_SAFE <= number <= _SAFE else {"$int": str(number)}
        if isinstance(value, float):
            return self._number(float(value))
        if isinstance(value, str):
            return str.__str__(value)  # of an enumeration, too, what it holds
        if isinstance(value, Mapping):
            return {self._key(key): self(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self(each) for each in value]
        raise TypeError(f"it is {kind.__name__}")

    def _number(self, value: float) -> float | int:
        if not math.isfinite(value):
            raise ValueError(f"it is {value}")
        if value.is_integer() and -_SAFE <= value <= _SAFE:
            return int(value)
        self.is_simple = self.is_simple and _SAME_SPELLING[0] <= abs(value) < _SAME_SPELLING[1]
        return value

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            raise TypeError(f"a key is {key!r:.50}")
        if not key.isascii() and max(key) >= _FIRST_SURROGATE:
            self.is_simple = False
        return f"${key}" if key.startswith("$") else str.__str__(key)


def _odd(value: Any, path: str) -> str:  # noqa: ANN401  # see `canonical`
    """Where in a value is what JSON cannot hold, and what it is; empty when all of it can be held."""
    match value:
        case Mapping():
            keys = (key for key in value if not isinstance(key, str) or _odd(key, path))
            odd = next((f"a key of {path} is {key!r:.50}" for key in keys), "")
            return odd or next(filter(None, (_odd(each, f"{path}.{key}") for key, each in value.items())), "")
        case list() | tuple():
            return next(filter(None, (_odd(each, f"{path}[{n}]") for n, each in enumerate(value))), "")
        case str():
            return "" if value.isprintable() or _is_whole(value) else f"{path} holds half of a surrogate pair"
        case float() if not math.isfinite(value):
            return f"{path} is {value}, which is no number of JSON"
        case None | int() | float():
            return ""
        case _:
            return f"{path} is {type(value).__name__}, which JSON does not know"


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def tagged_hash(tag: str, value: Any) -> Digest:  # noqa: ANN401  # see `canonical`
    """The hash of a value under a domain tag such as `xprim/block/v1`."""
    return Digest(hashlib.sha256(tag.encode("ascii") + b"\0" + canonical(value)).hexdigest())


def file_map_hash(files: Mapping[str, str]) -> Digest:
    """The root of a file map: paths by their UTF-8 bytes, each with the hash of its text; an edit changes one leaf."""
    leaves = [
        [path, hashlib.sha256(text.encode("utf-8")).hexdigest()] for path, text in sorted(files.items())
    ]
    return tagged_hash("xprim/filemap/v1", leaves)


def block_hash(block: PromptBlock) -> Digest:
    """What a block says; neither its name nor its metadata nor how often it changes."""
    if block.files is not None:
        return tagged_hash("xprim/block/v1", {"type": block.type, "files": file_map_hash(block.files)})
    return tagged_hash("xprim/block/v1", {"type": block.type, "content": block.content})


def message_hash(message: Message) -> Digest:
    """One turn: who says what."""
    return tagged_hash("xprim/message/v1", message.model_dump())


def schema_hash(schema: Mapping[str, Any]) -> Digest:
    """A JSON schema, with the order of its keys: a model writes the fields of its answer in that order."""
    return tagged_hash("xprim/schema/v1", _ordered(schema))


def tools_hash(tools: Iterable[Tool]) -> Digest:
    """What the model may call, in the order that it is told."""
    return tagged_hash("xprim/tools/v1", [_tool(each) for each in tools])


def _tool(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": _ordered(tool.parameters)}


def _ordered(value: Any) -> Any:  # noqa: ANN401  # see `canonical`
    """A value in which canonical JSON keeps the order of keys: mappings as lists of pairs, told apart from lists."""
    match value:
        case Mapping():
            return {"pairs": [[key, _ordered(each)] for key, each in value.items()]}
        case list() | tuple():
            return [_ordered(each) for each in value]
        case _:
            return value


def prefix_hashes(hashes: Sequence[str], root: str = "") -> tuple[Digest, ...]:
    """For each hash, that of everything up to and including it.

    Args:
        hashes: Of the parts, in the order in which they are sent.
        root: What the first is chained to: model, renderer, tenant; prefixes under other roots never meet.
    """
    chain, parent = [], root
    for each in hashes:
        parent = tagged_hash("xprim/prefix/v1", [parent, each])
        chain.append(Digest(parent))
    return tuple(chain)


def request_parts(asked: ResolveInput) -> dict[str, Any]:
    """What a request's identity is made of, by field; blocks by hash, in their declared order."""
    parts: dict[str, Any] = {name: getattr(asked, name) for name in CHANGES_ANSWER}
    parts["blocks"] = [block_hash(each) for each in asked.blocks]
    parts["messages"] = [each.model_dump() for each in asked.messages]
    parts["tools"] = [_tool(each) for each in asked.tools]
    if asked.response_schema is not None:
        parts["response_schema"] = _ordered(asked.response_schema)
    return parts


def request_hash(asked: ResolveInput) -> Digest:
    """Everything that can change the answer, and nothing else."""
    return tagged_hash("xprim/request/v1", request_parts(asked))


def rendered_hash(renderer: str, body: bytes) -> Digest:
    """The bytes that are sent.

    Args:
        renderer: Its name and version: `anthropic/1`.
        body: As they are sent.
    """
    return tagged_hash("xprim/rendered/v1", [renderer, hashlib.sha256(body).hexdigest()])
