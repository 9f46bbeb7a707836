"""The files being assembled: written once, at their place, and listed only when verified."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xprim_nb._hashing import Digest
from xprim_nb.cache.partial import Partial, journal_digests, journal_size
from xprim_nb.errors import HashMismatchError, StorageError
from xprim_nb.registry.manifest import VerifiedManifest, parse_manifest
from xprim_nb.testing.registries import make_registry

from .rooms import CHUNK, blocks, listing

_FILES = {"a": blocks(1, 2)[:1500], "b/c": blocks(1, 2)[1500:] + blocks(1), "d": b""}


def _verified(root: Path, files: dict[str, bytes]) -> VerifiedManifest:
    made = make_registry(root / "registry", {"g/m v": files}, chunk_size=CHUNK)
    return parse_manifest(made.object_path(made.manifest_hash("g/m v")).read_bytes(), ".xprim")


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[Partial]:
    """A prepared partial of three files: chunk 1, chunk 2, chunk 1 again."""
    partial = Partial(tmp_path / "partial", _verified(tmp_path, _FILES))
    partial.prepare()
    yield partial
    partial.release()


def _fill(partial: Partial, number: int, data: bytes, step: int = CHUNK) -> None:
    digest = list(partial.manifest.distinct)[number]
    writer = partial.writer(digest)
    try:
        for start in range(0, len(data), step):
            writer.write(memoryview(data)[start : start + step])
        writer.verify()
    finally:
        writer.close()


@pytest.mark.parametrize("step", [1, 7, 400, CHUNK])
def test_blocks_of_any_size_land_in_every_place(partial: Partial, step: int) -> None:
    """A chunk across two files, and one that occurs twice, in pieces of any size."""
    _fill(partial, 0, blocks(1), step)
    _fill(partial, 1, blocks(2), step)
    assert {path: (partial.tree / path).read_bytes() for path in _FILES} == _FILES
    assert journal_digests(partial.directory) == set(partial.manifest.distinct) == partial.present


def test_files_have_their_size_from_the_beginning(partial: Partial) -> None:
    """Prepared, every file is there at its length; prepared again, nothing that is there changes."""
    _fill(partial, 0, blocks(1))
    assert {path: (partial.tree / path).stat().st_size for path in _FILES} == {"a": 1500, "b/c": 1500, "d": 0}
    before = listing(partial.tree)
    partial.release()
    partial.prepare()
    assert listing(partial.tree) == before


def test_a_chunk_is_listed_by_its_last_byte(partial: Partial) -> None:
    """Not before: a kill between two bytes must not leave a line for what is not there."""
    digest = next(iter(partial.manifest.distinct))
    writer = partial.writer(digest)
    writer.write(memoryview(blocks(1))[:-1])
    assert (journal_digests(partial.directory), journal_size(partial.directory)) == (set(), 0)
    writer.write(memoryview(blocks(1))[-1:])
    assert journal_digests(partial.directory) == {digest}
    writer.close()


def test_wrong_bytes_are_not_listed_and_can_be_mended(partial: Partial) -> None:
    """The last byte of a wrong chunk lists nothing; started again, the right bytes do."""
    digest = next(iter(partial.manifest.distinct))
    writer = partial.writer(digest)
    writer.write(memoryview(blocks("wrong")))
    with pytest.raises(HashMismatchError, match=digest):
        writer.verify()
    assert journal_digests(partial.directory) == set()
    writer.restart()
    writer.write(memoryview(blocks(1)))
    writer.verify()
    assert journal_digests(partial.directory) == {digest}
    assert (writer.total_received, writer.received) == (2 * CHUNK, CHUNK)
    writer.close()


def test_a_byte_too_many_is_refused_before_it_is_written(partial: Partial) -> None:
    """The neighbour's bytes are never touched by a chunk that is too long."""
    _fill(partial, 1, blocks(2))
    before = listing(partial.tree)
    writer = partial.writer(next(iter(partial.manifest.distinct)))
    with pytest.raises(HashMismatchError, match="longer"):
        writer.write(memoryview(blocks(1) + b"!"))
    writer.close()
    assert listing(partial.tree) == before


def test_what_is_recalled_was_hashed_in_all_its_places(partial: Partial) -> None:
    """A chunk that occurs twice and is damaged in one place is not there."""
    _fill(partial, 0, blocks(1))
    _fill(partial, 1, blocks(2))
    partial.release()
    with (partial.tree / "b" / "c").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    again = Partial(partial.directory, VerifiedManifest(_digest(partial), b"", partial.manifest))
    again.recall()
    assert again.present == {list(partial.manifest.distinct)[1]}


def _digest(partial: Partial) -> Digest:
    return next(iter(partial.manifest.distinct))


def test_the_list_is_never_empty_on_the_way_to_a_new_one(
    partial: Partial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process killed while the list is written anew leaves the old list, not the first half of the new one."""
    _fill(partial, 0, blocks(1))
    partial.release()

    class Killed(BaseException):
        pass

    def dying(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(Killed):
            partial.prepare()
    assert journal_digests(partial.directory) == {next(iter(partial.manifest.distinct))}


def test_a_disk_that_refuses_is_a_storage_error(tmp_path: Path) -> None:
    """A file where a directory of the model should be: the error names it."""
    partial = Partial(tmp_path / "partial", _verified(tmp_path, {"b/c": b"1"}))
    (tmp_path / "partial" / "tree").mkdir(parents=True)
    (tmp_path / "partial").joinpath("tree", "b").mkdir()
    (tmp_path / "partial").joinpath("tree", "b", "c").mkdir()
    with pytest.raises(StorageError, match="directory lies where a file"):
        partial.prepare()
    partial.release()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["a", "b", "c/d", "c/e", "f"]), st.binary(max_size=40), min_size=1),
    st.integers(1, 17),
    st.integers(1, 19),
)
def test_any_files_in_any_chunks(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], chunk_size: int, step: int
) -> None:
    """Every chunk written once in steps of any size gives exactly the files."""
    root = tmp_path_factory.mktemp("any")
    made = make_registry(root / "registry", {"g/m v": files}, chunk_size=chunk_size)
    raw = made.object_path(made.manifest_hash("g/m v")).read_bytes()
    partial = Partial(root / "partial", parse_manifest(raw, ".xprim"))
    partial.prepare()
    for number, digest in enumerate(partial.manifest.distinct):
        _fill(partial, number, made.object_path(digest).read_bytes(), step)
    partial.release()
    assert {path: (partial.tree / path).read_bytes() for path in files} == files
    assert json.loads(raw)["chunks"] == [] or journal_digests(partial.directory) == set(
        partial.manifest.distinct
    )
