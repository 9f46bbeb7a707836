"""A pull as a row: each state has its words, its bar and its buttons."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from xprim_nb.cache.values import InstalledModel, Pulled, Receipt
from xprim_nb.events import PullProgress
from xprim_nb.refs import ModelRef
from xprim_widgets._pull_rows import BUTTONS, STALLED_S, Seen, State, row_of

REF = ModelRef("demo", "big", "v1")
HALF = PullProgress(
    REF,
    "chunks",
    chunks_total=10,
    chunks_completed=4,
    bytes_total=1000,
    bytes_completed=400,
    bytes_in_flight=100,
    bytes_reused=300,
    speed_bytes_s=50.0,
    eta_s=10.0,
    chunk_map="2233110000",
)


def _pulled(present: int, network: int, status: str = "installed") -> Pulled:
    model = InstalledModel(REF, "a" * 64, present + network, 1, datetime.now(UTC), Path("/models"))
    receipt = Receipt(bytes_present=present, bytes_network=network, seconds=2.0)
    return Pulled(REF, status, model, receipt)  # type: ignore[arg-type]  # one of the three


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (Seen("r"), "starting", "starting"),
        (Seen("r", PullProgress(REF, "manifest")), "running", "fetching the manifest"),
        (
            Seen("r", PullProgress(REF, "chunks", waiting_for="another process")),
            "queued",
            "waiting for another process",
        ),
        (Seen("r", HALF), "running", "500 B of 1000 B, 4/10 chunks, 300 B were here, 50 B/s, 10.0 s left"),
        (Seen("r", HALF, silent_s=STALLED_S), "stalled", "stalled: nothing has arrived for 10.0 s"),
        (Seen("r", PullProgress(REF, "extracting", bytes_total=9)), "verifying", "putting it in place"),
        (Seen("r", HALF, cancelling=True), "pausing", "what is verified is kept"),
        (Seen("r", HALF, running=False), "paused", "paused at 40 %; 400 B are kept"),
        (Seen("r", HALF, running=False, dropped=True), "cancelled", "what it had fetched is gone"),
        (Seen("r", HALF, running=False, error="No such host."), "failed", "No such host."),
        (Seen("r", HALF, running=False, pulled=_pulled(300, 700)), "done", "300 B were here already"),
        (
            Seen("r", HALF, running=False, pulled=_pulled(0, 0, "already_installed")),
            "done",
            "already installed",
        ),
    ],
)
def test_each_state_has_its_words_and_buttons(seen: Seen, state: State, words: str) -> None:
    """What is known of a pull becomes one state; its line says it, and its buttons fit it."""
    row = row_of(seen)
    assert (row.state, row.buttons) == (state, BUTTONS[state])
    assert words in row.line


def test_the_bar_has_two_tones() -> None:
    """What was here and what was fetched stand apart; in flight counts while it runs, and only then."""
    running, paused = row_of(Seen("r", HALF)), row_of(Seen("r", HALF, running=False))
    assert (running.reused, running.fetched, running.percent) == (30.0, 20.0, 50)
    assert (paused.reused, paused.fetched, paused.percent) == (30.0, 10.0, 40)
    done = row_of(Seen("r", HALF, running=False, pulled=_pulled(300, 700)))
    assert (done.reused, done.fetched, done.percent) == (30.0, 70.0, 100)
    nothing = row_of(Seen("r", HALF, running=False, dropped=True))
    assert (nothing.reused, nothing.fetched, nothing.percent) == (0.0, 0.0, 0)


def test_a_bar_is_never_full_before_the_end() -> None:
    """A hundred percent is said when the model is in place, not when its last byte has arrived."""
    full = PullProgress(REF, "extracting", bytes_total=1000, bytes_completed=1000)
    assert row_of(Seen("r", full)).percent == 99


def test_a_hint_stands_with_a_failure_only() -> None:
    """What to do is said where something has failed."""
    assert row_of(Seen("r", running=False, error="no", hint="do this")).hint == "do this"
    assert row_of(Seen("r", HALF, hint="do this")).hint == ""
