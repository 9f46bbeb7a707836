"""Pins: what a user wants kept, written into the model's entry in `registry.json`, and repeated in its directory.

Source: spec 2 §Clean-up ("Never: a pinned model"); DESIGN ("what a user decided lies outside the database").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from xprim_nb.cache.pinned import KEY
from xprim_nb.cache.store import Store
from xprim_nb.cache.values import InstalledModel
from xprim_nb.refs import ModelRef

__all__ = ["Pin", "pin", "pin_in", "pin_of", "pins", "unpin"]

_NO_REASON = "a user wants it kept"


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned model.

    Attributes:
        ref: Which.
        at: Since when, in UTC; None when the entry does not say.
        reason: Why.
    """

    ref: ModelRef
    at: datetime | None
    reason: str

    def __str__(self) -> str:
        return f"{self.ref} is pinned: {self.reason}"


def pin(store: Store, ref: ModelRef, reason: str = "") -> Pin:
    """Keep a model from every clean-up, until `unpin`.

    Raises:
        NotInstalledError: It is not installed.
        StorageError: `registry.json` cannot be written.
    """
    model = store.get(ref)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    store.annotate(model.ref, {KEY: {"at": now, "reason": reason}})
    found = pin_of(store.get(ref))
    assert found is not None, "it was pinned just now"
    return found


def unpin(store: Store, ref: ModelRef) -> bool:
    """Take a pin away; False when there was none.

    Raises:
        NotInstalledError: The model is not listed.
        StorageError: `registry.json` cannot be written.
    """
    was = pin_of(store.get_entry(ref)) is not None
    store.annotate(ref, {KEY: None})
    return was


def pins(store: Store) -> list[Pin]:
    """Every pinned model, sorted by ref."""
    return [found for model in store.list() if (found := pin_of(model)) is not None]


def pin_of(model: InstalledModel) -> Pin | None:
    """The model's pin; None when it has none."""
    return pin_in(model.ref, model.extra)


def pin_in(ref: ModelRef, extra: Mapping[str, Any]) -> Pin | None:
    """The pin among the further keys of a `registry.json` entry. Whatever stands there and is not empty pins."""
    found = extra.get(KEY)
    if not found:
        return None
    document = found if isinstance(found, dict) else {}
    try:
        at = datetime.fromisoformat(str(document.get("at"))).astimezone(UTC)
    except ValueError:
        at = None
    return Pin(ref, at, str(document.get("reason") or _NO_REASON))
