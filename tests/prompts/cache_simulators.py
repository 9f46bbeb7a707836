"""Providers' prefix caches, written from their published rules a second time and in another manner than `prefix`.

Nothing of ours is asked here: a request is read from the body that would be sent, turned into one flat list of tokens, and
the caches hold lists of tokens, blocks of them or trees of them; no segment, no hash of ours and no table of rules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "AnthropicCache",
    "Found",
    "GptCache",
    "LlamaSlot",
    "OldGptCache",
    "RadixCache",
    "Simulator",
    "VllmCache",
]

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Found:
    """Tokens of one call."""

    total: int
    read: int
    written_5m: int = 0
    written_1h: int = 0


class Simulator(Protocol):
    """A cache that answers one call after the other."""

    def call(self, body: Mapping[str, Any], now: float) -> Found:
        """What the provider would report."""
        ...


def _contents(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Every block of a body in the order in which a cache reads it: role, the block, its text."""
    if body.get("tools"):
        last = body["tools"][-1]
        yield "tools", last, json.dumps(body["tools"], ensure_ascii=False, separators=(",", ":"))
    for block in body.get("system", ()):
        yield "system", block, block["text"]
    for message in body["messages"]:
        content = message["content"]
        for block in [{"text": content}] if isinstance(content, str) else content:
            yield message["role"], block, block["text"]


class _Flat:
    """A body as one list of tokens, with where each block ends."""

    def __init__(self, body: Mapping[str, Any], encode: Encode) -> None:
        self.tokens: list[int] = []
        self.ends: list[int] = []
        self.roles: list[str] = []
        self.blocks: list[Mapping[str, Any]] = []
        self._names: dict[int, bytes] = {}
        running = hashlib.blake2b()
        for role, block, text in _contents(body):
            tokens = encode(text)
            self.tokens += tokens
            self.ends.append(len(self.tokens))
            self.roles.append(role)
            self.blocks.append(block)
            running.update("".join(f"{token}," for token in tokens).encode())
            self._names[len(self.tokens)] = running.digest()

    def upto(self, end: int) -> bytes:
        """A name for the first so many tokens, up to the end of a block."""
        return self._names[end]


class AnthropicCache:
    """Marks keep the prompt up to them; each mark is looked up over twenty blocks; a read starts the clock anew."""

    def __init__(self, encode: Encode, minimum: int) -> None:
        self.encode, self.minimum = encode, minimum
        self.entries: dict[bytes, list[float]] = {}  # until when, and for how long each time

    def call(self, body: Mapping[str, Any], now: float) -> Found:
        """See `Simulator.call`."""
        flat = _Flat(body, self.encode)
        marked = [
            (number, 3600.0 if block["cache_control"].get("ttl") == "1h" else 300.0)
            for number, block in enumerate(flat.blocks)
            if "cache_control" in block
        ]
        assert len(marked) <= 4
        read = 0
        for number, _ in marked:
            for back in range(20):
                if number - back < 0:
                    break
                end = flat.ends[number - back]
                entry = self.entries.get(flat.upto(end))
                if entry and entry[0] > now:
                    read = max(read, end)
                    break
        for end in flat.ends:
            entry = self.entries.get(flat.upto(end))
            if entry and end <= read:
                entry[0] = now + entry[1]
        written = {300.0: 0, 3600.0: 0}
        position = read
        for number, lifetime in marked:
            end = flat.ends[number]
            if end < self.minimum:
                continue
            self.entries[flat.upto(end)] = [now + lifetime, lifetime]
            if end > position:
                written[lifetime] += end - position
                position = end
        return Found(len(flat.tokens), read, written[300.0], written[3600.0])


class GptCache:
    """GPT-5.6: entries at marks and at the newest message, matched exactly, for half an hour after their last use."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.entries: dict[bytes, list[float]] = {}

    def call(self, body: Mapping[str, Any], now: float) -> Found:
        """See `Simulator.call`."""
        flat = _Flat(body, self.encode)
        explicit = {
            number: 43200.0 if block["prompt_cache_breakpoint"].get("ttl") == "12h" else 1800.0
            for number, block in enumerate(flat.blocks)
            if "prompt_cache_breakpoint" in block
        }
        writes, places = dict(explicit), set(explicit)
        if body.get("prompt_cache_options", {}).get("mode") != "explicit":
            newest = max(number for number, role in enumerate(flat.roles) if role in {"user", "tool"})
            writes.setdefault(newest, 1800.0)
        places |= {number for number, role in enumerate(flat.roles) if role in {"user", "tool"}}
        assert len(writes) <= 4
        read = 0
        for number in sorted(places)[-80:]:
            entry = self.entries.get(flat.upto(flat.ends[number]))
            if entry and entry[0] > now:
                read = flat.ends[number]
        for end in flat.ends:
            entry = self.entries.get(flat.upto(end))
            if entry and end <= read:
                entry[0] = now + entry[1]
        written = position = read
        long = 0
        for number in sorted(writes):
            end = flat.ends[number]
            if end >= 1024:
                self.entries[flat.upto(end)] = [now + writes[number], writes[number]]
                if end > position:
                    long += (end - position) * (writes[number] > 3600)
                    position = end
        written = position - read - long
        return Found(len(flat.tokens), read, written, long)


class OldGptCache:
    """Before GPT-5.6: the longest prefix of any prompt of the last five minutes, from 1024 tokens in steps of 128."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.prompts: list[tuple[float, list[int]]] = []

    def call(self, body: Mapping[str, Any], now: float) -> Found:
        """See `Simulator.call`."""
        tokens = _Flat(body, self.encode).tokens
        best = max((_common(tokens, old) for at, old in self.prompts if now - at <= 300), default=0)
        steps = [size for size in range(1024, len(tokens) + 1, 128) if size <= best]
        self.prompts.append((now, tokens))
        return Found(len(tokens), steps[-1] if steps else 0)


class VllmCache:
    """Full blocks of sixteen tokens, each named by itself and the one before; the last token is always computed."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.blocks: set[tuple[int, tuple[int, ...]]] = set()

    def call(self, body: Mapping[str, Any], now: float) -> Found:
        """See `Simulator.call`."""
        tokens = _Flat(body, self.encode).tokens
        parent, read, missed = 0, 0, False
        for start in range(0, len(tokens) - 15, 16):
            block = (parent, tuple(tokens[start : start + 16]))
            missed = missed or block not in self.blocks or start + 16 > len(tokens) - 1
            read += 0 if missed else 16
            self.blocks.add(block)
            parent = hash(block)
        return Found(len(tokens), read)


class RadixCache:
    """SGLang: a tree of tokens, walked as far as it goes, all but the last token."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.root: dict[int, Any] = {}

    def call(self, body: Mapping[str, Any], now: float) -> Found:
        """See `Simulator.call`."""
        tokens = _Flat(body, self.encode).tokens
        node, depth, walking = self.root, 0, True
        for token in tokens:
            walking = walking and token in node
            depth += walking
            node = node.setdefault(token, {})
        return Found(len(tokens), min(depth, len(tokens) - 1))


class LlamaSlot:
    """llama.cpp: one slot, which holds the last prompt."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.last: list[int] = []

    def call(self, body: Mapping[str, Any], now: float) -> Found:
        """See `Simulator.call`."""
        tokens = _Flat(body, self.encode).tokens
        read = min(_common(tokens, self.last), len(tokens) - 1)
        self.last = tokens
        return Found(len(tokens), read)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    size = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        size += 1
    return size
