"""Compare what lies on disk with what the manifest says, chunk by chunk, on all cores.

Source: spec 1 §Pull (`force`); spec 2 §Validation.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xprim_nb._hashing import Digest
from xprim_nb.cache.partial import hash_segments
from xprim_nb.registry.manifest import Manifest

__all__ = ["wrong_chunks"]


def wrong_chunks(root: Path, manifest: Manifest) -> dict[int, Digest]:
    """Chunks, by their number in the stream, that the files below `root` do not hold as they should.

    A file of another size than the manifest says makes the chunk wrong in which it ends.
    """

    def wrong(number: int) -> bool:
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


def _ends_of_odd_files(root: Path, manifest: Manifest) -> list[int]:
    odd = []
    for number, file in enumerate(manifest.files):
        path = root / file.path
        if path.is_file() and not path.is_symlink() and path.stat().st_size == file.size:
            continue
        end = max(manifest.file_starts[number] + file.size - 1, 0)
        odd += [
            index
            for index, (start, size) in enumerate(zip(manifest.chunk_starts, manifest.sizes, strict=True))
            if start <= end < start + size
        ]
    return odd
