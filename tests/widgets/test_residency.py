"""The residency panel against an engine that records: it follows what happens, and does what its buttons say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from xprim_nb.errors import ConfigError, StorageError
from xprim_nb.events import ModelInstalled, ResidencyChanged, WorkerFailed
from xprim_nb.refs import ModelRef
from xprim_nb.scheduling.values import EngineSnapshot
from xprim_widgets import views
from xprim_widgets.residency import ResidencyPanel

from .browsing import say, until
from .residing import CRASH, LOOK, OTHER, A, B, FakeKit, as_kit, changed


@pytest.fixture
def kit() -> FakeKit:
    """An engine that records."""
    return FakeKit()


@pytest.fixture
def panel(kit: FakeKit) -> Iterator[ResidencyPanel]:
    """The panel of it."""
    shown = views.residency(as_kit(kit))
    yield shown
    shown.close()


def _row(panel: ResidencyPanel, key: str) -> dict[str, Any]:
    return next(each for each in panel.models if each["key"] == key)


def test_it_shows_what_is_awake(panel: ResidencyPanel) -> None:
    """Devices, models, the queue, and all of it in a sentence."""
    assert panel.verdict == "2 models awake, 1 request waiting."
    assert [each["id"] for each in panel.devices] == ["sim:8gb", "cpu"]
    assert [each["key"] for each in panel.models] == [A, OTHER, B]
    assert panel.queue["total"] == 1
    assert panel.queue["rows"][0]["reason"] == "demo/a v1 answers, and its memory is needed"
    assert (panel.crash, panel.planned, panel.doing, panel.error) == ({}, {}, {}, {})


@pytest.mark.parametrize("op", ["evict", "pin", "unpin", "retry"])
def test_a_button_asks_the_engine(kit: FakeKit, panel: ResidencyPanel, op: str) -> None:
    """Each of them is one verb with the model's key."""
    say(panel, op, key=A)
    assert kit.ai.asked == [(op, A)]
    until(panel, lambda: panel.doing == {})
    assert panel.error == {}


def test_a_load_is_planned_first(kit: FakeKit, panel: ResidencyPanel) -> None:
    """Without a plan nothing is loaded; a no forgets it; a yes loads, and says what for."""
    say(panel, "load", key=B)
    assert panel.error["text"] == "Nothing is planned for demo/b v1."
    say(panel, "dismiss")
    say(panel, "plan", key=B)
    until(panel, lambda: panel.planned.get("key") == B)
    assert panel.planned["go"]
    assert panel.planned["lines"][0] == "demo/b v1 would be loaded on sim:8gb"
    assert "demo/a v1 leaves: idle for 3 min 20 s; gives back 2.0 GB on sim:8gb" in panel.planned["lines"][2]
    say(panel, "leave")
    until(panel, lambda: panel.planned == {})
    say(panel, "plan", key=B)
    until(panel, lambda: panel.planned.get("key") == B)
    say(panel, "load", key=B)
    until(panel, lambda: panel.planned == {} and panel.doing == {})
    assert kit.ai.asked == [("plan", B), ("plan", B), ("load", B, "the residency panel")]


def test_what_cannot_be_loaded_is_not(kit: FakeKit, panel: ResidencyPanel) -> None:
    """The plan says why, and a yes that a page sends all the same is refused."""
    kit.ai.verdict = "impossible"
    say(panel, "plan", key=B)
    until(panel, lambda: panel.planned.get("key") == B)
    assert (panel.planned["go"], panel.planned["lines"]) == (False, ["It needs more than there is."])
    say(panel, "load", key=B)
    assert panel.error["text"] == "Nothing is planned for demo/b v1."
    assert kit.ai.asked == [("plan", B)]


def test_one_thing_at_a_time(kit: FakeKit, panel: ResidencyPanel) -> None:
    """While a model is loaded for the panel, nothing else is begun with it; and nobody must wait for ever."""
    say(panel, "plan", key=B)
    until(panel, lambda: panel.planned.get("key") == B)
    kit.ai.held = True
    say(panel, "load", key=B)
    until(panel, lambda: B in panel.doing)
    assert panel.doing[B]["stop"]
    say(panel, "evict", key=B)
    assert panel.error == {"text": "demo/b v1 is asked for already.", "hint": "Wait until that has ended."}
    say(panel, "dismiss")
    say(panel, "stop", key=B)
    until(panel, lambda: panel.doing == {})
    assert panel.error == {}


def test_news_are_read_out(kit: FakeKit, panel: ResidencyPanel) -> None:
    """An eviction with its reason; a crash in its own words, once; the panel looks again for each."""
    kit.events.publish(ResidencyChanged(A, "leaving", "", "demo/b v1 needs its memory"))
    kit.events.publish(ResidencyChanged(A, "absent", "", "demo/b v1 needs its memory"))
    kit.ai.look = changed(A, status="absent")
    until(panel, lambda: panel.said == "demo/a v1 was evicted: demo/b v1 needs its memory.")
    until(panel, lambda: _row(panel, A)["acts"] == ["plan"])
    kit.events.publish(ResidencyChanged(B, "resident", "sim:8gb", "loaded in 2.0 s"))
    until(panel, lambda: panel.said == "demo/b v1 is loaded on sim:8gb: loaded in 2.0 s.")
    kit.events.publish(WorkerFailed(B, "demo/b v1 was killed", CRASH))
    kit.events.publish(ResidencyChanged(B, "absent", "", "demo/b v1 was killed"))
    until(panel, lambda: panel.said == "demo/b v1 was killed.")


def test_a_crash_is_a_card_until_it_is_read(kit: FakeKit, panel: ResidencyPanel) -> None:
    """Dismissed, it does not come back; a later one is shown."""
    kit.ai.look = replace(LOOK, crashes=(CRASH,))
    kit.events.publish(WorkerFailed(A, "killed", CRASH))
    until(panel, lambda: bool(panel.crash))
    assert panel.crash["title"] == "demo/a v1: killed from outside"
    assert panel.crash["curve"]["words"].startswith(
        "memory: 1.0 GB at first, 3.0 GB at most, 2.0 GB at the end"
    )
    say(panel, "read", crash=panel.crash["id"])
    until(panel, lambda: panel.crash == {})
    kit.ai.look = replace(LOOK, crashes=(replace(CRASH, at=2000.0, cause="hung"), CRASH))
    panel.poke()
    until(panel, lambda: panel.crash.get("cause") == "hung")


def test_it_looks_more_often_while_something_goes_on(kit: FakeKit) -> None:
    """Nobody tells of other kernels and programs: it looks by itself, several times as often while somebody waits."""
    kit.ai.look = replace(LOOK, queue=())
    quiet = ResidencyPanel(as_kit(kit))
    assert (quiet._pulse._keeps, quiet._pulse._beat_s) == (True, 5.0)
    kit.ai.look = LOOK
    quiet.draw()
    assert quiet._pulse._beat_s == 0.5
    quiet.close()


def test_it_moves_by_itself(kit: FakeKit, panel: ResidencyPanel) -> None:
    """What no event tells of is seen all the same: a count of answers, another program's memory."""
    panel.poke()
    kit.ai.look = changed(A, served=9)
    until(panel, lambda: _row(panel, A)["counts"] == "9 served")


def test_nothing_looks_after_it_is_closed(kit: FakeKit, panel: ResidencyPanel) -> None:
    """No timer, no subscriber."""
    kit.ai.look = changed(A, served=9)
    panel.poke()
    until(panel, lambda: _row(panel, A)["counts"] == "9 served")  # no look is under way
    panel.close()
    panel.close()
    timer = panel._pulse._timer
    assert timer is None or timer.cancelled()
    assert kit.events._subscribers == ()
    before = kit.ai.looks
    panel.poke()
    kit.events.publish(ResidencyChanged(A, "absent", "", "gone"))
    assert kit.ai.looks == before


@pytest.mark.parametrize(
    ("failure", "note"),
    [
        (StorageError("The ledger cannot be read."), "The ledger cannot be read."),
        (ConfigError("This toolkit is closed.", subject="toolkit"), "This toolkit is closed."),
        (RuntimeError("a bug"), "The engine could not be looked at: it is closed, or being closed."),
        (CancelledError(), "The engine is being closed."),
    ],
)
def test_a_failing_look_is_told(kit: FakeKit, panel: ResidencyPanel, failure: Exception, note: str) -> None:
    """The last picture stays and says why; nobody is asked on and on; a look that succeeds takes the note away."""
    kit.ai.failure = failure
    panel.draw()
    assert (panel.note, panel.error) == (note, {})
    assert panel.verdict.startswith("2 models")
    assert panel._pulse._keeps is False
    kit.ai.failure = None
    say(panel, "watch")
    until(panel, lambda: panel.note == "")
    assert panel._pulse._keeps is True


def test_an_engine_that_cannot_be_opened_is_told(kit: FakeKit) -> None:
    """Without any picture the panel is shown all the same, and says why."""
    kit.ai.failure = StorageError("The ledger cannot be read.")
    made = ResidencyPanel(as_kit(kit))
    assert (made.verdict, made.note, made.at) == (
        "The engine could not be asked.",
        "The ledger cannot be read.",
        0.0,
    )
    made.close()


def test_nothing_is_sampled_while_no_page_shows_it(
    kit: FakeKit, panel: ResidencyPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle, it stops a while after the last word of a page; what moves is followed longer; a word begins it again."""
    kit.ai.look = replace(LOOK, queue=())
    now = time.monotonic()
    for after_s, busy, keeps in ((70, False, True), (80, False, False), (80, True, True), (700, True, False)):
        kit.ai.look = replace(LOOK, queue=LOOK.queue if busy else ())
        with monkeypatch.context() as patch:
            clock = SimpleNamespace(monotonic=partial(float, now + after_s))
            patch.setattr("xprim_widgets.residency.time", clock)
            panel.draw()
        assert panel._pulse._keeps is keeps, (after_s, busy)
    say(panel, "watch")
    panel.draw()
    assert panel._pulse._keeps is True


def test_a_model_that_nobody_has_used_is_named_and_planned(kit: FakeKit, panel: ResidencyPanel) -> None:
    """What is installed is offered; the plan belongs to the model's own key; what is not installed would be."""
    assert panel.known == ["demo/c v1"]
    say(panel, "ask", name=" demo/c v1 ")
    until(panel, lambda: panel.planned.get("key") == "numpy:demo/c v1")
    assert kit.ai.asked == [("plan", "demo/c v1")]
    kit.ai.missing.add("demo/x v1")
    say(panel, "ask", name="demo/x v1")
    until(panel, lambda: panel.planned.get("key") == "demo/x v1")
    assert panel.planned["lines"] == ["demo/x v1 is not installed.", "Loading it installs it first."]
    assert (panel.planned["go"], panel.error) == (True, {})
    say(panel, "load", key="demo/x v1")
    until(panel, lambda: not panel.planned and not panel.doing)
    assert kit.ai.asked[-1] == ("load", "demo/x v1", "the residency panel")
    say(panel, "ask", name=" ")
    until(panel, lambda: panel.error.get("text") == "Name a model to load.")


def test_each_change_is_told_once_and_without_its_name_twice(kit: FakeKit, panel: ResidencyPanel) -> None:
    """A crash is not told again as a change of state, however long after; a reason does not repeat the model."""
    kit.events.publish(ResidencyChanged(A, "leaving"))
    kit.events.publish(ResidencyChanged(A, "absent", "", "demo/a v1 was idle and leaves"))
    until(panel, lambda: panel.said == "demo/a v1 was evicted: it was idle and leaves.")
    kit.events.publish(WorkerFailed(B, "It was killed.", CRASH))
    until(panel, lambda: panel.said == "demo/b v1: It was killed.")
    kit.events.publish(ResidencyChanged(B, "absent", "", "It was killed."))
    kit.events.publish(ResidencyChanged(B, "loading", "sim:8gb", "demo/b v1 (2.0 GB) fits"))
    until(panel, lambda: panel.said == "demo/b v1 is loading: it (2.0 GB) fits.")
    assert [each["text"] for each in panel.news] == [
        "demo/b v1 is loading: it (2.0 GB) fits.",
        "demo/b v1: It was killed.",
        "demo/a v1 was evicted: it was idle and leaves.",
    ]


def test_what_is_installed_meanwhile_is_offered(kit: FakeKit, panel: ResidencyPanel) -> None:
    """A pull and a removal change what there is to choose from."""
    kit.installed = ["demo/c v1", "demo/d v1"]
    kit.events.publish(ModelInstalled(ModelRef.parse("demo/d v1"), "0" * 64, "installed"))
    until(panel, lambda: panel.known == ["demo/c v1", "demo/d v1"])


def test_what_has_happened_stands_on_screen(kit: FakeKit, panel: ResidencyPanel) -> None:
    """The latest eight sentences, the latest first, also for who sees and does not listen."""
    for at in range(12):
        kit.events.publish(ResidencyChanged(f"numpy:m{at}", "broken", "", f"reason {at}"))
    until(panel, lambda: len(panel.news) == 8 and panel.news[0]["text"] == "m11 is broken: reason 11.")
    assert panel.news[0]["at"] >= panel.news[-1]["at"] > 0


@pytest.mark.parametrize(
    "content",
    [
        {"op": "evict", "key": "no:such"},
        {"op": "plan", "key": ["x"]},
        {"op": "load", "key": A},
        {"op": "pin", "what": 1},
    ],
)
def test_nonsense_from_a_front_end_is_told(
    kit: FakeKit, panel: ResidencyPanel, content: dict[str, Any]
) -> None:
    """Whatever a page sends, the panel says what is wrong with it, and nothing is done."""
    panel._hear(None, content, [])
    assert panel.error["text"]
    assert kit.ai.asked == []


def test_another_kernels_model_is_asked_for(kit: FakeKit, panel: ResidencyPanel) -> None:
    """Its kernel lets it go, not ours: that is said."""
    kit.ai.look = changed(OTHER, why_not_evict="")
    panel.draw()
    say(panel, "evict", key=OTHER)
    until(panel, lambda: panel.said == "Kernel 77 was asked to let demo/theirs v1 go.")


def test_what_no_event_tells_is_read_out(kit: FakeKit, panel: ResidencyPanel) -> None:
    """A pin changes no state: its end is said all the same."""
    say(panel, "pin", key=A)
    until(panel, lambda: panel.said == "demo/a v1 is pinned.")
    say(panel, "unpin", key=A)
    until(panel, lambda: panel.said == "demo/a v1 is no longer pinned.")


def test_it_sends_few_messages(kit: FakeKit, panel: ResidencyPanel) -> None:
    """A thousand events are a few draws."""
    drawn = threading.Event()
    kit.ai.look = changed(A, served=1000)
    panel.observe(lambda _: drawn.set(), "models")
    for _ in range(1000):
        kit.events.publish(ResidencyChanged(A, "resident", "sim:8gb", "again"))
    assert drawn.wait(15)
    assert kit.ai.looks < 100  # five a second, and each event a look if they were not gathered


def _static(look: EngineSnapshot, form: Callable[[ResidencyPanel], str]) -> str:
    kit = FakeKit()
    kit.ai.look = look
    panel = ResidencyPanel(as_kit(kit))
    try:
        return form(panel)
    finally:
        panel.close()


def test_it_has_a_static_form(kit: FakeKit) -> None:
    """The same as text and as HTML, for a saved page."""
    look = replace(LOOK, crashes=(CRASH,))
    text = _static(look, lambda panel: panel.to_text())
    assert "demo/a v1: loaded, sim:8gb, 2.0 GB measured, 4,096 tokens" in text
    assert "1. demo/b v1 (default), waits for 3 seconds" in text
    html = _static(look, lambda panel: panel.to_html())
    assert "<table" in html
    assert "<polyline" in html
    assert "other programs: 1.0 GB" in html
