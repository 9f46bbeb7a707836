"""Compare what lies on disk with what the manifest says, chunk by chunk, on all cores.

Source: spec 1 §Pull (`force`); spec 2 §Validation.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xprim_nb._hashing import Digest
from xprim_nb._threads import Check, unhalted
from xprim_nb.cache.partial import hash_segments
from xprim_nb.registry.manifest import Manifest

__all__ = ["is_whole", "wrong_chunks"]


def is_whole(root: Path, manifest: Manifest, check: Check = unhalted) -> bool:
    """True when the files below `root` are there, of the right size, and hold the manifest's bytes.

    Raises:
        HaltedError: `check` did.
    """
    return not _odd_files(root, manifest) and not wrong_chunks(root, manifest, check)


def wrong_chunks(root: Path, manifest: Manifest, check: Check = unhalted) -> dict[int, Digest]:
    """Chunks, by their number in the stream, that the files below `root` do not hold as they should.

    A file of another size than the manifest says makes the chunk wrong in which it ends.

    Raises:
        HaltedError: `check` did.
    """

    def wrong(number: int) -> bool:
        check()
        found = hashlib.sha256()
        whole = hash_segments(root, manifest, number, found.update)
        return not whole or found.hexdigest() != manifest.chunks[number]

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        verdicts = list(pool.map(wrong, range(len(manifest.chunks))))
    bad = {number for number, is_wrong in enumerate(verdicts) if is_wrong}
    return {
        number: Digest(manifest.chunks[number])
        for number in sorted(bad | set(_ends_of_odd_files(root, manifest)))
    }


def _odd_files(root: Path, manifest: Manifest) -> list[int]:
    """Numbers of the files that are missing, no plain files, or of another size."""
    odd = []
    for number, file in enumerate(manifest.files):
        path = root / file.path
        if not (path.is_file() and not path.is_symlink() and path.stat().st_size == file.size):
            odd.append(number)
    return odd


def _ends_of_odd_files(root: Path, manifest: Manifest) -> list[int]:
    found = []
    for number in _odd_files(root, manifest):
        end = max(manifest.file_starts[number] + manifest.files[number].size - 1, 0)
        found += [
            index
            for index, (start, size) in enumerate(zip(manifest.chunk_starts, manifest.sizes, strict=True))
            if start <= end < start + size
        ]
    return found
