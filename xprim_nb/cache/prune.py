"""Remove what nobody will go on with: unfinished pulls, trees on their way out, loose chunks, idle locks.

Files that were put aside because somebody had changed them (`cache/kept`) are never touched.

Source: spec 1 §Pull ("Partials idle for 24 h are pruned; `prune()` does it now").
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from xprim_nb._files import PathLock, remove_tree
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.values import Pruned
from xprim_nb.errors import StorageError

__all__ = ["prune"]

_log = logging.getLogger("xprim_nb.cache")


def prune(layout: Layout, *, idle_s: float = 0.0) -> Pruned:
    """Remove leftovers that nobody touched for `idle_s` seconds and nobody works on.

    Raises:
        StorageError: The disk refused.
    """
    freed, gone, in_use = 0, [], []
    for partial in _children(layout.partials):
        if _idle_for(partial) < idle_s:
            continue
        lock = PathLock(layout.partial_lock(partial.name))
        if not lock.try_acquire():
            in_use.append(partial.name)
            continue
        try:
            freed += _size(partial)
            remove_tree(partial)
            gone.append(partial.name)
        finally:
            lock.release(forget=True)
    claimed = _named_by_intents(layout)
    for leftover in (*_children(layout.trash), *_children(layout.chunks)):
        if _idle_for(leftover) >= idle_s and leftover.name not in claimed:
            freed += _size(leftover)
            if leftover.is_dir():
                remove_tree(leftover)
            else:
                leftover.unlink(missing_ok=True)
    _forget_idle_locks(layout)
    return Pruned(tuple(sorted(gone)), freed, tuple(sorted(in_use)))


def _children(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(folder.iterdir())


def _idle_for(path: Path) -> float:
    newest = 0.0
    for each in (path, path / "verified", path / "tree"):
        with contextlib.suppress(OSError):
            newest = max(newest, each.stat().st_mtime)
    return time.time() - newest


def _size(path: Path) -> int:
    """Bytes on disk, sparse parts not counted."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                found = os.lstat(Path(folder) / name)
                total += getattr(found, "st_blocks", found.st_size // 512) * 512
    return total


def _named_by_intents(layout: Layout) -> set[str]:
    names = set()
    for path in _children(layout.intents):
        try:
            names.add(Path(orjson.loads(path.read_bytes())["out"]).name)
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
