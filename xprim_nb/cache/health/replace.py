"""Put a mended file in its place; what lies there is put aside first, unless it is known to be worth nothing.

Source: spec 2 §Repair ("nothing is lost"); STYLE rule 10.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path, PurePosixPath

import orjson

from xprim_nb._files import (
    make_dirs,
    read_plain,
    storage_errors,
    sync_dir,
    sync_file,
    sync_tree,
    write_atomic,
)
from xprim_nb.cache.layout import Layout

__all__ = ["let_read", "put_aside", "put_in_place", "settle_receipt"]

_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0)


def put_in_place(root: Path, path: str, mended: Path, kept: Path, *, keep_old: bool) -> bool:
    """Make a mended file durable and rename it to its place; True when something was put aside for it.

    Args:
        root: The model's directory.
        path: The file's place in it, `/`-separated.
        mended: Its right bytes, on the same disk.
        kept: A directory for what has to give way.
        keep_old: Whether a plain file that lies there has to be kept.

    Raises:
        StorageError: The disk refused; what lay there lies there, or in `kept`.
    """
    final, aside = root / path, False
    with storage_errors(final, "putting a mended file in place"):
        fd = os.open(mended, _FLAGS)
        try:
            sync_file(fd)
        finally:
            os.close(fd)
        for parent in reversed(PurePosixPath(path).parents):
            blocking = root / parent
            if parent != PurePosixPath() and os.path.lexists(blocking) and not _is_dir(blocking):
                put_aside(blocking, kept / parent)
                blocking.unlink(missing_ok=True)
                aside = True
        make_dirs(final.parent)
        if os.path.lexists(final) and (keep_old or not stat.S_ISREG(final.lstat().st_mode)):
            put_aside(final, kept / path)
            aside = True
        os.replace(mended, final)  # noqa: PTH105  # Path.replace hides the two names in its errors
        sync_dir(final.parent)
    return aside


def put_aside(source: Path, target: Path) -> None:
    """Make what lies at `source` lie durably at `target`; a plain file also stays where it is.

    Raises:
        OSError: The disk refused; it lies where it was.
    """
    make_dirs(target.parent)
    mode = source.lstat().st_mode
    if stat.S_ISREG(mode):
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            shutil.copy2(source, target)
            fd = os.open(target, _FLAGS)
            try:
                sync_file(fd)
            finally:
                os.close(fd)
        sync_dir(target.parent)
        return
    try:
        os.rename(source, target)  # noqa: PTH104  # Path.rename hides the two names in its errors
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if stat.S_ISDIR(mode):
            shutil.copytree(source, target, symlinks=True)
            sync_tree(target)
            shutil.rmtree(source)
        else:
            shutil.move(source, target)
    sync_dir(target.parent)
    sync_dir(source.parent)


def _is_dir(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def let_read(layout: Layout, root: Path, path: str) -> None:
    """Let a file, and the directories on the way to it, be read again, by whoever may read the model's manifest.

    Raises:
        StorageError: It is not ours to change.
    """
    with storage_errors(root / path, "changing permissions"):
        manifest = layout.manifest_file(root)
        readers = (manifest.stat().st_mode if manifest.exists() else 0o400) & 0o444
        for parent in reversed(PurePosixPath(path).parents):
            folder = root / parent
            mode = stat.S_IMODE(folder.stat().st_mode)
            if folder.is_dir() and mode & 0o500 != 0o500:
                folder.chmod(mode | 0o500 | readers | (readers >> 2))
        mode = stat.S_IMODE((root / path).lstat().st_mode)
        if mode & 0o400 == 0:
            (root / path).chmod(mode | 0o400 | readers)


def settle_receipt(layout: Layout, root: Path, paths: list[str]) -> None:
    """Record what the mended files look like, so that the next quick check believes them.

    A model without a receipt (the original client leaves none) gets none.

    Raises:
        StorageError: The disk refused.
    """
    receipt = layout.receipt_file(root)
    try:
        document = orjson.loads(read_plain(receipt))
        files, local = document["files"], document.get("local")
        for path in paths:
            found = (root / path).stat()
            files[path] = [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
            if isinstance(local, dict):
                local.pop(path, None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    write_atomic(receipt, orjson.dumps(document, option=orjson.OPT_INDENT_2))
