"""Archive a cold model as compressed chunks, and bring it back as it was.

Archiving, under the version's lock:

    1. Each chunk the model holds is compressed, unpacked again, hashed, and named. One that it does not hold any more is
       listed as missing.
    2. Files that somebody changed or added, and files that share a missing chunk, are copied as they are, hashed.
    3. All of it is made durable; changed files that only an earlier archive of the version has are put aside; then
       `archive.json` names the new one.
    4. The model is removed by the installer, which puts changed files aside; those that the archive has are let go.

Restoring is a pull whose nearest source is the archive: the files of step 2 are laid over the gathered tree before it
is put in place in one swap; the archive goes last. Killed anywhere, the model or its archive is whole.

Source: spec 2 §Clean-up ("a cold model is archived as zstd chunks").
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import orjson

from xprim_nb._files import make_dirs, open_plain, read_plain, storage_errors, sync_tree, write_atomic
from xprim_nb._hashing import Digest, read_range
from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.install import Installer
from xprim_nb.cache.kept import changed_files, local_files
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.partial import hash_segments
from xprim_nb.cache.store import Store, read_manifest
from xprim_nb.cache.upkeep.archived import (
    Archived,
    ArchiveDocument,
    LocalFile,
    archive_of,
    chunk_file,
    require_archive,
    zstandard,
)
from xprim_nb.cache.upkeep.dropping import set_aside
from xprim_nb.cache.upkeep.usage import Used
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest

__all__ = ["ArchivePlan", "Archiver", "lay_over", "plan_archive"]

# Weights have little to give: the higher levels take many times as long for a per cent.
_LEVEL = 3
# Each has one chunk's window in memory; zstandard and hashlib work outside the interpreter's lock.
_THREADS = min(4, os.cpu_count() or 1)
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """What archiving a model would do.

    Attributes:
        ref: Which.
        manifest_hash: Its manifest.
        model_bytes: Size of its files, in bytes.
        chunks: Distinct chunks to be compressed.
        local_files: Files that somebody changed or added: kept as they are.
        disk_needed: Bytes that may be needed until the model has gone: what if nothing compresses.
        disk_free: Bytes free on that disk.
    """

    ref: ModelRef
    manifest_hash: str
    model_bytes: int
    chunks: int
    local_files: tuple[str, ...]
    disk_needed: int
    disk_free: int

    @property
    def fits(self) -> bool:
        """True when the disk can hold both until the model has gone."""
        return self.disk_needed <= self.disk_free

    def __str__(self) -> str:
        mine = (
            f", {format_count(len(self.local_files), 'changed file')} kept unaltered"
            if self.local_files
            else ""
        )
        return f"archive {self.ref}: {format_bytes(self.model_bytes)} in {format_count(self.chunks, 'chunk')}{mine}"


def plan_archive(layout: Layout, store: Store, ref: ModelRef, disk_free: int) -> ArchivePlan:
    """What `archive` would do now.

    Raises:
        NotInstalledError: It is not installed.
        StorageError: It cannot be read.
    """
    model = store.get(ref)
    manifest = read_manifest(layout, model.path).manifest
    local = tuple(changed_files(layout, model.path))
    extra = sum((model.path / path).lstat().st_size for path in local)
    return ArchivePlan(
        model.ref,
        model.manifest_hash,
        manifest.total_size,
        len(manifest.distinct),
        local,
        manifest.total_size + extra,
        disk_free,
    )


class Archiver:
    """Writes archives. Holds nothing open; the caller holds the version's lock.

    Args:
        layout: Where things lie.
        store: What is installed.
        installer: Takes the model away afterwards.
    """

    def __init__(self, layout: Layout, store: Store, installer: Installer) -> None:
        self._layout, self._store, self._installer = layout, store, installer

    def write(self, ref: ModelRef, used: Used | None, now: float) -> Archived:
        """Steps 1 to 3.

        Raises:
            MissingExtraError: `zstandard` is not installed.
            NotInstalledError: The model is not installed.
            StorageError: The disk refused, or the model cannot be read; it is in place.
        """
        zstandard()
        model = self._store.get(ref)
        if model.path.is_symlink():
            raise StorageError(
                f"{model.path} is a link: what lies elsewhere is not ours to archive.",
                subject=str(model.path),
            )
        before = archive_of(self._layout, ref)
        verified = read_manifest(self._layout, model.path)
        directory = self._layout.archive_dir(ref)
        with storage_errors(directory, "archiving"):
            for folder in ("chunks", "local"):
                make_dirs(directory / folder)
                for litter in (directory / folder).glob(".*.tmp"):  # of a killed try: the lock is ours
                    litter.unlink()
            missing = self._pack_all(directory, model.path, verified.manifest)
            local, absent = self._keep_local(directory, model.path, verified.manifest, missing)
            write_atomic(directory / "manifest.json", verified.raw)
            sync_tree(directory)
            if before is not None:
                stale = [
                    path for path in before.local_files if local.get(path) != before.document.local[path]
                ]
                set_aside(self._layout, before, stale)
        document = ArchiveDocument(
            id=secrets.token_hex(8),
            ref=str(ref),
            manifest_hash=model.manifest_hash,
            archived_at=now,
            entry=dict(model.extra),
            receipt=_receipt(self._layout, model),
            missing=tuple(sorted(missing)),
            absent=tuple(absent),
            local=local,
            model_bytes=verified.manifest.total_size,
            last_used_at=used.last_used_at if used else model.installed_at.timestamp(),
            uses=used.uses if used else 0,
        )
        write_atomic(
            directory / "archive.json", orjson.dumps(document.model_dump(), option=orjson.OPT_INDENT_2)
        )
        archived = require_archive(self._layout, ref)
        with storage_errors(directory, "archiving"):
            _drop_unnamed(archived, verified.manifest)
        return archived

    def take_away(self, archived: Archived) -> Path | None:
        """Step 4; where files were put aside that the archive does not have, if any.

        Raises:
            NotInstalledError, StorageError: The model is whole, or the next operation finishes the removal.
        """
        kept = self._installer.remove(self._store.get_entry(archived.ref)).kept
        if kept is None:
            return None
        for path, file in archived.document.local.items():
            if _is_same(kept / path, file):
                (kept / path).unlink()
        for folder, _, _ in os.walk(kept, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                Path(folder).rmdir()
        if kept.exists():
            return kept
        for parent in (kept.parent, kept.parent.parent, kept.parent.parent.parent):
            with contextlib.suppress(OSError):
                parent.rmdir()
        return None

    def _pack_all(self, directory: Path, root: Path, manifest: Manifest) -> set[str]:
        """Step 1; the chunks that the model does not hold any more."""
        with ThreadPoolExecutor(_THREADS) as pool:
            packed = pool.map(lambda digest: self._pack(directory, root, manifest, digest), manifest.distinct)
            return {digest for digest, done in zip(manifest.distinct, packed, strict=True) if not done}

    def _pack(self, directory: Path, root: Path, manifest: Manifest, digest: Digest) -> bool:
        target = chunk_file(directory, digest)
        if _unpacks_to(target, digest):  # an earlier try got this far
            return True
        temporary = target.with_name(f".{digest}.{secrets.token_hex(6)}.tmp")
        number = manifest.distinct[digest][0]
        try:
            found = hashlib.sha256()
            with temporary.open("xb") as file:
                packer = zstandard().ZstdCompressor(level=_LEVEL).compressobj(size=manifest.sizes[number])

                def take(block: memoryview) -> None:
                    found.update(block)
                    file.write(packer.compress(block))

                if not hash_segments(root, manifest, number, take) or found.hexdigest() != digest:
                    return False
                file.write(packer.flush())
            if not _unpacks_to(temporary, digest):
                raise StorageError(
                    f"{target} did not unpack to what was packed.",
                    subject=str(target),
                    hint="Check the disk.",
                )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _keep_local(
        self, directory: Path, root: Path, manifest: Manifest, missing: set[str]
    ) -> tuple[dict[str, LocalFile], list[str]]:
        """Step 2; the files kept as they are, and those of the manifest that are not there."""
        changed = set(changed_files(self._layout, root))
        broken = {
            manifest.files[segment.file_index].path
            for digest in missing
            for index in manifest.distinct[Digest(digest)]
            for segment in manifest.segments(index)
        }
        # The upstream side of a conflict is a file of ours that is in no manifest.
        recorded = {path for path in local_files(self._layout, root) if os.path.lexists(root / path)}
        absent = [file.path for file in manifest.files if not os.path.lexists(root / file.path)]
        local = {}
        for path in sorted(changed | recorded | broken - set(absent)):
            facts = (root / path).lstat()
            if stat.S_ISLNK(facts.st_mode):
                local[path] = LocalFile(link=str((root / path).readlink()))
            elif stat.S_ISREG(facts.st_mode):
                digest = _copied(root / path, directory / "local")
                local[path] = LocalFile(
                    sha256=digest,
                    size=facts.st_size,
                    mode=stat.S_IMODE(facts.st_mode),
                    mtime_ns=facts.st_mtime_ns,
                    changed=path in changed,
                )
        return local, absent


def _copied(source: Path, folder: Path) -> str:
    """Copy a file under its digest, read back and hashed; the digest."""
    temporary = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        shutil.copyfile(source, temporary)
        digest = _digest_of(temporary)
        temporary.replace(folder / digest)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _digest_of(path: Path) -> str:
    found = hashlib.sha256()
    fd = os.open(path, _READ_FLAGS)
    try:
        read_range(fd, 0, os.fstat(fd).st_size, found.update)
    finally:
        os.close(fd)
    return found.hexdigest()


def _is_same(path: Path, file: LocalFile) -> bool:
    """True when a file put aside is one that the archive has."""
    if file.link is not None:
        return path.is_symlink() and str(path.readlink()) == file.link
    return (
        path.is_file()
        and not path.is_symlink()
        and path.stat().st_size == file.size
        and _digest_of(path) == file.sha256
    )


def _unpacks_to(path: Path, digest: str) -> bool:
    found = hashlib.sha256()
    module = zstandard()
    try:
        with (
            os.fdopen(open_plain(path), "rb") as file,
            module.ZstdDecompressor().stream_reader(file) as reader,
        ):
            while block := reader.read(1 << 20):
                found.update(block)
    except (OSError, module.ZstdError):
        return False
    return found.hexdigest() == digest


def _receipt(layout: Layout, model: InstalledModel) -> dict[str, object]:
    try:
        found = orjson.loads(read_plain(layout.receipt_file(model.path)))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def lay_over(archived: Archived, tree: Path) -> None:
    """Put the files that were kept as they are over a gathered tree, and take out those that were not there.

    Raises:
        StorageError: The disk refused, or a kept file is not what it was.
    """
    with storage_errors(tree, "laying changed files over a model"):
        for path in archived.document.absent:
            (tree / path).unlink(missing_ok=True)
        for path, file in archived.document.local.items():
            target = tree / path
            make_dirs(target.parent)
            target.unlink(missing_ok=True)
            if file.link is not None:
                target.symlink_to(file.link)
                continue
            shutil.copyfile(archived.path / "local" / file.sha256, target)
            if _digest_of(target) != file.sha256:
                raise StorageError(
                    f"The archive's copy of {path} is damaged.",
                    subject=str(archived.path / "local" / file.sha256),
                    hint="Pull the model instead; the archive is left as it is.",
                )
            target.chmod(file.mode)
            os.utime(target, ns=(file.mtime_ns, file.mtime_ns))


def _drop_unnamed(archived: Archived, manifest: Manifest) -> None:
    """Delete what an earlier archive of the version left: `archive.json` does not name it any more."""
    named = {file.sha256 for file in archived.document.local.values()}
    chunks = {chunk_file(archived.path, digest).name for digest in manifest.distinct}
    for folder, known in (("local", named), ("chunks", chunks)):
        for path in (archived.path / folder).iterdir():
            if path.name not in known:
                path.unlink()
