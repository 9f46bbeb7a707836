"""One ledger for all kernels: reserved before anything starts, charged until it came back."""

from __future__ import annotations

import logging

import pytest

from xprim_nb.errors import EngineError
from xprim_nb.scheduling import ledgerlog
from xprim_nb.scheduling.kernels import this_kernel
from xprim_nb.scheduling.leases import Lease, LeaseState, Refusal
from xprim_nb.scheduling.ledger import Ledger

from .rooms import Clock, come_to, reserved, state

_GPU = [state("gpu", 100)]
_MODEL = "numpy:m"


def test_a_reservation_is_a_lease(ledger: Ledger, clock: Clock) -> None:
    """It has a name, a holder, a time, what it is charged with and what caused it, for whoever looks."""
    charges = (("cpu", 3), ("gpu", 40))
    lease = ledger.reserve(_MODEL, charges, [*_GPU, state("cpu", 5)], note="In [3]")
    assert isinstance(lease, Lease)
    assert (lease.model, lease.state, lease.charges, lease.note) == (_MODEL, "reserved", charges, "In [3]")
    assert (lease.created, lease.since, lease.measured) == (1000.0, 1000.0, ())
    assert ledger.leases() == [lease]


def test_what_does_not_fit_is_refused_with_numbers(ledger: Ledger) -> None:
    """The second does not fit beside the first; nothing is entered for it, on no device."""
    reserved(ledger, 60)
    refused = ledger.reserve(_MODEL, (("cpu", 1), ("gpu", 41)), [*_GPU, state("cpu", 5)])
    assert isinstance(refused, Refusal)
    assert [(each.device, each.available_bytes) for each in refused.shortages] == [("gpu", 40)]
    assert len(ledger.leases()) == 1
    assert isinstance(ledger.reserve(_MODEL, (("gpu", 40),), _GPU), Lease)


def test_a_model_without_charges_always_fits(ledger: Ledger) -> None:
    """One that runs elsewhere has a lease all the same."""
    assert isinstance(ledger.reserve("anthropic:x", (), []), Lease)


def test_what_others_use_is_not_given_away(ledger: Ledger) -> None:
    """External bytes are off the budget; what is promised and unseen is off what is free."""
    assert isinstance(ledger.reserve(_MODEL, (("gpu", 81),), [state("gpu", 100, 20)]), Refusal)
    reserved(ledger, 30)
    assert isinstance(ledger.reserve(_MODEL, (("gpu", 31),), [state("gpu", 100, 0, free=60)]), Refusal)
    assert isinstance(ledger.reserve(_MODEL, (("gpu", 30),), [state("gpu", 100, 0, free=60)]), Lease)


@pytest.mark.parametrize(
    "target", ["reserved", "loading", "resident", "draining", "releasing", "parked", "ghost"]
)
def test_it_is_charged_in_every_state(ledger: Ledger, target: LeaseState) -> None:
    """Also while it leaves, and when its memory was not seen to come back."""
    lease = come_to(ledger, target, 60)
    assert ledger.leases() == [lease]
    assert (lease.state, lease.charges) == (target, (("gpu", 60),))
    assert isinstance(ledger.reserve(_MODEL, (("gpu", 41),), _GPU), Refusal)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("reserved", "resident"),
        ("reserved", "ghost"),
        ("loading", "draining"),
        ("resident", "loading"),
        ("releasing", "resident"),
        ("releasing", "parked"),
        ("ghost", "loading"),
        ("parked", "resident"),
    ],
)
def test_steps_that_cannot_be(ledger: Ledger, first: LeaseState, then: LeaseState) -> None:
    """A step is refused by name, and nothing changes."""
    lease = come_to(ledger, first)
    with pytest.raises(ValueError, match=f"from {first} to {then}"):
        ledger.advance(lease.id, then)
    assert ledger.leases() == [lease]


@pytest.mark.parametrize("target", ["loading", "resident", "draining", "parked"])
def test_memory_in_use_is_not_let_go_of(ledger: Ledger, target: LeaseState) -> None:
    """A charge goes after the end of what it is for, not before."""
    lease = come_to(ledger, target)
    with pytest.raises(ValueError, match=f"that is {target} cannot be released"):
        ledger.release(lease.id)
    assert ledger.leases() == [lease]


@pytest.mark.parametrize("target", ["reserved", "releasing", "ghost"])
def test_letting_go(ledger: Ledger, target: LeaseState) -> None:
    """Then it is gone, and its room is there again; once more does no harm."""
    lease = come_to(ledger, target, 100)
    ledger.release(lease.id)
    ledger.release(lease.id)
    assert ledger.leases() == []
    reserved(ledger, 100)


def test_what_is_measured_replaces_what_was_reserved(ledger: Ledger, clock: Clock) -> None:
    """Charge and sight are kept apart: a cache that has not grown yet is charged and unseen."""
    lease = ledger.advance(reserved(ledger, 60).id, "loading", worker=this_kernel().pid)
    assert (lease.worker_pid, lease.worker_started) == (this_kernel().pid, this_kernel().started)
    clock.now = 1007.0
    lease = ledger.advance(lease.id, "resident", charges=(("gpu", 50),), measured=(("gpu", 35),))
    assert (lease.since, lease.measured, lease.unseen_on("gpu"), lease.over) == (
        1007.0,
        (("gpu", 35),),
        15,
        (),
    )
    clock.now = 1010.0
    lease = ledger.advance(lease.id, "resident", measured=(("gpu", 45),))
    assert (lease.since, lease.unseen_on("gpu")) == (1007.0, 5)
    assert ledger.leases() == [lease]


def test_growth_is_entered_and_reported(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """What is taken is taken: the charge is true, whoever made it hears by how much it is too much."""
    reserved(ledger, 30)
    lease = ledger.advance(reserved(ledger, 60).id, "loading")
    with caplog.at_level(logging.WARNING, "xprim_nb.scheduling"):
        grown = ledger.advance(lease.id, "resident", charges=(("gpu", 70),), reason="loaded")
        assert not caplog.records
        grown = ledger.advance(lease.id, "resident", charges=(("gpu", 85),), reason="measured")
    assert grown.over == (("gpu", 15),)
    assert "takes more than there is" in caplog.text
    assert (("gpu", 85),) in [each.charges for each in ledger.leases()]
    assert ledger.timeline()[-1].reason == "measured; more than there is by 15 B on gpu"
    assert ledger.advance(lease.id, "resident", charges=(("gpu", 60),)).over == ()


def test_growth_is_looked_at_with_the_newest_devices(ledger: Ledger) -> None:
    """Those that are handed over, else those of the latest call."""
    lease = ledger.advance(reserved(ledger, 60).id, "loading")
    tight = [state("gpu", 100, 35)]
    assert ledger.advance(lease.id, "resident", charges=(("gpu", 70),), devices=tight).over == (("gpu", 5),)
    assert ledger.advance(lease.id, "resident", charges=(("gpu", 80),)).over == (("gpu", 15),)


def test_waking_up_is_reserved_first(ledger: Ledger) -> None:
    """A parked model is charged with its residue; what it wants in addition must be there before it moves."""
    lease = come_to(ledger, "draining", 60)
    parked = ledger.advance(lease.id, "parked", charges=(("gpu", 5),))
    other = reserved(ledger, 60)
    assert isinstance(ledger.grow(parked.id, (("gpu", 60),), _GPU), Refusal)
    assert parked in ledger.leases()
    ledger.release(other.id)
    woken = ledger.grow(parked.id, (("gpu", 60),), _GPU)
    assert isinstance(woken, Lease)
    assert (woken.id, woken.state, woken.charges, woken.measured) == (
        parked.id,
        "loading",
        (("gpu", 60),),
        (("gpu", 5),),
    )
    with pytest.raises(ValueError, match="from loading to loading"):
        ledger.grow(parked.id, (("gpu", 61),), _GPU)


def test_a_ghost_fades(ledger: Ledger) -> None:
    """It has no process any more; it is charged until as much is free as it was to leave."""
    lease = come_to(ledger, "releasing", 60)
    lease = ledger.advance(lease.id, "ghost", charges=(("gpu", 40),), freed_at=(("gpu", 80),))
    assert (lease.worker_pid, lease.measured) == (None, (("gpu", 40),))
    assert ledger.recheck({"gpu": 79}) == []
    assert ledger.recheck({"cpu": 1000}) == []
    assert ledger.recheck({"gpu": 80}) == [lease]
    assert ledger.leases() == []
    assert ledger.recheck({"gpu": 80}) == []


def test_only_its_own_leases(ledger: Ledger) -> None:
    """A lease that this kernel does not have is an error that names it; letting go of it is none."""
    for call in (
        lambda: ledger.advance("nowhere", "loading"),
        lambda: ledger.grow("nowhere", (), []),
        lambda: ledger.mark("nowhere", idle=True, pinned=False, last_used=0.0),
    ):
        with pytest.raises(EngineError, match="no lease nowhere"):
            call()
    ledger.release("nowhere")


def test_a_removal_that_fails_changes_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is still this kernel's, and can be let go of later."""
    lease = reserved(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(ledgerlog, "answer_gone", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ledger.release(lease.id)
    assert ledger.leases() == [lease]
    ledger.release(lease.id)
    assert ledger.leases() == []


def test_closing_with_leases_is_told(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """They stay charged while this process lives; somebody has forgotten them."""
    reserved(ledger)
    with caplog.at_level(logging.WARNING, "xprim_nb.scheduling"):
        ledger.close()
    assert "closed with leases" in caplog.text
