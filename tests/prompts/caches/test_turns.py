"""Equal questions in several kernels are one call: one asks, the others wait, are told so, and never for ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from xprim_nb._hashing import Digest
from xprim_nb._processes import started_mark
from xprim_nb.prompts.answers import Answer
from xprim_nb.prompts.asking import Asker
from xprim_nb.prompts.caches import Caches, Call
from xprim_nb.prompts.caches.leases import LEASE_S, RENEWED_S, Lease
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.resolve import resolve_scaffold

from .conftest import Clock
from .helpers import Answerer, keep, question

_ROOT = Path(__file__).parents[3]


class _Kernel:
    """A process that asks, and the lines that it has said."""

    def __init__(self, folder: Path, cache: str, ending: str, wait_s: float) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.prompts.caches.asking_child"),
                *(str(folder), cache, ending, str(wait_s)),
            ],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def says(self, beginning: str) -> str:
        """The next line that begins so."""
        while True:
            line = self.lines.get(timeout=60)
            if line.startswith(beginning):
                return line

    def end(self) -> dict[str, Any]:
        """What it came to, with the lines that it had said before."""
        assert self.process.wait(60) == 0, self.process.stderr.read() if self.process.stderr else ""
        said: list[str] = []
        while True:
            line = self.lines.get(timeout=10)
            if line.startswith("{"):
                return {**json.loads(line), "said": said}
            said.append(line)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())


Start = Callable[..., _Kernel]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts kernels over one folder, and ends them."""
    folder.mkdir(parents=True, mode=0o700)
    kernels: list[_Kernel] = []

    def begin(cache: str = "use", ending: str = "stop", wait_s: float = 60) -> _Kernel:
        kernels.append(_Kernel(folder, cache, ending, wait_s))
        return kernels[-1]

    yield begin
    for each in kernels:
        each.process.kill()
        each.process.communicate()


def _go(folder: Path) -> None:
    (folder / "go").touch()


def test_two_kernels_ask_once(start: Start, folder: Path) -> None:
    """The second is told for whom it waits, gets the first's answer, pays nothing, and is recorded as joined."""
    first = start()
    first.says("asked")
    second = start()
    why = second.says("waits process")
    assert f"process {first.process.pid} is asking the same" in why
    _go(folder)
    asked, joined = first.end(), second.end()
    assert (asked["source"], joined["source"]) == ("generated", "joined")
    assert asked["text"] == joined["text"] == f"answer of {first.process.pid}"
    assert joined["heard"] == [joined["text"]]
    assert joined["said"] == ["waits"]  # it is told the end of it too, and was never asked for an answer
    assert f"for process {first.process.pid}, which asked the same" in joined["waited"]
    assert (asked["waited"], joined["cost"]) == ("", "")
    assert [is_sent for is_sent, _ in joined["records"]].count(True) == 1
    assert [False, "joined"] in joined["records"]


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_when_the_holder_is_killed_one_of_the_others_asks(start: Start, folder: Path) -> None:
    """Within seconds, and one alone: the third joins the second."""
    first = start()
    first.says("asked")
    others = [start(), start()]
    for each in others:
        each.says("waits process")
    killed = time.monotonic()
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(10)
    while not any("asked" in line for each in others for line in list(each.lines.queue)):
        # It was renewed every four seconds: its lease would have held them up for eleven more at least.
        assert time.monotonic() - killed < LEASE_S - RENEWED_S - 1, "a dead holder is seen, not waited out"
        time.sleep(0.02)  # house: another process is watched
    _go(folder)
    done = [each.end() for each in others]
    assert sorted(each["source"] for each in done) == ["generated", "joined"]
    assert done[0]["text"] == done[1]["text"]
    assert sum("asked" in each["said"] for each in done) == 1


@pytest.mark.parametrize("ending", ["error", "length"])
def test_what_is_not_kept_is_asked_by_each(start: Start, folder: Path, ending: str) -> None:
    """Another one's failure is no answer, nor is one that was cut: who waited asks, at once and not in a row."""
    first = start(ending=ending)
    first.says("asked")
    others = [start(ending=ending, wait_s=0) for _ in range(2)]
    for each in others:
        each.says("waits process")
    _go(folder)
    assert first.end()["source"] == ("error" if ending == "error" else "generated")
    done = [each.end() for each in others]
    assert {each["source"] for each in done} == {"error" if ending == "error" else "generated"}
    assert all("asked" in each["said"] for each in done)


def test_bypass_waits_for_nobody(start: Start, folder: Path) -> None:
    """It asks at once, and so does `refresh`, which wants an answer from now on; two of those are one."""
    first = start()
    first.says("asked")
    bypassing, refreshing = start("bypass"), start("refresh")
    bypassing.says("asked")
    refreshing.says("asked")
    again = start("refresh")
    assert f"process {refreshing.process.pid} " in again.says("waits process")
    _go(folder)
    done = [each.end() for each in (first, bypassing, refreshing, again)]
    assert [each["source"] for each in done] == ["generated", "generated", "generated", "joined"]
    assert done[3]["text"] == done[2]["text"]


# --- in one process, with a clock that is moved -------------------------------------------------------


_ASKED = question()
_REQUEST = request_hash(_ASKED)


def _other(**changes: Any) -> Lease:
    """A lease of a process that lives as long as this one."""
    return replace(Lease(), **changes)


def test_a_lease_is_had_by_one(caches: Caches) -> None:
    """Of several who take it the first has it, until it has ended."""
    one, two = Lease(), Lease()
    assert caches.leases.take(_REQUEST, "use", one).lease is None
    held = caches.leases.take(_REQUEST, "use", two).lease
    assert held is not None
    assert (held.id, held.pid) == (one.id, os.getpid())
    assert caches.leases.end(_REQUEST, one)
    assert not caches.leases.end(_REQUEST, one)
    assert caches.leases.take(_REQUEST, "use", two).lease is None


def test_a_lease_that_nobody_renews_is_free(caches: Caches, clock: Clock) -> None:
    """A process that hangs holds others up for fifteen seconds; renewed, for as long as it lives."""
    one, two = Lease(), Lease()
    caches.leases.take(_REQUEST, "use", one)
    clock.now_s += LEASE_S - 1
    assert caches.leases.renew(_REQUEST, one)
    clock.now_s += LEASE_S - 1
    assert caches.leases.take(_REQUEST, "use", two).lease is not None
    clock.now_s += 2
    assert caches.leases.take(_REQUEST, "use", two).lease is None
    assert not caches.leases.renew(_REQUEST, one), "it is another's by now"


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": 2**22 + 1},
        {"started": 1.0},
    ],
)
def test_a_lease_of_the_dead_is_free(caches: Caches, changes: dict[str, Any]) -> None:
    """A process that is gone has none, nor has an earlier one of the same number."""
    caches.leases.take(_REQUEST, "use", _other(**changes))
    assert caches.leases.take(_REQUEST, "use", Lease()).lease is None


def test_where_processes_cannot_be_seen_the_time_tells(caches: Caches, clock: Clock) -> None:
    """A container that shares the folder is believed until its lease runs out, whatever numbers it has."""
    caches.leases.take(_REQUEST, "use", _other(pid=2**22 + 1, boot="elsewhere"))
    assert caches.leases.take(_REQUEST, "use", Lease()).lease is not None
    clock.now_s += LEASE_S + 1
    assert caches.leases.take(_REQUEST, "use", Lease()).lease is None


def test_a_clock_that_was_set_back_holds_nobody_up(caches: Caches, clock: Clock) -> None:
    """A lease that claims to last longer than any can is none."""
    caches.leases.take(_REQUEST, "use", Lease())
    clock.now_s -= 3600
    assert caches.leases.take(_REQUEST, "use", Lease()).lease is None


def test_leases_that_nobody_came_back_to_are_forgotten(caches: Caches, clock: Clock, folder: Path) -> None:
    """They take no room in the file for long."""
    for number in range(5):
        caches.leases.take(Digest(f"{number:064x}"), "use", Lease())
    clock.now_s += LEASE_S + 1
    caches.leases.take(_REQUEST, "use", Lease())
    rows = caches._file.read(lambda file: file.execute("SELECT count(*) FROM leases").fetchone())
    assert rows == (1,)


def test_an_answer_that_came_meanwhile_is_taken(caches: Caches) -> None:
    """Between the look-up and the lease another may have answered: `use` takes that, `refresh` does not."""
    keep(caches, _ASKED, Answer("kept meanwhile"))
    seen = caches.leases.take(_REQUEST, "use", Lease())
    assert seen.answer is not None
    assert seen.answer.text == "kept meanwhile"
    again = caches.leases.take(_REQUEST, "refresh", Lease())
    assert (again.answer, again.lease) == (None, None)


async def test_a_lease_is_renewed_while_it_is_answered(
    caches: Caches, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long an answer takes, its lease is live; afterwards it has ended."""
    monkeypatch.setattr("xprim_nb.prompts.turns.RENEWED_S", 0.01)
    gate = asyncio.Event()
    answerer = Answerer(gate=gate)
    async with Asker(caches) as asker:
        asking = asyncio.create_task(asker.ask(_ASKED, answerer))
        await answerer.asked.wait()
        for _ in range(3):
            clock.now_s += LEASE_S - 1
            deadline = time.monotonic() + 10
            while (held := caches.leases.take(_REQUEST, "use", _other()).lease) is None or (
                held.until_s < clock.now_s + LEASE_S
            ):
                assert held is not None
                assert time.monotonic() < deadline
                await asyncio.sleep(0.005)
        gate.set()
        assert (await asking).source == "generated"
    assert caches.leases.take(_REQUEST, "refresh", Lease()).lease is None


async def test_nobody_waits_longer_than_the_limit(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that lives and never ends costs a second call in the end, and no more."""
    caches.leases.take(_REQUEST, "use", _other())
    monkeypatch.setattr("xprim_nb.prompts.turns._LOOKED_S", 0.01)
    answerer, told = Answerer(), list[str]()
    async with Asker(caches) as asker:
        asker._turns._most_waited_s = 0.05
        done = await asker.ask(_ASKED, answerer, on_wait=told.append)
    assert (done.source, len(answerer.calls)) == ("generated", 1)
    assert f"for process {os.getpid()}" in done.waited
    assert [bool(each) for each in told] == [True, False]


async def test_who_is_cancelled_while_waiting_was_never_sent(caches: Caches) -> None:
    """It leaves at once, is recorded as not sent, and the other's lease stays."""
    held = _other()
    caches.leases.take(_REQUEST, "use", held)
    passed, waiting = list[Any](), asyncio.Event()
    async with Asker(caches, on_call=passed.append) as asker:
        asking = asyncio.create_task(asker.ask(_ASKED, Answerer(), on_wait=lambda _: waiting.set()))
        await waiting.wait()
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    assert [each.is_sent for each in passed] == [False]
    seen = caches.leases.take(_REQUEST, "use", Lease()).lease
    assert seen is not None
    assert seen.id == held.id


async def test_a_failed_call_ends_its_lease(caches: Caches) -> None:
    """The next who asks the same need not wait for the lease to run out."""

    def fail(_: int) -> Answer:
        raise RuntimeError("the server is down")

    async with Asker(caches) as asker:
        with pytest.raises(RuntimeError):
            await asker.ask(_ASKED, Answerer(fail))
        done = await asker.ask(_ASKED, Answerer())
    assert (done.source, done.waited) == ("generated", "")


def test_this_process_is_its_own(caches: Caches) -> None:
    """What a lease says of its process is what the system says."""
    own = Lease()
    assert (own.pid, own.started) == (os.getpid(), started_mark(os.getpid()))


def test_what_was_under_way_before_does_for_no_refresh(caches: Caches, clock: Clock) -> None:
    """An older call's answer that comes late is none from now on, and does not take the place of a newer one."""
    rendered = resolve_scaffold(_ASKED).rendered

    def keep_asked_at(at: float, text: str) -> None:
        sent = Call(_REQUEST, "openai", "gpt-5.6", at, rendered.renderer, ())
        caches.keep(_REQUEST, _ASKED, rendered, Answer(text), sent)

    older_s = clock.now_s
    clock.now_s += 1
    refreshing = Lease()
    caches.leases.take(_REQUEST, "refresh", refreshing)
    held = caches.leases.take(_REQUEST, "refresh", Lease()).lease
    assert held is not None
    clock.now_s += 1
    newer_s = clock.now_s
    keep_asked_at(older_s, "older")
    assert caches.leases.look(_REQUEST, "refresh", held).answer is None
    for at, text in ((newer_s, "newer"), (older_s, "older, again")):
        clock.now_s += 1
        keep_asked_at(at, text)
        found = caches.leases.look(_REQUEST, "refresh", held).answer
        assert found is not None
        assert found.text == "newer"
