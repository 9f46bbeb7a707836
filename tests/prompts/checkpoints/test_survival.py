"""What was acknowledged is kept: by processes that are killed, that write together, and whose server goes away."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.errors import DatabaseUnavailableError
from xprim_nb.prompts.checkpoints import PostgresSaver, Saver, SqliteSaver
from xprim_nb.testing.checkpoints_given import at, long, put, values_of

_CHILD = Path(__file__).with_name("writing_child.py")


def _start(address: str, thread: str, count: int, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(_CHILD), address, thread, str(count), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _unheld(saver: Saver) -> int:
    """How many stored values nobody holds."""
    sql = (
        "SELECT count(*) FROM xprim_blobs b WHERE NOT EXISTS (SELECT 1 FROM xprim_held h WHERE h.blob = b.id)"
    )
    return int(saver.database.read(lambda session: session.rows(sql))[0][0])


def _assert_whole(saver: Saver, thread: str, acknowledged: int, *, exactly: bool = False) -> None:
    """Every acknowledged step is there with its values and its write, once."""
    found = list(saver.list(at(thread)))
    steps = [each.metadata["step"] for each in found]
    assert steps == list(reversed(range(len(steps))))
    assert len(steps) == acknowledged if exactly else len(steps) in (acknowledged, acknowledged + 1)
    for each in found:
        step = each.metadata["step"]
        assert each.checkpoint["channel_values"]["own"] == f"{thread} {step} " * 20
        assert len(each.checkpoint["channel_values"]["items"]) == step % 60
        if step < acknowledged:
            assert each.pending_writes == [("task", "own", f"{thread} {step} write " * 20)]


@pytest.mark.chaos
def test_a_killed_writer_loses_nothing_it_was_told_is_kept(
    open_saver: Callable[[], Saver], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """After `kill -9` in the middle of its writing, all that a process was told is kept is there and whole."""
    is_sqlite = "sqlite" in request.node.name
    address = str(tmp_path / "runs.sqlite") if is_sqlite else request.getfixturevalue("postgres_url")
    child = _start(address, "t", 10_000)
    for _ in range(40):
        assert _line(child)
    child.kill()
    assert child.stdout is not None
    rest = child.stdout.read()  # `communicate` would lose what has been read ahead
    child.communicate(timeout=10)
    with open_saver() as saver:
        _assert_whole(saver, "t", 40 + rest.count("\n"))
        assert _unheld(saver) == 0
        last = put(saver, next(saver.list(at("t"))).config, {"own": "more"}, version=99_999)
        assert values_of(saver, last) == {"own": "more"}
        saver.prune(["t"])
        assert values_of(saver, at("t")) == {"own": "more"}
    if is_sqlite:
        with sqlite3.connect(address) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _write_together(path: Path, processes: int, writes: int) -> list[str]:
    """What each process complained of, after all that they wrote was found whole."""
    children = [_start(str(path), f"t{number}", writes, "together") for number in range(processes)]
    assert [_line(child) for child in children] == ["ready"] * processes
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=100)[1] for child in children]
    with SqliteSaver.open(path) as saver:
        for number in range(processes):
            _assert_whole(saver, f"t{number}", writes, exactly=True)
        assert _unheld(saver) == 0
    return errors


@pytest.mark.chaos
def test_processes_write_one_file_together(tmp_path: Path) -> None:
    """Three processes write one new file at once; none is told that it is locked, and nothing is lost."""
    assert _write_together(tmp_path / "runs.sqlite", 3, 25) == [""] * 3


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_eight_processes_write_two_hundred_times(tmp_path: Path) -> None:
    """The long form: eight processes, two hundred checkpoints and as many writes each."""
    assert _write_together(tmp_path / "runs.sqlite", 8, 200) == [""] * 8


@pytest.mark.chaos
def test_a_server_that_stops_and_comes_back(postgres: Any, postgres_url: str) -> None:
    """A stopped server is a DatabaseUnavailableError; the same call after its restart succeeds, and nothing is twice."""
    # Within it a connection is made on a loaded machine too, and each refusal takes so long.
    with PostgresSaver.open(postgres_url, timeout_s=2.5) as saver:
        config = put(saver, at("t"), {"text": long("before")})
        saver.put_writes(config, [("text", long("write"))], "task")
        postgres.stop()
        with pytest.raises(DatabaseUnavailableError, match="within") as caught:
            saver.put_writes(config, [("text", long("write 2"))], "task 2")
        assert postgres_url not in str(caught.value)
        with pytest.raises(DatabaseUnavailableError):
            saver.get_tuple(config)
        with pytest.raises(DatabaseUnavailableError, match="does not answer"):
            PostgresSaver.open(postgres_url, timeout_s=0.5).get_tuple(config)
        postgres.ensure_postgres_running()
        saver.put_writes(config, [("text", long("write 2"))], "task 2")
        saver.put_writes(config, [("text", long("write 2"))], "task 2")
        found = saver.get_tuple(config)
        assert found is not None
        assert found.pending_writes == [("task", "text", long("write")), ("task 2", "text", long("write 2"))]
        assert values_of(saver, config) == {"text": long("before")}


@pytest.mark.chaos
def test_a_restart_is_not_noticed_by_writers(postgres: Any, postgres_url: str) -> None:
    """Writers that run while the server restarts go on by themselves; each step is there once."""
    with PostgresSaver.open(postgres_url, timeout_s=40) as saver:
        halfway, done = threading.Event(), []

        def write(thread: str) -> None:
            config = at(thread)
            for number in range(120):
                config = put(saver, config, {"own": f"{thread} {number} " * 20, "items": []}, version=number)
                if number == 30:
                    halfway.set()
            done.append(thread)

        writers = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(3)]
        for writer in writers:
            writer.start()
        assert halfway.wait(40)
        postgres.stop()
        postgres.ensure_postgres_running()
        for writer in writers:
            writer.join(60)
        assert sorted(done) == ["t0", "t1", "t2"]
        for thread in done:
            steps = [each.metadata["step"] for each in saver.list(at(thread))]
            assert steps == list(reversed(range(120)))
        assert _unheld(saver) == 0
