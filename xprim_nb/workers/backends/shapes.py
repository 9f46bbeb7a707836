"""What is read out of other people's JSON: the value where it has the right type, else the empty one.

Source: STYLE rule 9 (no `Any` across rooms).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["count", "items", "mapping", "number", "text"]


def text(of: Mapping[str, object], name: str) -> str:
    """The text there; empty when there is none.

    >>> text({"a": "b"}, "a"), text({"a": None}, "a")
    ('b', '')
    """
    value = of.get(name)
    return value if isinstance(value, str) else ""


def count(of: Mapping[str, object], name: str) -> int:
    """The number there, 0 or more; 0 when there is none.

    >>> count({"a": 3}, "a"), count({"a": "3"}, "a"), count({"a": True}, "a"), count({"a": -1}, "a")
    (3, 0, 0, 0)
    """
    value = of.get(name)
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def mapping(of: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The object there; empty when there is none."""
    value = of.get(name)
    return value if isinstance(value, Mapping) else {}


def items(of: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    """The objects in the list there; empty when there is none."""
    value = of.get(name)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, Sequence) else []


def number(of: Mapping[str, object], name: str) -> float:
    """The number there, 0.0 or more; 0.0 when there is none."""
    value = of.get(name)
    return max(0.0, float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
