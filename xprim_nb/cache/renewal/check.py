"""Whether a version that was just put in place is what its manifest says, what is the user's in it left out.

The stand-in for a whole validation: whoever has one hands it to `Refresher` instead.

Source: spec 2 §Refresh (`validation_after_update`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from xprim_nb._files import storage_errors
from xprim_nb.cache.kept import local_files
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.renewal.changes import file_hash
from xprim_nb.cache.store import read_manifest
from xprim_nb.cache.values import InstalledModel
from xprim_nb.cache.verify import wrong_chunks
from xprim_nb.registry.manifest import Manifest

__all__ = ["ChunkCheck", "check_chunks"]


@dataclass(frozen=True, slots=True)
class ChunkCheck:
    """What was found.

    Attributes:
        overall_status: `healthy` or `failed`.
        problems: A sentence for each file that is not as it should be.
        chunks: Chunks that were hashed and told.
    """

    overall_status: Literal["healthy", "failed"]
    problems: tuple[str, ...] = ()
    chunks: int = 0


def check_chunks(layout: Layout, model: InstalledModel) -> ChunkCheck:
    """Hash every chunk of an installed version, and the user's files against what the receipt says of them.

    A chunk that has bytes of a file which is the user's cannot be told; the other files in it look as installed.

    Raises:
        StorageError: It cannot be read.
    """
    manifest = read_manifest(layout, model.path).manifest
    local = local_files(layout, model.path)
    wrong = wrong_chunks(model.path, manifest)
    files = {
        manifest.files[segment.file_index].path
        for number in wrong
        if not _is_shared(manifest, number, local)
        for segment in manifest.segments(number)
    }
    problems = [f"{path} is not what the manifest says." for path in sorted(files)]
    with storage_errors(model.path, "verifying"):
        for file in manifest.files:
            target = model.path / file.path
            plain = target.is_file() and not target.is_symlink()
            if file.path not in local and not (plain and target.stat().st_size == file.size):
                problems.append(f"{file.path} is missing, or not of its size.")
        for path, facts in sorted(local.items()):
            target = model.path / path
            if not target.is_file() or file_hash(target) != facts.get("sha256"):
                problems.append(f"{path} is not as it was carried over.")
    return ChunkCheck(
        "failed" if problems else "healthy", tuple(dict.fromkeys(problems)), len(manifest.chunks)
    )


def _is_shared(manifest: Manifest, number: int, local: Collection[str]) -> bool:
    return any(manifest.files[segment.file_index].path in local for segment in manifest.segments(number))
