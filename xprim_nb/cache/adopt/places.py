"""`cache/adopted.json`: which directories of other programs may serve chunks. Read when a pull asks for it.

Source: spec 2 §Adopt, §Access ("every stored document carries a schema version").
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import orjson
from pydantic import ValidationError

from xprim_nb._files import PathLock, read_plain, storage_errors, write_atomic
from xprim_nb.cache.adopt.scanning import AdoptedPlace
from xprim_nb.cache.layout import Layout
from xprim_nb.errors import StorageError

__all__ = ["adopted_places", "forget_places", "remember_place"]

_log = logging.getLogger("xprim_nb.cache")

SCHEMA_VERSION = 1
# A write takes milliseconds: whoever holds the lock for this long is hung.
_LOCK_TIMEOUT_S = 30.0


def adopted_places(layout: Layout) -> list[AdoptedPlace]:
    """Every adopted directory, by path; empty when the list is damaged.

    Raises:
        StorageError: The list cannot be read, or was written by a newer version of this program.
    """
    path = layout.adopted_file
    with storage_errors(path, "reading"):
        try:
            raw = read_plain(path)
        except FileNotFoundError:
            return []
    try:
        document = orjson.loads(raw)
        version = document["schema_version"]
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StorageError(
                f"{path} was written by a newer version ({version}; this one knows {SCHEMA_VERSION}).",
                subject=str(path),
                hint="Update xprim-nb; the file was left alone.",
            )
        places = [AdoptedPlace.model_validate(each) for each in document["places"]]
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError) as error:
        _log.warning("adopted.json is damaged: adopt the directories again", extra={"why": str(error)[:200]})
        return []
    return sorted(places, key=lambda each: each.root)


def remember_place(layout: Layout, place: AdoptedPlace) -> None:
    """Add a directory to the list, or what was found in it now.

    Raises:
        StorageError: The disk refused, or the list was written by a newer version.
    """
    _change(layout, lambda places: [*(each for each in places if each.root != place.root), place])


def forget_places(layout: Layout, root: Path | None) -> list[str]:
    """Take a directory from the list, or all of them; those that were on it. Their files are not touched.

    Raises:
        StorageError: See `remember_place`.
    """
    gone: list[str] = []

    def left(places: list[AdoptedPlace]) -> list[AdoptedPlace]:
        gone.extend(each.root for each in places if root is None or Path(each.root) in (root, root / "hub"))
        return [each for each in places if each.root not in gone]

    if layout.adopted_file.exists():
        _change(layout, left)
    return gone


def _change(layout: Layout, change: Callable[[list[AdoptedPlace]], list[AdoptedPlace]]) -> None:
    lock = PathLock(layout.cache / "locks" / "adopted.lock")
    lock.acquire(_LOCK_TIMEOUT_S)
    try:
        places = change(adopted_places(layout))
        document = {
            "schema_version": SCHEMA_VERSION,
            "places": [each.model_dump(mode="json") for each in places],
        }
        write_atomic(layout.adopted_file, orjson.dumps(document))
    finally:
        lock.release()
