"""One bundle on disk: documents that load when they are read, and the writer that keeps its records right.

What a document's bytes should be is written in `sources.json` before the document itself, and in the manifest after
it. A process killed in between leaves a document that one of the two knows: `settle` brings the manifest up to it.

Source: spec 2 §Information bundle, §Access ("bundle documents load lazily"); DESIGN, habit 5.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydantic import BaseModel

from xprim_nb._files import make_dirs, open_plain, read_plain, storage_errors, write_atomic
from xprim_nb.cache.bundles.manifest import (
    BundleSources,
    BundleStatus,
    CacheManifest,
    DocumentSource,
    dumped,
    parse_integrity,
    read_document,
    written_integrity,
)
from xprim_nb.cache.bundles.naming import FOLDERS, UPSTREAM, is_document
from xprim_nb.errors import NotInstalledError, StorageError
from xprim_nb.refs import ModelRef

__all__ = ["UNSPECIFIED", "Bundle", "Shelf", "hash_document", "list_bundles"]

_Model = TypeVar("_Model", bound=BaseModel)

UNSPECIFIED = "unspecified"
# Documents are for people; what is larger is no document, and would only fill the memory of whoever reads it.
_MAX_READ_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model's bundle. Making one touches no disk; each document is read when it is asked for.

    Attributes:
        ref: The model, without a version.
        path: The bundle's absolute directory.
    """

    ref: ModelRef
    path: Path

    @property
    def manifest_file(self) -> Path:
        """The manifest."""
        return self.path / "metadata" / "cache_manifest.json"

    @property
    def integrity_file(self) -> Path:
        """The checksums, for `sha256sum -c metadata/integrity.sha256` in the bundle's directory."""
        return self.path / "metadata" / "integrity.sha256"

    @property
    def sources_file(self) -> Path:
        """Where the documents came from."""
        return self.path / "metadata" / "sources.json"

    @property
    def exists(self) -> bool:
        """True when there is one."""
        return self.manifest_file.is_file() or self.sources_file.is_file()

    def documents(self) -> tuple[str, ...]:
        """The paths of its documents, sorted, from the names alone: nothing is opened."""
        found = []
        for folder in FOLDERS:
            for here, folders, names in os.walk(self.path / folder):
                folders[:] = [name for name in folders if not name.startswith(".")]
                found += [(Path(here) / name).relative_to(self.path).as_posix() for name in names]
        return tuple(sorted(path for path in found if is_document(path)))

    def manifest(self) -> CacheManifest:
        """What the bundle says of itself.

        Raises:
            NotInstalledError: There is no bundle.
            ConfigError: It was written by a newer version of this program.
            StorageError: It is damaged.
        """
        self.require()
        return read_document(CacheManifest, self.manifest_file)

    def read(self, document: str) -> str:
        """The text of one document, as UTF-8.

        Raises:
            NotInstalledError: There is no such document.
            StorageError: It cannot be read, is no text, or is larger than 64 MB.
        """
        raw = self.read_bytes(document)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise StorageError(
                f"{document} is no text.", subject=document, hint="Use read_bytes for a PDF."
            ) from error

    def read_bytes(self, document: str) -> bytes:
        """The bytes of one document; see `read`."""
        path = self.path_of(document)
        with storage_errors(path, "reading"), os.fdopen(open_plain(path), "rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_READ_BYTES:
                raise StorageError(f"{document} is larger than {_MAX_READ_BYTES >> 20} MB.", subject=document)
            return file.read()

    def path_of(self, document: str) -> Path:
        """The absolute path of one document.

        Raises:
            NotInstalledError: There is no such document, or the path leads out of the bundle.
        """
        place = PurePosixPath(document)
        path = self.path / place
        inside = not place.is_absolute() and ".." not in place.parts and "\\" not in document
        if inside and path.is_file() and path.resolve().is_relative_to(self.path.resolve()):
            return path
        self.require()
        raise NotInstalledError(
            f"The bundle of {self.ref} has no document {document!r}.",
            subject=document[:200],
            hint=f"It has: {', '.join(self.documents()) or 'none'}.",
        )

    def require(self) -> None:
        """Return when there is a bundle.

        Raises:
            NotInstalledError: There is none.
        """
        if not self.exists:
            raise NotInstalledError(
                f"{self.ref} has no information bundle.",
                subject=str(self.ref),
                hint=f"Make one: `xprim cache bundle derive {self.ref}`, or `bundle init` with the URLs of its documents.",
            )

    def __str__(self) -> str:
        return f"bundle of {self.ref}: {self.path}"


def list_bundles(info: Path) -> list[Bundle]:
    """Every bundle below `<base>/info`, sorted, from the names of directories alone."""
    found = []
    for path in sorted(info.glob("*/*/metadata")):
        group, model = path.parent.relative_to(info).parts
        try:
            bundle = Bundle(ModelRef(group, model), path.parent)
        except ValueError:  # somebody's own directory
            continue
        if bundle.exists:
            found.append(bundle)
    return found


def hash_document(path: Path) -> str | None:
    """The SHA-256 of a plain file; None when there is none that can be read."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with os.fdopen(open_plain(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


@dataclass
class Shelf:
    """The writer of one bundle. The caller holds the bundle's lock.

    Attributes:
        bundle: Which.
        manifest: As it was read or last written; None before there is one.
        sources: Where the documents came from.
        mended: Records that were damaged and made again, as sentences.
        clock: Seconds since 1970.
    """

    bundle: Bundle
    clock: Callable[[], float] = time.time
    manifest: CacheManifest | None = field(init=False)
    sources: BundleSources = field(init=False)
    mended: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Read the records; damaged ones are put aside and made again from what else is known.

        Raises:
            ConfigError: They were written by a newer version of this program; nothing was touched.
            StorageError: They cannot be read.
        """
        sources = self._read(BundleSources, self.bundle.sources_file)
        self.manifest = self._read(CacheManifest, self.bundle.manifest_file)
        self.sources = sources or BundleSources()
        if sources is None and self.manifest is not None:  # lost: what the manifest lists is still ours
            known = {
                path: DocumentSource(origin="unknown", sha256=digest)
                for path, digest in self.manifest.file_checksums.items()
            }
            self.sources = BundleSources(documents=known)
        self._settle()

    @property
    def now(self) -> datetime:
        """The time."""
        return datetime.fromtimestamp(self.clock(), UTC).replace(microsecond=0)

    def state_of(self, path: str) -> str:
        """`ours`, `edited` (or damaged: its bytes are not what was written), or `missing`."""
        found = hash_document(self.bundle.path / path)
        if found is None:
            return "edited" if os.path.lexists(self.bundle.path / path) else "missing"
        return "ours" if found == self._written(path) else "edited"

    def put(self, documents: Mapping[str, tuple[bytes, DocumentSource]], **changes: object) -> None:
        """Write documents and their records, in the order that a kill cannot harm.

        Args:
            documents: Bytes and origin by path.
            **changes: Further fields of `sources`.

        Raises:
            StorageError: The disk refused; what was written is known.
        """
        known = {**self.sources.documents, **{path: source for path, (_, source) in documents.items()}}
        self.note(documents=known, **changes)
        for path, (data, _) in documents.items():
            write_atomic(self.bundle.path / path, data)

    def note(self, **changes: object) -> None:
        """Change fields of `sources`, on disk too.

        Raises:
            StorageError: The disk refused.
        """
        changed = self.sources.model_copy(update=changes)
        if changed != self.sources or not self.bundle.sources_file.exists():
            write_atomic(self.bundle.sources_file, dumped(changed))
            self.sources = changed

    def put_beside(self, path: str, data: bytes) -> str:
        """Write what upstream has beside an edited document; the path is the result."""
        beside = path + UPSTREAM
        write_atomic(self.bundle.path / beside, data)
        return beside

    def seal(
        self,
        status: BundleStatus,
        *,
        updated: bool,
        expiry: datetime | None,
        dependencies: Iterable[str] = (),
        version: str = "",
    ) -> CacheManifest:
        """Write the checksums and the manifest for what lies there.

        Args:
            status: What the bundle is now.
            updated: A document changed, or upstream said that none had.
            expiry: After it the bundle is expired.
            dependencies: Models that this one needs.
            version: The model's version; the one known before when empty.

        Raises:
            StorageError: The disk refused.
        """
        before, now = self.manifest, self.now
        for folder in FOLDERS:
            with storage_errors(self.bundle.path / folder, "creating"):
                make_dirs(self.bundle.path / folder)
        checksums = self._checksums()
        manifest = CacheManifest(
            model_id=self.bundle.ref.name,
            version=version or (before.version if before else UNSPECIFIED),
            created_at=before.created_at if before else now,
            last_updated=now if updated or before is None else before.last_updated,
            last_validated=now,
            source_urls=tuple(
                dict.fromkeys(each.url for each in self.sources.documents.values() if each.url)
            ),
            file_checksums=checksums,
            validation_status=status,
            dependencies=tuple(dependencies),
            size_bytes=sum(self._size(path) for path in checksums),
            expiry_date=expiry,
        )
        self._write(manifest)
        self.note(documents={path: self._with_facts(path) for path in self.sources.documents})
        return manifest

    def put_aside(self, path: str, to: Path) -> None:
        """Move whatever lies at a document's path below another directory.

        Raises:
            StorageError: The disk refused.
        """
        place = self.bundle.path / path
        with storage_errors(place, "putting aside"):
            if os.path.lexists(place):
                make_dirs((to / path).parent)
                os.replace(place, to / path)  # noqa: PTH105  # a link is moved as the link it is

    def _with_facts(self, path: str) -> DocumentSource:
        """A document's record with its size and time, as soon as its bytes are known to be right."""
        source, place = self.sources.documents[path], self.bundle.path / path
        if source.mtime_ns is None and hash_document(place) == source.sha256:
            facts = place.lstat()
            return source.model_copy(update={"size_bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns})
        return source

    def _checksums(self) -> dict[str, str]:
        """Of every document: as it was written; of one that only lies there, as it is."""
        found = {}
        for path in sorted({*self.bundle.documents(), *self.sources.documents}):
            recorded = self._written(path)
            digest = recorded or hash_document(self.bundle.path / path)
            if digest is not None:
                found[path] = digest
        return found

    def _written(self, path: str) -> str | None:
        """What a document's bytes should be. The manifest follows `sources`, so whoever differs is the older."""
        source = self.sources.documents.get(path)
        if source is not None:
            return source.sha256
        return self.manifest.file_checksums.get(path) if self.manifest is not None else None

    def _settle(self) -> None:
        """Finish what a killed writer began: the manifest and the checksums follow the documents."""
        if self.manifest is None:
            return
        listed = dict(self.manifest.file_checksums)
        documents = dict(self.sources.documents)
        for path, source in self.sources.documents.items():
            if listed.get(path) == source.sha256:
                continue
            found = hash_document(self.bundle.path / path)
            if found == source.sha256:
                listed[path] = found
            elif path in listed and found == listed[path]:
                # Announced, and never written: what lies there is the older one, whose validators nobody knows.
                documents[path] = source.model_copy(update={"sha256": found, "etag": "", "last_modified": ""})
            elif path not in listed and found is None:
                del documents[path]
        if documents != self.sources.documents:
            self.note(documents=documents)
        raw = self.bundle.integrity_file
        on_disk = parse_integrity(read_plain(raw)) if raw.is_file() else None
        if listed != self.manifest.file_checksums or on_disk != listed:
            self._write(self.manifest.model_copy(update={"file_checksums": listed}))

    def _write(self, manifest: CacheManifest) -> None:
        write_atomic(self.bundle.integrity_file, written_integrity(manifest.file_checksums))
        write_atomic(self.bundle.manifest_file, dumped(manifest))
        self.manifest = manifest

    def _size(self, path: str) -> int:
        try:
            return (self.bundle.path / path).lstat().st_size
        except OSError:
            return 0

    def _read(self, kind: type[_Model], path: Path) -> _Model | None:
        if not os.path.lexists(path):
            return None
        try:
            return read_document(kind, path)
        except StorageError:
            with storage_errors(path, "putting aside"):
                path.rename(path.with_name(f"{path.name}.damaged-{time.time_ns()}"))
            self.mended.append(f"{path.name} was damaged; it was put aside and is made again.")
            return None
