"""PostgreSQL as the checkpoints' database: a pool of connections that mends itself. Needs the extra `postgres`.

The one module that imports psycopg.

Source: spec 6 §Checkpoints; research prompts §0.4.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from xprim_nb.config.database import POSTGRES, check_database_url, mask_database_url
from xprim_nb.errors import ConfigError, DatabaseUnavailableError, MissingExtraError, StorageError

from .database import AbsentError, Database, Row, Session, Value
from .schema import MIGRATIONS

try:
    import psycopg
    import psycopg_pool
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise MissingExtraError.for_extra("postgres", "Keeping checkpoints in PostgreSQL") from error

__all__ = ["PostgresDatabase"]

T = TypeVar("T")

_WORDS = {
    "bytes": "BYTEA",
    "integer": "BIGINT",
    "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "text": 'TEXT COLLATE "C"',  # sorted as SQLite sorts, whatever the database's language
    "compact": "",
}
# Advisory locks are numbers that all clients of a database share: "xprim" in ASCII, and which of ours.
_LOCK_WRITERS, _LOCK_MIGRATIONS = 0x787072696D01, 0x787072696D02
# A statement for each power of two: the server keeps few plans, and a thousand rows are no thousand statements.
_MOST_ROWS = 64
# Every statement must see what others committed before it, after the lock above all. Where that is the server's
# default, a transaction need not be begun: each statement saved is a tenth of the time of a small write.
_BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_DEFAULTS = "SELECT current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only')"
_WANTED_DEFAULTS = ("read committed", "off")
_TABLES = (
    r"SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relname LIKE 'xprim\_%' ORDER BY 1"
)
_SIZE = (
    r"SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
    r" WHERE relkind = 'r' AND relname LIKE 'xprim\_%'"
)
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# A transaction of ours is short, so a few connections serve many threads.
_MOST_CONNECTIONS = 8
# Two transactions in each other's way begin again so often. After a restart every pooled connection is a dead one; the
# pool is emptied after the first, so the second attempt gets a new one. A server that is just stopping still accepts some
# and ends them at once: whoever gets these goes on after a pause, as long as a call waits for a connection at all.
_ATTEMPTS = 3
_PAUSE_S = 0.1
_TIMEOUT_S = 10.0
_VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS xprim_migrations (
    number BIGINT PRIMARY KEY,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""

_NUMBERS = itertools.count()
# A lost connection, a server that stops or starts, and two transactions in each other's way: begin again.
_LOST = ("08", "57P")
_COLLIDED = ("40001", "40P01")

_Connection: TypeAlias = psycopg.Connection[Row]


class _PostgresSession:
    """Statements travel in a row; only an answer that is looked at is waited for."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._silent = self._cursor()
        self._pending: tuple[str, str, list[Value]] | None = None

    def rows(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        self.flush()
        # A cursor of its own: the answers of earlier statements may be still to come.
        return self._cursor().execute(_translated(sql), parameters).fetchall()

    def run(self, sql: str, parameters: Sequence[Value] = ()) -> None:
        self.flush()
        self._silent.execute(_translated(sql), parameters)

    def run_many(self, sql: str, parameters: Iterable[Sequence[Value]]) -> None:
        self.flush()
        self._silent.executemany(_translated(sql), parameters)

    def insert(self, into: str, row: str, rows: Sequence[Sequence[Value]]) -> None:
        start = 0
        while start < len(rows):
            count = min(_MOST_ROWS, 1 << (len(rows) - start).bit_length() - 1)
            some = rows[start : start + count]
            sql = f"INSERT INTO {into} VALUES {','.join([row] * count)} ON CONFLICT DO NOTHING"
            self._send(into, sql, [value for each in some for value in each])
            start += count

    def flush(self) -> None:
        """Send an insert that waited for another one."""
        if self._pending is not None:
            (_, sql, parameters), self._pending = self._pending, None
            self._silent.execute(_translated(sql), parameters)

    def _send(self, into: str, sql: str, parameters: list[Value]) -> None:
        # As one statement, two inserts take a tenth less of a small write's time than as two.
        if self._pending is not None and self._pending[0] != into:
            (_, first, before), self._pending = self._pending, None
            self._silent.execute(_translated(f"WITH first AS ({first}) {sql}"), before + parameters)
            return
        self.flush()
        self._pending = into, sql, parameters

    def _cursor(self) -> psycopg.Cursor[Row]:
        # As text, bytes would be twice as long.
        return self._connection.cursor(binary=True)


class PostgresDatabase(Database):
    """The checkpoints of one PostgreSQL database.

    Args:
        url: `postgresql://…`, or any connection string that libpq reads.
        timeout_s: How long a call waits for a connection that lives before the database counts as unavailable, in seconds.
        migrations: For tests of migrations.

    Raises:
        ConfigError: The address cannot be read.
    """

    def __init__(
        self, url: str, *, timeout_s: float = _TIMEOUT_S, migrations: Sequence[str] = MIGRATIONS
    ) -> None:
        super().__init__()
        _check(url)
        self._url, self._timeout_s = url, timeout_s
        self._address = _address(url)
        self._migrations = [script.format(**_WORDS) for script in migrations]
        self._opening = threading.Lock()
        self._pool: psycopg_pool.ConnectionPool[_Connection] | None = None
        self._begins_by_itself = False

    @property
    def address(self) -> str:
        """User, host and database."""
        return self._address

    def prepare(self) -> None:
        """Connect, and bring the schema to this version."""
        self._repeated(self._opened)

    def read(self, work: Callable[[Session], T]) -> T:
        """What the work makes of one snapshot; writers are not kept out."""
        return self._repeated(lambda: self._transaction(self._opened(), work, _BEGIN_READ))

    def write(self, work: Callable[[Session], T], *, alone: bool = False) -> T:
        """The work's result, once the server has acknowledged the commit."""
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        taken = f"SELECT {lock}({_LOCK_WRITERS})"

        def attempt() -> T:
            pool = self._opened()
            if not self._begins_by_itself:
                return self._transaction(pool, work, _BEGIN_WRITE, taken)
            with _pipelined(pool) as connection:
                session = _PostgresSession(connection)
                session.run(taken)
                try:
                    result = work(session)
                    session.flush()
                    return result
                except BaseException:
                    # What a pipeline sends is one transaction, and its end would commit it. Where the server has
                    # refused something, it is rolled back already, and this is refused too.
                    with contextlib.suppress(psycopg.Error):
                        session.run("ROLLBACK")
                    raise

        return self._repeated(attempt)

    def compact(self) -> int:
        """Have the server vacuum our tables; so many bytes less."""

        def attempt() -> int:
            with self._opened().connection() as connection:
                [tables] = zip(*connection.execute(_TABLES).fetchall(), strict=True)
                before = connection.execute(_SIZE).fetchall()[0][0]
                for table in tables:
                    connection.execute(f"VACUUM {table}".encode())
                return int(before - connection.execute(_SIZE).fetchall()[0][0])

        return self._repeated(attempt)

    def _transaction(
        self, pool: psycopg_pool.ConnectionPool[_Connection], work: Callable[[Session], T], *first: str
    ) -> T:
        with _pipelined(pool) as connection:
            session = _PostgresSession(connection)
            for statement in first:
                session.run(statement)
            result = work(session)
            # The pipeline's end waits for it. After a statement that failed it is skipped, and the error is raised.
            session.run("COMMIT")
        return result

    def _opened(self) -> psycopg_pool.ConnectionPool[_Connection]:
        with self._opening:
            if self._pool is None:
                # By a connection of its own, whose failure says why; a pool would only say that it took too long.
                with psycopg.connect(self._url, connect_timeout=max(1, int(self._timeout_s))) as connection:
                    self._migrate(connection)
                    self._begins_by_itself = connection.execute(_DEFAULTS).fetchone() == _WANTED_DEFAULTS
                self._pool = psycopg_pool.ConnectionPool(
                    self._url,
                    kwargs={"autocommit": True},
                    min_size=0,
                    max_size=_MOST_CONNECTIONS,
                    timeout=self._timeout_s,
                    # Or, after a long absence of the server, the pool would wait minutes before it looks again.
                    reconnect_timeout=self._timeout_s,
                    name="xprim-checkpoints",
                    open=True,
                )
            return self._pool

    def _migrate(self, connection: _Connection) -> None:
        session = _PostgresSession(connection)
        session.rows("SELECT pg_advisory_xact_lock(?)", (_LOCK_MIGRATIONS,))
        if not session.rows("SELECT to_regclass('xprim_migrations')")[0][0]:
            session.run(_VERSION_TABLE)
        version = int(session.rows("SELECT count(*) FROM xprim_migrations")[0][0])
        if version > len(self._migrations):
            raise StorageError(
                f"{self.address} has schema {version}; this version knows {len(self._migrations)}.",
                subject=self.address,
                hint="Update xprim-nb; the database stays as it is.",
            )
        for number in range(version, len(self._migrations)):
            for statement in self._migrations[number].split(";"):
                if statement.strip():
                    session.run(statement)
            session.run("INSERT INTO xprim_migrations (number) VALUES (?)", (number + 1,))

    def _repeated(self, attempt: Callable[[], T]) -> T:
        """The one place where psycopg's errors become ours, and where work begins again."""
        self._belong()
        until = time.monotonic() + self._timeout_s
        for number in itertools.count(1):
            try:
                return attempt()
            except psycopg_pool.PoolTimeout as error:
                raise self._unavailable(f"gave no connection within {self._timeout_s:g} s") from error
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                code = error.sqlstate or _LOST[0]  # without a code, it is the connection that failed
                if not code.startswith((*_LOST, *_COLLIDED)):
                    raise self._refused(error) from error
                has_collided, is_late = code.startswith(_COLLIDED), time.monotonic() >= until
                if self._pool is None or (number >= _ATTEMPTS and (has_collided or is_late)):
                    raise self._unavailable(f"does not answer: {_sentence(error)}") from error
                if number >= _ATTEMPTS:
                    time.sleep(_PAUSE_S)
                if not has_collided:
                    self._pool.check()
            except psycopg.errors.NotNullViolation as error:
                raise AbsentError from error
            except psycopg.errors.InsufficientPrivilege as error:
                raise self._refused(error) from error
        raise AssertionError("each attempt returns, raises, or is followed by another")

    def _unavailable(self, what: str) -> DatabaseUnavailableError:
        return DatabaseUnavailableError(f"{self.address} {what}", subject=self.address)

    def _refused(self, error: psycopg.Error) -> StorageError:
        return StorageError(
            f"{self.address} cannot be used: {_sentence(error)}",
            subject=self.address,
            hint="Check the server's disk, its limits, and the permissions of this user.",
        )

    def _disconnect(self) -> None:
        with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


@contextlib.contextmanager
def _pipelined(pool: psycopg_pool.ConnectionPool[_Connection]) -> Iterator[_Connection]:
    """A connection whose statements travel in a row.

    What was sent behind a refused statement is skipped, its preparation too, and psycopg would believe it prepared: the
    next who sent it would be told that there is no such statement. So both sides forget what they have prepared; psycopg
    notices that of statements that it has not seen before, hence the number.
    """
    with pool.connection() as connection:
        try:
            with connection.pipeline():
                yield connection
        except BaseException:
            with contextlib.suppress(psycopg.Error):  # a connection that is lost has nothing left to forget
                connection.execute(f"DEALLOCATE ALL -- {next(_NUMBERS)}".encode())
            raise


@functools.lru_cache(maxsize=512)
def _translated(sql: str) -> bytes:
    """Statements are constants of this package, a few hundred at most with their counts of marks."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _check(url: str) -> None:
    """Return when libpq can read an address. What it says of one that it cannot may repeat a password, and is not told.

    Raises:
        ConfigError: It cannot.
    """
    if url.startswith(POSTGRES):
        check_database_url(url, "database_url")
    try:
        conninfo_to_dict(url)
    except psycopg.Error:
        pass
    else:
        return
    raise ConfigError(
        f"{mask_database_url(url)} is no address of a PostgreSQL database.",
        subject="database_url",
        hint="Write postgresql://user:password@host/database, with no parameters but libpq's.",
    )


def _address(url: str) -> str:
    """What may be shown of a connection string: never a password, wherever it stood.

    >>> _address("postgresql://ann:pw@example.com/notes?password=pw"), _address("host=/tmp user=ann password=pw")
    ('postgresql://ann@example.com/notes', 'postgresql://ann@/tmp/')
    """
    parts = conninfo_to_dict(url)
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{user}{parts.get('host') or ''}{port}/{parts.get('dbname') or ''}"


def _sentence(error: psycopg.Error) -> str:
    """The first line of what the server said; further ones repeat the statement."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
