"""What scaffolds, branches, tools and spans may be called, and what a caller's word for a checkpoint means. Pure.

A branch's name never looks like an id, so that one word addresses either.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from xprim_nb.errors import ConfigError
from xprim_nb.prompts.redaction import Redactor

__all__ = ["Word", "check_label", "check_limit", "check_name", "check_scaffold", "check_word", "read_word"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}\Z")
# A scaffold is a hash of 64 digits, or what a person calls it; a tool and a span are called as their makers like.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:/@+-]{0,199}\Z")
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{0,200}\Z")
# Of a million checkpoints hardly two share so many digits; and people call branches "a" and "cafe".
_FEWEST_DIGITS = 8
_LIKE_ID = re.compile(rf"[0-9a-f]{{{_FEWEST_DIGITS},64}}\Z")


class Word(NamedTuple):
    """What addresses a checkpoint: the beginning of its id, or a branch; the other is empty."""

    digits: str = ""
    branch: str = ""


def check_name(name: str, redactor: Redactor) -> str:
    """The name of a branch, as it may be.

    >>> check_name("fix/login-2", Redactor())
    'fix/login-2'

    Raises:
        ConfigError: It is none.
    """
    if not _NAME.match(name) or _LIKE_ID.match(name):
        raise ConfigError(
            f"{name!r:.60} is no name of a branch.",
            subject="name",
            hint="Begin with a letter or digit, then letters, digits, '.', '_', '-' and '/', 100 at most; not only"
            " digits of an id.",
        )
    return _without_secret(name, "name", redactor)


def check_scaffold(scaffold: str, redactor: Redactor) -> str:
    """A scaffold's hash or name, as it may be; ConfigError when it may not."""
    return check_word(scaffold, "scaffold", redactor)


def check_word(word: str, what: str, redactor: Redactor, *, may_be_empty: bool = False) -> str:
    """The name of a tool or the id of a span, as it may be; ConfigError when it may not."""
    if may_be_empty and word == "":
        return word
    if not _WORD.match(word):
        raise ConfigError(
            f"{word!r:.60} is no name of a {what}.",
            subject=what,
            hint="Letters, digits and . _ : / @ + - are allowed, 200 at most.",
        )
    return _without_secret(word, what, redactor)


def check_label(label: str, redactor: Redactor) -> str:
    """What a person calls a checkpoint, without secrets; ConfigError when it has more than a line."""
    if not _LABEL.match(label):
        raise ConfigError(
            "A label is one line of at most 200 characters.",
            subject="label",
            hint="Keep longer texts as a note.",
        )
    return redactor.text(label)


def check_limit(limit: int) -> int:
    """How many are asked for; ConfigError below 1."""
    if limit < 1:
        raise ConfigError(
            f"{limit!r:.20} is no number of checkpoints.", subject="limit", hint="Ask for 1 or more."
        )
    return limit


def read_word(word: str) -> Word:
    """What a caller's word for a checkpoint means.

    >>> read_word("main"), read_word("0123456789ab")
    (Word(digits='', branch='main'), Word(digits='0123456789ab', branch=''))

    Raises:
        ConfigError: It is neither an id, nor the first 8 digits or more of one, nor a name.
    """
    if _LIKE_ID.match(word):
        return Word(digits=word)
    if _NAME.match(word):
        return Word(branch=word)
    raise ConfigError(
        f"{word!r:.60} is neither a checkpoint's id nor the name of a branch.",
        subject="checkpoint",
        hint=f"Give the id, its first {_FEWEST_DIGITS} digits or more, or a branch.",
    )


def _without_secret(word: str, what: str, redactor: Redactor) -> str:
    if redactor.text(word) != word:
        raise ConfigError(
            f"The name of a {what} is shown everywhere, and this one holds a secret.",
            subject=what,
            hint="Name it otherwise.",
        )
    return word
