"""The address of the checkpoints' database: what can work, what cannot, and what of it may be shown."""

from __future__ import annotations

import traceback

import pytest

from xprim_nb import Config
from xprim_nb.config.database import check_database_url, database_password, is_here, mask_database_url
from xprim_nb.errors import ConfigError

_PW = "hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://ann:{_PW}@db.example:5432/notes", "postgresql://ann:***@db.example:5432/notes"),
        (f"postgres://ann:{_PW}/x@db.example/notes", "postgres://ann:***@db.example/notes"),
        (f"postgresql://ann:{_PW}?x@db.example/notes", "postgresql://ann:***@db.example/notes"),
        (f"postgresql://ann:a@{_PW}@db.example/notes", "postgresql://ann:***@db.example/notes"),
        (f"postgresql://db.example/notes?password={_PW}", "postgresql://db.example/notes?password=***"),
        (
            f"postgresql://db.example/n?sslmode=require&options={_PW}&{_PW}",
            "postgresql://db.example/n?sslmode=require&options=***&***",
        ),
        ("postgresql://postgres:@/postgres?host=/tmp/x", "postgresql://postgres@/postgres?host=/tmp/x"),
        ("postgresql://ann@db.example/notes", "postgresql://ann@db.example/notes"),
        (f"mysql://{_PW}@db.example/notes", "mysql://***@db.example/notes"),
        (f"host=db.example password={_PW}", "***"),
        ("sqlite:///runs.sqlite", "sqlite:///runs.sqlite"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    """Wherever a password stands, in an address that cannot work too, `***` stands in its place."""
    assert mask_database_url(url) == shown
    assert _PW not in shown


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"mysql://ann:{_PW}@db.example/notes", "begins with mysql://, and must be of PostgreSQL or SQLite"),
        (f"postgresql+psycopg://ann:{_PW}@db/notes", "begins with postgresql+psycopg://"),
        (f"host=db.example password={_PW}", "is no URL"),
        ("sqlite:///", "names no file"),
        (f"postgresql://ann:{_PW}/x@db.example/notes", "holds an @, /, ? or #"),
        (f"postgresql://ann:12/{_PW}@db.example/notes", "holds an @, /, ? or #"),
        (f"postgresql://ann:{_PW}#x@db.example/notes", "holds an @, /, ? or #"),
        (f"postgresql://ann:a@{_PW}@db.example/notes", "holds an @, /, ? or #"),
        (f"postgresql://ann:%{_PW}@db.example/notes", "holds a % that begins no character"),
        (f"postgresql://ann:{_PW}@db.example:5432x/notes", "has a port that is no number"),
        (f"postgresql://ann:{_PW}@db.example:70000/notes", "has a port that is no number"),
    ],
)
def test_an_address_that_cannot_work_is_refused_with_the_way_out(url: str, said: str) -> None:
    """Given or in the environment, it is one error that names the setting and what to write, and repeats no password."""
    with pytest.raises(ConfigError) as given:
        Config(database_url=url)
    with pytest.raises(ConfigError) as named:
        Config.from_env(environ={"XPRIM_DATABASE_URL": url})
    assert said in given.value.message
    assert (given.value.subject, named.value.subject) == ("database_url", "XPRIM_DATABASE_URL")
    assert named.value.message.startswith("XPRIM_DATABASE_URL ")
    for error in (given.value, named.value):
        assert "postgresql://user:password@" in error.hint or "%40 for @" in error.hint
        told = "".join(traceback.format_exception(error))
        assert _PW not in f"{told}{error.hint}{error.subject}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:p%40ss@db.example/notes",
        "postgres://db.example",
        "postgresql://a:1,b:2/notes?target_session_attrs=read-write",
        "postgresql://[::1]:5432/notes",
        "postgresql://postgres:@/postgres?host=/tmp/x",
        "sqlite:////data/runs.sqlite",
    ],
)
def test_an_address_that_can_work_is_taken(url: str) -> None:
    """Users, ports, several hosts, IPv6 and sockets are libpq's own business."""
    check_database_url(url, "database_url")
    assert Config(database_url=url).database_url == url


def test_the_setting_wins_over_the_environment() -> None:
    """The variable fills an unset setting; empty is unset."""
    environ = {"XPRIM_DATABASE_URL": " postgresql://db.example/notes "}
    assert Config.from_env(environ=environ).database_url == "postgresql://db.example/notes"
    assert Config.from_env(Config(database_url=""), environ).database_url == "postgresql://db.example/notes"
    own = Config(database_url="sqlite:///own.sqlite")
    assert Config.from_env(own, environ).database_url == "sqlite:///own.sqlite"
    assert Config.from_env(environ={"XPRIM_DATABASE_URL": " "}).database_url is None


def test_the_setting_is_told_without_its_password() -> None:
    """In its repr, for programs and for people; unset, it says what it stands for."""
    config = Config(database_url=f"postgresql://ann:{_PW}@db.example/notes")
    assert config.told()["database_url"] == "postgresql://ann:***@db.example/notes"
    assert _PW not in f"{config!r}{config.shown()}{config.told()}"
    assert Config().told()["database_url"] == "a file beside the prompts"


def test_a_password_is_found_where_it_stands() -> None:
    """Before the host or among the parameters."""
    assert database_password(f"postgresql://ann:{_PW}@db.example/notes") == _PW
    assert database_password(f"postgresql://db.example/notes?sslmode=require&password={_PW}") == _PW
    assert database_password("postgresql://ann@db.example/notes") == ""
    assert database_password("") == ""


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("", True),
        ("sqlite:///runs.sqlite", True),
        ("postgresql:///notes", True),
        ("postgresql:///notes?host=/tmp/x", True),
        ("postgresql://%2Ftmp%2Fx/notes", True),
        ("postgresql://ann:pw@[::1]:5432/notes", True),
        ("postgresql://127.0.0.1,db.example/notes", False),
        ("postgresql://localhost/notes?hostaddr=10.0.0.1", False),
        ("postgresql://ann:pw@db.example:5432/notes", False),
    ],
)
def test_what_leaves_this_machine_is_known(url: str, here: bool) -> None:
    """Files, sockets and loopback are here; one host elsewhere of several is elsewhere."""
    assert is_here(url) is here
