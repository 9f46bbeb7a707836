"""Records of a real flow in a real file: whole, private, without a word of the prompts, and no burden to a hit."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import stat
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.prompts.caches.helpers import Answerer, question
from tests.prompts.telemetry.helpers import digest, record
from xprim_nb.errors import GenerationFailedError, NotCachedError, StorageError
from xprim_nb.prompts.answers import Answer, Cost, Usage
from xprim_nb.prompts.asked import Passed
from xprim_nb.prompts.asking import Asker
from xprim_nb.prompts.caches import Caches
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.scaffold import PromptScaffold
from xprim_nb.prompts.telemetry import Outcome, Record, Telemetry, record_of_resolving
from xprim_nb.prompts.telemetry.store import MOST_PENDING


class _Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> _Clock:
    """Seconds since 1970, moved by the test."""
    return _Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`<base>/prompts`, which does not exist yet."""
    return tmp_path / "base" / "prompts"


@pytest.fixture
def telemetry(folder: Path, clock: _Clock) -> Iterator[Telemetry]:
    """The records of one base."""
    with Telemetry(folder, now=clock) as telemetry:
        yield telemetry


_WHOLE = record(
    1,
    scaffold=digest("s"),
    scaffold_type="module",
    checkpoint="c1",
    usage=Usage(1000, 50, 800, 100, 20),
    billed=Decimal("0.012500000000000000001"),
    latency_s=1.5,
    first_token_s=0.5,
    in_scaffold=Outcome(False, "content"),
    in_response=Outcome(False, "content"),
    in_prefix=Outcome(True, "read"),
    predicted_read_tokens=790,
)


def test_what_is_read_is_what_was_recorded(telemetry: Telemetry) -> None:
    """Every field, to the last digit of the money; also of a record that has next to none."""
    least = Record(0.5, "replay", "vllm", "m")
    counted = record(
        2, usage=Usage(5, 5, reported=False), estimated=Decimal(0), saved=Decimal(1), saved_tokens=3
    )
    for each in (_WHOLE, least, counted):
        telemetry.record(each)
    assert telemetry.records() == (_WHOLE, least, counted)
    assert telemetry.records(checkpoints=["c1"]) == telemetry.records(scaffold=digest("s")) == (_WHOLE,)
    assert telemetry.records(since_s=86_401.0) == (counted,)
    assert telemetry.records(last=1) == (counted,)


def test_nothing_is_written_until_it_is_time(telemetry: Telemetry, clock: _Clock) -> None:
    """One record waits in memory; one that comes a minute later takes it to the file, by another thread."""
    telemetry.record(_WHOLE)
    assert not telemetry.path.exists()
    clock.now_s += 61
    telemetry.record(_WHOLE)
    telemetry.close()
    assert _rows(telemetry.path) == 2


def test_many_are_written_together(telemetry: Telemetry) -> None:
    """Five hundred are enough, without a minute's passing; none is written twice."""
    for _ in range(MOST_PENDING + 1):
        telemetry.record(_WHOLE)
    assert len(telemetry.records()) == MOST_PENDING + 1


def test_the_file_is_for_its_user_alone_and_ends_somewhere(folder: Path, clock: _Clock) -> None:
    """0600 in 0700, and the oldest past the limit are forgotten."""
    with Telemetry(folder, now=clock, most_kept=3) as telemetry:
        for number in range(5):
            telemetry.record(record(number))
        assert [each.at_s for each in telemetry.records()] == [172_800.0, 259_200.0, 345_600.0]
    assert stat.S_IMODE(telemetry.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_cannot_be_written_waits(tmp_path: Path, clock: _Clock) -> None:
    """A file is in the folder's way: recording goes on, and is made good when it is gone."""
    (tmp_path / "prompts").write_text("in the way")
    with Telemetry(tmp_path / "prompts", now=clock) as telemetry:
        telemetry.record(_WHOLE)
        with pytest.raises(StorageError):
            telemetry.flush()
        (tmp_path / "prompts").unlink()
        assert telemetry.records() == (_WHOLE,)
        assert telemetry.lost == 0


def test_a_file_of_somebody_else_is_left_alone(folder: Path, clock: _Clock) -> None:
    """It is no database: whoever asks is told, and its bytes stay."""
    folder.mkdir(parents=True)
    (folder / "telemetry.sqlite").write_bytes(b"no database" * 100)
    with Telemetry(folder, now=clock) as telemetry:
        telemetry.record(_WHOLE)
        with pytest.raises(StorageError):
            telemetry.records()
    assert (folder / "telemetry.sqlite").read_bytes() == b"no database" * 100


async def test_a_flow_is_recorded(folder: Path, telemetry: Telemetry, clock: _Clock) -> None:
    """Asked, from the cache, joined, failed, refused: each with its cache's reason, and the hit with its scaffold."""
    caches = Caches(folder, now=clock)
    gate = asyncio.Event()
    answerer = Answerer(
        lambda call: Answer("yes", usage=Usage(1200, 30, 0, 1100), latency_s=2.0, first_token_s=0.5),
        gate=gate,
    )
    price = lambda asked, usage: Cost(Decimal("0.0125"), "billed")  # noqa: E731
    async with Asker(caches, price=price, on_call=telemetry.observer()) as asker:
        asked = question(scaffold_type="module")
        two = [asyncio.create_task(asker.ask(asked, answerer, checkpoint="c1")) for _ in range(2)]
        await answerer.asked.wait()
        gate.set()
        await asyncio.gather(*two)
        await asker.ask(asked, answerer)
        with pytest.raises(NotCachedError):
            await asker.ask(question(cache="only", prompt="Else."), answerer)
        with pytest.raises(GenerationFailedError):
            await asker.ask(question(prompt="Fail."), Answerer(_fails))
        await asker.ask(question(cache="refresh"), answerer)
    caches.close()
    sent, joined, hit, refused, failed, refreshed = telemetry.records()
    assert (sent.is_sent, sent.checkpoint, sent.scaffold_type, sent.finish) == (True, "c1", "module", "stop")
    assert (sent.billed, sent.estimated, sent.usage) == (Decimal("0.0125"), None, Usage(1200, 30, 0, 1100))
    assert (sent.in_response, sent.in_prefix) == (Outcome(False, "first"), Outcome(False, "written"))
    assert sent.scaffold == PromptScaffold.of(asked).hash
    assert (joined.is_sent, joined.billed, joined.usage, joined.in_response.reason) == (
        False,
        None,
        None,
        "joined",
    )
    assert (hit.in_response, hit.is_sent, hit.saved_tokens) == (Outcome(True, "kept"), False, 1230)
    assert (hit.saved, hit.billed) == (Decimal("0.0125"), None)
    assert hit.scaffold == sent.scaffold
    assert (refused.error, refused.is_sent, refused.in_response) == (
        "NotCachedError",
        False,
        Outcome(False, "only"),
    )
    assert (failed.error, failed.finish, failed.is_sent) == ("GenerationFailedError", "error", True)
    assert (refreshed.in_response, refreshed.in_scaffold.hit) == (Outcome(None, "refresh"), None)


def _fails(call: int) -> Answer:
    raise GenerationFailedError("the model tripped over the prompt", subject="m")


async def test_no_word_of_a_prompt_is_in_the_file(folder: Path, telemetry: Telemetry) -> None:
    """Neither what was asked nor what was answered nor a secret in a name; the hash of what was asked is."""
    secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"
    caches = Caches(folder)
    async with Asker(caches, on_call=telemetry.observer()) as asker:
        done = await asker.ask(question(scaffold_type=secret), Answerer(), checkpoint=f"c {secret}")
        await asker.ask(question(prompt="Write the tests."), Answerer())
    caches.close()
    telemetry.close()
    stored = b"".join(each.read_bytes() for each in folder.glob("telemetry.sqlite*"))
    for word in (b"Write", b"answer 1", b"style", b"reader", secret.encode()):
        assert word not in stored
    assert bytes.fromhex(done.request) in stored


async def test_who_counts_badly_costs_no_answer(folder: Path) -> None:
    """An observer that raises is logged; the answer is given, and a failure stays the failure that it is."""

    def broken(passed: Passed) -> None:
        raise RuntimeError("I cannot count")

    caches = Caches(folder)
    async with Asker(caches, on_call=broken) as asker:
        assert (await asker.ask(question(), Answerer())).answer.text == "answer 1"
        with pytest.raises(GenerationFailedError):
            await asker.ask(question(prompt="Fail."), Answerer(_fails))
    caches.close()


def test_a_prompt_that_was_not_sent_is_recorded_as_resolved(telemetry: Telemetry) -> None:
    """Its hashes, and an estimate where there is one; nobody was asked."""
    resolved = resolve_scaffold(
        question(), price=lambda asked, usage: Cost(Decimal("0.5"), "estimated"), count=len
    )
    told = record_of_resolving(resolved, 5.0, 0.25, known=True)
    assert (told.operation, told.is_sent, told.estimated) == ("resolve", False, Decimal("0.5"))
    assert told.in_scaffold == Outcome(True, "rendered before")
    telemetry.record(told)
    assert telemetry.records() == (told,)
    assert replace(told, in_scaffold=Outcome()) == record_of_resolving(resolved, 5.0, 0.25)


@pytest.mark.alone
async def test_a_hit_is_not_slowed(folder: Path, telemetry: Telemetry) -> None:
    """What recording adds to a hit is a small part of it: measured alone, for the two together drown in the noise."""
    caches, passed = Caches(folder), list[Passed]()
    async with Asker(caches, on_call=passed.append) as asker:
        await asker.ask(question(), Answerer())
        await asker.ask(question(), Answerer())
    caches.close()
    hit, observe = passed[1], telemetry.observer()
    costs = []
    for _ in range(MOST_PENDING - 1):  # one more, and they are written
        started = time.perf_counter()
        observe(hit)
        costs.append(time.perf_counter() - started)
    median_s = sorted(costs)[len(costs) // 2]
    assert not telemetry.path.exists()
    assert median_s < 100e-6, f"{median_s * 1e6:.1f} µs"  # a tenth of the millisecond that a hit may take


def _rows(path: Path) -> int:
    connection = sqlite3.connect(path)
    count: int = connection.execute("SELECT count(*) FROM records").fetchone()[0]
    connection.close()
    return count


def test_one_who_reads_sees_what_others_of_the_process_noted(tmp_path: Path) -> None:
    """Two toolkits of one notebook have one file: what one has not written yet is written when the other reads."""
    elsewhere = tmp_path / "elsewhere"
    with (
        Telemetry(tmp_path / "prompts") as one,
        Telemetry(tmp_path / "prompts") as other,
        Telemetry(elsewhere) as third,
    ):
        one.record(record(1))
        third.record(record(3))
        other.record(record(2))
        assert sorted(each.at_s for each in other.records()) == [86_400.0, 172_800.0]
        assert one.records() == other.records()
        assert not (elsewhere / "telemetry.sqlite").exists()


def test_one_that_was_dropped_goes_with_its_records(tmp_path: Path) -> None:
    """Who was never closed is not kept alive by being looked at, and holds up nobody."""
    forgotten = Telemetry(tmp_path / "prompts")
    forgotten.record(record(1))
    kept = weakref.ref(forgotten)
    del forgotten
    gc.collect()
    with Telemetry(tmp_path / "prompts") as other:
        assert other.records() == ()
    assert kept() is None
