"""Copies what was decoded, where a copy is surely what decoding again would give, at a tenth of its price. Pure.

Whoever lists a thread gets its messages once for each checkpoint, and making a message of bytes is validating it. The
first is made so; further ones are copies of a model that nobody else has. It lives as long as a page of the list: kept
any longer it would outlive the class that a notebook's cell has defined anew.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import uuid
from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic import BaseModel

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


_Maker: TypeAlias = Callable[[], Any]


class Models:
    """What was decoded, by digest, to be copied from. For one thread."""

    def __init__(self) -> None:
        self._makers: dict[bytes, _Maker] = {}

    def get(self, digest: bytes, decode: _Maker) -> Any:  # noqa: ANN401  # any value
        """A new object equal to what `decode` gives: its own, or a copy of what it gave before."""
        maker = self._makers.get(digest)
        if maker is None:
            value = decode()
            maker = self._makers[digest] = _maker(value, set()) or decode
            # The model is nobody's; what cannot be copied is the caller's.
            return value if maker is decode else maker()
        return maker()


def _maker(value: Any, seen: set[int]) -> _Maker | None:  # noqa: ANN401  # any value
    """Makes copies of what nobody else will change; None where they might differ from it."""
    kind = type(value)
    if kind in _ATOMS:
        return lambda: value
    if id(value) in seen:  # two places that are one object would become two
        return None
    seen.add(id(value))
    if kind is dict:
        return _fields_maker(value, seen) if all(type(key) in _ATOMS for key in value) else None
    if kind in (list, tuple, set, frozenset):
        return _items_maker(value, seen)
    is_model = isinstance(value, BaseModel) and _is_plain(kind)  # type: ignore[arg-type]  # a class can be hashed
    return _model_maker(value, seen) if is_model else None


def _fields_maker(fields: dict[Any, Any], seen: set[int]) -> _Maker | None:
    inner = {key: _maker(each, seen) for key, each in fields.items() if type(each) not in _ATOMS}
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


def _items_maker(items: Any, seen: set[int]) -> _Maker | None:  # noqa: ANN401  # a list, tuple or set
    kind = type(items)
    if all(type(each) in _ATOMS for each in items):
        return lambda: kind(items)
    makers = [maker for maker in (_maker(each, seen) for each in items) if maker is not None]
    return (lambda: kind([maker() for maker in makers])) if len(makers) == len(items) else None


def _model_maker(model: BaseModel, seen: set[int]) -> _Maker | None:
    kind, state = type(model), model.__getstate__()
    fields, extra = (_maker(state[part], seen) for part in ("__dict__", "__pydantic_extra__"))
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
