"""Registries made from plain bytes follow the wire format, and the hostile corpus is what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from xprim_nb.registry.manifest import parse_manifest
from xprim_nb.testing.hostile import GOOD, HOSTILE_MANIFESTS
from xprim_nb.testing.hostile_names import HOSTILE_INDEXES, HOSTILE_REFS
from xprim_nb.testing.registries import make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

_FILES = {"config.json": b"{}", "empty": b"", "w/model.bin": random_bytes(1, 2500)}


def test_random_bytes_are_the_same_everywhere() -> None:
    """A seed names bytes: the same ones for ever, others for another seed, longer ones begin alike."""
    assert random_bytes(1, 8).hex() == "ebaf5ccd6f37291d"
    assert random_bytes(1, 100)[:8] == random_bytes(1, 8)
    assert random_bytes(1, 8) != random_bytes(2, 8)


@pytest.mark.parametrize("chunk_sizes", [None, [700, 13]])
def test_a_made_registry_is_consistent(tmp_path: Path, chunk_sizes: list[int] | None) -> None:
    """Objects have the names of their bytes, the chunks add up to the files, the index names the manifest."""
    made = make_registry(
        tmp_path, {"a/b v1": _FILES}, chunk_size=1000, chunk_sizes=chunk_sizes, file_hashes=True
    )
    objects = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in objects.items())
    manifest = made.manifest("a/b v1")
    assert b"".join(objects[digest] for digest in manifest["chunks"]) == b"".join(_FILES.values())
    assert manifest["files"] == [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in _FILES.items()
    ]
    assert manifest.get("chunk_sizes") == (None if chunk_sizes is None else [700, 13, 700, 13, 700, 13, 363])
    assert made.entry("a/b v1") == {"hash": made.manifest_hash("a/b v1"), "total_size": 2502}
    parse_manifest(objects[made.manifest_hash("a/b v1")], ".xprim")


def test_models_aliases_and_metadata_are_added_to_what_is_there(tmp_path: Path) -> None:
    """A second call keeps what the first has written; an alias repeats its target's hash."""
    make_registry(tmp_path, {"a/b v1": {"x": b"1"}})
    made = make_registry(
        tmp_path,
        {"a/b v2": {"x": b"2"}, "c/d v1": {"x": b"1"}},
        alias={"a/b latest": "v2"},
        metadata={"k": 1},
    )
    assert list(made.index) == ["a", "c"]
    assert made.entry("a/b latest") == {**made.entry("a/b v2"), "alias": "v2"}
    assert made.entry("a/b v2")["metadata"] == {"k": 1}
    assert "metadata" not in made.entry("a/b v1")
    assert made.manifest_hash("a/b v1") == made.manifest_hash("c/d v1")


def test_any_manifest_can_be_put_in(tmp_path: Path) -> None:
    """Bytes that are no manifest are listed as one when a test wants it."""
    made = make_registry(tmp_path, {})
    digest = made.put_manifest("evil/model v1", b"not json")
    assert made.object_path(digest).read_bytes() == b"not json"
    assert made.manifest_hash("evil/model v1") == digest


def test_the_corpus_is_built_on_a_good_manifest() -> None:
    """The manifest that every hostile one differs from is accepted, so that each is refused for what is wrong."""
    assert parse_manifest(json.dumps(GOOD).encode(), ".xprim").manifest.total_size == 10


def test_the_corpus_has_no_case_twice() -> None:
    """Every case has its own name, its own bytes and a sentence."""
    for corpus in (HOSTILE_MANIFESTS, HOSTILE_INDEXES):
        assert len({case.name for case in corpus}) == len({case.raw for case in corpus}) == len(corpus)
        assert all(case.wrong for case in corpus)
    assert all(HOSTILE_REFS.values())
    assert len(HOSTILE_MANIFESTS) >= 45


def test_a_sink_notices_bad_sources() -> None:
    """The memory sink fails on a byte too many, on plain bytes, and on a write after the end."""
    sink = MemorySink.for_bytes(b"abc")
    with pytest.raises(AssertionError, match="too many"):
        sink.write(memoryview(b"abcd"))
    with pytest.raises(AssertionError, match="memoryview"):
        sink.write(b"abc")  # type: ignore[arg-type]  # the mistake is the test
    sink.write(memoryview(b"abx"))
    assert (sink.received, sink.complete) == (3, False)
    sink.restart()
    sink.write(memoryview(b"abc"))
    assert sink.complete
    sink.close()
    with pytest.raises(AssertionError, match="returned"):
        sink.restart()
    assert sink.late.is_set()
