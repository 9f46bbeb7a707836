"""Reading archives: what is in them, and their chunks as a source of pulls.

    cache/archive/<group>/<model>/<version>/
        archive.json        written last: an archive without it was never finished
        manifest.json       the model's manifest, raw
        chunks/<digest>.zst one chunk each, compressed
        local/<sha256>      files that somebody had changed or added, as they were

Every chunk is hashed while it is unpacked: an archive is believed no more than any other place.

Source: spec 2 §Clean-up ("restored by an ordinary pull whose nearest source is that archive").
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from xprim_nb._files import open_plain, read_plain, storage_errors
from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.layout import Layout
from xprim_nb.errors import (
    HashMismatchError,
    InvalidRefError,
    MissingExtraError,
    NotInstalledError,
    StorageError,
    XprimError,
)
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import VerifyingSink
from xprim_nb.registry.manifest import VerifiedManifest, parse_manifest

__all__ = [
    "ArchiveDocument",
    "Archived",
    "LocalFile",
    "archive_of",
    "archived_chunks",
    "archives",
    "chunk_file",
    "copy_archived",
    "manifest_in",
    "require_archive",
    "source_name",
    "zstandard",
]

_log = logging.getLogger("xprim_nb.cache")

SCHEMA_VERSION = 1
_BLOCK_BYTES = 1 << 20
_SUFFIX = ".zst"


class LocalFile(BaseModel):
    """A file that is in the archive as it was, not as chunks.

    Attributes:
        sha256: Of its bytes, and its name below `local/`; empty for a link.
        size: In bytes.
        mode: Its permission bits.
        mtime_ns: Its time of modification.
        link: Where it leads, when it is a symbolic link.
        changed: False when it only shares a chunk with a changed one.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    sha256: str = ""
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = 0
    link: str | None = None
    changed: bool = True


class ArchiveDocument(BaseModel):
    """`archive.json`.

    Attributes:
        schema_version: 1.
        id: Tells this archive from every other.
        ref: Which version.
        manifest_hash: Of its manifest.
        archived_at: In unix seconds.
        entry: The further keys of its `registry.json` entry.
        receipt: Its receipt, as it was installed.
        missing: Chunks that the model did not hold any more: `local` has the files that need them.
        absent: Files of the manifest that were not there.
        local: Files kept as they were, by path.
        model_bytes: Size of the model's files, in bytes.
        last_used_at: In unix seconds; 0 for never.
        uses: How often it was used.
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    schema_version: Literal[1] = 1
    id: str
    ref: str
    manifest_hash: str
    archived_at: float
    entry: dict[str, Any]
    receipt: dict[str, Any] = {}
    missing: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    local: dict[str, LocalFile] = {}
    model_bytes: int = 0
    last_used_at: float = 0.0
    uses: int = 0


@dataclass(frozen=True, slots=True)
class Archived:
    """A model that lies here compressed.

    Attributes:
        ref: Which version.
        manifest_hash: Of its manifest.
        archived_at: When, in UTC.
        model_bytes: Size of its files when restored, in bytes.
        stored_bytes: What the archive takes on disk, in bytes.
        local_files: Files in it that somebody had changed or added.
        path: The archive's directory.
        document: All that is recorded.
    """

    ref: ModelRef
    manifest_hash: str
    archived_at: datetime
    model_bytes: int
    stored_bytes: int
    local_files: tuple[str, ...]
    path: Path
    document: ArchiveDocument

    def __str__(self) -> str:
        mine = f", {format_count(len(self.local_files), 'changed file')} kept" if self.local_files else ""
        return (
            f"{self.ref}: {format_bytes(self.model_bytes)} stored in {format_bytes(self.stored_bytes)}{mine}"
        )


def zstandard() -> ModuleType:
    """The compression library.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import zstandard as module  # noqa: PLC0415  # an optional package
    except ImportError as error:
        raise MissingExtraError.for_extra("archive", "An archive of models") from error
    return module


def archives(layout: Layout) -> list[Archived]:
    """Every finished archive, sorted by ref; those that cannot be read are logged and left alone."""
    found = []
    for path in sorted(layout.archives.glob("*/*/*/archive.json")):
        try:
            archived = archive_of(layout, ModelRef(*path.parts[-4:-1]))
        except (InvalidRefError, StorageError) as error:
            _log.warning("an archive is left alone: %s", error.message, extra={"path": str(path)})
            continue
        if archived is not None:
            found.append(archived)
    return found


def archive_of(layout: Layout, ref: ModelRef) -> Archived | None:
    """The archive of one version; None when there is none that was finished.

    Raises:
        StorageError: Its `archive.json` is damaged, or was written by a newer version of this program.
    """
    directory = layout.archive_dir(ref)
    path = directory / "archive.json"
    with storage_errors(path, "reading"):
        try:
            raw = read_plain(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
    document = _parsed(path, raw)
    when = datetime.fromtimestamp(document.archived_at, UTC)
    local = tuple(sorted(name for name, each in document.local.items() if each.changed))
    stored = sum(
        getattr(found, "st_blocks", -(-found.st_size // 512)) * 512
        for each in directory.rglob("*")
        if (found := _stat(each)) is not None
    )
    return Archived(
        ref, document.manifest_hash, when, document.model_bytes, stored, local, directory, document
    )


def require_archive(layout: Layout, ref: ModelRef) -> Archived:
    """The same.

    Raises:
        NotInstalledError: There is none.
        StorageError: See `archive_of`.
    """
    found = archive_of(layout, ref.require_version())
    if found is None:
        raise NotInstalledError(f"{ref} is not archived.", subject=str(ref), hint="Pull it.")
    return found


def _parsed(path: Path, raw: bytes) -> ArchiveDocument:
    try:
        document = orjson.loads(raw)
        version = document.get("schema_version") if isinstance(document, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StorageError(
                f"{path} was written by a newer version ({version}; this one knows {SCHEMA_VERSION}).",
                subject=str(path),
                hint="Update xprim-nb; the archive was left alone.",
            )
        return ArchiveDocument.model_validate(document)
    except (orjson.JSONDecodeError, ValidationError, AttributeError) as error:
        raise StorageError(
            f"{path} is damaged.",
            subject=str(path),
            hint="The archive was left alone; its chunks still serve.",
        ) from error


def manifest_in(layout: Layout, archived: Archived) -> VerifiedManifest:
    """The manifest of an archive.

    Raises:
        StorageError: It cannot be read, or is damaged.
    """
    path = archived.path / "manifest.json"
    with storage_errors(path, "reading"):
        raw = read_plain(path)
    try:
        # A manifest that the original client re-encoded has another digest than the entry says.
        return parse_manifest(raw, layout.metadata_name)
    except XprimError as error:
        raise StorageError(f"{path} is damaged: {error.message}", subject=str(path)) from error


def chunk_file(directory: Path, digest: str) -> Path:
    """Where an archive has a chunk."""
    return directory / "chunks" / f"{digest}{_SUFFIX}"


def archived_chunks(layout: Layout, wanted: Mapping[str, object] | set[str]) -> dict[str, list[Path]]:
    """For each wanted chunk that some archive has: the files."""
    found: dict[str, list[Path]] = {}
    for folder in _chunk_folders(layout):
        try:
            names = [entry.name for entry in os.scandir(folder)]
        except OSError:
            continue
        for name in names:
            digest = name.removesuffix(_SUFFIX)
            if digest in wanted and digest != name:
                found.setdefault(digest, []).append(folder / name)
    return found


def _chunk_folders(layout: Layout) -> Iterator[Path]:
    if layout.archives.is_dir():
        yield from sorted(layout.archives.glob("*/*/*/chunks"))


def source_name(path: Path) -> str:
    """What receipts call the archive that a chunk's file belongs to."""
    group, model, version = path.parent.parent.parts[-3:]
    return f"archive of {group}/{model} {version}"


def copy_archived(path: Path, sink: VerifyingSink) -> bool:
    """Fill a sink from an archive's chunk; False when it does not hold the right bytes, or cannot be unpacked.

    Raises:
        StorageError: The sink's disk refused.
    """
    sink.restart()
    try:
        module = zstandard()
    except MissingExtraError as error:
        _log.warning("an archive cannot be read: %s", error.message, extra={"path": str(path)})
        return False
    try:
        with (
            os.fdopen(open_plain(path), "rb") as file,
            module.ZstdDecompressor().stream_reader(file) as reader,
        ):
            while block := reader.read(_BLOCK_BYTES):
                sink.write(memoryview(block))  # refuses more than the chunk has: no bomb
        sink.verify()
    except StorageError:
        raise
    except (HashMismatchError, OSError, module.ZstdError) as error:
        _log.info("an archived chunk is damaged", extra={"path": str(path), "why": str(error)})
    else:
        return True
    sink.restart()
    return False


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None
