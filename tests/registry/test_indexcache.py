"""The index on disk: what was stored comes back, and what is damaged does not."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.events import TrustNotice
from xprim_nb.refs import ModelRef
from xprim_nb.registry.indexcache import CachedIndex, IndexCache
from xprim_nb.registry.trust import Memory

_URL = "https://ann:***@models.example.org/v1"
_REF = ModelRef("group", "model", "v1")
_MEMORY = Memory(
    {str(_REF): ("a" * 64, "b" * 64)}, {str(_REF): TrustNotice("rewritten", _REF, "a" * 64, "b" * 64)}
)
_RAW = '{"group": {"m\u00f6del": {}}}\n'.encode()


def cached(raw: bytes = _RAW) -> CachedIndex:
    """An answer an hour old."""
    return CachedIndex(raw, '"tag"', "Thu, 01 Jan 1970 00:00:00 GMT", _URL, time.time() - 3600, _MEMORY)


@pytest.fixture
def cache(tmp_path: Path) -> IndexCache:
    """A cache in a directory that does not exist yet."""
    return IndexCache(tmp_path / "cache" / "index", _URL)


def test_what_was_stored_comes_back(cache: IndexCache) -> None:
    """Bytes, validators, source, time and memory are read as they were stored, with their age."""
    assert cache.load() is None
    cache.save(cached())
    found = cache.load()
    assert found is not None
    assert (found.raw, found.etag, found.last_modified, found.source) == (
        _RAW, '"tag"', "Thu, 01 Jan 1970 00:00:00 GMT", _URL,
    )  # fmt: skip
    assert found.memory.to_json() == _MEMORY.to_json()
    assert 3600 <= found.age_s < 3700


def test_age_is_never_negative(cache: IndexCache) -> None:
    """A clock that was set back makes an answer new, not from the future."""
    cache.save(CachedIndex(_RAW, "", "", _URL, time.time() + 9999, Memory.empty()))
    found = cache.load()
    assert found is not None
    assert found.age_s == 0.0


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}', b"[" * 100_000, b"{}" * 3], ids=repr
)
def test_a_damaged_file_counts_as_absent(
    cache: IndexCache, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    """What cannot be read is logged, ignored, and overwritten by the next answer."""
    cache.path.parent.mkdir(parents=True)
    cache.path.write_bytes(raw[:1000] if raw.startswith(b"[[") else raw)
    with caplog.at_level(logging.WARNING):
        assert cache.load() is None
    assert [vars(record)["path"] for record in caplog.records] == [str(cache.path)]
    cache.save(cached())
    assert cache.load() is not None


@pytest.mark.parametrize(
    "change",
    [
        {"index": '{"group": {"mödel": []}}\n'},
        {"index": None},
        {"sha256": "0" * 64},
        {"fetched_at": "yesterday"},
        {"memory": None},
        {"memory": {"seen": [], "notices": {}}},
        {"memory": {"seen": {}, "notices": {"../..": ["rollback", "a", "b"]}}},
        {"memory": {"seen": {}, "notices": {"group/model v1": ["rollback"]}}},
    ],
    ids=str,
)
def test_a_changed_file_counts_as_absent(cache: IndexCache, change: dict[str, Any]) -> None:
    """A file that is JSON and still not what was stored is not believed: the registry would confirm its ETag."""
    cache.save(cached())
    cache.path.write_text(json.dumps({**json.loads(cache.path.read_bytes()), **change}))
    assert cache.load() is None


def test_another_versions_file_is_ignored_in_silence(
    cache: IndexCache, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of a future schema is nothing to worry anybody with."""
    cache.save(cached())
    cache.path.write_text(json.dumps({**json.loads(cache.path.read_bytes()), "schema": 2}))
    with caplog.at_level(logging.WARNING):
        assert cache.load() is None
    assert caplog.records == []


def test_a_disk_that_refuses_is_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing can be written the answer itself is still good: a warning, no error."""
    (tmp_path / "cache").write_text("in the way")
    cache = IndexCache(tmp_path / "cache", _URL)
    with caplog.at_level(logging.WARNING):
        cache.save(cached())
        assert cache.load() is None
    assert "could not be cached" in caplog.text


def test_each_registry_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Registries that look alike do not share a file, and every name is one that any disk can have."""
    urls = [
        "https://models.example.org/v1",
        "https://models.example.org/v2",
        "http://models.example.org/v1",
        "https://models.example.org:8443/v1",
        "https://***@models.example.org/v1",
        "/srv/models",
        "C:\\models\\..\\x",
        "/" + "x" * 300,
        "http://[::1]:8000/",
        "../../etc",
    ]
    names = {IndexCache(tmp_path, url).path.name for url in urls}
    assert len(names) == len(urls)
    for name in names:
        assert IndexCache(tmp_path, name).path.parent == tmp_path
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
        assert len(name) < 100
        assert not name.startswith((".", "-"))
