"""Files that somebody changed or added inside an installed model are never deleted with it: they are put aside.

A file is ours when it looks as it did when it was installed (size and times), or when its bytes still are what the
manifest says.

Source: the mission ("nothing is ever lost"); DVC's state (a hash remembered by file identity).
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from xprim_nb._files import make_dirs, open_plain, read_plain, remove_tree, storage_errors
from xprim_nb._hashing import read_range
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.partial import hash_segments
from xprim_nb.cache.store import read_manifest
from xprim_nb.errors import StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest

__all__ = [
    "ORIGINALS_LOCK",
    "Judge",
    "changed_files",
    "facts_of",
    "judge_of",
    "local_files",
    "recorded_files",
    "retire",
    "same_bytes",
    "walk_files",
]

_log = logging.getLogger("xprim_nb.cache")

# The original client locks a pull with a file inside the model's directory, and leaves it there.
ORIGINALS_LOCK = ".pull.lock"
# As much as one read brings in without waiting for another.
_COMPARED_BYTES = 1 << 20
# How much a file looks as it did when it was installed.
_OTHER, _UNKNOWN, _UNCHANGED, _SAME = range(4)


def facts_of(tree: Path, manifest: Manifest, besides: Collection[str] = ()) -> dict[str, list[int]]:
    """What each of the model's files but `besides` looks like, as the receipt records it (see `_facts`)."""
    paths = [file.path for file in manifest.files if file.path not in besides and (tree / file.path).exists()]
    return {path: _facts((tree / path).stat()) for path in paths}


def _facts(found: os.stat_result) -> list[int]:
    """Size in bytes, times of modification and of change in ns: no editor and no copying program can set the last."""
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def retire(layout: Layout, ref: ModelRef, tree: Path, twin: Path | None = None) -> Path | None:
    """Delete an old tree; files that are not ours are moved to a fresh directory, which is the result.

    Args:
        layout: Where things lie.
        ref: Which version it was.
        tree: The tree.
        twin: Another tree: files that are not ours and lie there too, equal to the byte, need not be moved.

    Raises:
        StorageError: The disk refused; nothing that is not ours was deleted.
    """
    # From here on everything in it is ours. A name of its own, so that who is killed while deleting leaves no tree
    # whose manifest is gone already and whose files could be anybody's.
    doomed = tree.with_name(f"{tree.name}.ours")
    kept = None
    with storage_errors(tree, "sorting out an old version"):
        if tree.is_symlink():  # somebody keeps the model elsewhere: what lies there is not ours to delete
            tree.unlink()
        elif tree.is_dir():
            changed = changed_files(layout, tree)
            if twin is not None:
                changed = [path for path in changed if not same_bytes(tree / path, twin / path)]
            kept = _put_aside(layout, ref, tree, changed)
            os.replace(tree, doomed)  # noqa: PTH105  # Path.replace hides the two names in its errors
        elif os.path.lexists(tree):  # somebody put a file where the model was
            kept = layout.kept_dir(ref)
            make_dirs(kept)
            os.replace(tree, kept / ref.version)  # noqa: PTH105  # as above
    remove_tree(doomed)
    return kept


def _put_aside(layout: Layout, ref: ModelRef, tree: Path, changed: list[str]) -> Path | None:
    if not changed:
        return None
    kept = layout.kept_dir(ref)
    for path in changed:
        make_dirs((kept / path).parent)
        os.replace(tree / path, kept / path)  # noqa: PTH105  # a link is moved as the link it is
    _log.warning("%d changed files of %s were put aside", len(changed), ref, extra={"path": str(kept)})
    return kept


def changed_files(layout: Layout, tree: Path) -> list[str]:
    """Paths below a model directory, relative and `/`-separated, that are not what was installed."""
    try:
        manifest = read_manifest(layout, tree).manifest
    except StorageError:  # no manifest: nothing here is known to be ours
        return list(walk_files(tree, layout.metadata_name))
    judge = judge_of(layout, tree, manifest)
    return [path for path in walk_files(tree, layout.metadata_name) if not judge.is_ours(path)]


def judge_of(layout: Layout, tree: Path, manifest: Manifest) -> Judge:
    """Who tells the files of an installed tree of this manifest apart."""
    try:
        installed_ns = layout.manifest_file(tree).stat().st_mtime_ns
    except OSError:  # the manifest came from elsewhere: no file is known to be older than it
        installed_ns = 0
    return Judge(tree, manifest, recorded_files(layout, tree), installed_ns, local_files(layout, tree))


def recorded_files(layout: Layout, tree: Path) -> dict[str, list[int]]:
    """What the tree's files looked like when they were installed: path → size, mtime and ctime in ns."""
    return _of_receipt(layout, tree, "files")


def local_files(layout: Layout, tree: Path) -> dict[str, dict[str, str]]:
    """What a refresh left in the tree beside the new version's own files: path → `kind` and `sha256`."""
    return {
        path: {key: str(value) for key, value in facts.items()}
        for path, facts in _of_receipt(layout, tree, "local").items()
        if isinstance(facts, dict)
    }


def same_bytes(one: Path, other: Path) -> bool:
    """True when both are plain files with the same bytes, or links to the same name."""
    try:
        if one.is_symlink() or other.is_symlink():
            return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
        if not (one.is_file() and other.is_file() and one.stat().st_size == other.stat().st_size):
            return False
        with os.fdopen(open_plain(one), "rb") as first, os.fdopen(open_plain(other), "rb") as second:
            while block := first.read(_COMPARED_BYTES):
                if block != second.read(_COMPARED_BYTES):
                    return False
        return True
    except OSError:
        return False


def _of_receipt(layout: Layout, tree: Path, key: str) -> dict[str, Any]:
    try:
        found = orjson.loads(read_plain(layout.receipt_file(tree)))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def walk_files(tree: Path, metadata_name: str) -> Iterator[str]:
    """Paths of the files and links below a model directory, relative and `/`-separated; our own directory left out."""
    for folder, folders, files in os.walk(tree):
        here = Path(folder)
        if here == tree:
            folders[:] = [name for name in folders if name != metadata_name]
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in links]
        for name in sorted([*files, *links]):
            yield (here / name).relative_to(tree).as_posix()


class Judge:
    """Tells the files of one installed tree that are as they were from those that somebody changed or added.

    0. The upstream side of a conflict, as a refresh wrote it: ours. No file of the model that a refresh left as the
       user had it looks unchanged.
    1. It looks as it did when it was installed: ours.
    2. Its own digest, where the manifest has one, decides.
    3. Every chunk that has bytes of it is right: ours.
    4. A wrong chunk is blamed on those of its files that look changed most; a file that looks unchanged, and is not
       blamed for any, is ours.
    """

    def __init__(
        self,
        tree: Path,
        manifest: Manifest,
        recorded: Mapping[str, list[int]],
        installed_ns: int,
        local: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._tree, self._manifest, self._local = tree, manifest, local
        self._recorded, self._installed_ns = recorded, installed_ns
        self._numbers = {file.path: number for number, file in enumerate(manifest.files)}
        self._right: dict[int, bool] = {}

    def is_ours(self, path: str) -> bool:
        """True when the file is known to be what was installed; undecided means no."""
        number = self._numbers.get(path)
        if number is None:
            return path == ORIGINALS_LOCK or self._is_upstream(path)  # 0
        file, likeness = self._manifest.files[number], self._likeness(number)
        if likeness in (_OTHER, _SAME):  # 1
            return likeness == _SAME
        if file.sha256 is not None:  # 2
            return self._hash_of(file.path, file.size) == file.sha256
        first = bisect_right(self._manifest.chunk_starts, self._manifest.file_starts[number]) - 1
        last = bisect_left(self._manifest.chunk_starts, self._manifest.file_starts[number] + file.size)
        wrong = [index for index in range(max(first, 0), last) if file.size and not self._is_right(index)]
        return not any(self._is_blamed(number, index) for index in wrong)  # 3, 4

    def _is_upstream(self, path: str) -> bool:
        known = self._local.get(path, {})
        target = self._tree / path
        if known.get("kind") != "upstream" or target.is_symlink() or not target.is_file():
            return False
        return self._hash_of(path, target.stat().st_size) == known.get("sha256")

    def _likeness(self, number: int) -> int:
        file = self._manifest.files[number]
        try:
            found = (self._tree / file.path).lstat()
        except OSError:
            return _OTHER
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
            return _OTHER
        recorded, facts = self._recorded.get(file.path), _facts(found)
        if recorded == facts:
            return _SAME
        if file.path in self._local:  # 0
            return _UNKNOWN
        if recorded is None:  # the original leaves no receipt; it writes the manifest after the files
            return _UNCHANGED if found.st_mtime_ns <= self._installed_ns else _UNKNOWN
        # All but the time of change: the models were copied to another disk, times and all.
        return _UNCHANGED if recorded[:2] == facts[:2] else _UNKNOWN

    def _is_blamed(self, number: int, index: int) -> bool:
        files = {segment.file_index for segment in self._manifest.segments(index)}
        likeness = self._likeness(number)
        return likeness < _UNCHANGED or likeness == min(self._likeness(each) for each in files)

    def _is_right(self, index: int) -> bool:
        if index not in self._right:
            found = hashlib.sha256()
            whole = hash_segments(self._tree, self._manifest, index, found.update)
            self._right[index] = whole and found.hexdigest() == self._manifest.chunks[index]
        return self._right[index]

    def _hash_of(self, path: str, size_bytes: int) -> str:
        fd = open_plain(self._tree / path)
        try:
            found = hashlib.sha256()
            read_range(fd, 0, size_bytes, found.update)
            return found.hexdigest()
        finally:
            os.close(fd)
