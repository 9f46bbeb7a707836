"""What is copied is what decoding again would give, and belongs to whoever gets it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel, PrivateAttr, RootModel

from xprim_nb.prompts.checkpoints.copying import Models


class _Private(BaseModel):
    items: list[int] = [1]
    _seen: list[int] = PrivateAttr(default_factory=list)


class _OwnWay(BaseModel):
    items: list[int] = [1]

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> _OwnWay:
        return self


class _Root(RootModel[list[int]]):
    """A model that is a list."""


@dataclass
class _Record:
    items: list[int]


def _shared() -> list[list[int]]:
    one = [1]
    return [one, one]


def _call() -> AIMessage:
    call = {"name": "read", "args": {"path": ["a", {"b": 1}]}, "id": "1", "type": "tool_call"}
    return AIMessage([{"type": "text", "text": "x"}], tool_calls=[call], id="2")


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: {"a": {"b": [1, {"c": (2, [3])}]}, 1: "x", "set": {1, 2}, "price": Decimal("1.5")},
        lambda: {"empty": {}, "none": [], "frozen": frozenset({1})},
        lambda: HumanMessage("hello", id="1", additional_kwargs={"deep": {"er": [1]}}),
        lambda: ToolMessage("done", tool_call_id="3", artifact={"rows": [1, 2]}),
        _call,
    ],
)
def test_a_copy_is_equal_and_its_own(make: Callable[[], Any]) -> None:
    """It is decoded once; each copy is equal to it, of its types and set fields, and shares nothing that can change."""
    decoded: list[Any] = []

    def decode() -> Any:
        decoded.append(make())
        return decoded[-1]

    models = Models()
    first, second = models.get(b"1", decode), models.get(b"1", decode)
    assert len(decoded) == 1
    for each in (first, second):
        assert each == decoded[0]
        assert repr(each) == repr(decoded[0])
        assert getattr(each, "model_fields_set", None) == getattr(decoded[0], "model_fields_set", None)
    assert not _changeable(first) & _changeable(second)
    assert not _changeable(first) & _changeable(decoded[0])
    assert copy.deepcopy(second) == first


def _changeable(value: object) -> set[int]:
    """The identities of all that can be changed in it."""
    inside: list[object] = []
    found = set()
    if isinstance(value, BaseModel):
        found.add(id(value))
        inside = [*vars(value).values()]
    elif isinstance(value, dict):
        found.add(id(value))
        inside = [*value.values()]
    elif isinstance(value, list | set | tuple):
        found |= set() if isinstance(value, tuple) else {id(value)}
        inside = [*value]
    return found.union(*(_changeable(each) for each in inside))


@pytest.mark.parametrize("make", [_Private, _OwnWay, lambda: _Root([1]), lambda: _Record([1]), _shared])
def test_what_may_differ_is_decoded_each_time(make: Callable[[], Any]) -> None:
    """A model with a state or a way of its own, any other object, and what is one in two places, are not copied."""
    decoded: list[Any] = []

    def decode() -> Any:
        decoded.append(make())
        return decoded[-1]

    models = Models()
    given = [models.get(b"1", decode) for _ in range(3)]
    assert [id(each) for each in given] == [id(each) for each in decoded]
    assert len(decoded) == 3
