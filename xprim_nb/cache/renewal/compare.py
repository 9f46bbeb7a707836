"""What a new version did to each file of the old one, told from the two manifests, and by hashing where they do not tell.

    1. Both manifests give the file's digest: that decides.
    2. Another size: changed.
    3. The same chunks, cut at the same places: unchanged.
    4. Otherwise the chunks were cut elsewhere: the new bytes decide, once they are here. Each old chunk that has bytes
       of the file is hashed with the new file in the old one's place.

Source: spec 2 §Refresh ("three-way per file, by hash").
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import NamedTuple

from xprim_nb._files import open_plain
from xprim_nb._hashing import read_range
from xprim_nb.cache.renewal.merge import UpstreamState
from xprim_nb.registry.manifest import Manifest

__all__ = ["UpstreamStates", "compare", "fits_in_old"]


class UpstreamStates(NamedTuple):
    """What the new version did to each path; `uncertain` ones (rule 4) count as changed for now."""

    states: dict[str, UpstreamState]
    uncertain: frozenset[str]


def compare(old: Manifest | None, new: Manifest) -> UpstreamStates:
    """Rules 1 to 3. Without the old manifest every file of the new version is new.

    Args:
        old: Of the version installed; None when nobody has it any more.
        new: Of the version offered.
    """
    before = {file.path: number for number, file in enumerate(old.files)} if old else {}
    states: dict[str, UpstreamState] = dict.fromkeys(before, "absent")
    uncertain = set()
    for number, file in enumerate(new.files):
        if old is None or file.path not in before:
            states[file.path] = "new"
            continue
        was = old.files[before[file.path]]
        if was.sha256 is not None and file.sha256 is not None:  # 1
            same = was.sha256 == file.sha256
        elif was.size != file.size:  # 2
            same = False
        else:  # 3
            same = _pieces(old, before[file.path]) == _pieces(new, number)
            if not same:
                uncertain.add(file.path)
        states[file.path] = "unchanged" if same else "changed"
    return UpstreamStates(states, frozenset(uncertain))


def fits_in_old(path: str, old: Manifest, old_tree: Path, new_tree: Path) -> bool:
    """True when the new file's bytes are the old version's (rule 4); False also where that cannot be known.

    It cannot where a file that shares a chunk with this one is not as it was.
    """
    number = next(index for index, file in enumerate(old.files) if file.path == path)
    for index in _chunks_of(old, number):
        found = hashlib.sha256()
        for segment in old.segments(index):
            root = new_tree if segment.file_index == number else old_tree
            try:
                fd = open_plain(root / old.files[segment.file_index].path)
            except OSError:
                return False
            try:
                read_range(fd, segment.file_offset, segment.length, found.update)
            except OSError:
                return False
            finally:
                os.close(fd)
        if found.hexdigest() != old.chunks[index]:
            return False
    return True


def _chunks_of(manifest: Manifest, number: int) -> range:
    """Numbers of the chunks that have bytes of a file."""
    start, size = manifest.file_starts[number], manifest.files[number].size
    if not size:
        return range(0)
    first = bisect_right(manifest.chunk_starts, start) - 1
    return range(first, bisect_left(manifest.chunk_starts, start + size))


def _pieces(manifest: Manifest, number: int) -> list[tuple[str, int, int]]:
    """The chunks that a file is cut from: digest, offset of the file's part in it, length of that part."""
    start = manifest.file_starts[number]
    end = start + manifest.files[number].size
    pieces = []
    for index in _chunks_of(manifest, number):
        first = manifest.chunk_starts[index]
        begin, stop = max(start, first), min(end, first + manifest.sizes[index])
        pieces.append((manifest.chunks[index], begin - first, stop - begin))
    return pieces
