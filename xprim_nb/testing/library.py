"""What a server has to serve: a registry directory, or a mapping in memory."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from xprim_nb.testing.exchanges import Kind

__all__ = ["FileSlice", "Library", "Resource"]

_INDEX = "/models.json"
_OBJECT = re.compile(r"/data/([0-9a-f]{64})\Z")
_ANY_DIGEST = re.compile(rb"[0-9a-f]{64}")


class FileSlice:
    """A part of an open file that can be sent without reading it.

    Args:
        path: The file; opened now.
    """

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.start, self.size_bytes = 0, os.fstat(self.fd).st_size

    def __len__(self) -> int:
        return self.size_bytes

    def narrow(self, start: int, stop: int) -> None:
        """Keep the bytes from `start` up to `stop`."""
        self.start, self.size_bytes = self.start + start, stop - start

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`."""
        os.lseek(
            self.fd, self.start + start, os.SEEK_SET
        )  # each answer has an own descriptor: seeking is safe
        return os.read(self.fd, stop - start)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(slots=True)
class Resource:
    """One thing that can be asked for: its bytes, and the validators that belong to them."""

    body: bytes | FileSlice
    etag: str
    last_modified: str = ""
    content_type: str = "application/octet-stream"


class Library:
    """Finds what lies at a path. Reads anew for every request, so that a test may change what is served.

    Args:
        content: A registry directory, or relative paths with their bytes (`models.json`, `data/<sha256>`).
    """

    def __init__(self, content: Path | Mapping[str, bytes]) -> None:
        self._content = content
        self._manifests: set[str] = set()
        self._index_seen: object = None

    def kind(self, path: str) -> Kind:
        """What lies at a path: a digest that an index ever named is a manifest, any other object a chunk."""
        if path == _INDEX:
            return "index"
        found = _OBJECT.match(path)
        if found is None:
            return "other"
        self._learn_manifests()
        return "manifest" if found[1] in self._manifests else "chunk"

    def find(self, path: str) -> Resource | None:
        """What lies at a path, opened; None when nothing does."""
        if isinstance(self._content, Mapping):
            raw = self._content.get(path[1:])
            return None if raw is None else Resource(raw, self._etag(path, raw), "", _content_type(path))
        parts = path[1:].split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            return None
        file = self._content.joinpath(*parts)
        if not file.is_file():
            return None
        modified = formatdate(file.stat().st_mtime, usegmt=True)
        if path == _INDEX:
            raw = file.read_bytes()
            return Resource(raw, self._etag(path, raw), modified, _content_type(path))
        return Resource(FileSlice(file), self._etag(path, b""), modified, _content_type(path))

    def _etag(self, path: str, raw: bytes) -> str:
        found = _OBJECT.match(path)
        return f'"{found[1] if found else hashlib.sha256(raw).hexdigest()}"'

    def _learn_manifests(self) -> None:
        if isinstance(self._content, Mapping):
            raw = self._content.get(_INDEX[1:], b"")
            if raw is not self._index_seen:
                self._learn(raw, raw)
            return
        file = self._content / _INDEX[1:]
        try:
            facts = file.stat()
            seen = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if seen != self._index_seen:
                self._learn(file.read_bytes(), seen)
        except OSError:
            return

    def _learn(self, raw: bytes, seen: object) -> None:
        # Not parsed: the index may be what a test has broken.
        self._manifests.update(digest.decode() for digest in _ANY_DIGEST.findall(raw))
        self._index_seen = seen


def _content_type(path: str) -> str:
    return "application/json" if path.endswith(".json") else "application/octet-stream"
