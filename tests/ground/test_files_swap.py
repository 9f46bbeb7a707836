"""Directories change places in one step or not at all."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xprim_nb._files import exchange_dirs, make_dirs, move_dir

_posix = pytest.mark.skipif(os.name != "posix", reason="POSIX rename(2)")


def _filled(path: Path, content: str) -> Path:
    make_dirs(path)
    (path / "file").write_text(content)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories that this file system can exchange."""
    one, other = _filled(tmp_path / "a" / "one", "1"), _filled(tmp_path / "b" / "other", "2")
    if not exchange_dirs(one, other):
        assert (one / "file").read_text() == "1"
        assert (other / "file").read_text() == "2"
        pytest.skip("this file system cannot exchange directories, and left them alone")
    assert exchange_dirs(one, other)
    return one, other


def test_two_directories_change_places(pair: tuple[Path, Path]) -> None:
    """What lay under one name lies under the other; who had it open still reads it."""
    one, other = pair
    with (one / "file").open() as opened:
        assert exchange_dirs(one, other)
        assert ((one / "file").read_text(), (other / "file").read_text()) == ("2", "1")
        assert opened.read() == "1"


def test_a_reader_never_finds_the_name_empty(pair: tuple[Path, Path]) -> None:
    """During two hundred swaps every read finds one version or the other."""
    one, other = pair
    done = threading.Event()

    def read() -> set[str]:
        seen = set()
        while not done.is_set():
            seen.add((one / "file").read_text())
        return seen

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            for _ in range(200):
                assert exchange_dirs(one, other)
        finally:
            done.set()
        assert reading.result(20) <= {"1", "2"}


def test_an_exchange_needs_both(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """With one of the two missing nothing happens, and the error names both."""
    for one, other in ((pair[0], tmp_path / "missing"), (tmp_path / "missing", pair[0])):
        with pytest.raises(FileNotFoundError) as caught:
            exchange_dirs(one, other)
        assert (caught.value.filename, caught.value.filename2) == (str(one), str(other))
    assert (pair[0] / "file").read_text() == "1"


def test_a_move_makes_the_parents(tmp_path: Path) -> None:
    """A directory goes to a free name, however deep."""
    source, target = _filled(tmp_path / "source", "x"), tmp_path / "a" / "b" / "c"
    move_dir(source, target)
    assert (target / "file").read_text() == "x"
    assert not source.exists()


@_posix
def test_an_empty_directory_makes_room(tmp_path: Path) -> None:
    """An empty directory under the name is replaced: a crash may have left it."""
    source, target = _filled(tmp_path / "source", "x"), tmp_path / "target"
    target.mkdir()
    move_dir(source, target)
    assert (target / "file").read_text() == "x"


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_a_taken_name_is_refused(tmp_path: Path, kind: str) -> None:
    """Whatever lies under the name stays, the source stays, and the error is the same."""
    source, target = _filled(tmp_path / "source", "new"), tmp_path / "target"
    if kind == "directory":
        _filled(target, "old")
    elif kind == "file":
        target.write_text("old")
    else:
        target.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        move_dir(source, target)
    assert (source / "file").read_text() == "new"
    assert os.path.lexists(target)


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    """Moving what is not there fails at once."""
    with pytest.raises(FileNotFoundError):
        move_dir(tmp_path / "missing", tmp_path / "target")


def test_one_of_many_movers_wins(tmp_path: Path) -> None:
    """Of eight that move to one name at once, one does, and the others are told that it is taken."""
    target, start = tmp_path / "a" / "target", threading.Barrier(8)
    sources = [_filled(tmp_path / f"source-{number}", str(number)) for number in range(8)]

    def move(source: Path) -> str:
        start.wait(20)
        try:
            move_dir(source, target)
        except FileExistsError:
            return "taken"
        return (target / "file").read_text()

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(move, sources))
    assert outcomes.count("taken") == 7
    winner = next(each for each in outcomes if each != "taken")
    assert (target / "file").read_text() == winner
    assert sum(source.exists() for source in sources) == 7


def test_somebody_who_tidies_up_does_not_stop_a_move(tmp_path: Path) -> None:
    """Another process may remove the still empty parent, several times: the move succeeds."""
    parent, wanted, done = tmp_path / "parent", threading.Semaphore(0), threading.Event()

    def tidy() -> int:
        removed = 0
        while True:
            wanted.acquire()
            while not done.is_set():
                try:
                    parent.rmdir()
                except OSError:
                    continue
                removed += 1
                break
            else:
                return removed

    with ThreadPoolExecutor(1) as pool:
        tidying = pool.submit(tidy)
        try:
            for number in range(50):
                source = _filled(tmp_path / f"source-{number}", "x")
                wanted.release(5)  # so often at most is the parent removed in this round
                move_dir(source, parent / "target")
                while wanted.acquire(blocking=False):
                    pass
                assert (parent / "target" / "file").read_text() == "x"
                move_dir(parent / "target", tmp_path / f"away-{number}")
        finally:
            done.set()
            wanted.release()
        assert tidying.result(20) > 0
