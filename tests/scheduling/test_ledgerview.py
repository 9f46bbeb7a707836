"""Everybody's side of the ledger: what others may know, wishes, what happened, and the dead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from xprim_nb.errors import EngineError
from xprim_nb.scheduling import ledgerlog
from xprim_nb.scheduling.kernels import this_kernel
from xprim_nb.scheduling.leases import KernelId, Lease
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.ledgerview import LedgerView

from .rooms import Clock, come_to, reserved, state

_GPU = [state("gpu", 100)]
_MODEL = "numpy:m"


def test_what_others_may_know(
    ledger: Ledger, open_ledger: Callable[..., Ledger], neighbour: KernelId
) -> None:
    """Idle, pinned and last used are told; another kernel's policy sees them."""
    lease = come_to(ledger, "resident")
    other = open_ledger(neighbour)
    assert [each.evictable for each in other.foreign()] == [False]
    ledger.mark(lease.id, idle=True, pinned=False, last_used=5.0)
    (seen,) = other.foreign()
    assert (seen.lease_id, seen.evictable, seen.last_used) == (lease.id, True, 5.0)
    ledger.mark(lease.id, idle=True, pinned=True, last_used=5.0)
    assert [each.evictable for each in other.foreign()] == [False]
    assert ledger.foreign() == ()


def test_another_engine_of_this_process_is_another(open_ledger: Callable[..., Ledger]) -> None:
    """Both are one kernel; neither can change the other's leases, and each sees them as somebody else's."""
    one, other = open_ledger(), open_ledger()
    lease = reserved(one)
    assert [each.lease_id for each in other.foreign()] == [lease.id]
    with pytest.raises(EngineError, match="no lease"):
        other.advance(lease.id, "loading")
    other.release(lease.id)
    assert len(other.leases()) == 1


def test_changes_are_noticed_cheaply(
    ledger: Ledger, open_ledger: Callable[..., Ledger], neighbour: KernelId
) -> None:
    """Only what somebody else has written counts, and each change once."""
    other = open_ledger(neighbour)
    ledger.changed()
    assert not ledger.changed()
    reserved(ledger)
    assert not ledger.changed()
    reserved(other)
    assert ledger.changed()
    assert not ledger.changed()


def test_marking_what_is_known_writes_nothing(
    ledger: Ledger, open_ledger: Callable[..., Ledger], neighbour: KernelId
) -> None:
    """So that kernels do not wake each other for nothing."""
    lease = reserved(ledger)
    other = open_ledger(neighbour)
    ledger.mark(lease.id, idle=True, pinned=False, last_used=5.0)
    other.changed()
    ledger.mark(lease.id, idle=True, pinned=False, last_used=5.0)
    assert not other.changed()


def test_a_wish_is_heard_and_answered(
    ledger: Ledger, open_ledger: Callable[..., Ledger], neighbour: KernelId, clock: Clock
) -> None:
    """Another process asks, the holder hears it, answers, and the asker reads the answer."""
    lease = come_to(ledger, "resident")
    other = open_ledger(neighbour)
    ask = other.ask(lease.id, "evict", "asked for by xprim ai evict")
    assert (ask.model, ask.wish, ask.at, ask.answer) == (_MODEL, "evict", 1000.0, "")
    assert [each.asked for each in other.foreign()] == [True]
    assert ledger.changed()
    assert ledger.asks() == [ask]
    assert other.asks() == []
    assert other.asked(ask) == ask
    ledger.answer(ask, "it is in use")
    assert ledger.asks() == []
    assert other.asked(ask).answer == "it is in use"
    assert [each.asked for each in other.foreign()] == [False]


def test_wishes_keep_their_order(ledger: Ledger, open_ledger: Callable[..., Ledger]) -> None:
    """Pin, unpin and evict of several leases come as they were asked, from a process that holds none itself."""
    first, second = reserved(ledger), reserved(ledger)
    view = LedgerView(ledger.path.parent)
    asks = [
        view.ask(first.id, "pin", "a"),
        view.ask(second.id, "evict", "b"),
        view.ask(first.id, "unpin", "c"),
    ]
    assert ledger.asks() == asks
    view.close()


def test_a_wish_about_what_is_gone(ledger: Ledger, clock: Clock) -> None:
    """It is answered by that; one about a lease that never was is an error that names it."""
    lease = reserved(ledger)
    ask = ledger.ask(lease.id, "evict", "a")
    ledger.release(lease.id)
    assert ledger.asked(ask).answer == "it is gone"
    with pytest.raises(EngineError, match="no lease nowhere") as caught:
        ledger.ask("nowhere", "evict", "a")
    assert "ai ps" in caught.value.hint


def test_old_wishes_are_forgotten(ledger: Ledger, clock: Clock) -> None:
    """After an hour nobody waits for an answer."""
    lease = reserved(ledger)
    old = ledger.ask(lease.id, "pin", "a")
    clock.now += 3601
    new = ledger.ask(lease.id, "unpin", "b")
    assert ledger.asks() == [new]
    assert ledger.asked(old).answer == "it is gone"


def test_what_happened_can_be_told(ledger: Ledger, clock: Clock) -> None:
    """Each change with its time, size, reason, and the cell that caused it."""
    lease = ledger.reserve(_MODEL, (("cpu", 2), ("gpu", 10)), [*_GPU, state("cpu", 9)], note="In [7]")
    assert isinstance(lease, Lease)
    clock.now = 1001.0
    ledger.advance(lease.id, "loading")
    ledger.advance(lease.id, "resident", charges=(("cpu", 3), ("gpu", 8)), reason="loaded in 1.0 s")
    ledger.advance(lease.id, "releasing", reason="its worker crashed")
    clock.now = 1002.0
    ledger.release(lease.id, reason="its memory came back")
    told = [
        (row.at, row.state, row.device, row.device_bytes, row.host_bytes, row.reason)
        for row in ledger.timeline()
    ]
    assert told == [
        (1000.0, "reserved", "gpu", 10, 2, "reserved"),
        (1001.0, "loading", "gpu", 10, 2, ""),
        (1001.0, "resident", "gpu", 8, 3, "loaded in 1.0 s"),
        (1001.0, "releasing", "gpu", 8, 3, "its worker crashed"),
        (1002.0, "gone", "gpu", 0, 0, "its memory came back"),
    ]
    assert {(row.lease_id, row.model, row.note, row.kernel_pid) for row in ledger.timeline()} == {
        (lease.id, _MODEL, "In [7]", this_kernel().pid)
    }


def test_the_timeline_is_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest rows go first."""
    monkeypatch.setattr(ledgerlog, "_MOST_ROWS", 5)
    for _ in range(4):
        ledger.release(reserved(ledger).id)
    assert [row.state for row in ledger.timeline()] == ["gone", "reserved", "gone", "reserved", "gone"]


def test_a_kernel_that_died_is_reaped(
    ledger: Ledger, open_ledger: Callable[..., Ledger], neighbour: KernelId
) -> None:
    """Its number lives on in another process, or belongs to another boot: its leases go, ours stay."""
    mine = reserved(ledger)
    alive = reserved(open_ledger(neighbour))
    reused, rebooted = replace(mine, id="reused"), replace(mine, id="rebooted")
    open_ledger(replace(neighbour, started=neighbour.started - 1)).restore([reused])
    open_ledger(replace(neighbour, boot="an earlier boot")).restore([rebooted])
    gone = ledger.reap()
    assert {each.id for each in gone} == {reused.id, rebooted.id}
    assert {each.id for each in ledger.leases()} == {mine.id, alive.id}
    assert ledger.reap() == []
    assert {row.lease_id for row in ledger.timeline() if row.reason == "its kernel has died"} == {
        reused.id,
        rebooted.id,
    }


def test_a_dead_kernels_memory_is_not_missing(
    ledger: Ledger, open_ledger: Callable[..., Ledger], neighbour: KernelId
) -> None:
    """Whoever reserves next finds the room."""
    reserved(open_ledger(replace(neighbour, started=1.0)), 100)
    reserved(ledger, 100)


def test_an_orphan_that_cannot_be_ended_keeps_its_lease(
    ledger: Ledger,
    open_ledger: Callable[..., Ledger],
    neighbour: KernelId,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its memory is in use, whoever's it was."""
    dead = open_ledger(replace(neighbour, started=1.0))
    lease = dead.advance(reserved(dead).id, "loading", worker=neighbour.pid)
    monkeypatch.setattr("xprim_nb.scheduling.ledgerview.end_orphan", lambda pid, started, boot: False)
    assert ledger.reap() == []
    assert ledger.leases() == [lease]
