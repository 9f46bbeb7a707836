"""What became of an installed version's files: unchanged, changed by somebody, added, damaged, gone.

Nothing is read but the files that look other than when they were installed. Of these:

    1. Its bytes are the manifest's all the same: unchanged.
    2. It is damage, as `health.findings` tells that from somebody's work, or cannot be read: damaged.
    3. Anything else: changed; that is somebody's work.

Source: spec 2 §Refresh, §Repair ("locally modified files are never overwritten").
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from xprim_nb._files import open_plain, storage_errors
from xprim_nb.cache.health.inspect import inspect_files
from xprim_nb.cache.health.report import FileFinding
from xprim_nb.cache.kept import ORIGINALS_LOCK, judge_of, local_files, walk_files
from xprim_nb.cache.layout import Layout
from xprim_nb.registry.manifest import Manifest

__all__ = ["LocalFile", "LocalState", "examine", "file_hash"]

LocalState: TypeAlias = Literal["unchanged", "changed", "absent", "added", "upstream", "damaged", "replaced"]

# What a finding means for a refresh; what cannot be read cannot be carried either.
_STATES: dict[str, LocalState] = {
    "corrupted": "damaged",
    "unreadable": "damaged",
    "missing": "absent",
    "replaced": "replaced",
    "modified": "changed",
}


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
        found = {} if manifest is None else _own(layout, tree, manifest)
        local = local_files(layout, tree)
        for path in walk_files(tree, layout.metadata_name):
            if path not in found and path != ORIGINALS_LOCK:
                found[path] = _stranger(tree, path, local.get(path, {}))
    return dict(sorted(found.items()))


def file_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: It cannot be read.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own(layout: Layout, tree: Path, manifest: Manifest) -> dict[str, LocalFile]:
    """The manifest's own paths."""
    findings = {each.path: each for each in inspect_files(layout, tree, manifest, depth="quick").findings}
    judge, local = judge_of(layout, tree, manifest), local_files(layout, tree)
    found = {}
    for file in manifest.files:
        finding = findings.get(file.path)
        # A file that a refresh left to the user counts as his until its bytes are looked at.
        if finding is None or (file.path in local and judge.is_ours(file.path)):
            found[file.path] = LocalFile(file.path, "unchanged", file.size)
        else:
            found[file.path] = _found(tree, finding)
    return found


def _found(tree: Path, finding: FileFinding) -> LocalFile:
    state, target = _STATES[finding.status], tree / finding.path
    size = target.lstat().st_size if state not in ("absent", "replaced") else 0
    return LocalFile(finding.path, state, size, file_hash(target) if state == "changed" else "")


def _stranger(tree: Path, path: str, known: dict[str, str]) -> LocalFile:
    """A path that the manifest does not name."""
    found = (tree / path).lstat()
    if stat.S_ISLNK(found.st_mode):
        return LocalFile(path, "added", found.st_size)
    if not stat.S_ISREG(found.st_mode):
        return LocalFile(path, "replaced", found.st_size)
    digest = file_hash(tree / path)
    if known.get("kind") == "upstream" and known.get("sha256") == digest:
        return LocalFile(path, "upstream", found.st_size, digest)
    return LocalFile(path, "added", found.st_size, digest)
