"""Documents of a bundle: the seed's shape, migration, refusal, and a file that `sha256sum` reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from xprim_nb.cache.bundles.manifest import (
    BundleSources,
    CacheInitRequest,
    CacheManifest,
    dumped,
    parse_integrity,
    read_document,
    written_integrity,
)
from xprim_nb.errors import ConfigError, StorageError

_SEEDS_OWN = {
    "model_id": "demo/tiny",
    "version": "v1",
    "created_at": "2026-01-02T03:04:05Z",
    "last_updated": "2026-01-02T03:04:05.000Z",
    "last_validated": "2026-01-02T03:04:05",
    "source_urls": ["https://example.org/card.json"],
    "file_checksums": {"documentation/README.md": "0" * 64},
    "validation_status": "stale",
    "dependencies": [],
    "size_bytes": 12,
}


def test_manifest_has_the_seeds_keys() -> None:
    """The manifest has every key of the seed, a schema version, and nothing else."""
    assert set(CacheManifest.model_fields) == {*_SEEDS_OWN, "schema_version", "expiry_date"}
    assert set(CacheInitRequest.model_fields) == {"model_id", "source_urls", "validation_rules"}


def test_a_document_without_a_version_is_migrated(tmp_path: Path) -> None:
    """The seed's own manifest, which has no schema version and careless times, is read as version 1 in UTC."""
    path = tmp_path / "cache_manifest.json"
    path.write_text(json.dumps(_SEEDS_OWN))
    found = read_document(CacheManifest, path)
    assert found.schema_version == 1
    assert len({found.created_at, found.last_updated, found.last_validated}) == 1
    assert json.loads(dumped(found))["last_validated"] == "2026-01-02T03:04:05Z"


def test_a_newer_document_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A document of a later version is refused by name, and its bytes stay."""
    path = tmp_path / "cache_manifest.json"
    path.write_text(json.dumps({**_SEEDS_OWN, "schema_version": 2}))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="schema version 2") as caught:
        read_document(CacheManifest, path)
    assert "Upgrade" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "raw", ["", "[]", "{", '{"model_id": 3}', json.dumps({**_SEEDS_OWN, "size_bytes": -1})]
)
def test_a_damaged_document_is_a_storage_error(tmp_path: Path, raw: str) -> None:
    """What does not parse, or lacks what it must have, is damage and is named."""
    path = tmp_path / "cache_manifest.json"
    path.write_text(raw)
    with pytest.raises(StorageError, match="is damaged"):
        read_document(CacheManifest, path)


def test_documents_are_frozen() -> None:
    """A value that was read cannot be changed in place."""
    with pytest.raises(ValidationError):
        BundleSources().derived_from = "demo/tiny v1"


def test_integrity_comes_back() -> None:
    """The checksums that are written are the ones that are read; other lines are left out."""
    checksums = {"documentation/README.md": "1" * 64, "papers/a.pdf": "2" * 64}
    assert parse_integrity(written_integrity(checksums) + b"# a comment\n") == checksums
