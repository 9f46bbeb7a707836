"""Where each chunk of every installed model lies, in `state.sqlite`. Derived: rebuilt from the manifests on disk.

Source: spec 1 §Disk layout, §Pull ("any installed model that holds those bytes").
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from xprim_nb.cache.layout import Layout
from xprim_nb.cache.state import State
from xprim_nb.cache.store import read_manifest
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import InvalidRefError, StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import VerifiedManifest

__all__ = ["ChunkIndex", "ChunkPlace"]

# SQLite's default limit of bound values is 999 in old builds.
_BATCH = 900


class ChunkPlace(NamedTuple):
    """A chunk inside an installed model."""

    ref: ModelRef
    manifest: VerifiedManifest
    number: int


class ChunkIndex:
    """Finds installed models that hold a chunk. Holds nothing open itself.

    An index that cannot be read or written costs bandwidth, never correctness.

    Args:
        layout: Where things lie.
        state: The database it is kept in.
    """

    def __init__(self, layout: Layout, state: State) -> None:
        self._layout, self._state = layout, state
        self._parsed = lru_cache(maxsize=64)(self._parse)

    def reconcile(self, installed: Sequence[InstalledModel]) -> None:
        """Bring the index in line with what is installed."""
        self._state.guarded(lambda: self._reconcile(installed), None)

    def add(self, ref: ModelRef, manifest: VerifiedManifest) -> None:
        """Index a model that is, or is about to be, in place; at no cost when it is indexed already."""
        if self._state.guarded(lambda: self._known().get(str(ref)), None) != manifest.digest:
            self._state.guarded(lambda: self._insert(ref, manifest), None)

    def remove(self, ref: ModelRef) -> None:
        """Forget a model."""
        self._state.guarded(lambda: self._delete([str(ref)]), None)

    def places(self, digests: Iterable[str]) -> dict[str, list[ChunkPlace]]:
        """For each digest that some installed model holds: where."""
        wanted = [bytes.fromhex(digest) for digest in digests]
        nothing: list[tuple[bytes, str, int]] = []
        rows = self._state.guarded(lambda: self._query(wanted), nothing)
        found: dict[str, list[ChunkPlace]] = {}
        manifests: dict[str, VerifiedManifest | None] = {}
        for digest, ref_text, number in rows:
            if ref_text not in manifests:
                manifests[ref_text] = self._manifest(ref_text)
            manifest = manifests[ref_text]
            # The row may be older than the directory: believe it only where the manifest agrees.
            if manifest is not None and digest.hex() in manifest.manifest.chunks[number : number + 1]:
                place = ChunkPlace(ModelRef.parse(ref_text), manifest, number)
                found.setdefault(digest.hex(), []).append(place)
        return found

    def _manifest(self, ref_text: str) -> VerifiedManifest | None:
        """The manifest that lies in the model's directory now."""
        try:
            model_dir = self._layout.model_dir(ModelRef.parse(ref_text))
            found = self._layout.manifest_file(model_dir).stat()
        except (OSError, InvalidRefError):
            return None
        return self._parsed(model_dir, found.st_ino, found.st_mtime_ns)

    def _parse(self, model_dir: Path, *_identity: int) -> VerifiedManifest | None:
        try:
            return read_manifest(self._layout, model_dir)
        except StorageError:
            return None

    def _query(self, wanted: Sequence[bytes]) -> list[tuple[bytes, str, int]]:
        rows: list[tuple[bytes, str, int]] = []
        with self._state.reading() as connection:
            for start in range(0, len(wanted), _BATCH):
                batch = wanted[start : start + _BATCH]
                marks = ",".join("?" * len(batch))
                rows += connection.execute(
                    "SELECT digest, ref, number FROM chunks JOIN models ON models.id = model_id "
                    f"WHERE digest IN ({marks}) ORDER BY ref",  # only question marks are put in
                    batch,
                ).fetchall()
        return rows

    def _known(self) -> dict[str, str]:
        with self._state.reading() as connection:
            return dict(connection.execute("SELECT ref, manifest_hash FROM models").fetchall())

    def _reconcile(self, installed: Sequence[InstalledModel]) -> None:
        known = self._known()
        current = {str(model.ref): model for model in installed}
        self._delete([ref for ref in known if ref not in current])
        for ref, model in current.items():
            if known.get(ref) == model.manifest_hash:
                continue
            manifest = self._manifest(ref)
            if manifest is not None:
                self._insert(model.ref, manifest, model.manifest_hash)

    def _insert(self, ref: ModelRef, manifest: VerifiedManifest, manifest_hash: str | None = None) -> None:
        numbers = {
            bytes.fromhex(digest): indices[0] for digest, indices in manifest.manifest.distinct.items()
        }
        with self._state.transaction() as connection:
            self._drop_rows(connection, [str(ref)])
            cursor = connection.execute(
                "INSERT INTO models (ref, manifest_hash) VALUES (?, ?)",
                (str(ref), manifest_hash or manifest.digest),
            )
            rows = ((digest, cursor.lastrowid, number) for digest, number in numbers.items())
            connection.executemany("INSERT INTO chunks (digest, model_id, number) VALUES (?, ?, ?)", rows)

    def _delete(self, refs: Sequence[str]) -> None:
        if refs:
            with self._state.transaction() as connection:
                self._drop_rows(connection, refs)

    def _drop_rows(self, connection: sqlite3.Connection, refs: Sequence[str]) -> None:
        for ref in refs:
            connection.execute(
                "DELETE FROM chunks WHERE model_id IN (SELECT id FROM models WHERE ref = ?)", (ref,)
            )
            connection.execute("DELETE FROM models WHERE ref = ?", (ref,))
