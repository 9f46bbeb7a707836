"""Alive, responsive and progressing are told apart, by a clock that the test turns."""

from __future__ import annotations

import pytest

from xprim_nb.workers.health import HANG_S, Vigil
from xprim_nb.workers.limits import Sample

_MB = 1 << 20


def _vigil(start: float = 100.0) -> Vigil:
    vigil = Vigil()
    vigil.begin(start)
    return vigil


def test_one_that_answers_is_ready() -> None:
    """A question that was answered, however long ago, raises no suspicion."""
    vigil = _vigil()
    assert vigil.wants_ping(101.0)
    vigil.pinged(101.0)
    assert not vigil.wants_ping(105.0)
    vigil.answered(101.2)
    assert vigil.health(500.0) == "ready"


def test_a_pause_is_no_suspicion_and_silence_is() -> None:
    """A second of silence is nothing; more is suspect, and becomes hung only where nothing is computed either."""
    vigil = _vigil()
    vigil.pinged(101.0)
    assert vigil.health(102.0) == "ready"
    assert vigil.health(103.0) == "suspect"
    assert vigil.health(101.0 + HANG_S - 0.1) == "suspect"
    assert vigil.health(101.0 + HANG_S) == "hung"


def test_one_that_computes_is_suspect_and_never_hung() -> None:
    """While its processor time advances, a worker whose reader is silent is left alone, for as long as it takes."""
    vigil = _vigil()
    vigil.pinged(101.0)
    for second in range(200):
        at = 101.0 + second
        vigil.saw(Sample(at, 10 * _MB, cpu_s=second * 0.9))
        assert vigil.health(at) != "hung"
    assert vigil.health(at) == "suspect"
    vigil.answered(at)
    assert vigil.health(at) == "ready"


@pytest.mark.parametrize(
    ("cpu_share", "grown_bytes", "is_silent"),
    [(0.0, 0, True), (0.01, 0, True), (0.06, 0, False), (0.0, 2 * _MB, False), (0.0, _MB // 8, True)],
)
def test_computing_and_growing_are_progress(cpu_share: float, grown_bytes: int, is_silent: bool) -> None:
    """A twentieth of a core or a megabyte counts as work; polling and noise do not."""
    vigil = _vigil()
    for tick in range(5 * 30):
        vigil.saw(Sample(100.0 + tick / 5, 100 * _MB + tick * grown_bytes, tick / 5 * cpu_share))
    assert (vigil.silent_s(130.0) > 20.0) is is_silent


def test_a_question_stands_when_new_work_begins() -> None:
    """A worker that did not answer while it was idle does not become ready by being given something to do."""
    vigil = _vigil()
    vigil.pinged(100.0)
    vigil.begin(104.0)
    assert vigil.health(104.0) == "suspect"


def test_a_late_answer_is_not_the_answer_to_the_next_question() -> None:
    """One that answers an earlier question and then falls silent is suspect, though it was heard after the second."""
    vigil = _vigil()
    vigil.pinged(101.0)
    vigil.pinged(101.5)
    vigil.answered(101.6)
    assert vigil.health(102.0) == "ready"
    assert vigil.health(103.2) == "suspect"


def test_asking_again_and_again_hides_no_silence() -> None:
    """The oldest question that has no answer counts, however often it is asked."""
    vigil = _vigil()
    for second in range(int(HANG_S)):
        vigil.pinged(101.0 + second)
    assert vigil.health(101.0 + HANG_S - 0.5) == "suspect"
    assert vigil.health(101.0 + HANG_S) == "hung"


def test_work_that_arrives_is_a_sign_of_life() -> None:
    """A reader that is slow to answer while pieces come is not suspect; when they stop, it becomes so."""
    vigil = _vigil()
    vigil.pinged(101.0)
    vigil.progressed(110.0)
    assert vigil.health(111.0) == "ready"
    assert vigil.health(112.0) == "suspect"
