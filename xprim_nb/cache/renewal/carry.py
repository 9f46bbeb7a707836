"""Put what somebody did to the old version into the tree of the new one, before that is made durable and swapped in.

The old tree is only read: whatever happens here, it is whole. Bytes are shared by reflink where the file system can.

Source: spec 2 §Refresh.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from xprim_nb._files import clone_file, storage_errors
from xprim_nb._hashing import Digest
from xprim_nb.cache.renewal.changes import LocalFile, file_hash
from xprim_nb.cache.renewal.compare import UpstreamStates, fits_in_old
from xprim_nb.cache.renewal.merge import FileChange, merge
from xprim_nb.registry.manifest import Manifest

__all__ = ["carried_bytes", "carry", "merge_trees", "unread_chunks", "unread_paths"]


def merge_trees(
    local: Mapping[str, LocalFile],
    compared: UpstreamStates,
    old: Manifest | None,
    new: Manifest,
    trees: tuple[Path, Path],
    *,
    preserve: bool,
    unread: Collection[str] = (),
) -> tuple[FileChange, ...]:
    """The merge, with every doubt settled by looking at the new bytes.

    Args:
        local: What somebody did to the old version.
        compared: What the manifests say of the new one.
        old: The old version's manifest; None when nobody has it.
        new: The new version's.
        trees: The old tree and the new one.
        preserve: See `merge`.
        unread: Files whose bytes are not in the new tree; nothing is asked of them.

    Raises:
        StorageError: A file cannot be read.
    """
    states = dict(compared.states)
    mine = [
        path for path, found in local.items() if found.state in ("changed", "added") and path not in unread
    ]
    with storage_errors(trees[1], "comparing the new version with local changes"):
        for path in compared.uncertain.intersection(mine):
            if old is not None and fits_in_old(path, old, *trees):
                states[path] = "unchanged"
        sizes = {file.path: file.size for file in new.files}
        equal = {
            path
            for path in mine
            if sizes.get(path) == local[path].size_bytes
            and local[path].sha256
            and local[path].sha256 == file_hash(trees[1] / path)
        }
    return merge(local, states, equal=equal, preserve=preserve)


def unread_paths(changes: Sequence[FileChange], manifest: Manifest) -> frozenset[str]:
    """The files of the new version that nobody will see: the user's stays, and it is certain that no conflict arises."""
    known = {file.path for file in manifest.files}
    return frozenset(
        each.path for each in changes if each.action == "kept" and each.certain and each.path in known
    )


def unread_chunks(unread: Collection[str], manifest: Manifest) -> frozenset[Digest]:
    """The chunks that have bytes of such files alone: they need not be brought here.

    A rollback needs none of them, and a later pull or refresh looks for what it needs itself.
    """
    return frozenset(
        digest
        for digest, indices in manifest.distinct.items()
        if all(
            manifest.files[segment.file_index].path in unread
            for index in indices
            for segment in manifest.segments(index)
        )
    )


def carry(
    changes: Sequence[FileChange], local: Mapping[str, LocalFile], old_tree: Path, new_tree: Path
) -> dict[str, dict[str, str]]:
    """Do in the new tree what was decided, and say what it holds that is not its manifest's, for the receipt.

    Raises:
        StorageError: The disk refused; the old tree is untouched.
    """
    held: dict[str, dict[str, str]] = {}
    with storage_errors(new_tree, "carrying local changes over"):
        for change in changes:
            if change.upstream_path:
                beside = new_tree / change.upstream_path
                os.replace(new_tree / change.path, beside)  # noqa: PTH105  # both names in its errors
                held[change.upstream_path] = {"kind": "upstream", "sha256": file_hash(beside)}
            if change.is_local:
                source, target = old_tree / change.path, new_tree / change.path
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(source, target)
                if not target.is_symlink():
                    kind = _kind(change, local)
                    held[change.path] = {"kind": kind, "sha256": file_hash(target)}
    return held


def carried_bytes(local: Mapping[str, LocalFile]) -> int:
    """What carrying over may write, in bytes, at most."""
    return sum(each.size_bytes for each in local.values() if each.state in ("changed", "added", "upstream"))


def _kind(change: FileChange, local: Mapping[str, LocalFile]) -> str:
    if change.action == "conflict":
        return "conflict"
    state = local[change.path].state
    return {"added": "added", "upstream": "upstream"}.get(state, "kept")


def _copy(source: Path, target: Path) -> None:
    """A copy under its name, whole or not at all; times and mode are the original's."""
    temporary = target.with_name(f".{target.name[:50]}.{secrets.token_hex(8)}.tmp")
    try:
        if source.is_symlink():
            temporary.symlink_to(source.readlink())
        else:
            with source.open("rb") as origin, temporary.open("xb") as copy:
                if not clone_file(origin.fileno(), copy.fileno()):
                    shutil.copyfileobj(origin, copy, 1 << 20)
            with contextlib.suppress(OSError):  # another's file, or a file system without them
                shutil.copystat(source, temporary)
        os.replace(temporary, target)  # noqa: PTH105  # both names in its errors
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
