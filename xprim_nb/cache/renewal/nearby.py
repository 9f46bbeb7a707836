"""Which bytes on this machine a refresh may count on.

Source: spec 2 §Refresh (`incremental_updates`).
"""

from __future__ import annotations

from collections.abc import Collection

from xprim_nb.cache.chunkindex import ChunkPlace
from xprim_nb.cache.local import LocalChunks
from xprim_nb.refs import ModelRef

__all__ = ["NoChunks", "sound_chunks"]


def sound_chunks(local: LocalChunks, ref: ModelRef, spoiled: Collection[str]) -> LocalChunks:
    """The same chunks, without those of one version's files that are not as they were installed.

    Args:
        local: Where chunks lie; changed.
        ref: The version.
        spoiled: The paths of these files.
    """
    for digest, places in local.places.items():
        local.places[digest] = [place for place in places if place.ref != ref or not _touches(place, spoiled)]
    return local


def _touches(place: ChunkPlace, paths: Collection[str]) -> bool:
    manifest = place.manifest.manifest
    return any(
        manifest.files[segment.file_index].path in paths for segment in manifest.segments(place.number)
    )


class NoChunks(LocalChunks):
    """No place on this machine: every chunk is fetched, as `incremental_updates=False` asks."""

    def refresh(self) -> None:
        """Nothing is looked for."""
        self.places, self.loose = {}, set()

    def look_again(self, digest: str) -> None:  # house: that is what the class is for
        """Nothing is looked for."""

    def source_of(self, digest: str) -> None:
        """Only the network has it."""
        return None

    def copy(self, digest: str, sink: object) -> None:
        """Nothing is copied."""
        return None
