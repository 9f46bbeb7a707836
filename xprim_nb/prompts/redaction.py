"""Secrets out of a prompt, before it is hashed, stored or sent: keys of known shapes, and values the caller names.

Each secret leaves a mark, `[redacted:github:1f0a9c3e]`. The digits are of a keyed digest: the same secret leaves the same
mark, so that what depends on it stays equal, and nobody without the key can try out what it was.

What only looks like a secret stays: a variable that is handed to `password=`, a placeholder, a type.

Source: spec 6 §Resolve (secrets); research/prompts §6 (18).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

from xprim_nb.prompts.values import JsonValue

__all__ = ["Redactor"]

# A shorter value of an environment ("1", "true", "prod") is in every other sentence.
_SHORTEST_VALUE = 8
# Of 2^32 digests two of a prompt's secrets hardly ever share one, and none says anything about a secret.
_DIGEST_BYTES = 4

_WORDS = (
    r"(?:password|passwd|passphrase|pwd|secret|api[_-]?key|access[_-]?key|access[_-]?token|auth[_-]?token|"
    r"client[_-]?secret|secret[_-]?key|private[_-]?key)"
)
_NAMED = re.compile(rf"(?i:{_WORDS})\Z")
# Where a name ends and something is assigned to it, in lower case; the search begins at the rare words, not at each name.
_ASSIGNED = re.compile(rf"{_WORDS}\\?[\"']?[ \t]{{0,4}}(?P<sign>:|=>?)[ \t]{{0,4}}")
_NAME_BEFORE = re.compile(r"[\w-]{0,41}\Z")
# In quotes, whatever is assigned: `password = "…"`, `"api_key": "…"`, and the latter within a string.
_QUOTED = re.compile(r"(?P<escape>\\?)(?P<quote>[\"'])(?P<secret>[^\s\"']{6,500}?)(?P=escape)(?P=quote)")
# Without quotes, `name=value` as shells, `.env` files and queries have it, and `name: value` alone on a line; with a
# digit, and not within a call's brackets, where it is a variable.
_BARE = re.compile(
    r"(?P<secret>(?=[^\s\"'&;,()\[\]{}]{0,200}\d)[^\s\"'&;,()\[\]{}<>$]{6,200})(?![^\s\"'&;,)\]}<>$])"
)
_ALONE = re.compile(r"(?P<secret>(?=\S{0,200}\d)[^\s\"'()\[\]{}<>$,]{6,200})[ \t]*(?m:$)")


class _Shape(NamedTuple):
    """A secret's shape; the group `secret` is what is replaced. `hints` are texts that any match holds, lower case."""

    kind: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...]


def _shape(kind: str, pattern: str, *hints: str) -> _Shape:
    return _Shape(kind, re.compile(pattern), hints)


# Longer prefixes first: `sk-ant-` is a `sk-` too. Each repetition that could begin anywhere has an end, or a hostile text
# would take time by its square.
_SHAPES = (
    _shape(
        "private-key",
        # All of it up to its end, or as many lines as there are of one that was cut off.
        r"(?P<secret>-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[^-]*(?:-(?!----)[^-]*)*-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
        r"|(?:(?:\s|\\n)*[A-Za-z0-9+/=]{16,})+))",
        "private key",
    ),
    _shape("anthropic", r"(?<![\w-])(?P<secret>sk-ant-[A-Za-z0-9_-]{16,})", "sk-ant-"),
    _shape("openai", r"(?<![\w-])(?P<secret>sk-(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{20,})", "sk-"),
    _shape(
        "github", r"(?<!\w)(?P<secret>gh[pousr]_[A-Za-z0-9]{30,})", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"
    ),
    _shape("github", r"(?<!\w)(?P<secret>github_pat_[A-Za-z0-9_]{22,})", "github_pat_"),
    _shape("aws", r"(?<![A-Za-z0-9])(?P<secret>(?:AKIA|ASIA)[0-9A-Z]{16})(?![A-Za-z0-9])", "akia", "asia"),
    _shape("google", r"(?<!\w)(?P<secret>AIza[0-9A-Za-z_-]{35})(?![\w-])", "aiza"),
    _shape(
        "slack",
        r"(?<![\w-])(?P<secret>xox[a-z]-(?=[A-Za-z0-9-]*\d)[A-Za-z0-9-]{10,})",
        *(f"xox{letter}-" for letter in "abceoprs"),
    ),
    _shape("huggingface", r"(?<!\w)(?P<secret>hf_[A-Za-z0-9]{30,})", "hf_"),
    _shape("jwt", r"(?<![\w-])(?P<secret>eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})", "eyj"),
    _shape(
        "authorization",
        r"(?i:authorization[\"']?\s*[:=,]\s*[\"']?(?:bearer|basic|token)\s+)(?P<secret>[\w.~+/=-]{8,})",
        "authorization",
    ),
    _shape("authorization", r"\b[Bb]earer\s+(?P<secret>(?=[\w.~+/=-]*\d)[\w.~+/=-]{20,})", "bearer"),
    _shape(
        "url",
        r"\b[a-zA-Z][a-zA-Z0-9+.-]{0,20}://[^\s/?#@:\"'<>]{0,200}:(?P<secret>[^\s/?#@\"'<>]{1,500})@",
        "://",
    ),
)
_HINTS = tuple({hint: None for shape in _SHAPES for hint in shape.hints})
_ASSIGNED_HINTS = ("passw", "passphrase", "pwd", "secret", "key", "token")
# `pwd=` and six characters: nothing shorter is taken for a secret.
_SHORTEST_TEXT = min(_SHORTEST_VALUE, len("pwd=") + 6)
# What people write where a secret will stand.
_PLACEHOLDER = re.compile(
    r"(?i:[*x.•_-]+|\.{1,2}/.*|<.*|\$.*|\{.*|%.*|\[redacted.*|.*(?:\.\.\.|…).*|"
    r"your.*|my[-_ ]?(?:api|key|pass|secret|token).*|(?:insert|enter|replace|change)[-_ ].*|"
    r"example.*|placeholder.*|dummy.*|todo.*|changeme|required|optional|"
    r"password\d?|passwd|pass(?:word|phrase)?|secret|token|api[-_]?key|string|"
    r"null|none|undefined|true|false|env(?:iron)?[.:].*|os\.environ.*|process\.env.*)\Z"
)


class Redactor:
    """Replaces secrets. Equal input, equal output; what was replaced once is left alone.

    Args:
        key: Of the digests in the marks, random and kept beside what is stored; without one a mark has no digits, and
            all secrets of a kind look alike.
        values: Secrets that are known, by name: of environment variables, say. Those of fewer than 8 characters are not
            looked for.

    >>> Redactor().text("Use ghp_0123456789abcdefghijklmnopqrstuvwxyz, please.")
    'Use [redacted:github], please.'
    """

    def __init__(self, key: bytes = b"", values: Mapping[str, str] | Iterable[str] = ()) -> None:
        self._key = hashlib.sha256(key).digest() if key else b""
        known = values.values() if isinstance(values, Mapping) else values
        wanted = sorted(
            {each for each in known if len(each) >= _SHORTEST_VALUE}, key=lambda each: (-len(each), each)
        )
        self._values = re.compile("|".join(map(re.escape, wanted))) if wanted else None

    def text(self, text: str) -> str:
        """A text without its secrets."""
        if len(text) < _SHORTEST_TEXT:
            return text
        if self._values is not None:
            text = self._values.sub(lambda found: self._mark("env", found[0]), text)
        lower = text.lower()
        hints = [hint for hint in _HINTS if hint in lower]
        if hints:
            for shape in _SHAPES:
                if any(hint in hints for hint in shape.hints):
                    text = shape.pattern.sub(partial(self._replaced, shape.kind), text)
        return self._unassigned(text) if any(hint in lower for hint in _ASSIGNED_HINTS) else text

    def _unassigned(self, text: str) -> str:
        """A text without what is assigned to names such as `password`."""
        lower = text.lower()
        if len(lower) != len(text):  # a few letters have two in lower case, and would move all that follow
            lower = "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
        pieces, done = [], 0
        for found in _ASSIGNED.finditer(lower):
            span = _assigned_span(text, found)
            if span is None or span[0] < done or _PLACEHOLDER.match(text[span[0] : span[1]]):
                continue
            pieces += [text[done : span[0]], self._mark("assignment", text[span[0] : span[1]])]
            done = span[1]
        return "".join([*pieces, text[done:]]) if pieces else text

    def json(self, value: JsonValue) -> JsonValue:
        """A JSON value without its secrets: in texts, in keys, and under keys that say what they hold."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return self._mapping(value)
            case list() | tuple():
                return [self.json(each) for each in value]
            case _:
                return value

    def _mapping(self, value: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        clean: dict[str, JsonValue] = {}
        for key, each in value.items():
            if isinstance(each, str) and each and _names_secret(key) and not _PLACEHOLDER.match(each):
                told: JsonValue = self._mark("assignment", each)
            else:
                told = self.json(each)
            name = self.text(key)
            # Two secrets under one mark are two entries still.
            while name in clean:
                name += "'"
            clean[name] = told
        return clean

    def _replaced(self, kind: str, found: re.Match[str]) -> str:
        secret = found["secret"]
        if _PLACEHOLDER.match(secret) or "[redacted:" in found[0]:
            return found[0]
        start, end = found.span("secret")
        whole = found[0]
        return f"{whole[: start - found.start()]}{self._mark(kind, secret)}{whole[end - found.start() :]}"

    def _mark(self, kind: str, secret: str) -> str:
        if not self._key:
            return f"[redacted:{kind}]"
        digest = hashlib.blake2b(secret.encode("utf-8"), key=self._key, digest_size=_DIGEST_BYTES)
        return f"[redacted:{kind}:{digest.hexdigest()}]"


def _assigned_span(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """From where to where a secret is assigned; None where what is assigned is none."""
    lead = _NAME_BEFORE.search(text, max(0, found.start() - 41), found.start())
    start = lead.start() if lead else found.start()
    if not _begins_word(text, found.start(), start):
        return None
    before, assigned = text[max(0, start - 2) : start], text[found.start() : found.end()]
    quoted = _QUOTED.match(text, found.end())
    if quoted is not None:
        return None if before.endswith("/") else quoted.span("secret")
    if found["sign"] == "=" and assigned.endswith("=") and assigned[-2] not in " \t\"'":
        within_call = before.endswith(("(", ",", ".", ", "))
        bare = None if within_call else _BARE.match(text, found.end())
        return bare.span("secret") if bare else None
    if found["sign"] == ":" and assigned[-1] in " \t" and _begins_line(text, start):
        alone = _ALONE.match(text, found.end())
        return alone.span("secret") if alone else None
    return None


def _begins_word(text: str, place: int, start: int) -> bool:
    """Whether a word begins there within a name that begins at `start`: `db_password`, `dbPassword`, no `topsecret`."""
    return place == start or text[place - 1] in "_-" or text[place].isupper()


def _names_secret(key: str) -> bool:
    found = _NAMED.search(key)
    return found is not None and _begins_word(key, found.start(), 0)


def _begins_line(text: str, start: int) -> bool:
    """Whether nothing but blanks, or the dash of a list, stands before a place in its line."""
    line = text[max(text.rfind("\n", 0, start) + 1, start - 200) : start]
    return not line.strip(" \t-")
