"""Adopted files as sources of chunks. A file is asked when its size, and its digest where both are known, fit.

The bytes are hashed on the way: a file that lies, has changed or has vanished costs a read and is not asked again.

Source: spec 2 §Adopt ("zero-trust chunk sources").
"""

from __future__ import annotations

import itertools
import logging
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xprim_nb._hashing import read_range
from xprim_nb.cache.adopt.places import adopted_places
from xprim_nb.cache.adopt.scanning import AdoptedPlace
from xprim_nb.cache.layout import Layout
from xprim_nb.errors import HashMismatchError, StorageError, XprimError
from xprim_nb.registry.client import VerifyingSink
from xprim_nb.registry.manifest import Manifest, Segment

__all__ = ["AdoptedChunks"]

_log = logging.getLogger("xprim_nb.cache")

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
# A chunk that spans several files may find several candidates for each: so many combinations are tried.
_COMBINATIONS = 8


class _Source(NamedTuple):
    """A file that may hold the bytes of a file of the manifest."""

    path: Path
    size: int
    name: str


class AdoptedChunks:
    """Looks for the chunks of one manifest in adopted files. Thread-safe.

    Args:
        layout: Where things lie.
        manifest: The manifest wanted.
    """

    def __init__(self, layout: Layout, manifest: Manifest) -> None:
        self._manifest = manifest
        self._bad: set[Path] = set()
        self._lock = threading.Lock()
        try:
            self._sources = _fitting(adopted_places(layout), manifest)
        except StorageError as error:
            _log.warning("adopted files are not used: %s", error.message)
            self._sources = {}

    def source_of(self, digest: str) -> str | None:
        """The name of the place that should hold a chunk; None when none should."""
        for combination in self._combinations(digest):
            return combination[0][1].name
        return None

    def copy(self, digest: str, sink: VerifyingSink) -> str | None:
        """Fill a sink from adopted files, and name the place; None when none holds the right bytes.

        Raises:
            StorageError: The sink's disk refused.
        """
        for combination in self._combinations(digest):
            sink.restart()
            try:
                if all(_read(source, segment, sink) for segment, source in combination):
                    sink.verify()
                    return combination[0][1].name
            except HashMismatchError:
                _log.info("an adopted file is not what it should be", extra={"chunk": digest})
            paths = {source.path for _, source in combination}
            if len(paths) == 1:  # there is no doubt who lied
                with self._lock:
                    self._bad |= paths
            sink.restart()
        return None

    def _combinations(self, digest: str) -> Iterator[Sequence[tuple[Segment, _Source]]]:
        """Ways to put a chunk together, in every place where it occurs."""
        if not self._sources:
            return
        ways = itertools.chain.from_iterable(
            self._ways(number)
            for number in self._manifest.distinct.get(digest, ())  # type: ignore[call-overload]  # a Digest is a str
        )
        yield from itertools.islice(ways, _COMBINATIONS)

    def _ways(self, number: int) -> Iterator[Sequence[tuple[Segment, _Source]]]:
        choices = []
        for segment in self._manifest.segments(number):
            fitting = [
                (segment, source)
                for source in self._sources.get(segment.file_index, ())
                if source.path not in self._bad
            ]
            choices.append(fitting)
        yield from itertools.product(*choices)


def _fitting(places: Sequence[AdoptedPlace], manifest: Manifest) -> dict[int, list[_Source]]:
    """For each file of the manifest: the adopted files that may be it, those first whose name says so."""
    by_size: dict[int, list[tuple[str | None, _Source]]] = {}
    for place in places:
        root = Path(place.root)
        for adopted in place.files:
            source = _Source(root / adopted.path, adopted.size, _place_name(place))
            by_size.setdefault(adopted.size, []).append((adopted.sha256, source))
    found: dict[int, list[_Source]] = {}
    for number, file in enumerate(manifest.files):
        candidates = [
            (sha256, source)
            for sha256, source in by_size.get(file.size, ())
            if file.size and (sha256 is None or file.sha256 is None or sha256 == file.sha256)
        ]
        candidates.sort(key=lambda each: (each[0] is None, file.path.rpartition("/")[2] != each[1].path.name))
        if candidates:
            found[number] = [source for _, source in candidates]
    return found


def _place_name(place: AdoptedPlace) -> str:
    kind = {"hf": "Hugging Face cache", "ollama": "Ollama", "folder": "folder"}[place.kind]
    return f"{kind} {place.root}"


def _read(source: _Source, segment: Segment, sink: VerifyingSink) -> bool:
    """Hand the segment's bytes to the sink; False when the file is not there any more, or not as it was."""
    try:
        fd = os.open(source.path, _READ_FLAGS)
    except OSError:
        return False
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != source.size:
            return False
        return read_range(fd, segment.file_offset, segment.length, sink.write) == segment.length
    except XprimError:
        raise
    except OSError:  # a bad sector, a network drive that went away
        return False
    finally:
        os.close(fd)
