"""`state.sqlite` saves bandwidth. Deleted, damaged, foreign, newer or locked, pulls go on."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from xprim_nb.cache import chunkindex
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.state import MIGRATIONS, State
from xprim_nb.refs import ModelRef
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room, blocks, require_sound

_A, _B, _C = "group/a v1", "group/b v1", "group/c v1"
_MODELS = {
    _A: {"w": blocks(1, 2, 3)},
    _B: {"w": blocks(2, 4)},
    _C: {"w": blocks(3, 4, 5)},
}


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 1000)


def _torn(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def _scribbled(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[100:] = b"\xaa" * (len(raw) - 100)
    path.write_bytes(raw)


def _foreign(path: Path) -> None:
    """A good database with our version number, and other tables."""
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.close()


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _hostile(path: Path) -> None:
    """Rows that name paths, and chunks where there are none."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE models SET ref = '../../etc passwd'")
        connection.execute("UPDATE chunks SET number = number + 1000")
    connection.close()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


# What happens to the file, and whether the chunks of installed models are found again afterwards.
_HARMS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda path: None, True),
    "deleted": (lambda path: path.unlink(), True),
    "empty": (lambda path: path.write_bytes(b""), True),
    "garbage": (_garbage, True),
    "torn": (_torn, True),
    "scribbled": (_scribbled, True),
    "foreign": (_foreign, True),
    "newer": (_newer, False),
    "hostile": (_hostile, True),
    "directory": (_directory, False),
}


@pytest.mark.parametrize("harm", _HARMS)
async def test_pulls_go_on_whatever_happens_to_the_index(
    room: Room, server: FaultyRegistry, harm: str
) -> None:
    """The index is rebuilt from the manifests where that can be, done without where not; the bytes are right."""
    spoil, found_again = _HARMS[harm]
    room.publish(_MODELS)
    async with room.manager() as manager:
        await manager.pull(_A)
    spoil(room.layout.state_file)
    async with room.manager() as manager:
        assert (await manager.pull(_B)).receipt.chunks_local == int(found_again)
        assert (await manager.pull(_C)).receipt.chunks_local == 2 * int(found_again)
        await manager.remove(_A)
    require_sound(room.base, {ref: files for ref, files in _MODELS.items() if ref != _A})


@pytest.mark.parametrize("harm", ["deleted", "garbage", "scribbled"])
async def test_the_file_may_be_harmed_while_it_is_open(room: Room, harm: str) -> None:
    """A manager that has it open installs the right bytes all the same."""
    room.publish(_MODELS)
    async with room.manager() as manager:
        await manager.pull(_A)
        _HARMS[harm][0](room.layout.state_file)
        assert [(await manager.pull(ref)).status for ref in (_B, _C)] == ["installed", "installed"]
    require_sound(room.base, _MODELS)


async def test_what_another_process_did_is_noticed(room: Room, server: FaultyRegistry) -> None:
    """Models that came and went without this index knowing are found, and not looked for."""
    room.publish(_MODELS)
    async with room.manager() as first:
        await first.pull(_A)
        async with room.manager() as second:
            await second.pull(_B)
            await second.remove(_A)
        room.layout.state_file.rename(room.layout.state_file.with_name("aside"))
        async with room.manager() as third:
            assert (await third.pull(_C)).receipt.local_models == {_B: 1}


@pytest.fixture
def index(room: Room) -> Iterator[ChunkIndex]:
    """An index of the room's base, closed at the end."""
    room.base.mkdir()
    with closing(State(room.layout)) as state:
        yield ChunkIndex(room.layout, state)


@contextmanager
def _same_models_with_the_index_as_it_is_now(room: Room) -> Iterator[ChunkIndex]:
    layout = Layout(room.root / "behind", ".xprim")
    layout.base.mkdir()
    (layout.base / "group").symlink_to(room.base / "group")
    with sqlite3.connect(room.layout.state_file) as current, sqlite3.connect(layout.state_file) as copy:
        current.backup(copy)
    current.close()
    copy.close()
    with closing(State(layout)) as state:
        yield ChunkIndex(layout, state)


async def test_a_row_is_believed_only_where_the_manifest_agrees(room: Room, index: ChunkIndex) -> None:
    """The index may be ahead of or behind the directory; it never points at other bytes."""
    made = room.publish(_MODELS)
    async with room.manager() as manager:
        await manager.pull(_A)
        digests = made.chunks(_A)
        assert set(index.places(digests)) == set(digests)
        with _same_models_with_the_index_as_it_is_now(room) as behind:
            room.publish({_A: {"w": blocks(7, 2)}})
            await manager.pull(_A)
            assert set(behind.places(digests)) == {digests[1]}
        assert set(index.places(digests)) == {digests[1]}
        (place,) = index.places(digests)[digests[1]]
        assert (str(place.ref), place.number) == (_A, 1)
        await manager.remove(_A)
        assert index.places(digests) == {}


def test_a_locked_index_is_done_without(
    room: Room, index: ChunkIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process holds it for longer than anybody should: no answer, a word in the log, and it is not replaced."""
    monkeypatch.setattr("xprim_nb._sqlite._BUSY_TIMEOUT_S", 0.01)
    index.reconcile([])
    blocker = sqlite3.connect(room.layout.state_file, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    index.remove(next(iter([_ref(_A)])))
    blocker.execute("ROLLBACK")
    blocker.close()
    assert "locked" in caplog.text
    assert not room.layout.state_file.with_name("state.sqlite.damaged").exists()


def _ref(text: str) -> ModelRef:
    return ModelRef.parse(text)


def test_a_damaged_file_is_replaced_once_by_many_threads(room: Room, index: ChunkIndex) -> None:
    """Several threads find out together that the file is damaged: all get an answer, none throws the new file away."""
    _garbage(room.layout.state_file)
    start = threading.Barrier(8)

    def ask(number: int) -> dict[str, list[chunkindex.ChunkPlace]]:
        start.wait()
        return index.places([f"{number:064x}"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [{}] * 8
    aside = room.layout.state_file.with_name("state.sqlite.damaged")
    assert aside.exists()
    with sqlite3.connect(room.layout.state_file) as connection:
        assert connection.execute("SELECT count(*) FROM models").fetchone() == (0,)
    connection.close()
