"""Byte-level tokens without merges, read without any package: each byte is a token, beside a few special ones.

The demo models' tokenizer is one. What is not exactly such a file is refused.

Source: the byte-level alphabet of GPT-2 as `tokenizers` uses it; spec 4 §Install on first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["ByteReader", "refusal"]

# Ways to find a special token in a text that are not built here; each must be off.
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def refusal(document: Mapping[str, Any], settings: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Why this `tokenizer.json` needs the package, as a sentence; `""` when it does not.

    Args:
        document: The file's content.
        settings: Of `tokenizer_config.json`.
        words: The model's special tokens, which the file must have.
    """
    model = document.get("model") or {}
    if model.get("type") != "BPE" or model.get("merges"):
        return "its tokens are made by merging."
    for key in ("normalizer", "post_processor"):
        if document.get(key):
            return f"it has a {key}."
    before = document.get("pre_tokenizer") or {}
    if (
        before.get("type") != "ByteLevel"
        or before.get("use_regex", True)
        or before.get("add_prefix_space", True)
    ):
        return "it splits text before it is encoded."
    if (document.get("decoder") or {}).get("type") != "ByteLevel":
        return "its decoder is not byte-level."
    added = document.get("added_tokens") or []
    known = {token.get("content") for token in added}
    if set(model.get("vocab") or {}) - known != set(byte_characters()):
        return "its vocabulary is not the bytes."
    if "" in known or any(token.get(flag) for token in added for flag in _FLAGS):
        return "its special tokens are matched in a special way."
    if not all(token.get("special") for token in added):
        return "it has added tokens that are ordinary text."
    if set(words.values()) - known:
        return "its special tokens are not all in it."
    for key in ("split_special_tokens", "added_tokens_decoder"):
        if settings.get(key):
            return f"its tokenizer_config.json sets {key}."
    return ""


class ByteReader:
    """Reads and writes such tokens.

    Args:
        document: A `tokenizer.json` that `refusal` has nothing against.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        vocabulary: Mapping[str, int] = document["model"]["vocab"]
        self._ids = [vocabulary[character] for character in byte_characters()]
        self._bytes = {number: bytes([byte]) for byte, number in enumerate(self._ids)}
        added = document.get("added_tokens") or []
        self._added: dict[str, int] = {token["content"]: token["id"] for token in added}
        longest_first = sorted(self._added, key=len, reverse=True)
        self._split = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The ids of a text; these files add nothing around one, `special` or not."""
        found: list[int] = []
        for part in self._parts(text):
            if part in self._added:
                found.append(self._added[part])
            else:
                found.extend(self._ids[byte] for byte in part.encode())
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out; bytes that are no whole character become U+FFFD."""
        return b"".join(self._bytes.get(number, b"") for number in ids).decode(errors="replace")

    def find(self, token: str) -> int | None:
        """The id of a special token, or None."""
        return self._added.get(token)

    def _parts(self, text: str) -> Iterator[str]:
        at = 0
        for match in self._split.finditer(text) if self._split else ():
            yield text[at : match.start()]
            yield match[0]
            at = match.end()
        yield text[at:]


def byte_characters() -> list[str]:
    """The printable character that stands for each byte, by byte value (256 of them).

    Printable Latin-1 bytes stand for themselves, the others are moved to U+0100 and up.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    moved = iter(range(256, 512))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]
