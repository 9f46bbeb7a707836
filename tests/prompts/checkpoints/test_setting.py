"""`XPRIM_DATABASE_URL`: the toolkit, the command line and a notebook keep their checkpoints in one PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import psycopg
import pytest

from xprim_nb import Config, connect
from xprim_nb.errors import DatabaseUnavailableError, OfflineError

_PW = "hunter2-hunter2"


@pytest.fixture
def with_password(postgres_url: str) -> str:
    """The server's address with a password, which it does not ask for."""
    assert "postgres:@" in postgres_url
    return postgres_url.replace("postgres:@", f"postgres:{_PW}@")


def _xprim(base: Path, url: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xprim_nb.cli.main", *args],
        env={**os.environ, "XPRIM_MODELS_DIR": str(base), "XPRIM_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_what_a_notebook_saves_the_command_line_restores(with_password: str, tmp_path: Path) -> None:
    """Both keep in the server that the variable names, in no file, and neither shows or keeps its password."""
    config = Config.from_env(Config(data_dir=tmp_path / "a"), {"XPRIM_DATABASE_URL": with_password})
    with connect(config) as kit:
        saved = kit.prompts.save("work", {"plan": ["read"], "login": f"use {_PW}"}).result(30)
        assert saved.state["login"] == f"use {saved.state['login'][4:]}"
        assert _PW not in f"{saved}{kit!r}{kit.config!r}"
    restored = _xprim(tmp_path / "b", with_password, "prompts", "restore", "main", "--json")
    assert restored.returncode == 0, restored.stderr
    found: dict[str, Any] = json.loads(restored.stdout)["checkpoint"]
    assert (found["id"], found["state"]["plan"]) == (saved.id, ["read"])
    with psycopg.connect(with_password) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'xprim%'").fetchone()
    assert row is not None
    assert row[0] > 0
    shown = _xprim(tmp_path / "b", with_password, "config")
    assert "postgres:***@" in shown.stdout
    assert _PW not in f"{restored}{shown}".replace(with_password, "")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if path.name.startswith("checkpoints.sqlite")]
    assert not [path for path in files if _PW.encode() in path.read_bytes()]


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    """It is one error with the way out, each time; whatever needs no checkpoint goes on."""
    url = f"postgresql://ann:{_PW}@127.0.0.1:1/notes"
    with connect(Config(data_dir=tmp_path, database_url=url)) as kit:
        for _ in range(2):
            with pytest.raises(
                DatabaseUnavailableError, match=r"ann@127\.0\.0\.1:1/notes does not answer"
            ) as gone:
                kit.prompts.save("work", {}).result(30)
            assert "XPRIM_DATABASE_URL" in gone.value.hint
            assert _PW not in "".join(traceback.format_exception(gone.value))
        assert kit.prompts.status().result(30).answers == 0
    done = _xprim(tmp_path, url, "prompts", "list")
    assert done.returncode == 9
    assert "does not answer" in done.stderr
    assert "XPRIM_DATABASE_URL" in done.stderr
    assert _PW not in f"{done.stdout}{done.stderr}"


def test_a_wrong_address_ends_a_command_in_one_sentence(tmp_path: Path) -> None:
    """What libpq cannot read is refused before anybody connects, and no part of the password is repeated."""
    done = _xprim(tmp_path, f"postgresql://ann:12/{_PW}@db.example/notes", "prompts", "list")
    assert done.returncode == 2
    assert "XPRIM_DATABASE_URL holds an @, /, ? or # in its user or password" in done.stderr
    assert "%2F for /" in done.stderr
    assert "Traceback" not in done.stderr
    assert _PW not in f"{done.stdout}{done.stderr}"


def test_offline_opens_no_connection_to_another_machine(tmp_path: Path) -> None:
    """In offline mode a database elsewhere is out of reach by decision, not by a time-out."""
    url = f"postgresql://ann:{_PW}@db.example/notes"
    with connect(Config(data_dir=tmp_path, database_url=url, offline=True)) as kit:
        with pytest.raises(OfflineError, match=r"ann:\*\*\*@db\.example") as refused:
            kit.prompts.save("work", {}).result(30)
        assert "XPRIM_DATABASE_URL" in refused.value.hint
