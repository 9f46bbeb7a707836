"""Writes that are whole or absent, also after a power cut.

Temp file in the same directory → write → fsync → replace → fsync of the directory; removed on any exception.

Source: STYLE rule 10; "Files are hard" (Pillai et al., OSDI 2014).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xprim_nb.errors import InsufficientSpaceError, StorageError, XprimError

__all__ = [
    "append_line",
    "free_bytes",
    "make_dirs",
    "remove_tree",
    "storage_errors",
    "sync_dir",
    "sync_file",
    "sync_tree",
    "write_atomic",
]

_REASONS = {
    errno.ENOSPC: (
        "the disk is full",
        "Free some space (`xprim models prune` drops unfinished pulls), then run again.",
    ),
    errno.EDQUOT: ("the disk quota is used up", "Free some space or ask for a larger quota, then run again."),
    errno.EROFS: (
        "the file system is read-only",
        "Choose a writable data directory (`<APPNAME>_MODELS_DIR`).",
    ),
    errno.EACCES: ("permission denied", "Check who owns the models directory, or choose another one."),
    errno.EPERM: ("permission denied", "Check who owns the models directory, or choose another one."),
    errno.ENOTDIR: ("a file lies where a directory should be", "Move that file away, then run again."),
    errno.ENOLINK: (  # ours, for a link in the place of a directory
        "the link leads nowhere",
        "Is the disk connected that it leads to? Otherwise delete the link, then run again.",
    ),
    errno.EISDIR: ("a directory lies where a file should be", "Move that directory away, then run again."),
    errno.ENXIO: (
        "a pipe, a socket or a device lies where a file should be",
        "Move it away, then run again.",
    ),
    errno.ENAMETOOLONG: (
        "the path is too long for this file system",
        "Choose a data directory with a shorter path.",
    ),
    errno.EXDEV: (
        "it lies on another disk, or in a read-only layer of a container image",
        "Put the whole models directory there, or link a single version, not a group or a model.",
    ),
    errno.EMFILE: ("too many open files", "Raise the limit (`ulimit -n`) or lower the concurrency."),
}

# How often another process may remove what we are just making, or are just removing; nobody does so for ever.
_RACE_TRIES = 20
# An fsync waits for the medium; a few that wait together share its journal commits.
_SYNC_THREADS = 4


@contextlib.contextmanager
def storage_errors(path: Path | str, doing: str) -> Iterator[None]:
    """Turn an `OSError` inside into a `StorageError` that says what was being done to which path."""
    try:
        yield
    except XprimError:
        raise
    except OSError as error:
        reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
        # Of the two names of a rename between disks the one that was asked for says more.
        subject = str(path if error.errno == errno.EXDEV else error.filename or path)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = InsufficientSpaceError if full else StorageError
        raise kind(f"{doing} failed, {reason}: {subject}", subject=subject, hint=hint) from error


def sync_file(fd: int) -> None:
    """Return when the file's bytes are on the medium (`F_FULLFSYNC` where macOS has it)."""
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415  # exists on Unix only

        with contextlib.suppress(OSError):  # network volumes refuse it; plain fsync is then all there is
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_dir(path: Path) -> None:
    """Return when the names in a directory are on the medium. A no-op on Windows, which cannot open directories."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.EBADF,
        ):  # some network file systems know no fsync of directories
            raise
    finally:
        os.close(fd)


def sync_tree(root: Path) -> None:
    """Return when every file and every name below a directory is on the medium.

    A few threads wait together: the medium finishes many writes at once sooner than one after the other.

    Raises:
        OSError: The medium refused.
    """
    folders, files = [], []
    for folder, _, names in os.walk(root, topdown=False):
        folders.append(Path(folder))
        # A link is a name, and names come with their directory: what it leads to is not ours.
        files += [path for path in (Path(folder) / name for name in names) if not path.is_symlink()]
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(_sync_path, files))
        list(pool.map(sync_dir, folders))


def _sync_path(path: Path) -> None:
    binary = getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, os.O_RDWR | binary)
    except PermissionError:  # a read-only file of a user's; Windows alone needs the right to write
        fd = os.open(path, os.O_RDONLY | binary)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def make_dirs(path: Path) -> None:
    """Create a directory and its parents, each name durable.

    Raises:
        NotADirectoryError: Something else lies under one of the names.
    """
    for attempt in range(_RACE_TRIES):
        missing, folder = [], path
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        try:
            for each in reversed(missing):
                _make_dir(each)
        except FileNotFoundError:  # another process has removed a parent that was still empty
            if attempt == _RACE_TRIES - 1:
                raise
        else:
            return


def _make_dir(path: Path) -> None:
    try:
        path.mkdir()
    except FileExistsError as error:
        if path.is_symlink() and not path.exists():  # the disk it leads to may only be unplugged
            raise NotADirectoryError(errno.ENOLINK, "the link leads nowhere", str(path)) from error
        if os.path.lexists(path) and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    sync_dir(path.parent)


def write_atomic(
    path: Path, data: bytes | memoryview, *, durable: bool = True, private: bool = False
) -> None:
    """Put bytes under a name: readers see the old file or the new one, whole.

    Args:
        path: Where; its directory is created.
        data: The whole content.
        durable: False skips the fsyncs, for files whose loss after a power cut costs nothing but time.
        private: The file is for this user alone (0600), at every instant.

    Raises:
        StorageError: The disk refused; the old file is untouched.
    """
    with storage_errors(path, "writing"):
        make_dirs(path.parent)
        # Shortened so that the longest name still has room for the rest: a character has up to 4 bytes of 255.
        temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.tmp")
        try:
            with open(temporary, "xb", opener=_for_us_alone if private else None) as file:
                file.write(data)
                file.flush()
                if durable:
                    sync_file(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105  # Path.replace hides the two names in its errors
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_dir(path.parent)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def append_line(path: Path, line: bytes) -> None:
    """Add one line to a file, in one write, and return when it is on the medium.

    What a killed writer left without an end is ended first, so that the lines around it stay whole.

    Args:
        path: Where; created with its directory.
        line: Without its end.

    Raises:
        StorageError: The disk refused.
    """
    with storage_errors(path, "writing"):
        make_dirs(path.parent)
        is_new = not path.exists()
        with path.open("ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line + b"\n")
            sync_file(file.fileno())
        if is_new:
            sync_dir(path.parent)


def remove_tree(path: Path) -> None:
    """Delete a directory tree, read-only entries too. Never follows a link; a missing tree is fine."""
    with storage_errors(path, "deleting"):
        made_writable = False
        for attempt in range(_RACE_TRIES):
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                # An entry may be gone because another process deletes the same tree; the rest is still there.
                if not os.path.lexists(path):
                    return
                if attempt == _RACE_TRIES - 1:
                    raise
            except PermissionError:
                if made_writable:
                    raise
                made_writable = True
                _make_writable(path)
            else:
                return


def _make_writable(path: Path) -> None:
    for folder, _, files in os.walk(path):
        for entry in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118  # os.walk gives text
            if not os.path.islink(entry):  # noqa: PTH114
                with contextlib.suppress(OSError):
                    os.chmod(entry, os.stat(entry).st_mode | stat.S_IRWXU)  # noqa: PTH101, PTH116


def free_bytes(path: Path) -> int:
    """Bytes that an unprivileged writer may still put on the file system which will hold `path`."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
