"""Copies what was decoded, where a copy is surely what decoding again would give, at a tenth of its price.

Whoever reads a thread gets the same messages with each of its checkpoints, and making a message of bytes is validating
it. The first is made so; further ones are copies of a model that nobody else has. Where a cell of a notebook has
defined a class anew, what is of the old one is decoded again.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import sys
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel

from .least_used import LeastUsed

__all__ = ["Models"]

# Nobody can change these. A type derived from one may have what can be changed, and is none of them.
_ATOMS = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID),
    }
)
# What a class may have of its own to say how it is copied; then it is decoded.
_COPYING = (
    "__new__",
    "__copy__",
    "__deepcopy__",
    "__getstate__",
    "__setstate__",
    "__reduce__",
    "__reduce_ex__",
)


# What a value takes in memory: its texts, and the objects around them.
_TIMES_BYTES, _OVERHEAD_BYTES = 2, 3000

_Maker: TypeAlias = Callable[[], Any]


class _Model(NamedTuple):
    """Makes copies of a value of so many bytes, in which there are models of these classes."""

    make: _Maker
    kinds: frozenset[type]
    size_bytes: int


class Models:
    """What was decoded, by digest, to be copied from; what was used longest ago is forgotten. Thread-safe.

    Args:
        most_bytes: About how much of it is kept; all of it when not given, for whoever is soon done.
    """

    def __init__(self, most_bytes: int = sys.maxsize) -> None:
        self._models: LeastUsed[bytes, _Model] = LeastUsed(
            most_bytes, lambda model: model.size_bytes * _TIMES_BYTES + _OVERHEAD_BYTES
        )

    def values(
        self,
        digests: Sequence[bytes | None],
        sizes: Sequence[int],
        decode: Callable[[Sequence[int]], Sequence[Any]],
    ) -> list[Any]:
        """New objects, equal to what `decode` gives: its own, or copies of what it gave before.

        Args:
            digests: What names each value; None for what is decoded each time.
            sizes: How many bytes each is made of.
            decode: Given the places of some, makes them.
        """
        known = self._models.find([digest for digest in digests if digest is not None])
        fresh = _without_old_classes(known)
        given: list[Any] = [None] * len(digests)
        absent = []
        for place, digest in enumerate(digests):
            model = fresh.get(digest) if digest is not None else None
            if model is None:
                absent.append(place)
            else:
                given[place] = model.make()
        if absent:
            made: dict[bytes, _Model] = {}
            for place, value in zip(absent, decode(absent), strict=True):
                given[place] = value
                digest, kinds = digests[place], set[type]()
                maker = _maker(value, set(), kinds) if digest is not None else None
                if digest is None or maker is None:
                    continue  # what cannot be copied is the caller's
                made[digest] = _Model(maker, frozenset(kinds), sizes[place])
                given[place] = maker()  # the model is nobody's
            self._models.keep(made)
        return given


def _without_old_classes(known: dict[bytes, _Model]) -> dict[bytes, _Model]:
    old = {
        kind for kind in frozenset().union(*{each.kinds for each in known.values()}) if not _is_current(kind)
    }
    return {digest: each for digest, each in known.items() if not each.kinds & old} if old else known


def _is_current(kind: type) -> bool:
    """Whether its name still means it, which is how a value is decoded."""
    found: object = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def _maker(value: Any, seen: set[int], kinds: set[type]) -> _Maker | None:  # noqa: ANN401  # any value
    """Makes copies of what nobody else will change; None where they might differ from it. `kinds` gets its classes."""
    kind = type(value)
    if kind in _ATOMS:
        return lambda: value
    if id(value) in seen:  # two places that are one object would become two
        return None
    seen.add(id(value))
    if kind is dict:
        return _fields_maker(value, seen, kinds) if all(type(key) in _ATOMS for key in value) else None
    if kind in (list, tuple, set, frozenset):
        return _items_maker(value, seen, kinds)
    if not isinstance(value, BaseModel) or not _is_plain(kind):  # type: ignore[arg-type]  # a class can be hashed
        return None
    kinds.add(kind)
    return _model_maker(value, seen, kinds)


def _fields_maker(fields: dict[Any, Any], seen: set[int], kinds: set[type]) -> _Maker | None:
    inner = {key: _maker(each, seen, kinds) for key, each in fields.items() if type(each) not in _ATOMS}
    if not inner:
        return fields.copy
    makers = [(key, maker) for key, maker in inner.items() if maker is not None]
    if len(makers) < len(inner):
        return None

    def make() -> dict[Any, Any]:
        made = fields.copy()
        for key, maker in makers:
            made[key] = maker()
        return made

    return make


def _items_maker(items: Any, seen: set[int], kinds: set[type]) -> _Maker | None:  # noqa: ANN401  # a list, tuple or set
    kind = type(items)
    if all(type(each) in _ATOMS for each in items):
        return lambda: kind(items)
    makers = [maker for maker in (_maker(each, seen, kinds) for each in items) if maker is not None]
    return (lambda: kind([maker() for maker in makers])) if len(makers) == len(items) else None


def _model_maker(model: BaseModel, seen: set[int], kinds: set[type]) -> _Maker | None:
    kind, state = type(model), model.__getstate__()
    fields, extra = (_maker(state[part], seen, kinds) for part in ("__dict__", "__pydantic_extra__"))
    if fields is None or extra is None or state["__pydantic_private__"]:
        return None
    was_set = state["__pydantic_fields_set__"]

    def make() -> BaseModel:
        made = kind.__new__(kind)
        made.__setstate__(
            {
                "__dict__": fields(),
                "__pydantic_extra__": extra(),
                "__pydantic_fields_set__": was_set.copy(),
                "__pydantic_private__": None,
            }
        )
        return made

    return make


@functools.lru_cache(maxsize=256)
def _is_plain(kind: type[BaseModel]) -> bool:
    """Whether a model of this class has nothing but its fields, and is copied as any model is."""
    above = kind.__mro__[: kind.__mro__.index(BaseModel)]
    return all(getattr(kind, name) is getattr(BaseModel, name) for name in _COPYING) and not any(
        vars(each).get("__slots__") for each in above
    )
