"""Let an archive go: what somebody had changed lies elsewhere, durably, before a byte of it is deleted.

Source: spec 2 §Clean-up; the mission ("nothing is ever lost").
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from xprim_nb._files import locked, make_dirs, move_dir, remove_tree, storage_errors, sync_dir, sync_file
from xprim_nb._threads import settled
from xprim_nb.cache.health.inspect import inspect_files
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store, read_manifest
from xprim_nb.cache.upkeep.archived import Archived, archive_of
from xprim_nb.errors import StorageError
from xprim_nb.refs import ModelRef

__all__ = ["drop_archive", "drop_spent_archive", "set_aside"]


def drop_archive(layout: Layout, archived: Archived, *, keep_local: bool) -> Path | None:
    """Delete an archive; where changed files that it held were put, with `keep_local`.

    Raises:
        StorageError: The disk refused; the archive, or every changed file, is still there.
    """
    doomed = layout.new_trash()
    with storage_errors(archived.path, "removing an archive"):
        kept = set_aside(layout, archived, archived.local_files) if keep_local else None
        move_dir(archived.path, doomed)
        for parent in (archived.path.parent, archived.path.parent.parent):
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()
    remove_tree(doomed)
    return kept


async def drop_spent_archive(layout: Layout, store: Store, ref: ModelRef) -> None:
    """After a pull or a refresh: an archive that has nothing which the installed version has not, goes.

    It stays, and is listed, where it holds somebody's files, where a file of the installed version is not as it was
    published, and where it cannot be deleted.
    """
    with contextlib.suppress(StorageError):
        if await settled(_spent, layout, store, ref) is None:
            return
        async with locked(layout.ref_lock(ref)):
            spent = await settled(_spent, layout, store, ref)
            if spent is not None:
                await settled(lambda: drop_archive(layout, spent, keep_local=True))


def _spent(layout: Layout, store: Store, ref: ModelRef) -> Archived | None:
    found = archive_of(layout, ref)
    if found is None or found.document.local or found.document.absent:
        return None
    model = store.find(ref)
    if model is None or model.manifest_hash != found.manifest_hash:
        return None
    looked = inspect_files(layout, model.path, read_manifest(layout, model.path).manifest, depth="quick")
    return found if all(each.status == "extra" for each in looked.findings) else None


def set_aside(layout: Layout, archived: Archived, paths: Sequence[str]) -> Path | None:
    """Copy changed files out of an archive to where files are put aside; durable when this returns."""
    if not paths:
        return None
    kept = layout.kept_dir(archived.ref)
    for path in paths:
        file, target = archived.document.local[path], kept / path
        make_dirs(target.parent)
        if file.link is not None:
            target.symlink_to(file.link)
        else:
            shutil.copyfile(archived.path / "local" / file.sha256, target)
            fd = os.open(target, os.O_RDWR)
            try:
                sync_file(fd)
            finally:
                os.close(fd)
        sync_dir(target.parent)
    return kept
