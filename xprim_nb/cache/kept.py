"""Files that somebody changed or added inside an installed model are never deleted with it: they are put aside.

A file is ours when it looks as it did when it was installed (size and modification time), or when its bytes still
are what the manifest says.

Source: the mission ("nothing is ever lost"); DVC's state (a hash remembered by file identity).
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from xprim_nb._files import make_dirs, remove_tree, storage_errors
from xprim_nb._hashing import read_range
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import read_manifest
from xprim_nb.errors import StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest

__all__ = ["changed_files", "facts_of", "retire"]

_log = logging.getLogger("xprim_nb.cache")


def facts_of(tree: Path, manifest: Manifest) -> dict[str, list[int]]:
    """Size in bytes and modification time in ns of each of the model's files, as the receipt records them."""
    facts = {}
    for file in manifest.files:
        found = (tree / file.path).stat()
        facts[file.path] = [found.st_size, found.st_mtime_ns]
    return facts


def retire(layout: Layout, ref: ModelRef, tree: Path) -> Path | None:
    """Delete an old tree; files that are not ours are moved to a fresh directory, which is the result.

    Raises:
        StorageError: The disk refused; nothing that is not ours was deleted.
    """
    if tree.is_symlink():  # somebody keeps the model elsewhere: what lies there is not ours to delete
        tree.unlink()
        return None
    if not tree.exists():
        return None
    changed, kept = changed_files(layout, tree), None
    if changed:
        kept = layout.kept_dir(ref)
        with storage_errors(kept, "keeping changed files"):
            for path in changed:
                make_dirs((kept / path).parent)
                os.replace(tree / path, kept / path)  # noqa: PTH105  # a link is moved as the link it is
        _log.warning("%d changed files of %s were put aside", len(changed), ref, extra={"path": str(kept)})
    remove_tree(tree)
    return kept


def changed_files(layout: Layout, tree: Path) -> list[str]:
    """Paths below a model directory, relative and `/`-separated, that are not what was installed."""
    try:
        manifest = read_manifest(layout, tree).manifest
    except StorageError:
        manifest = None  # no manifest: nothing here is known to be ours
    recorded = _recorded(layout, tree)
    expected = {file.path: number for number, file in enumerate(manifest.files)} if manifest else {}
    changed = []
    for path in _walk(tree, layout.metadata_name):
        number = expected.get(path)
        if manifest is None or number is None or not _is_ours(tree / path, path, number, manifest, recorded):
            changed.append(path)
    return changed


def _recorded(layout: Layout, tree: Path) -> Mapping[str, list[int]]:
    try:
        files = orjson.loads(layout.receipt_file(tree).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return files if isinstance(files, dict) else {}


def _walk(tree: Path, metadata_name: str) -> Iterator[str]:
    for folder, folders, files in os.walk(tree):
        here = Path(folder)
        if here == tree:
            folders[:] = [name for name in folders if name != metadata_name]
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in links]
        for name in sorted([*files, *links]):
            yield (here / name).relative_to(tree).as_posix()


def _is_ours(
    path: Path, name: str, number: int, manifest: Manifest, recorded: Mapping[str, list[int]]
) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return True
    if not stat.S_ISREG(found.st_mode) or found.st_size != manifest.files[number].size:
        return False
    if recorded.get(name) == [found.st_size, found.st_mtime_ns]:
        return True
    return _has_its_bytes(path, number, manifest)


def _has_its_bytes(path: Path, number: int, manifest: Manifest) -> bool:
    """Compare by the file's own digest, else by the chunks that lie wholly inside it; undecided means no."""
    file, begin = manifest.files[number], manifest.file_starts[number]
    pieces: list[tuple[int, int, str]] = []
    if file.sha256 is not None:
        pieces = [(0, file.size, file.sha256)]
    else:
        for digest, start, size in zip(manifest.chunks, manifest.chunk_starts, manifest.sizes, strict=True):
            if begin <= start and start + size <= begin + file.size:
                pieces.append((start - begin, size, digest))
    if sum(size for _, size, _ in pieces) != file.size:
        return False
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        for offset, size, digest in pieces:
            found = hashlib.sha256()
            if read_range(fd, offset, size, found.update) < size or found.hexdigest() != digest:
                return False
    finally:
        os.close(fd)
    return True
