"""Let an archive go: what somebody had changed lies elsewhere, durably, before a byte of it is deleted.

Source: spec 2 §Clean-up; the mission ("nothing is ever lost").
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from xprim_nb._files import make_dirs, move_dir, remove_tree, storage_errors, sync_dir, sync_file
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.upkeep.archived import Archived

__all__ = ["drop_archive", "set_aside"]


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
