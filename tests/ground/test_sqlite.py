"""One way to open SQLite: WAL, a connection a thread, numbered migrations, a new start when it is damaged."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from xprim_nb._sqlite import Database
from xprim_nb.errors import StorageError

_FIRST = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL); CREATE INDEX item_name ON item (name)"
)
_SECOND = "ALTER TABLE item ADD COLUMN size INTEGER NOT NULL DEFAULT 0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a directory that does not exist yet."""
    return tmp_path / "new" / "state.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """A database with one migration."""
    database = Database(path, [_FIRST])
    yield database
    database.close()


def _names(database: Database) -> list[str]:
    with database.reading() as connection:
        return [name for (name,) in connection.execute("SELECT name FROM item ORDER BY id")]


def _add(database: Database, name: str) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO item (name) VALUES (?)", (name,))


def _open_files() -> list[Path]:
    return [Path(each.path) for each in psutil.Process().open_files()]


def test_nothing_is_opened_before_it_is_needed(path: Path) -> None:
    """Building a database touches no disk; using it creates its directory and file."""
    database = Database(path, [_FIRST])
    assert not path.parent.exists()
    _add(database, "one")
    assert path.is_file()
    database.close()


def test_a_transaction_is_whole_or_absent(database: Database) -> None:
    """What was written before an exception is gone, and the exception comes out; the next transaction works."""
    _add(database, "kept")

    def fail() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO item (name) VALUES ('lost')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    _add(database, "also kept")
    assert _names(database) == ["kept", "also kept"]


def test_a_failing_commit_leaves_no_transaction_open(path: Path) -> None:
    """When the end itself fails, here by a deferred constraint, the connection can go on."""
    script = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)"
    database = Database(path, [script])
    with database.reading() as connection:
        connection.execute("PRAGMA foreign_keys=ON")
    with pytest.raises(sqlite3.IntegrityError):
        _add(database, "7")
    with database.transaction() as connection:
        connection.execute("INSERT INTO item (id) VALUES (7)")
    assert len(_names(database)) == 1
    database.close()


def test_the_file_is_in_wal_mode(database: Database) -> None:
    """Readers do not wait for a writer, and see what was there before it ended."""
    _add(database, "one")
    with database.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with database.transaction() as connection:
        connection.execute("INSERT INTO item (name) VALUES ('two')")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(_names, database).result(20) == ["one"]
    assert _names(database) == ["one", "two"]


def test_each_thread_has_one_connection(database: Database) -> None:
    """A thread meets its own connection again; another thread has another."""
    _add(database, "one")

    def own() -> tuple[int, int]:
        with database.reading() as first, database.reading() as second:
            return id(first), id(second)

    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(own).result(20)
        here = own()
        assert elsewhere[0] == elsewhere[1]
        assert here[0] == here[1] != elsewhere[0]


def test_threads_that_write_at_once_all_succeed(database: Database) -> None:
    """Writers wait for each other instead of failing."""
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(_add, database, str(number)) for number in range(80)]:
            done.result(10)
    assert sorted(_names(database), key=int) == [str(number) for number in range(80)]


def test_migrations_run_once_and_in_order(path: Path) -> None:
    """A file of an older version is brought forward with its rows; opening it again changes nothing."""
    old = Database(path, [_FIRST])
    _add(old, "one")
    old.close()
    for _ in range(2):
        new = Database(path, [_FIRST, _SECOND])
        with new.reading() as connection:
            assert connection.execute("SELECT name, size FROM item").fetchall() == [("one", 0)]
            assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        new.close()


def test_a_failing_migration_changes_nothing(path: Path) -> None:
    """Half a migration is no migration: the file keeps its version and its tables."""
    Database(path, [_FIRST]).close()
    broken = Database(path, [_FIRST, "CREATE TABLE other (x); CREATE BOGUS"])
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="BOGUS"):
            _names(broken)
    broken.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    """A file that a newer version wrote is left alone, with the way out in the hint."""
    new = Database(path, [_FIRST, _SECOND])
    _add(new, "one")
    new.close()
    old = Database(path, [_FIRST])
    with pytest.raises(StorageError, match="schema 2") as caught:
        _names(old)
    assert caught.value.subject == str(path)
    assert "Update" in caught.value.hint
    new = Database(path, [_FIRST, _SECOND])
    assert _names(new) == ["one"]
    new.close()


def test_a_place_that_cannot_hold_a_file_is_a_storage_error(tmp_path: Path) -> None:
    """A directory in the file's place, or a file in the directory's, is told with the path."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "folder", tmp_path / "file" / "state.sqlite"):
        with pytest.raises(StorageError, match="cannot be opened") as caught:
            _names(Database(path, [_FIRST]))
        assert caught.value.subject == str(path)


def test_a_damaged_file_can_be_begun_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The owner hears that the bytes are no database, moves them aside and starts empty; the old ones are kept."""
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 500)
    database = Database(path, [_FIRST])
    with pytest.raises(sqlite3.DatabaseError):
        _names(database)
    with caplog.at_level(logging.WARNING, "xprim_nb.sqlite"):
        database.begin_anew()
    _add(database, "one")
    assert _names(database) == ["one"]
    assert path.with_name("state.sqlite.damaged").read_bytes() == b"no database at all" * 500
    assert str(path) == getattr(caplog.records[0], "path", None)
    database.begin_anew()
    database.begin_anew()  # also when there is no file
    assert _names(database) == []
    database.close()


def test_a_closed_database_opens_again(database: Database) -> None:
    """Closing ends the connections of every thread; the next use opens new ones."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_add, database, "one").result(20)
        with database.reading() as here:
            pass
        database.close()
        database.close()
        with pytest.raises(sqlite3.ProgrammingError):
            here.execute("SELECT 1")
        pool.submit(_add, database, "two").result(20)
        assert _names(database) == ["one", "two"]


def test_a_connection_opened_while_others_are_closed_is_not_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be open on the file that is being replaced: the next use has another."""
    opened: list[sqlite3.Connection] = []
    connect = database._connect

    def closed_meanwhile() -> sqlite3.Connection:
        opened.append(connect())
        if len(opened) == 1:
            database.close()
        return opened[-1]

    monkeypatch.setattr(database, "_connect", closed_meanwhile)
    with database.reading() as used:
        assert used is opened[1]
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        opened[0].execute("SELECT 1")


def test_the_switch_to_wal_is_waited_for(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who writes to the file before it is in WAL mode is waited for; SQLite itself would fail at once."""
    tried, sleep = threading.Event(), time.sleep

    def noted(seconds: float) -> None:
        tried.set()
        sleep(seconds)

    monkeypatch.setattr("xprim_nb._sqlite.time.sleep", noted)
    path.parent.mkdir()
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("BEGIN IMMEDIATE")
        adding = pool.submit(_add, database, "one")
        assert tried.wait(20)
        other.execute("COMMIT")
        adding.result(20)
    assert _names(database) == ["one"]


def test_threads_that_create_the_file_together_all_succeed(tmp_path: Path) -> None:
    """Eight first openers of one new file each get it."""
    for number in range(10):
        start = threading.Barrier(8)
        databases = [Database(tmp_path / f"{number}.sqlite", [_FIRST, _SECOND]) for _ in range(8)]

        def work(database: Database, start: threading.Barrier = start) -> None:
            start.wait(20)
            _add(database, "x")

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, database) for database in databases]:
                done.result(15)
        assert len(_names(databases[0])) == 8
        for database in databases:
            database.close()


_CHILD = """
import sys
from pathlib import Path
from xprim_nb._sqlite import Database
database = Database(Path(sys.argv[1]), sys.argv[2:])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    with database.transaction() as connection:
        connection.execute("INSERT INTO item (name) VALUES ('x')")
database.close()
"""


@pytest.mark.chaos
def test_processes_share_the_file(path: Path) -> None:
    """Four processes that open a new file at once migrate it once and lose no row."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), _FIRST, _SECOND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    database = Database(path, [_FIRST, _SECOND])
    assert len(_names(database)) == 80
    database.close()


def test_a_private_file_is_for_its_user_alone(path: Path) -> None:
    """The file, its log and its directory are closed to everybody else, also where the file was open before."""
    database = Database(path, [_FIRST], sync="NORMAL", private=True, mmap_bytes=1 << 20)
    with database.transaction() as connection:
        connection.execute("INSERT INTO item (name) VALUES ('secret')")
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert connection.execute("PRAGMA mmap_size").fetchone() == (1 << 20,)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {
        "state.sqlite": 0o600,
        "state.sqlite-wal": 0o600,
        "state.sqlite-shm": 0o600,
    }
    database.close()
    path.chmod(0o644)
    with Database(path, [_FIRST], private=True).reading() as connection:
        assert connection.execute("SELECT name FROM item").fetchall() == [("secret",)]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_thread_opened_ends_with_it(path: Path) -> None:
    """A kernel that starts a thread for each call holds the file open once, not once for each of them."""
    database = Database(path, [_FIRST])
    for _ in range(10):
        thread = threading.Thread(target=_add, args=(database, "one"))
        thread.start()
        thread.join()
    assert path not in _open_files()
    assert len(_names(database)) == 10
    assert _open_files().count(path) == 1
    database.close()
