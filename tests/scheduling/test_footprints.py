"""What models were seen to take: kept in the ledger's file, the largest of all measurements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xprim_nb.scheduling.estimate import Estimate, Footprint, FootprintKey, estimate
from xprim_nb.scheduling.footprints import settings_digest
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.workers.values import Measured

from .rooms import GIB, MIB, THREE_B

_KEY = FootprintKey("f" * 8, "transformers", 4096, "", "cuda")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of its own."""
    made = Ledger(tmp_path, clock=lambda: 100.0)
    yield made
    made.close()


def _predicted() -> Estimate:
    return estimate(THREE_B, context_tokens=4096, device_kind="cuda")


def test_the_largest_of_several_measurements_is_kept(ledger: Ledger) -> None:
    """Just loaded and later are told apart; smaller ones change nothing but the count."""
    learn = ledger.footprints.learn
    learn(_KEY, Measured(3 * GIB, GIB, "nvml"), when="loaded", model="m", predicted=_predicted(), load_s=2.0)
    learn(_KEY, Measured(4 * GIB, 2 * GIB, "nvml"), when="used")
    found = learn(_KEY, Measured(2 * GIB, GIB, "reported"), when="loaded", load_s=3.0)
    assert found == Footprint(
        _KEY,
        "m",
        loaded_device_bytes=3 * GIB,
        loaded_host_bytes=GIB,
        device_bytes=4 * GIB,
        host_bytes=2 * GIB,
        load_s=3.0,
        predicted_device_bytes=_predicted().device_bytes,
        predicted_host_bytes=_predicted().host_bytes,
        samples=3,
        how="reported",
        at=100.0,
    )
    assert ledger.footprints.known() == {_KEY: found}


def test_another_ledger_knows_them(ledger: Ledger) -> None:
    """They are the machine's, not the kernel's, and outlive it."""
    ledger.footprints.learn(_KEY, Measured(3 * GIB, GIB), when="loaded", predicted=_predicted())
    ledger.close()
    other = Ledger(ledger.path.parent)
    (found,) = other.footprints.listed()
    assert found.device_bytes == 3 * GIB
    other.close()


def test_predicted_beside_measured(ledger: Ledger) -> None:
    """The list says by how much a prediction was wrong; what was predicted from a measurement is no prediction."""
    guess = _predicted()
    measured = Measured(guess.device_bytes // 2, GIB)
    ledger.footprints.learn(_KEY, measured, when="loaded", predicted=guess)
    ledger.footprints.learn(_KEY, measured, when="loaded", predicted=guess.after(measured))
    on_cpu = replace(_KEY, device_kind="cpu")
    ledger.footprints.learn(on_cpu, Measured(GIB, GIB), when="loaded")
    ratios = {each.key: each.ratio for each in ledger.footprints.listed()}
    assert ratios == {_KEY: pytest.approx(0.5), on_cpu: 0.0}


def test_keys_are_told_apart(ledger: Ledger) -> None:
    """Each part of the key makes another footprint."""
    keys = [
        _KEY,
        replace(_KEY, fingerprint="g"),
        replace(_KEY, backend="numpy"),
        replace(_KEY, context_tokens=2048),
        replace(_KEY, settings="x"),
        replace(_KEY, device_kind="cpu"),
    ]
    for number, key in enumerate(keys):
        ledger.footprints.learn(key, Measured(number, number), when="loaded")
    assert {key: found.host_bytes for key, found in ledger.footprints.known().items()} == dict(
        zip(keys, range(6), strict=True)
    )


def test_nothing_is_learned_of_what_cannot_be_told_again(ledger: Ledger) -> None:
    """Without a fingerprint the weights may be others next time."""
    nameless = replace(_KEY, fingerprint="")
    assert ledger.footprints.learn(nameless, Measured(1, 1), when="loaded") is None
    ledger.footprints.learn_parked(nameless, Measured(1, 1))
    assert ledger.footprints.listed() == []


def test_of_a_simulated_device_only_the_machine_is_measured(ledger: Ledger) -> None:
    """Its worker's resident set is no memory of the device."""
    found = ledger.footprints.learn(
        replace(_KEY, device_kind="sim"), Measured(90 * MIB, 90 * MIB), when="loaded"
    )
    assert found is not None
    assert (found.device_bytes, found.host_bytes) == (0, 90 * MIB)


def test_what_is_left_when_parked(ledger: Ledger) -> None:
    """The largest residue is kept, beside the rest."""
    for size in (500 * MIB, 700 * MIB, 600 * MIB):
        ledger.footprints.learn_parked(_KEY, Measured(size, GIB))
    ledger.footprints.learn(_KEY, Measured(3 * GIB, GIB), when="loaded")
    (found,) = ledger.footprints.listed()
    assert (found.parked_bytes, found.device_bytes, found.samples) == (700 * MIB, 3 * GIB, 1)


def test_forgetting(ledger: Ledger) -> None:
    """One model's measurements, or all of them."""
    for name in ("a", "b", "c"):
        ledger.footprints.learn(replace(_KEY, fingerprint=name), Measured(1, 1), when="loaded")
    assert ledger.footprints.forget("a") == 1
    assert ledger.footprints.forget() == 2
    assert ledger.footprints.listed() == []


def test_settings_in_a_word() -> None:
    """The order does not count, every value does, and what JSON cannot hold is taken by its text."""
    assert settings_digest({"a": 1, "b": None}) == settings_digest({"b": None, "a": 1})
    digests = {settings_digest(each) for each in ({}, {"a": 1}, {"a": 2}, {"b": 1}, {"a": Path("x")})}
    assert len(digests) == 5
