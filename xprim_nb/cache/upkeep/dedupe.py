"""Equal files of different models share their blocks: by reflink where the file system can, by hard link if asked.

    1. Equal by manifest: the same SHA-256, or the same chunks in the same order.
    2. Never a file that somebody changed or added, one that is linked elsewhere, or one on another disk.
    3. The shared file is made beside the cache's trash, hashed against the manifest, and renamed over the old one.
    4. The receipts are told what the files look like now. Killed before that, the hash still says they are ours.

Hard-linked files are made read-only: an edit in place would change all of them. Editors that write a new file and
rename it are safe either way.

Source: spec 2 §Clean-up ("shared by reflink where the file system can, by hard link only if asked").
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import orjson

from xprim_nb._files import (
    PathLock,
    clone_file,
    make_dirs,
    read_plain,
    storage_errors,
    sync_dir,
    sync_file,
    write_atomic,
)
from xprim_nb._hashing import read_range
from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.kept import changed_files, local_files
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.reflink import whole_files
from xprim_nb.cache.store import Store, read_manifest
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import StorageError, XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest

__all__ = ["DedupePlan", "Deduplicated", "Share", "ShareMethod", "deduplicate", "plan_dedupe"]

_log = logging.getLogger("xprim_nb.cache")

ShareMethod: TypeAlias = Literal["reflink", "hardlink"]
# Below this the blocks saved are not worth another file's life.
_FROM_BYTES = 4096
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class Share:
    """One file that would share another's blocks.

    Attributes:
        ref: The version it belongs to.
        path: Relative to the model.
        source_ref: The version whose blocks it would share.
        source_path: Relative to that model.
        size_bytes: Its length.
    """

    ref: ModelRef
    path: str
    source_ref: ModelRef
    source_path: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.ref}: {self.path} = {self.source_ref}: {self.source_path} ({format_bytes(self.size_bytes)})"


@dataclass(frozen=True, slots=True)
class DedupePlan:
    """Which files would share blocks.

    Attributes:
        method: `reflink` (independent files, shared blocks) or `hardlink` (one file with several names, read-only).
        shares: In the order in which they are made.
    """

    method: ShareMethod
    shares: tuple[Share, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes that would be stored once less."""
        return sum(share.size_bytes for share in self.shares)

    def __str__(self) -> str:
        lines = [str(share) for share in self.shares]
        return "\n".join(
            [
                *lines,
                f"{format_count(len(self.shares), 'file')}, {format_bytes(self.size_bytes)} by {self.method}",
            ]
        )


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """What was shared.

    Attributes:
        method: As in the plan.
        done: Files that share their blocks now.
        skipped: Sentences about those that do not.
    """

    method: ShareMethod
    done: tuple[Share, ...]
    skipped: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes that are stored once less."""
        return sum(share.size_bytes for share in self.done)

    def __str__(self) -> str:
        share = "shares" if len(self.done) == 1 else "share"
        told = (
            f"{format_count(len(self.done), 'file')} {share} {format_bytes(self.size_bytes)} by {self.method}"
        )
        return "\n".join([told, *self.skipped])


def plan_dedupe(layout: Layout, store: Store, *, hard_links: bool = False) -> DedupePlan:
    """Equal files of installed models that do not share a file yet. Hashes nothing but what looks changed.

    Raises:
        StorageError: `registry.json` cannot be read.
    """
    first: dict[object, tuple[InstalledModel, str]] = {}
    shares = []
    for model in sorted(store.list(), key=lambda each: (each.installed_at, str(each.ref))):
        if model.path.is_symlink():
            continue
        for path, size, keys in _candidates(layout, model):
            source = next((first[key] for key in keys if key in first), None)
            if source is None:
                first |= dict.fromkeys(keys, (model, path))
                continue
            for key in keys:
                first.setdefault(key, source)
            if _may_share(source[0].path / source[1], model.path / path):
                shares.append(Share(model.ref, path, source[0].ref, source[1], size))
    return DedupePlan("hardlink" if hard_links else "reflink", tuple(shares))


def _candidates(layout: Layout, model: InstalledModel) -> Iterator[tuple[str, int, list[object]]]:
    """Untouched files of a model, with what equal files have in common."""
    try:
        manifest = read_manifest(layout, model.path).manifest
        changed = {*changed_files(layout, model.path), *local_files(layout, model.path)}
    except (OSError, StorageError) as error:
        _log.info("a model is not looked at: %s", error, extra={"ref": str(model.ref)})
        return
    chunks = dict(whole_files(manifest))
    for number, file in enumerate(manifest.files):
        keys: list[object] = [] if file.sha256 is None else [file.sha256]
        if number in chunks:
            keys.append((file.size, tuple(chunks[number])))
        if keys and file.size >= _FROM_BYTES and file.path not in changed:
            yield file.path, file.size, keys


def _may_share(source: Path, target: Path) -> bool:
    try:
        one, other = source.lstat(), target.lstat()
    except OSError:
        return False
    plain = stat.S_ISREG(one.st_mode) and stat.S_ISREG(other.st_mode)
    return plain and one.st_dev == other.st_dev and one.st_ino != other.st_ino


def deduplicate(layout: Layout, store: Store, plan: DedupePlan) -> Deduplicated:
    """Carry out a plan; what changed since is skipped, and said.

    Raises:
        StorageError: Only for the trash directory; what one file needs does not hold up the others.
    """
    done, skipped = [], []
    make_dirs(layout.trash)
    for share in plan.shares:
        try:
            with _both_locked(layout, share):
                reason = _shared(layout, store, share, plan.method)
        except XprimError as error:
            reason = error.message
        if reason:
            skipped.append(f"{share.ref}: {share.path} was left: {reason}")
            if reason == _CANNOT_SHARE:
                break
        else:
            done.append(share)
    return Deduplicated(plan.method, tuple(done), tuple(skipped))


_CANNOT_SHARE = "this file system cannot share blocks (hard links can be asked for)"


@contextlib.contextmanager
def _both_locked(layout: Layout, share: Share) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for path in sorted({layout.ref_lock(share.ref), layout.ref_lock(share.source_ref)}):
            lock = PathLock(path)
            if not lock.try_acquire():
                raise StorageError("somebody works on it now.", subject=str(share.ref))
            stack.callback(lock.release)
        yield


def _shared(layout: Layout, store: Store, share: Share, method: ShareMethod) -> str:
    """Make one file share the other's blocks; the reason when that was not done."""
    model, origin = store.find(share.ref), store.find(share.source_ref)
    if model is None or origin is None:
        return "a model went meanwhile."
    source, target = origin.path / share.source_path, model.path / share.path
    manifest = read_manifest(layout, model.path).manifest
    changed = {*changed_files(layout, model.path), *local_files(layout, model.path)}
    number = next((n for n, file in enumerate(manifest.files) if file.path == share.path), None)
    if number is None or share.path in changed or share.source_path in changed_files(layout, origin.path):
        return "it was changed meanwhile."
    if not _may_share(source, target):
        return "it is shared already, or lies on another disk."
    was = target.stat()
    temporary = layout.trash / f"share-{os.getpid()}-{was.st_ino}.tmp"
    try:
        with storage_errors(target, "sharing a file"):
            temporary.unlink(missing_ok=True)
            if method == "hardlink":
                os.link(source, temporary)
            elif not _cloned(source, temporary):
                return _CANNOT_SHARE
            if not _holds(temporary, manifest, number):
                return "the other file is not what its manifest says."
            if method == "hardlink":
                temporary.chmod(stat.S_IMODE(was.st_mode) & ~0o222)
            else:
                temporary.chmod(stat.S_IMODE(was.st_mode))
                os.utime(temporary, ns=(was.st_atime_ns, was.st_mtime_ns))
            now = target.stat()
            if (now.st_ino, now.st_mtime_ns, now.st_size) != (was.st_ino, was.st_mtime_ns, was.st_size):
                return "it was changed meanwhile."
            shared = temporary.stat()
            os.replace(temporary, target)  # noqa: PTH105  # Path.replace hides the two names in its errors
            sync_dir(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    _tell_receipts(layout, store.list() if method == "hardlink" else [model], shared)
    return ""


def _cloned(source: Path, target: Path) -> bool:
    source_fd = os.open(source, _READ_FLAGS)
    try:
        target_fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if not clone_file(source_fd, target_fd):
                return False
            sync_file(target_fd)
            return True
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _holds(path: Path, manifest: Manifest, number: int) -> bool:
    """True when a file has the bytes that the manifest says of one of its files."""
    file, chunks = manifest.files[number], dict(whole_files(manifest)).get(number, [])
    fd = os.open(path, _READ_FLAGS)
    try:
        if os.fstat(fd).st_size != file.size:
            return False
        if file.sha256 is not None:
            return _hash(fd, 0, file.size) == file.sha256
        offset = 0
        for digest in chunks:
            size = manifest.sizes[manifest.distinct[digest][0]]
            if _hash(fd, offset, size) != digest:
                return False
            offset += size
        return bool(chunks) and offset == file.size
    finally:
        os.close(fd)


def _hash(fd: int, offset: int, length: int) -> str:
    found = hashlib.sha256()
    read_range(fd, offset, length, found.update)
    return found.hexdigest()


def _tell_receipts(layout: Layout, models: Sequence[InstalledModel], shared: os.stat_result) -> None:
    """Step 4. A new name, and the loss of the right to write, change the times of every name of a hard-linked file.

    Somebody who has written to it since has changed its time of modification: that is not written down as ours.
    """
    for model in models:
        facts = {}
        for path in _recorded(layout, model):
            with contextlib.suppress(OSError):
                now = (model.path / path).lstat()
                if (now.st_dev, now.st_ino) == (shared.st_dev, shared.st_ino) and (
                    now.st_size,
                    now.st_mtime_ns,
                ) == (shared.st_size, shared.st_mtime_ns):
                    facts[path] = [now.st_size, now.st_mtime_ns, now.st_ctime_ns]
        if facts:
            receipt = layout.receipt_file(model.path)
            document = orjson.loads(read_plain(receipt))
            document["files"] |= facts
            write_atomic(receipt, orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _recorded(layout: Layout, model: InstalledModel) -> list[str]:
    try:
        return list(orjson.loads(read_plain(layout.receipt_file(model.path)))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
