"""What became of an installed version's files: unchanged, changed by somebody, added, damaged, gone.

Nothing is read but the files that look other than when they were installed. Of these:

    1. Its bytes are the manifest's all the same: unchanged.
    2. A refresh left it as the user had it: changed.
    3. Nobody wrote to it (size and time of modification are as recorded), or it looks like another file of the model:
       damaged.
    4. A tensor container that is too short, or of the right size with a right chunk of its own: damaged. Nobody edits
       those by hand.
    5. Anything else: changed; that is somebody's work.

Source: spec 2 §Refresh, §Repair ("locally modified files are never overwritten").
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from xprim_nb._files import storage_errors
from xprim_nb.cache.kept import ORIGINALS_LOCK, Judge, judge_of, local_files, recorded_files, walk_files
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.partial import hash_segments
from xprim_nb.registry.manifest import Manifest

__all__ = ["TENSOR_SUFFIXES", "LocalFile", "LocalState", "examine", "file_hash"]

LocalState: TypeAlias = Literal["unchanged", "changed", "absent", "added", "upstream", "damaged", "replaced"]

TENSOR_SUFFIXES = frozenset(
    ".safetensors .gguf .bin .pt .pth .onnx .npz .npy .h5 .msgpack .tflite .pb".split()
)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One path in an installed version.

    Attributes:
        path: Relative, `/`-separated.
        state: `unchanged`; `changed` or `added` by somebody; `absent`; `damaged`; `replaced` (something that is no
            file lies there); `upstream` (the other side of an earlier conflict, as a refresh wrote it).
        size_bytes: Of what lies there; 0 for nothing.
        sha256: Of changed and added files; empty for others, and for links.
    """

    path: str
    state: LocalState
    size_bytes: int = 0
    sha256: str = ""


def examine(layout: Layout, tree: Path, manifest: Manifest | None) -> dict[str, LocalFile]:
    """Every path of the manifest and of the directory, with what became of it.

    Args:
        layout: Where things lie.
        tree: The version's directory.
        manifest: The one installed; None when nobody has it any more: each file may then be anybody's, so is `added`.

    Raises:
        StorageError: A file that somebody changed cannot be read.
    """
    with storage_errors(tree, "looking for changes"):
        found = {} if manifest is None else _Examiner(layout, tree, manifest).files()
        judge = None if manifest is None else judge_of(layout, tree, manifest)
        for path in walk_files(tree, layout.metadata_name):
            if path not in found:
                known = _stranger(tree, path, judge)
                if known is not None:
                    found[path] = known
    return dict(sorted(found.items()))


def file_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stranger(tree: Path, path: str, judge: Judge | None) -> LocalFile | None:
    """A path that the manifest does not name; None for what is nobody's."""
    found = (tree / path).lstat()
    if judge is not None and judge.is_ours(path):
        return None if path == ORIGINALS_LOCK else LocalFile(path, "upstream", found.st_size)
    if stat.S_ISLNK(found.st_mode):
        return LocalFile(path, "added", found.st_size)
    if not stat.S_ISREG(found.st_mode):
        return LocalFile(path, "replaced", found.st_size)
    return LocalFile(path, "added", found.st_size, file_hash(tree / path))


class _Examiner:
    """Looks at the manifest's own paths."""

    def __init__(self, layout: Layout, tree: Path, manifest: Manifest) -> None:
        self._tree, self._manifest = tree, manifest
        self._judge = judge_of(layout, tree, manifest)
        self._recorded: Mapping[str, list[int]] = recorded_files(layout, tree)
        self._looks = {tuple(facts[:2]): path for path, facts in self._recorded.items()}
        self._local = local_files(layout, tree)

    def files(self) -> dict[str, LocalFile]:
        """Each of them, with what became of it."""
        return {file.path: self._look(number) for number, file in enumerate(self._manifest.files)}

    def _look(self, number: int) -> LocalFile:
        path = self._manifest.files[number].path
        target = self._tree / path
        try:
            found = target.lstat()
        except OSError:  # also where a file lies in the place of its directory
            return LocalFile(path, "absent")
        if not stat.S_ISREG(found.st_mode):
            return LocalFile(path, "replaced", found.st_size)
        if self._judge.is_ours(path):  # 1
            return LocalFile(path, "unchanged", found.st_size)
        if path not in self._local and self._is_damage(number, found):  # 2
            return LocalFile(path, "damaged", found.st_size)
        return LocalFile(path, "changed", found.st_size, file_hash(target))  # 5

    def _is_damage(self, number: int, found: os.stat_result) -> bool:
        file = self._manifest.files[number]
        looks = (found.st_size, found.st_mtime_ns)
        if self._looks.get(looks) is not None and found.st_size:  # 3: its own, or another file's
            return True
        if PurePosixPath(file.path).suffix.lower() not in TENSOR_SUFFIXES:
            return False
        return found.st_size < file.size or (found.st_size == file.size and self._has_right_chunk(number))

    def _has_right_chunk(self, number: int) -> bool:  # 4
        for index in self._own_chunks(number):
            found = hashlib.sha256()
            whole = hash_segments(self._tree, self._manifest, index, found.update)
            if whole and found.hexdigest() == self._manifest.chunks[index]:
                return True
        return False

    def _own_chunks(self, number: int) -> Iterator[int]:
        """Chunks that lie in this file and in no other."""
        start = self._manifest.file_starts[number]
        end = start + self._manifest.files[number].size
        spans = zip(self._manifest.chunk_starts, self._manifest.sizes, strict=True)
        for index, (first, size) in enumerate(spans):
            if start <= first and first + size <= end:
                yield index
