"""The last index of each registry on disk, with where it came from, when, and what is remembered of it.

Source: spec 1 §Client, §Disk layout (`cache/index/<registry>.json`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from xprim_nb._files import read_plain, write_atomic
from xprim_nb._hashing import sha256_hex
from xprim_nb.errors import StorageError
from xprim_nb.registry.indexname import index_file
from xprim_nb.registry.trust import Memory

__all__ = ["CachedIndex", "IndexCache"]

_log = logging.getLogger("xprim_nb.registry")
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class CachedIndex:
    """One stored answer.

    Attributes:
        raw: The bytes of `models.json`.
        etag: Its validator; empty when there was none.
        last_modified: The same, as an HTTP date.
        source: The base URL that gave it.
        fetched_at: When it was last confirmed, in seconds since the epoch.
        memory: What was seen so far.
    """

    raw: bytes
    etag: str
    last_modified: str
    source: str
    fetched_at: float
    memory: Memory

    @property
    def age_s(self) -> float:
        """Seconds since it was last confirmed."""
        return max(0.0, time.time() - self.fetched_at)


class IndexCache:
    """The file for one registry. Holds nothing open; a damaged file counts as absent and is overwritten.

    Args:
        directory: `cache/index`.
        registry_url: The registry's first base URL, which names the file.
    """

    def __init__(self, directory: Path, registry_url: str) -> None:
        self.path = index_file(directory, registry_url)

    def load(self) -> CachedIndex | None:
        """The stored answer; None when there is none that can be read."""
        try:
            stored = orjson.loads(read_plain(self.path))
            if stored["schema"] != _SCHEMA:
                return None
            raw = stored["index"].encode()
            if sha256_hex(raw) != stored["sha256"]:  # the registry would confirm its ETag for ever after
                raise ValueError("the index is not the one that was stored")
            return CachedIndex(
                raw=raw,
                etag=str(stored["etag"]),
                last_modified=str(stored["last_modified"]),
                source=str(stored["source"]),
                fetched_at=float(stored["fetched_at"]),
                memory=Memory.from_json(stored["memory"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.warning(
                "the cached index is unreadable and is ignored",
                extra={"path": str(self.path), "why": str(error)},
            )
            return None

    def saved_at(self) -> float | None:
        """When an answer was last stored, in seconds since the epoch; None when there is none."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

    def save(self, cached: CachedIndex) -> None:
        """Store an answer. A disk that refuses is logged: the answer itself is still good."""
        document = {
            "schema": _SCHEMA,
            "source": cached.source,
            "etag": cached.etag,
            "last_modified": cached.last_modified,
            "fetched_at": cached.fetched_at,
            "memory": cached.memory.to_json(),
            "sha256": sha256_hex(cached.raw),
            "index": cached.raw.decode("utf-8", "replace"),
        }
        try:
            write_atomic(self.path, orjson.dumps(document), durable=False)
        except StorageError as error:
            _log.warning("the index could not be cached", extra={"path": str(self.path), "why": str(error)})
