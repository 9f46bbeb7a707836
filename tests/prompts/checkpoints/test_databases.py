"""Transactions, migrations and errors of both databases."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from xprim_nb.errors import DatabaseUnavailableError, StorageError
from xprim_nb.prompts.checkpoints import database as seam
from xprim_nb.prompts.checkpoints.database import Database
from xprim_nb.prompts.checkpoints.postgres_database import PostgresDatabase
from xprim_nb.prompts.checkpoints.schema import MIGRATIONS
from xprim_nb.prompts.checkpoints.sqlite_database import SqliteDatabase

_FIRST = "CREATE TABLE xprim_item (id {serial}, name {text} NOT NULL UNIQUE, data {bytes})"
_SECOND = "ALTER TABLE xprim_item ADD COLUMN size {integer} NOT NULL DEFAULT 0; CREATE INDEX xprim_i ON xprim_item (size)"
_BROKEN = "CREATE TABLE xprim_other (id {serial}); CREATE NONSENSE"

Open = Callable[..., Database]


@pytest.fixture(params=["sqlite", "postgres"])
def open_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one database with the migrations that are asked for."""
    opened: list[Database] = []
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")

    def open_it(*migrations: str) -> Database:
        path = tmp_path / "new" / "runs.sqlite"
        opened.append(
            PostgresDatabase(url, timeout_s=30, migrations=migrations)
            if url
            else SqliteDatabase(path, migrations=migrations)
        )
        return opened[-1]

    yield open_it
    for each in opened:
        each.close()


def _names(database: Database) -> list[str]:
    return [
        name for (name,) in database.read(lambda each: each.rows("SELECT name FROM xprim_item ORDER BY name"))
    ]


def _add(database: Database, name: str) -> None:
    database.write(lambda each: each.run("INSERT INTO xprim_item (name) VALUES (?)", (name,)))


def test_migrations_bring_an_old_database_up_to_date(open_database: Open) -> None:
    """What an older version wrote is there after the newer one's migrations, which run once."""
    _add(open_database(_FIRST), "one")
    for _ in range(2):
        newer = open_database(_FIRST, _SECOND)
        assert newer.read(lambda each: each.rows("SELECT name, size FROM xprim_item")) == [("one", 0)]


def test_a_newer_database_is_left_alone(open_database: Open) -> None:
    """What a newer version wrote is refused with what to do, and stays as it is."""
    _add(open_database(_FIRST, _SECOND), "one")
    with pytest.raises(StorageError, match="schema 2") as caught:
        open_database(_FIRST).prepare()
    assert "stays as it is" in caught.value.hint
    assert _names(open_database(_FIRST, _SECOND)) == ["one"]


def test_a_migration_is_whole_or_absent(open_database: Open) -> None:
    """A migration that fails leaves the version before it, and nothing of itself."""
    _add(open_database(_FIRST), "one")
    with pytest.raises((StorageError, psycopg.Error)):
        open_database(_FIRST, _BROKEN).prepare()
    again = open_database(_FIRST, _SECOND)
    assert _names(again) == ["one"]


def test_many_openers_migrate_once(open_database: Open) -> None:
    """Six that open a new database at the same moment all get it."""
    start = threading.Barrier(6)

    def opened(number: int) -> None:
        database = open_database(*MIGRATIONS, _FIRST, _SECOND)
        start.wait(30)
        _add(database, str(number))

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(opened, number) for number in range(6)]:
            done.result(60)
    assert _names(open_database(*MIGRATIONS, _FIRST, _SECOND)) == list("012345")


def test_a_transaction_is_whole_or_absent(open_database: Open) -> None:
    """Work that raises leaves nothing, and its own error is what comes."""
    database = open_database(_FIRST)

    def work(session: seam.Session) -> None:
        session.run_many("INSERT INTO xprim_item (name) VALUES (?)", [("a",), ("b",)])
        assert session.rows("SELECT count(*) FROM xprim_item") == [(2,)]
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        database.write(work)
    assert _names(database) == []


def test_rows_are_inserted_once(open_database: Open) -> None:
    """However many rows are inserted, those whose key is there already, or comes twice, stay as they were first."""
    database = open_database(_FIRST)
    rows = [(f"{number % 100:02}", str(number).encode()) for number in range(150)]
    database.write(lambda each: each.insert("xprim_item (name, data)", "(?, ?)", rows[:7]))
    database.write(lambda each: each.insert("xprim_item (name, data)", "(?, ?)", []))
    database.write(lambda each: each.insert("xprim_item (name, data)", "(?, ?)", rows))
    found = database.read(lambda each: each.rows("SELECT name, data FROM xprim_item ORDER BY name"))
    assert [(name, bytes(data)) for name, data in found] == rows[:100]


def test_inserts_into_two_tables_are_kept_in_whatever_order(open_database: Open) -> None:
    """Inserts that travel together, or alone, or before a question, or last, are all there."""
    database = open_database(_FIRST, "CREATE TABLE xprim_other (name {text} PRIMARY KEY)")

    def work(session: seam.Session) -> list[seam.Row]:
        for table, names in (("item", "ab"), ("other", "xy"), ("item", "bc"), ("item", "d"), ("other", "xz")):
            session.insert(f"xprim_{table} (name)", "(?)", [(name,) for name in names])
        found = session.rows("SELECT name FROM xprim_item UNION ALL SELECT name FROM xprim_other ORDER BY 1")
        session.insert("xprim_item (name)", "(?)", [("last",)])
        return found

    assert "".join(name for (name,) in database.write(work)) == "abcdxyz"
    assert _names(database) == ["a", "b", "c", "d", "last"]


def test_what_was_refused_leaves_nothing_for_the_next(open_database: Open) -> None:
    """A statement sent behind a refused one works the next time, also where a driver meant to prepare it just then."""
    database = open_database(_FIRST)
    _add(database, "a")
    for times in range(8):
        sql = f"UPDATE xprim_item SET data = ? WHERE name = ? AND {times} = {times}"

        def count(session: seam.Session, sql: str = sql) -> None:
            session.run(sql, (b"x", "a"))

        def refused(session: seam.Session, sql: str = sql) -> None:
            session.run("INSERT INTO xprim_item (name) VALUES (?)", (None,))
            session.run(sql, (b"y", "a"))

        for _ in range(times):
            database.write(count)
        with pytest.raises(seam.AbsentError):
            database.write(refused)
        database.write(count)
    assert database.read(lambda session: session.rows("SELECT data FROM xprim_item")) == [(b"x",)]


def test_what_is_absent_is_told(open_database: Open) -> None:
    """A row that was to have what no other row says is an AbsentError, and nothing of its transaction is kept."""
    database = open_database(_FIRST)

    def work(session: seam.Session) -> None:
        session.insert("xprim_item (name)", "(?)", [("a",)])
        session.insert("xprim_item (name)", "((SELECT name FROM xprim_item WHERE name = ?))", [("none",)])

    with pytest.raises(seam.AbsentError):
        database.write(work)
    assert _names(database) == []


@pytest.mark.parametrize(("times", "timeout_s"), [(6, 60.0), (10_000, 3.0)])
def test_connections_that_are_lost_again_and_again(postgres_url: str, times: int, timeout_s: float) -> None:
    """A server that stops ends what it has just accepted: a call goes on as long as it waits for one, and no longer."""
    database, lost = PostgresDatabase(postgres_url, timeout_s=timeout_s, migrations=(_FIRST,)), list[bool]()

    def work(session: seam.Session) -> None:
        session.run("INSERT INTO xprim_item (name) VALUES ('once')")
        if len(lost) < times:
            lost.append(True)
            session.rows("SELECT pg_terminate_backend(pg_backend_pid())")

    if times < 10:
        database.write(work)
        assert len(lost) == times
    else:
        with pytest.raises(DatabaseUnavailableError, match=r"does not answer|within 3 s"):
            database.write(work)
        assert len(lost) < times
    assert _names(database) == ["once"][: times < 10]
    database.close()


@pytest.mark.parametrize(
    "setting", ["default_transaction_isolation=serializable", "default_transaction_read_only=on"]
)
def test_a_server_with_other_defaults_is_written_as_any(postgres_url: str, setting: str) -> None:
    """Where a server begins transactions in another way, whoever writes still sees what was written before it."""
    database = PostgresDatabase(
        f"{postgres_url}&options=-c%20{setting.replace('=', '%3D')}", timeout_s=30, migrations=(_FIRST,)
    )
    with psycopg.connect(postgres_url, autocommit=True) as other:
        if "read_only" in setting:  # a schema is not made by whoever may only read by default
            PostgresDatabase(postgres_url, timeout_s=30, migrations=(_FIRST,)).prepare()
        database.prepare()

        def work(session: seam.Session) -> list[seam.Row]:
            session.rows("SELECT 1")
            other.execute("INSERT INTO xprim_item (name) VALUES ('meanwhile')")
            session.run("INSERT INTO xprim_item (name) VALUES ('mine')")
            return session.rows("SELECT name FROM xprim_item ORDER BY name")

        assert database.write(work) == [("meanwhile",), ("mine",)]
    with pytest.raises(LookupError):
        database.write(_add_and_fail)
    assert _names(database) == ["meanwhile", "mine"]
    database.close()


def _add_and_fail(session: seam.Session) -> None:
    session.run("INSERT INTO xprim_item (name) VALUES ('gone')")
    raise LookupError("no")


def test_reading_sees_one_state(open_database: Open) -> None:
    """What others write while work reads is not seen by it."""
    database = open_database(_FIRST)

    def work(session: seam.Session) -> tuple[int, int]:
        [(before,)] = session.rows("SELECT count(*) FROM xprim_item")
        writer = threading.Thread(target=_add, args=(database, "meanwhile"))
        writer.start()
        writer.join(10)
        [(after,)] = session.rows("SELECT count(*) FROM xprim_item")
        return before, after

    assert database.read(work) == (0, 0)
    assert _names(database) == ["meanwhile"]


def test_whoever_is_alone_sees_all_and_bars_others(open_database: Open) -> None:
    """Work that is alone sees what writers wrote before, and others write only when it has ended."""
    database = open_database(_FIRST)
    _add(database, "before")
    inside, trying, written = threading.Event(), threading.Event(), threading.Event()

    def alone(session: seam.Session) -> list[seam.Row]:
        session.rows("SELECT 1")  # PostgreSQL's answer comes when others are barred
        inside.set()
        assert trying.wait(10)
        assert not written.wait(0.2)  # what is not barred has been written by then
        return session.rows("SELECT name FROM xprim_item")

    def write() -> None:
        trying.set()
        _add(database, "later")
        written.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(database.write, alone, alone=True)
        assert inside.wait(10)
        second = pool.submit(write)
        assert first.result(10) == [("before",)]
        second.result(10)
    assert _names(database) == ["before", "later"]


async def test_an_event_loop_goes_on(open_database: Open) -> None:
    """While work waits aside, the loop does other things; a database may be closed and used again."""
    database = open_database(_FIRST)
    reached, released = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(session: seam.Session) -> int:
        loop.call_soon_threadsafe(reached.set)
        assert released.wait(10)
        return int(session.rows("SELECT count(*) FROM xprim_item")[0][0])

    reading = asyncio.ensure_future(database.aread(work))
    await reached.wait()
    released.set()
    assert await reading == 0
    await database.aclose()
    await database.aclose()
    await database.awrite(lambda each: each.run("INSERT INTO xprim_item (name) VALUES ('again')"))
    assert await database.aread(lambda each: each.rows("SELECT name FROM xprim_item")) == [("again",)]
    await database.aclose()


def test_a_file_is_for_its_user_alone(tmp_path: Path) -> None:
    """The file, its log and the directory that was made for it are closed to everybody else."""
    database = SqliteDatabase(tmp_path / "new" / "runs.sqlite")
    database.prepare()
    modes = {each.name: each.stat().st_mode & 0o777 for each in (tmp_path / "new").iterdir()}
    assert modes == {"runs.sqlite": 0o600, "runs.sqlite-wal": 0o600, "runs.sqlite-shm": 0o600}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    database.close()


def test_a_damaged_file_is_told_and_kept(tmp_path: Path) -> None:
    """A file that is no database is a StorageError that names it, and stays."""
    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match=r"runs\.sqlite"):
        SqliteDatabase(path).prepare()
    assert path.read_bytes() == b"no database" * 1000


def test_a_file_that_stays_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that another process keeps out all the time is told who it waits for, not that a file is locked."""
    monkeypatch.setattr("xprim_nb._sqlite._BUSY_TIMEOUT_S", 0.01)
    database = SqliteDatabase(tmp_path / "runs.sqlite")
    database.prepare()
    with sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailableError, match="Another process") as caught:
            database.write(lambda _: None)
        assert "nothing is written twice" in caught.value.hint
        holder.execute("ROLLBACK")
    holder.close()
    database.close()


def test_a_password_is_never_shown(postgres_url: str) -> None:
    """An address that does not answer is named without its password."""
    database = PostgresDatabase("postgresql://ann:secret@127.0.0.1:1/notes?password=secret", timeout_s=1)
    with pytest.raises(DatabaseUnavailableError, match="ann@127") as caught:
        database.prepare()
    assert "secret" not in f"{caught.value} {caught.value.subject} {caught.value.hint}"
    database.close()
    with pytest.raises(DatabaseUnavailableError, match='"no_such_database" does not exist'):
        PostgresDatabase(postgres_url.replace("/postgres?", "/no_such_database?"), timeout_s=30).prepare()


_WITHOUT = """
import sys
sys.modules[{module!r}] = None
from xprim_nb.errors import MissingExtraError
from xprim_nb.prompts import checkpoints
assert not any(name.startswith(("psycopg", "langgraph", "zstandard")) and sys.modules[name] for name in sys.modules)
try:
    checkpoints.{name}
except MissingExtraError as error:
    print(error.subject, error.hint)
"""


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [
        ("langgraph.checkpoint.base", "SqliteSaver", "prompts"),
        ("psycopg_pool", "PostgresSaver", "postgres"),
    ],
)
def test_a_missing_package_names_its_extra(module: str, name: str, extra: str) -> None:
    """Without a package that a saver needs, the error names the extra; the room itself loads none of them."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(module=module, name=name)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == f'{extra} pip install "xprim-nb[{extra}]"'
