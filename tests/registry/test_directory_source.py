"""`DirectorySource` keeps the contract of every source, and what only a directory can do wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xprim_nb.registry.sources import Source, SourceError
from xprim_nb.registry.sources.directory import DirectorySource
from xprim_nb.testing.registries import make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink
from xprim_nb.testing.source_contract import SourceContract, SourceFor

_REF = "group/model v1"


class TestDirectorySource(SourceContract):
    """The contract, kept by a directory."""

    @pytest.fixture
    def source_for(self) -> SourceFor:
        """A directory needs nothing around it."""

        def build(root: Path) -> Source:
            return DirectorySource(root)

        return build


def test_it_needs_no_network(tmp_path: Path) -> None:
    """A directory is asked in offline mode too, and is called by its path."""
    source = DirectorySource(tmp_path)
    assert not source.needs_network
    assert source.url == str(tmp_path)


async def test_a_directory_in_a_chunks_place_is_refused(tmp_path: Path) -> None:
    """What is not a plain file is no chunk, whatever its size."""
    made = make_registry(tmp_path, {_REF: {"a": random_bytes(1, 500)}})
    digest = made.chunks(_REF)[0]
    made.object_path(digest).unlink()
    made.object_path(digest).mkdir()
    sink = MemorySink(digest, made.object_path(digest).stat().st_size)
    with pytest.raises(SourceError, match="not a plain file"):
        await DirectorySource(tmp_path).chunk(digest, sink)
    with pytest.raises(SourceError):
        await DirectorySource(tmp_path).document(digest)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes in the file system")
async def test_a_pipe_in_a_chunks_place_does_not_block(tmp_path: Path) -> None:
    """A named pipe on a prepared stick is refused at once, instead of being waited for."""
    made = make_registry(tmp_path, {_REF: {"a": random_bytes(1, 500)}})
    digest, manifest = made.chunks(_REF)[0], made.manifest_hash(_REF)
    for path in (made.object_path(digest), made.object_path(manifest), tmp_path / "models.json"):
        path.unlink()
        os.mkfifo(path)
    source = DirectorySource(tmp_path)
    with pytest.raises(SourceError, match="not a plain file"):
        await source.chunk(digest, MemorySink(digest, 500))
    with pytest.raises(SourceError):
        await source.document(manifest)
    with pytest.raises(SourceError):
        await source.index()


async def test_a_file_that_shrinks_meanwhile_is_a_failed_try(tmp_path: Path) -> None:
    """A chunk that ends early while it is read is worth another try, and what was read is kept."""
    data = random_bytes(1, 3 << 20)
    made = make_registry(tmp_path, {_REF: {"a": data}}, chunk_size=len(data))
    digest = made.chunks(_REF)[0]

    def shrink(received: int) -> None:
        os.truncate(made.object_path(digest), received)

    sink = MemorySink(digest, len(data), on_write=shrink)
    with pytest.raises(SourceError) as caught:
        await DirectorySource(tmp_path).chunk(digest, sink)
    assert caught.value.retryable
    assert 0 < sink.received < len(data)


async def test_a_bad_sector_is_a_failed_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read error of the disk is a SourceError that names the file, not a bare OSError."""
    data = random_bytes(1, 3 << 20)
    made = make_registry(tmp_path, {_REF: {"a": data}}, chunk_size=len(data))
    digest = made.chunks(_REF)[0]

    def fail(*_: object) -> int:  # no disk with bad sectors is at hand, and device-mapper needs one
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("xprim_nb._hashing._read_at", fail)
    with pytest.raises(SourceError) as caught:
        await DirectorySource(tmp_path).chunk(digest, MemorySink(digest, len(data)))
    assert caught.value.retryable
    assert caught.value.subject == str(made.object_path(digest))


async def test_it_says_when_a_directory_is_no_registry(tmp_path: Path) -> None:
    """A wrong directory is answered with what a registry looks like."""
    with pytest.raises(SourceError, match=r"models\.json") as caught:
        await DirectorySource(tmp_path).index()
    assert "data/" in caught.value.hint
