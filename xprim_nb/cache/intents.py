"""What a change of more than one step is about to do, written down before its first step.

Source: DESIGN, habit 5.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from xprim_nb.refs import ModelRef

__all__ = ["BACKUP_FILE", "Displacement", "Intent", "read_intent"]

_log = logging.getLogger("xprim_nb.cache")

# Beside the `tree` in a backup's directory: what it is a backup of.
BACKUP_FILE = "backup.json"


@dataclass(frozen=True, slots=True)
class Intent:
    """A swap or removal begun. Paths are relative to the base, so that a moved base recovers too.

    Attributes:
        kind: `install`, `refresh`, `restore` (a backup), `discard` (a backup) or `remove`.
        ref: Which version.
        token: Known by it: the tree that comes in.
        tree: Where that lies.
        out: Where what lies in its place now goes.
        extra: Further keys for the `registry.json` entry.
        backup: What `backup.json` beside `out` says; empty when the old tree is not to stay.
    """

    kind: str
    ref: str
    token: str
    tree: str
    out: str
    extra: dict[str, Any] = field(default_factory=dict)
    backup: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Displacement:
    """What else a swap does beside installing.

    Attributes:
        local: Files in the new tree that are not its manifest's: path → `kind` and `sha256`, for the receipt.
        backup: Where the old version goes, its tree below it; None to delete it as `retire` does.
        facts: What `backup.json` says.
    """

    local: Mapping[str, Mapping[str, str]]
    backup: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_intent(path: Path) -> Intent | None:
    """The intent in a file; None, and a warning, when it is none that can be followed."""
    try:
        intent = Intent(**orjson.loads(path.read_bytes()))
        ModelRef.parse(intent.ref).require_version()
        for place in (PurePosixPath(intent.out), PurePosixPath(intent.tree or intent.out)):
            if place.parts[:1] != ("cache",) or ".." in place.parts:
                raise ValueError(f"{place} does not lie in the cache")
    except (OSError, ValueError, TypeError) as error:  # torn by a dying disk: written atomically otherwise
        _log.warning(
            "an intent is unreadable and is left alone", extra={"path": str(path), "why": str(error)}
        )
        return None
    return intent
