"""How many tokens a text is, how that was counted, and by how much the count may be off.

In order of trust: the model's own tokenizer (a callable or a `tokenizer.json`), its vocabulary compiled into `splintr`,
an estimate from the kinds of characters. What a provider adds around the text (roles, separators, a preamble for tools)
is in none of them; `Calibration` learns it, with the rest of the deviation, from the usage that comes back.

Source: spec 6 §Resolve; research/prompts §6 (14: count, method and error bound), §9 (8: calibrated counter).
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from xprim_nb.errors import ConfigError, MissingExtraError

__all__ = ["Counter", "TokenCount", "Tokenizer", "counter_for", "estimate", "vocabulary_of"]

Tokenizer: TypeAlias = Callable[[str], int | Sequence[object]]
"""A text's tokens, or their number."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A number of tokens.

    Attributes:
        count: The number.
        method: `tokenizer`, `vocabulary:<name>`, `estimate`; with `calibrated:` in front once usage has corrected it.
        error: By which part of `count` the truth may lie above or below it: 0.2 for ±20 %; 0 for exact.
    """

    count: int
    method: str = "estimate"
    error: float = 0.0

    @property
    def tokens(self) -> int:
        """The number, as a resolver asks for it."""
        return self.count

    @property
    def error_tokens(self) -> int:
        """The error in tokens."""
        return math.ceil(self.count * self.error)

    @property
    def low(self) -> int:
        """The least that it may be."""
        return max(0, math.floor(self.count * (1 - self.error)))

    @property
    def high(self) -> int:
        """The most that it may be."""
        return math.ceil(self.count * (1 + self.error))

    def __add__(self, other: TokenCount) -> TokenCount:
        """Both texts; what may be off in each may be off in both at once."""
        if not isinstance(other, TokenCount):
            return NotImplemented
        count = self.count + other.count
        off = self.count * self.error + other.count * other.error
        method = self.method if self.method == other.method or not other.count else "mixed"
        return TokenCount(count, method, off / count if count else 0.0)

    def __str__(self) -> str:
        if not self.error:
            return f"{self.count:,}"
        percent = 100 * self.error
        return f"{self.count:,} ±{percent:.0f} %" if percent >= 10 else f"{self.count:,} ±{percent:.2g} %"


class Counter(Protocol):
    """Whatever counts one model's tokens."""

    def __call__(self, text: str, /) -> TokenCount:
        """The tokens of a text."""
        ...


# Vocabularies by the beginning of a model's name, the first that fits; what a server calls `org/Name` is known by `Name`.
# Source: the models' own cards and configuration; splintr's list of pretrained vocabularies.
_VOCABULARIES: Final = (
    (re.compile(r"gpt-oss"), "gpt-oss"),
    (re.compile(r"gpt-(?:5|4o|4\.1|4\.5)|chatgpt-4o|o[134](?:-|$)"), "o200k_base"),
    (re.compile(r"gpt-(?:4|3\.5)(?:-|$)|text-embedding-(?:3|ada)"), "cl100k_base"),
    (re.compile(r"(?:meta-)?llama-3"), "llama3"),
    (re.compile(r"deepseek-(?:v3|r1)"), "deepseek_v3"),
    (re.compile(r"qwen3(?:-|$)"), "qwen3"),
    (re.compile(r"qwen2"), "qwen2"),
    (re.compile(r"gemma-3"), "gemma3"),
)


def vocabulary_of(model: str) -> str:
    """The name of a model's vocabulary; empty where it is not public, or not known here.

    >>> vocabulary_of("gpt-5.6"), vocabulary_of("meta-llama/Llama-3.3-70B"), vocabulary_of("claude-opus-5")
    ('o200k_base', 'llama3', '')
    """
    name = model.rsplit("/", 1)[-1].lower()
    return next((vocabulary for pattern, vocabulary in _VOCABULARIES if pattern.match(name)), "")


def counter_for(provider: str, model: str, tokenizer: Tokenizer | Path | None = None) -> Counter:
    """The best counter that there is for a model.

    Args:
        provider: Who runs it.
        model: As the provider calls it.
        tokenizer: The model's own, as a callable or the path of its `tokenizer.json`; None for whatever is known of it.

    Raises:
        MissingExtraError: A path was given, and `tokenizers` is not installed.
        ConfigError: The file is no tokenizer.
    """
    if isinstance(tokenizer, Path):
        return _counting(_from_file(tokenizer), "tokenizer")
    if tokenizer is not None:
        return _counting(tokenizer, "tokenizer")
    vocabulary = vocabulary_of(model)
    if vocabulary and (encode := _from_splintr(vocabulary)) is not None:
        return _counting(encode, f"vocabulary:{vocabulary}")
    secret = provider == "anthropic" or "claude" in model.lower()
    return lambda text: estimate(text, extra_error=_SECRET_ERROR if secret else 0.0)


def _counting(tokenizer: Tokenizer, method: str) -> Counter:
    def count(text: str, /) -> TokenCount:
        found = tokenizer(text)
        return TokenCount(found if isinstance(found, int) else len(found), method)

    return count


def _from_file(path: Path) -> Tokenizer:
    try:
        tokenizers: Any = importlib.import_module("tokenizers")
    except ImportError as error:
        raise MissingExtraError.for_extra("tokenizers", "Counting with a model's own tokenizer") from error
    try:
        loaded = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare `Exception`
        raise ConfigError(f"{path} is no tokenizer: {error}", subject=str(path)) from error
    # Many files carry the limits of their model's training, and would count a long text as a short one.
    loaded.no_truncation()
    loaded.no_padding()
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def _from_splintr(vocabulary: str) -> Tokenizer | None:
    """The compiled-in vocabulary; None where `splintr` is not installed, or does not have it."""
    try:
        splintr: Any = importlib.import_module("splintr")
        loaded = splintr.Tokenizer.from_pretrained(vocabulary)
    except (ImportError, ValueError):
        return None
    return lambda text: len(loaded.encode(text))


# --- the estimate -------------------------------------------------------------------------------------------------
# Tokens for each unit, by least squares on 480 excerpts of 4,000 characters (Python, JavaScript, JSON, Markdown, the Vim
# tutor in 30 languages) against the mean of nine vocabularies; then what the truth may differ by in a text made of that
# kind alone. Vocabularies differ most where there is little of a script in their training.
_LATIN: Final = "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_PIECE: Final = re.compile(
    rf"(?P<word>[{_LATIN}]+)|(?P<number>[0-9]+)|(?P<kana>[\u3040-\u30ff]+)|(?P<hangul>[\uac00-\ud7af]+)"
    r"|(?P<han>[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+)|(?P<cyrillic>[\u0400-\u052f]+)|(?P<letters>[^\W\d_]+)"
    r"|(?P<lines>\s*\n\s*)|(?P<space>[^\S\n]+)|(?P<signs>(?:[^\w\s]|_)+)|(?P<rest>.)"
)
_HUMP: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+")
_SAME: Final = re.compile(r"(.)\1*")
_PLAIN: Final = 5  # letters of a word that are one token in nearly every vocabulary

# Unit: tokens, error.
_COSTS: Final = {
    "word": (0.89, 0.22),
    "tail": (0.24, 1.0),  # each letter beyond `_PLAIN` in a part of a word
    "accent": (0.75, 0.9),  # each letter beyond ASCII, on top of its word
    "number": (2.0, 0.5),  # three digits, with what usually stands around them
    "han": (0.85, 0.5),
    "kana": (0.64, 0.4),
    "hangul": (0.95, 0.65),
    "cyrillic": (0.38, 0.6),
    "letters": (0.62, 1.0),
    "rest": (1.5, 1.0),
    "lines": (1.9, 0.5),
    "space": (0.9, 1.0),
    "signs": (0.55, 0.5),
}
# English, code and data, on which vocabularies agree: fewer than one letter in 200 is beyond ASCII.
_FOREIGN_SHARE: Final = 200
_ENGLISH: Final = 0.6
# Below a few words nothing averages out: a count of ours may be off by these many tokens besides.
_SLACK: Final = 3.0
# Anthropic's vocabulary is not public; its notes on Opus 4.7 speak of up to 1.35 times the tokens of the one before.
_SECRET_ERROR: Final = 0.35


def estimate(text: str, *, extra_error: float = 0.0) -> TokenCount:
    """The tokens of a text in a vocabulary that nobody knows, with what they may be off by.

    Args:
        text: Any.
        extra_error: What the bound is widened by, for vocabularies that no public one resembles.
    """
    if not text:
        return TokenCount(0)
    units: dict[str, float] = {}
    for piece in _PIECE.finditer(text):
        kind, found = piece.lastgroup or "rest", piece.group()
        for name, number in _units(kind, found):
            units[name] = units.get(name, 0.0) + number
    tokens = {name: number * _COSTS[name][0] for name, number in units.items()}
    count = sum(tokens.values())
    off = sum(number * _COSTS[name][1] for name, number in tokens.items())
    if sum(not letter.isascii() for letter in text) * _FOREIGN_SHARE < len(text):
        off *= _ENGLISH
    off += _SLACK
    return TokenCount(max(1, round(count)), "estimate", off / max(1.0, count) + extra_error)


def _units(kind: str, found: str) -> tuple[tuple[str, float], ...]:
    """A piece of text in units that have a cost."""
    match kind:
        case "word":
            humps = len(_HUMP.findall(found)) or 1
            accents = 0 if found.isascii() else sum(not letter.isascii() for letter in found)
            return ("word", humps), ("tail", max(0, len(found) - _PLAIN * humps)), ("accent", accents)
        case "number":
            return (("number", -(-len(found) // 3)),)
        case "signs":
            # A ruler of eighty signs is a few tokens, eighty different signs are many.
            groups = sum(1 + len(each.group()) // 16 for each in _SAME.finditer(found))
            return (("signs", (groups + 1) / 2 if groups > 1 else 1),)
        case "lines":
            return (("lines", 1),)
        case "space":
            return (("space", len(found) > 1),)
        case _:
            return ((kind, len(found)),)
