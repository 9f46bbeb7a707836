"""A scrub spends its time on what was verified longest ago, remembers it, and finds damage."""

from __future__ import annotations

import os
import time
from array import array

import pytest

from xprim_nb.cache.health.scrub import Scrubber, coverage
from xprim_nb.cache.health.verdicts import Verdicts
from xprim_nb.cache.state import State
from xprim_nb.events import CorruptionFound, Event
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef

from ..rooms import Room, blocks
from .damage import flip_silently

_A, _B = "group/a v1", "group/b v1"
_FILES = {_A: {"w.bin": blocks(*range(40))}, _B: {"w.bin": blocks(*range(100, 120))}}
_DAY_S = 86400


def _set_times(room: Room, ref: str, times: list[int]) -> None:
    state = State(room.layout)
    digest = room.made.manifest_hash(ref)
    with state.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO checked_chunks VALUES (?, ?, ?)",
            (ref, digest, array("I", times).tobytes()),
        )
    state.close()


def _age_all(room: Room, days: int) -> int:
    """Let everything have been installed so long ago; the result is when, in seconds since the epoch."""
    when = int(time.time()) - days * _DAY_S
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
    text = (room.base / "registry.json").read_text()
    for line in text.splitlines():
        if "installed_at" in line:
            text = text.replace(line.split('"')[3], stamp)
    (room.base / "registry.json").write_text(text)
    return when


class _Clock:
    """Each look costs a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def _slowed(manager: Manager) -> Scrubber:
    health = manager._health
    return Scrubber(
        manager._store,
        health.examiner,
        health.validator,
        health.verdicts,
        manager._client,
        manager.events,
        clock=_Clock(),
    )


async def test_the_oldest_chunks_come_first_and_the_next_scrub_goes_on(room: Room) -> None:
    """Two scrubs of a few looks each verify different chunks, the oldest ones, and remember when."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_B)
        old = _age_all(room, 60)
        recent = int(time.time()) - 5 * _DAY_S
        _set_times(room, _A, [recent] * 40)
        _set_times(room, _B, [recent] * 10 + [old + 10] * 10)
        first = await _slowed(manager).scrub(3.5)
        assert first.models_checked == (_B,)
        times = manager._health.verdicts.all_chunk_times()
        assert min(times[_B][1]) >= recent
        assert list(times[_A][1]) == [recent] * 40
        whole = await manager.scrub(60)
        assert whole.chunks_checked + first.chunks_checked >= 60
        assert min(manager._health.verdicts.all_chunk_times()[_A][1]) > recent
        assert (whole.recent_share, whole.damaged) == (1.0, ())
        assert "100 % verified within 30 days" in whole.verdict


async def test_a_share_is_told_that_was_verified_lately(room: Room) -> None:
    """Ten of forty equal chunks of the only model are recent: 25 %."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await manager.pull(_A)
        old = _age_all(room, 60)
        _set_times(room, _A, [int(time.time())] * 10 + [old] * 30)
        scrubbed = await manager.scrub(0)
        assert (scrubbed.chunks_checked, scrubbed.recent_share) == (0, 0.25)
        assert "25 % verified within 30 days" in scrubbed.verdict
        assert scrubbed.oldest_at is not None
        assert scrubbed.oldest_at.timestamp() == old


async def test_without_a_record_the_installation_counts(room: Room) -> None:
    """An empty cache is verified; one that was installed long ago is not."""
    room.publish(_FILES)
    async with room.manager() as manager:
        assert (await manager.scrub(0)).recent_share == 1.0
        await manager.pull(_A)
        models = await manager.list_installed()
        verdicts = Verdicts(manager._state)
        assert coverage(models, verdicts, time.time() - 100)[0] == 1.0
        assert coverage(models, verdicts, time.time() + 100)[0] == 0.0


async def test_damage_is_found_told_and_mended(room: Room) -> None:
    """A flipped byte that no stat shows is found; the report names the chunk; after repair the scrub is clean."""
    room.publish(_FILES)
    heard: list[Event] = []
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_B)
        flip_silently(room.dir(_A) / "w.bin", 31_415)
        manager.events.subscribe(heard.append)
        scrubbed = await manager.scrub(60)
        (report,) = scrubbed.damaged
        assert (report.model_id, report.findings[0].chunks) == (_A, (31,))
        (found,) = [event for event in heard if isinstance(event, CorruptionFound)]
        assert (found.ref, found.next_step) == (ModelRef.parse(_A), report.recommendations.details)
        assert (await manager.status()).counts == {"failed": 1, "healthy": 1}
        assert (await manager.repair(_A)).success
        assert (await manager.scrub(60)).damaged == ()
        with manager._state.reading() as connection:
            kinds = [row[0] for row in connection.execute("SELECT kind FROM history ORDER BY id")]
        assert kinds == ["pull", "pull", "scrub", "repair", "scrub"]


async def test_an_edit_is_scrubbed_without_alarm(room: Room) -> None:
    """Somebody's work is no damage, today and the next time."""
    room.publish({_A: {"a.json": b"{}" * 300, "w.bin": blocks(1, 2)}})
    async with room.manager() as manager:
        await manager.pull(_A)
        (room.dir(_A) / "a.json").write_bytes(b"[1, 2]")
        for _ in range(2):
            scrubbed = await manager.scrub(60)
            assert scrubbed.damaged == ()
            assert scrubbed.models_checked == (_A,)


@pytest.mark.skipif(os.name == "nt", reason="the clock of the stamp is a Unix one")
async def test_what_a_validation_verified_need_not_be_scrubbed_next(room: Room) -> None:
    """A full validation counts for every chunk it hashed."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await manager.pull(_A)
        old = _age_all(room, 60)
        _set_times(room, _A, [old] * 40)
        await manager.validate(_A, "full")
        assert min(manager._health.verdicts.all_chunk_times()[_A][1]) > old
        assert (await manager.scrub(0)).recent_share == 1.0
