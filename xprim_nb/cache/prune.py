"""Remove what nobody will go on with: unfinished pulls, trees on their way out, loose chunks, idle locks.

Files that were put aside because somebody had changed them (`cache/kept`) are never touched.

Source: spec 1 §Pull ("Partials idle for 24 h are pruned; `prune()` does it now").
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

import orjson

from xprim_nb._files import PathLock, read_plain, remove_tree, storage_errors
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.values import Pruned
from xprim_nb.errors import StorageError

__all__ = ["discard", "prune"]

_log = logging.getLogger("xprim_nb.cache")

# Temporary files live for milliseconds, those of chunks as long as their transfer, which ends when it stalls.
_WRITING_S = 3600.0


def discard(layout: Layout, manifest_hash: str) -> Pruned:
    """Remove what an unfinished pull has fetched, if nobody works on it.

    Raises:
        StorageError: The disk refused.
    """
    path = layout.partials / manifest_hash
    with storage_errors(layout.cache, "discarding"):
        freed, gone, in_use = _without(layout, [path] if os.path.lexists(path) else [])
    return Pruned(tuple(gone), freed, tuple(in_use))


def prune(layout: Layout, *, idle_s: float = 0.0) -> Pruned:
    """Remove leftovers that nobody touched for `idle_s` seconds and nobody works on.

    Raises:
        StorageError: The disk refused.
    """
    with storage_errors(layout.cache, "pruning"):
        partials = _children(layout.partials)
        leftovers = [*_children(layout.trash), *_children(layout.chunks)]
        freed, gone, in_use = _without(layout, [path for path in partials if _is_litter(path, idle_s)])
        # Read after the listing: what somebody moved there before it is named by now, what comes later was not seen.
        claimed = _named_by_intents(layout)
        for path in leftovers:
            if _is_litter(path, idle_s) and path.name not in claimed:
                freed += _removed(path)
        for path in _temporaries(layout):
            if _is_litter(path, idle_s):
                freed += _removed(path)
        _forget_idle_locks(layout)
    return Pruned(tuple(sorted(gone)), freed, tuple(sorted(in_use)))


def _without(layout: Layout, partials: list[Path]) -> tuple[int, list[str], list[str]]:
    """Remove unfinished pulls; the bytes freed, the names of what is gone, and of what somebody works on."""
    freed, gone, in_use = 0, [], []
    for path in partials:
        lock = PathLock(layout.partial_lock(path.name))
        if not lock.try_acquire():
            in_use.append(path.name)
            continue
        try:
            if path.name not in _named_by_intents(layout):
                freed += _removed(path)
                gone.append(path.name)
        finally:
            lock.release()
    return freed, gone, in_use


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _temporaries(layout: Layout) -> list[Path]:
    """Half-written files of killed processes."""
    folders = (layout.base, layout.intents, layout.manifests, layout.cache / "index")
    return [path for folder in folders for path in _children(folder) if _is_temporary(path)]


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _is_litter(path: Path, idle_s: float) -> bool:
    """True when nobody touched it for long enough; its writer may still be at work on a temporary file."""
    return _idle_for(path) >= (max(idle_s, _WRITING_S) if _is_temporary(path) else idle_s)


def _removed(path: Path) -> int:
    """Remove a file or a tree, and tell its bytes on disk."""
    size = _size(path)
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
    return size


def _idle_for(path: Path) -> float:
    newest = 0.0
    for each in (path, path / "verified", path / "tree"):
        with contextlib.suppress(OSError):
            newest = max(newest, each.lstat().st_mtime)
    # A clock that was set back, or the one of a file server, dates what is new into the future.
    return max(0.0, time.time() - newest)


def _size(path: Path) -> int:
    """Bytes on disk, sparse parts not counted."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size if os.path.lexists(path) else 0
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                found = os.lstat(Path(folder) / name)
                total += getattr(found, "st_blocks", found.st_size // 512) * 512
    return total


def _named_by_intents(layout: Layout) -> set[str]:
    """Names of the trees in the trash and of the unfinished pulls that a swap or removal still has to do with."""
    names = set()
    for path in layout.intents.glob("*.json"):
        try:
            intent = orjson.loads(read_plain(path))
            names |= {Path(intent["out"]).name, Path(intent["tree"]).parent.name}
        except (OSError, ValueError, KeyError, TypeError):
            _log.debug("an intent is unreadable", extra={"path": str(path)})
    return names


def _forget_idle_locks(layout: Layout) -> None:
    """Chunk claims of killed processes: their locks are free, their files are litter."""
    for path in (layout.cache / "locks").glob("chunk-*.lock"):
        lock = PathLock(path)
        with contextlib.suppress(StorageError):
            if lock.try_acquire():
                lock.release(forget=True)
