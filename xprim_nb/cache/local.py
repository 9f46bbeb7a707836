"""Chunks that need no network: in installed models, other unfinished pulls, archives, adopted files, or loose.

Every byte is hashed again while it is copied, so a place that lies costs a read and nothing else.

Source: spec 1 §Pull, step 5; spec 2 §Clean-up (archives), §Adopt; research pull §4 (desync's seeds).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xprim_nb._files import read_plain
from xprim_nb._hashing import Digest, read_range
from xprim_nb.cache.adopt.sources import AdoptedChunks
from xprim_nb.cache.chunkindex import ChunkIndex, ChunkPlace
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.partial import hash_segments, journal_digests, journal_size
from xprim_nb.cache.upkeep.archived import archived_chunks, copy_archived, source_name
from xprim_nb.errors import HashMismatchError, StorageError, XprimError
from xprim_nb.registry.client import VerifyingSink
from xprim_nb.registry.manifest import Manifest, parse_manifest

__all__ = ["LOOSE", "NEIGHBOUR", "LocalChunks"]

_log = logging.getLogger("xprim_nb.cache")

# What receipts call the two sources that are no model.
LOOSE, NEIGHBOUR = "loose chunks", "another unfinished pull"


class _Neighbour(NamedTuple):
    """Another unfinished pull."""

    directory: Path
    manifest: Manifest


class LocalChunks:
    """Looks for the chunks of one manifest on this machine.

    Args:
        layout: Where things lie.
        index: Where the chunks of installed models lie.
        manifest_hash: The manifest being pulled: its own unfinished pull is not a neighbour.
        digests: The chunks wanted.
        manifest: That manifest, where it is at hand: adopted files are found by the files it names. When None, the
            cached one.
    """

    def __init__(
        self,
        layout: Layout,
        index: ChunkIndex,
        manifest_hash: str,
        digests: Sequence[Digest],
        *,
        manifest: Manifest | None = None,
    ) -> None:
        self._layout = layout
        self._index = index
        self._own = manifest_hash
        self._digests = list(digests)
        self._neighbours: dict[str, Manifest | None] = {manifest_hash: None}
        self._listed: dict[str, tuple[int, set[str]]] = {}
        self.places: dict[str, list[ChunkPlace]] = {}
        self.loose: set[str] = set()
        self.archived: dict[str, list[Path]] = {}
        self._adopted: AdoptedChunks | None = None
        if layout.adopted_file.exists():
            wanted = manifest or self._manifest(manifest_hash)
            self._adopted = AdoptedChunks(layout, wanted) if wanted is not None else None
        self.refresh()

    def refresh(self) -> None:
        """Look again: another process may have installed or fetched something."""
        self.places = self._index.places(self._digests)
        try:
            self.loose = {entry.name for entry in os.scandir(self._layout.chunks)} & set(self._digests)
        except OSError:
            self.loose = set()
        self.archived = archived_chunks(self._layout, set(self._digests))

    def look_again(self, digest: Digest) -> None:
        """The same for one chunk, before it is fetched: who had it claimed may have installed it meanwhile."""
        self.places.update(self._index.places([digest]))

    def source_of(self, digest: Digest) -> str | None:
        """The name of the nearest place that should hold the chunk; None when only the network can have it."""
        if self.places.get(digest):
            return str(self.places[digest][0].ref)
        if digest in self.loose:
            return LOOSE
        if next(self._holders(digest), None) is not None:
            return NEIGHBOUR
        if digest in self.archived:
            return source_name(self.archived[digest][0])
        return self._adopted.source_of(digest) if self._adopted is not None else None

    def copy(self, digest: Digest, sink: VerifyingSink) -> str | None:
        """Fill the sink from the nearest place that holds the right bytes, and name it; None when none does.

        Raises:
            StorageError: The sink's disk refused.
        """
        for place in self.places.get(digest, ()):
            root = self._layout.model_dir(place.ref)
            if self._copied(root, place.manifest.manifest, place.number, sink):
                return str(place.ref)
            _log.info(
                "an installed model does not hold a chunk it should",
                extra={"ref": str(place.ref), "chunk": digest},
            )
        if digest in self.loose and self._copied_file(self._layout.chunks / digest, sink):
            return LOOSE
        for neighbour in self._holders(digest):
            number = neighbour.manifest.distinct[digest][0]
            if self._copied(neighbour.directory / "tree", neighbour.manifest, number, sink):
                return NEIGHBOUR
        for path in self.archived.get(digest, ()):
            if copy_archived(path, sink):
                return source_name(path)
        return self._adopted.copy(digest, sink) if self._adopted is not None else None

    def _holders(self, digest: Digest) -> Iterator[_Neighbour]:
        try:
            names = [entry.name for entry in os.scandir(self._layout.partials)]
        except OSError:
            return
        for name in names:
            if name not in self._neighbours:
                self._neighbours[name] = self._manifest(name)
            manifest = self._neighbours[name]
            directory = self._layout.partials / name
            if (
                manifest is not None
                and digest in manifest.distinct
                and digest in self._verified_in(directory)
            ):
                yield _Neighbour(directory, manifest)

    def _verified_in(self, directory: Path) -> set[str]:
        """The chunks listed in another unfinished pull, read again only when the list has grown."""
        size = journal_size(directory)
        known = self._listed.get(directory.name)
        if known is None or known[0] != size:
            known = self._listed[directory.name] = (size, journal_digests(directory))
        return known[1]

    def _manifest(self, manifest_hash: str) -> Manifest | None:
        try:
            raw = read_plain(self._layout.manifests / manifest_hash)
            return parse_manifest(raw, self._layout.metadata_name, expected=manifest_hash).manifest
        except (OSError, XprimError):  # not there, or not what its name says: no use as a neighbour
            return None

    def _copied(self, root: Path, manifest: Manifest, number: int, sink: VerifyingSink) -> bool:
        sink.restart()
        try:
            if hash_segments(root, manifest, number, sink.write):
                sink.verify()
                return True
        except HashMismatchError:
            _log.debug("a local chunk is damaged", extra={"root": str(root)})
        sink.restart()
        return False

    def _copied_file(self, path: Path, sink: VerifyingSink) -> bool:
        sink.restart()
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            return False
        try:
            if os.fstat(fd).st_size == sink.size_bytes:
                read_range(fd, 0, sink.size_bytes, sink.write)
                sink.verify()
                return True
        except (HashMismatchError, OSError) as error:
            if isinstance(error, StorageError):  # the sink's disk, not this one
                raise
            _log.debug("a loose chunk is damaged", extra={"path": str(path)})
        finally:
            os.close(fd)
        sink.restart()
        return False
