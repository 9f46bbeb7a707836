"""What a change of more than one step is about to do, written down before its first step.

Source: DESIGN, habit 5.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from xprim_nb._files import read_plain, storage_errors, sync_dir, write_atomic
from xprim_nb.cache.layout import Layout
from xprim_nb.refs import ModelRef

__all__ = ["BACKUP_FILE", "Displacement", "Intent", "Intents", "read_intent"]

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


class Intents:
    """Those begun and not yet ended, one file each. Holds nothing open.

    Args:
        layout: Where they lie.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def all(self) -> Iterator[tuple[Intent, Path]]:
        """Each that can be followed, with its file."""
        try:
            paths = sorted(self._layout.intents.glob("*.json"))
        except OSError:
            return
        for path in paths:
            intent = read_intent(path)
            if intent is not None:
                yield intent, path

    def write(self, intent: Intent) -> Path:
        """Make one durable; the result is its file.

        Raises:
            StorageError: The disk refused.
        """
        path = self._layout.intents / f"{secrets.token_hex(8)}.json"
        write_atomic(path, orjson.dumps(asdict(intent)))
        return path

    def forget(self, path: Path) -> None:
        """End one.

        Raises:
            StorageError: The disk refused.
        """
        with storage_errors(path, "ending a swap"):
            path.unlink(missing_ok=True)
            sync_dir(path.parent)


def read_intent(path: Path) -> Intent | None:
    """The intent in a file; None, and a warning, when it is none that can be followed."""
    try:
        intent = Intent(**orjson.loads(read_plain(path)))
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
