"""What is copied is what decoding again would give, and belongs to whoever gets it."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
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


def _get(models: Models, decode: Callable[[], Any], digest: bytes | None = b"1") -> Any:
    return models.values([digest], [10], lambda places: [decode() for _ in places])[0]


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

    models = Models(1 << 20)
    first, second = _get(models, decode), _get(models, decode)
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

    models = Models(1 << 20)
    given = [_get(models, decode) for _ in range(3)]
    assert [id(each) for each in given] == [id(each) for each in decoded]
    assert len(decoded) == 3


def test_only_what_is_not_known_is_decoded() -> None:
    """Of several values those that came before are copied, in their places; what has no name is decoded each time."""
    asked: list[list[int]] = []

    def decode(places: Sequence[int]) -> list[list[int]]:
        asked.append([*places])
        return [[10 * place] for place in places]

    models = Models(1 << 20)
    assert models.values([b"a", None, b"b"], [1, 1, 1], decode) == [[0], [10], [20]]
    assert models.values([b"a", None, b"b", b"c"], [1, 1, 1, 1], decode) == [[0], [10], [20], [30]]
    assert models.values([b"c", b"a"], [1, 1], decode) == [[30], [0]]
    assert asked == [[0, 1, 2], [1, 3]]


def test_what_was_used_longest_ago_is_forgotten() -> None:
    """More than it may keep is decoded again, and never wrong."""
    decoded: list[str] = []

    def decode(name: str) -> list[str]:
        decoded.append(name)
        return [name]

    models = Models(10_000)  # three of them
    for name in ("a", "b", "c", "a", "d", "a", "b"):
        assert _get(models, partial(decode, name), name.encode()) == [name]
    assert decoded == ["a", "b", "c", "d", "b"]


def test_a_class_that_was_defined_anew_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that runs again defines its class again: what is read then is of the new class, inside other values too."""
    module = types.ModuleType("a_cell")
    monkeypatch.setitem(sys.modules, "a_cell", module)
    models, classes = Models(1 << 20), []
    for _ in range(2):
        module.Note = type("Note", (BaseModel,), {"__module__": "a_cell", "__annotations__": {"text": str}})  # type: ignore[attr-defined]  # as the cell does
        classes.append(module.Note)
        for _ in range(2):
            (note,) = _get(models, lambda: [module.Note(text="x")])
            assert type(note) is classes[-1]
    assert classes[0] is not classes[1]
