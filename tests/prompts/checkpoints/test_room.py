"""A database gives back the room of what was taken away, and belongs to the process that opened it."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from xprim_nb.prompts.checkpoints import CheckpointStore, Saver, SqliteSaver
from xprim_nb.testing.checkpoints_given import at, long, put, values_of

_CHILD = Path(__file__).with_name("forking_child.py")


def _fill(saver: Saver, threads: int = 20) -> None:
    chance = random.Random(0)
    for number in range(threads):
        put(saver, at(f"t{number}"), {"bytes": chance.randbytes(50_000)})


def _size(path: Path) -> int:
    return sum(
        each.stat().st_size for each in path.parent.glob(f"{path.name}*") if not each.name.endswith("-shm")
    )


async def test_a_file_gets_shorter_when_it_is_told_to(tmp_path: Path) -> None:
    """What was deleted leaves the file as long as it was; compacting returns what it gave back; the rest can be read."""
    path = tmp_path / "runs.sqlite"
    async with SqliteSaver.open(path) as saver, CheckpointStore.open(path) as store:
        kept = await store.save("s", {"text": long("kept")})
        _fill(saver)
        put(saver, at("kept"), {"text": long("kept")})
        saver.prune([f"t{number}" for number in range(20)], strategy="delete")
        before = _size(path)
        assert before > 1_000_000
        gone = await saver.acompact()
        assert gone == before - _size(path)
        assert _size(path) < 250_000
        assert values_of(saver, at("kept")) == {"text": long("kept")}
        assert await store.get(kept.id) == kept
        assert await store.compact() == 0
        assert (await store.verify()).is_whole


def test_compacting_while_somebody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads meanwhile reads on, and the file gets shorter when they have ended."""
    monkeypatch.setattr("xprim_nb._sqlite._BUSY_TIMEOUT_S", 1.0)  # so long is the reader waited for
    path = tmp_path / "runs.sqlite"
    with SqliteSaver.open(path) as saver, SqliteSaver.open(path) as other:
        _fill(saver)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        [(count,)] = reader.execute("SELECT count(*) FROM xprim_blobs")
        for number in range(20):
            saver.delete_thread(f"t{number}")
        saver.compact()
        assert reader.execute("SELECT count(*) FROM xprim_blobs").fetchone() == (count,)
        reader.execute("ROLLBACK")
        reader.close()
        assert other.compact() > 1_000_000
        assert _size(path) < 250_000


def test_what_is_left_can_be_read(saver: Saver) -> None:
    """Compacting loses nothing, in either database, with nothing to give back too."""
    saver.compact()
    _fill(saver, 3)
    saver.delete_thread("t0")
    saver.compact()
    assert sorted(each.config["configurable"]["thread_id"] for each in saver.list(None)) == ["t1", "t2"]
    assert values_of(type(saver)(saver.database), at("t1"))["bytes"] == values_of(saver, at("t1"))["bytes"]


def test_a_forked_child_is_told(address: str) -> None:
    """What a parent has open is refused to its child, which opens its own; closing there ends nothing here."""
    done = subprocess.run(
        [sys.executable, str(_CHILD), address], capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    for line, what in zip(lines, ("get", "put", "aget"), strict=False):
        assert line.startswith(f"{what} DatabaseUnavailableError: ")
        assert "was opened by process" in line
        assert "Open another" in line
    assert lines[3:] == ["parent True True"], done.stderr
    if not address.startswith("postgresql"):
        with sqlite3.connect(address) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


@pytest.mark.parametrize("how", ["unused", "closed"])
def test_what_was_not_open_may_be_opened_in_a_child(tmp_path: Path, how: str) -> None:
    """A saver that was never used, or was closed, belongs to whoever uses it first."""
    path = str(tmp_path / "runs.sqlite")
    subprocess.run([sys.executable, str(_CHILD), path, how], capture_output=True, timeout=60, check=True)
    with SqliteSaver.open(path) as saver:
        assert values_of(saver, at("child")) == {"text": how}
