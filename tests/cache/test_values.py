"""Values of the cache: one made for a listing is the same as any other."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from xprim_nb.cache.values import InstalledModel, listed_model
from xprim_nb.refs import ModelRef

_VALUES = (
    ModelRef("g", "m", "v"),
    "a" * 64,
    5,
    2,
    datetime(2026, 1, 1, tzinfo=UTC),
    Path("/b"),
    {"pinned": 1},
)


def test_a_listed_model_is_an_installed_model() -> None:
    """Every field has its value, and it compares, changes and refuses as the other does."""
    listed, made = listed_model(*_VALUES), InstalledModel(*_VALUES)
    assert [getattr(listed, each.name) for each in fields(InstalledModel)] == list(_VALUES)
    assert listed == made
    assert repr(listed) == repr(made)
    assert replace(listed, total_size=6).total_size == 6
    with pytest.raises(FrozenInstanceError):
        listed.total_size = 7  # type: ignore[misc]  # that is what is tested
