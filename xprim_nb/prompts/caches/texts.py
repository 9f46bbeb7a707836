"""Long texts of a JSON value kept apart, each once: a static block of a thousand prompts takes its bytes once.

Source: research/prompts §1 (inspect_ai `log/_condense.py`), §4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

__all__ = ["condense", "expand", "references"]

# Shorter ones would save less than their row costs.
_LONG = 512
_MARK = "$text"


def condense(value: Any, texts: dict[str, str]) -> Any:  # noqa: ANN401  # any JSON value
    """The value with `{"$text": hash}` for each long text, which is added to `texts`."""
    match value:
        case str():
            if len(value) < _LONG:
                return value
            key = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
            texts[key] = value
            return {_MARK: key}
        case Mapping():
            # A second dollar: no mapping of the user's is taken for such a text.
            return {
                f"${key}" if key.startswith("$") else key: condense(each, texts)
                for key, each in value.items()
            }
        case list() | tuple():
            return [condense(each, texts) for each in value]
        case _:
            return value


def expand(value: Any, texts: Mapping[str, str]) -> Any:  # noqa: ANN401  # see `condense`
    """What was condensed.

    Raises:
        KeyError: One of the texts is missing.
    """
    match value:
        case dict():
            if value.keys() == {_MARK}:
                return texts[value[_MARK]]
            return {
                key[1:] if key.startswith("$") else key: expand(each, texts) for key, each in value.items()
            }
        case list():
            return [expand(each, texts) for each in value]
        case _:
            return value


def references(value: Any) -> set[str]:  # noqa: ANN401  # see `condense`
    """Hashes of the texts that a condensed value needs."""
    match value:
        case dict():
            if value.keys() == {_MARK}:
                return {value[_MARK]}
            return set().union(*(references(each) for each in value.values()))
        case list():
            return set().union(*(references(each) for each in value))
        case _:
            return set()
