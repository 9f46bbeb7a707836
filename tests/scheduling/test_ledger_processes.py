"""Several kernels on one ledger: never more than there is, and nothing left behind by who was killed."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias, TypedDict

import pytest

from xprim_nb.scheduling.kernels import started_mark
from xprim_nb.scheduling.leases import Lease, Refusal
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.ledgerfile import FILE_NAME

from .ledger_worker import BUDGET, ENOUGH
from .rooms import state

_WORKER = Path(__file__).with_name("ledger_worker.py")
Start: TypeAlias = Callable[..., subprocess.Popen[str]]
Players: TypeAlias = Callable[[int, float], list["Played"]]

_posix = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")


class Played(TypedDict):
    """What a player says in the end."""

    reserved: int
    refused: int
    spans: list[float]


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the ledger lies."""
    return tmp_path / "run"


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts kernels, and ends those that still live."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(_WORKER), str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    """This process's."""
    made = Ledger(folder)
    yield made
    made.close()


def _watch(path: Path, players: list[subprocess.Popen[str]], seconds: float) -> int:
    """Read sums with SQL alone while they play, for so long at least and so often; the highest that was seen."""
    looks = most = 0
    began, enough = time.monotonic(), path.parent.with_name(ENOUGH)
    query = "SELECT COALESCE(SUM(charged_bytes), 0) FROM charges WHERE device = 'gpu'"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        while any(player.poll() is None for player in players):
            (total,) = reader.execute(query).fetchone()
            looks, most = looks + 1, max(most, total)
            if looks > 20 and most > BUDGET / 2 and time.monotonic() - began > seconds:
                enough.touch()
            time.sleep(0.001)  # the players need the processor too
    return most


@pytest.fixture
def play(folder: Path, ledger: Ledger, start: Start) -> Players:
    """Lets so many kernels reserve and release for so many seconds, and watches them."""

    def played(count: int, seconds: float) -> list[Played]:
        ledger.leases()
        players = [start("play", str(seed)) for seed in range(count)]
        for player in players:
            assert _line(player) == "ready"
        for player in players:
            _let_go(player)
        most = _watch(folder / FILE_NAME, players, seconds)
        results: list[Played] = [json.loads(_line(player)) for player in players]
        assert [player.wait(10) for player in players] == [0] * count
        assert BUDGET / 2 < most <= BUDGET
        assert sum(result["reserved"] for result in results) > 20
        assert sum(result["refused"] for result in results) > 20
        assert ledger.leases() == []
        return results

    return played


@pytest.mark.chaos
def test_six_kernels_never_take_more_than_there_is(ledger: Ledger, play: Players) -> None:
    """They reserve and release at random for a while; an independent reader of the file adds up what is charged."""
    reserved = sum(result["reserved"] for result in play(6, 1.5))
    assert sum(row.state == "reserved" for row in ledger.timeline()) == reserved


@pytest.mark.chaos
@pytest.mark.slow
def test_six_kernels_for_longer(play: Players) -> None:
    """The same for ten seconds."""
    play(6, 10.0)


@_posix
@pytest.mark.chaos
def test_a_killed_kernel_leaves_nothing(ledger: Ledger, start: Start) -> None:
    """Its worker, which heeds no hint, is ended first; then the whole device is there again."""
    kernel = start("hold")
    held = json.loads(_line(kernel))
    gpu = [state("gpu", BUDGET)]
    assert isinstance(ledger.reserve("m", (("gpu", 1),), gpu), Refusal)
    kernel.kill()
    kernel.wait(10)
    assert started_mark(held["worker"]) is not None
    whole = ledger.reserve("m", (("gpu", BUDGET),), gpu)
    assert isinstance(whole, Lease)
    assert started_mark(held["worker"]) is None
    assert [each.id for each in ledger.leases()] == [whole.id]
    assert ("gone", "its kernel has died") in [(row.state, row.reason) for row in ledger.timeline()]


@_posix
@pytest.mark.chaos
@pytest.mark.parametrize("rounds", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_kernels_killed_at_any_moment(ledger: Ledger, start: Start, rounds: int) -> None:
    """Whatever a kernel was writing: the file is whole, nobody waits for it, and its leases are gone."""
    for number in range(rounds):
        player = start("play", str(number))
        assert _line(player) == "ready"
        _let_go(player)
        _until(lambda: ledger.changed() and len(ledger.leases()) > 1)
        player.kill()
        player.wait(10)
        assert ledger.leases() == []
    with contextlib.closing(sqlite3.connect(ledger.path)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert reader.execute("SELECT COUNT(*) FROM charges").fetchone() == (0,)


@pytest.mark.bench
@pytest.mark.slow
@pytest.mark.alone
def test_how_long_reserving_takes(ledger: Ledger, play: Players) -> None:
    """Alone it takes less than a millisecond; beside five others it waits for its turn, less than a second."""
    alone = []
    for _ in range(500):
        begun = time.perf_counter()
        lease = ledger.reserve("m", (("cpu", 1), ("gpu", 1)), [state("gpu", 9), state("cpu", 9)])
        alone.append(time.perf_counter() - begun)
        assert isinstance(lease, Lease)
        ledger.release(lease.id)
    crowd = sorted(span for result in play(6, 3.0) for span in result["spans"])
    p50, p99 = statistics.median(alone), crowd[-len(crowd) // 100 - 1]
    print(f"alone p50 {1e3 * p50:.2f} ms, p99 {1e3 * sorted(alone)[-5]:.2f} ms; ", end="")
    print(f"six p50 {1e3 * statistics.median(crowd):.2f} ms, p99 {1e3 * p99:.2f} ms")
    assert p50 < 0.001
    assert p99 < 1.0


def _let_go(player: subprocess.Popen[str]) -> None:
    assert player.stdin is not None
    player.stdin.write("\n")
    player.stdin.flush()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)
