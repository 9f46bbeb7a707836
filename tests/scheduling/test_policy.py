"""The decision tree in words: what is decided when. The numbers are those of `policy`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xprim_nb.scheduling.happenings import Alarm, Arrived, Finished, Start, Ticked
from xprim_nb.scheduling.policy import decide, weigh
from xprim_nb.scheduling.state import Foreign, Option, Request, State

from .scenes import Scene, device, gb, option

# --- 4.2, 5: loading and starting ------------------------------------------------------------------


def test_a_model_is_loaded_for_its_first_request_and_then_starts_it() -> None:
    """Asked, loaded, started; nothing else happens, and no timer runs."""
    scene = Scene()
    assert scene.ask("a") == ["load a"]
    assert scene.alarm is None
    assert scene.loaded("a") == ["start 1"]
    assert scene.finish(1) == []
    assert scene.model("a").status == "resident"


def test_however_many_wait_a_model_is_loaded_once() -> None:
    """Requests that come while it loads join that load, and start in the order of their arrival."""
    scene = Scene()
    assert scene.ask("a", slots=2) == ["load a"]
    assert scene.ask("a", slots=2) == []
    assert scene.ask("a", slots=2) == []
    assert scene.loaded("a") == ["start 1", "start 2"]
    assert scene.finish(2) == ["start 3"]


def test_models_that_fit_together_load_at_the_same_time() -> None:
    """A load does not wait for another one that leaves it room."""
    scene = Scene(8.0)
    assert scene.ask("a", 3.2) == ["load a"]
    assert scene.ask("b", 3.2) == ["load b"]


def test_a_load_goes_on_when_its_asker_departs_and_the_model_stays() -> None:
    """The next who asks finds it."""
    scene = Scene()
    scene.ask("a")
    assert scene.depart(1) == []
    assert scene.loaded("a") == []
    assert scene.model("a").status == "resident"
    assert scene.ask("a") == ["start 2"]


def test_who_only_wants_a_model_here_takes_no_slot() -> None:
    """A request to load ends with its start: it neither waits for an answer nor keeps one from beginning."""
    scene = Scene()
    scene.ask("a", kind="load")
    assert scene.loaded("a") == ["start 1"]
    assert scene.ask("a") == ["start 2"]
    assert scene.ask("a", kind="load") == ["start 3"]


def test_what_runs_elsewhere_takes_neither_memory_nor_a_worker() -> None:
    """A remote model is there at once, on a machine that is full to the last worker."""
    scene = Scene(1.0, max_workers=1)
    scene.ask("a", 1.0)
    assert scene.ask("far", (Option("elsewhere", 4096, ()),)) == ["load far"]
    assert scene.reasons == ["far runs elsewhere and takes no memory here"]


def test_the_first_option_that_fits_is_taken() -> None:
    """The preferred device is full, the second one has room: nobody has to leave."""
    scene = Scene(devices=(device("gpu", 4), device("gpu2", 4)))
    scene.have("a")
    both = (option(3.2), option(0.0, device="gpu2", awake=gb(gpu2=3.2)))
    assert scene.ask("b", both) == ["load b"]
    placed = scene.model("b").placed
    assert placed is not None
    assert placed.device == "gpu2"


def test_a_model_needs_room_on_every_device_it_uses() -> None:
    """Room on the accelerator is not enough when the machine's memory has none."""
    scene = Scene(devices=(device("gpu", 8), device("cpu", 4)))
    two = (option(0.0, awake=gb(gpu=2, cpu=3)),)
    assert scene.ask("a", two) == ["load a"]
    scene.loaded("a")
    assert scene.ask("b", two) == []
    assert scene.finish(1) == ["evict a"]


def test_room_is_what_neither_we_nor_others_take() -> None:
    """External use, foreign leases, our own charges and what the driver says are all respected."""
    lease = Foreign("l1", "x", gb(gpu=1), 4711)
    for seen, fits in (
        (device("gpu", 8, 3), True),
        (device("gpu", 8, 4), False),
        (device("gpu", 8, 0, 3), False),
    ):
        scene = Scene(devices=(seen,), foreign=(lease,))
        assert (scene.ask("a", 4.0) == ["load a"]) is fits, seen


def test_what_loads_is_not_visible_to_the_driver_yet() -> None:
    """The driver's free memory still has what a load has only reserved."""
    scene = Scene(devices=(device("gpu", 10, 0, 8),), max_workers=2)
    assert scene.ask("a", 5.0) == ["load a"]
    assert scene.ask("b", 4.0) == []
    scene.loaded("a")
    assert scene.finish(1) == ["evict a"]


# --- 5: priorities ----------------------------------------------------------------------------------


def test_higher_priority_overtakes_and_equals_go_in_order() -> None:
    """Of those that wait for one model, the next is the one of the highest priority, then who came first."""
    scene = Scene()
    scene.ask("a", priority="batch")
    scene.ask("a", priority="batch")
    scene.ask("a", priority="default")
    scene.ask("a", priority="system")
    scene.ask("a", priority="realtime")
    scene.ask("a", priority="default")
    started = scene.loaded("a")
    while scene.state.waiting:
        started += scene.finish(int(started[-1].split()[1]))
    assert started == [f"start {number}" for number in (4, 5, 3, 6, 1, 2)]


def test_waiting_raises_the_priority_up_to_the_cap() -> None:
    """A batch request that has waited for a minute goes before a fresh ordinary one, but never before the system's."""
    scene = Scene()
    scene.ask("a")
    scene.loaded("a")
    scene.ask("a", priority="batch")
    scene.ask("a", priority="default", after=60.0)
    assert scene.finish(1) == ["start 2"]
    scene.ask("a", priority="batch")
    scene.ask("a", priority="system", after=1000.0)
    assert scene.finish(2) == ["start 5"]


# --- 4.5: windows -----------------------------------------------------------------------------------


def _contended(window_s: float, window_requests: int = 8) -> Scene:
    """`a` answers request 1, requests 2 and 3 for it wait, and 4 wants `b` in the same room."""
    scene = Scene(4.0, window_s=window_s, window_requests=window_requests)
    scene.ask("a")
    scene.loaded("a")
    scene.ask("a")
    scene.ask("a")
    scene.ask("b", after=0.5)
    return scene


def test_who_came_first_is_served_first_and_then_the_room_is_given() -> None:
    """Two who came before are answered, though the window has ended; then the model leaves."""
    scene = _contended(window_s=0.1)
    assert scene.finish(1, after=1.0) == ["start 2"]
    assert scene.finish(2, after=1.0) == ["start 3"]
    assert scene.ask("a") == []
    assert scene.finish(3, after=1.0) == ["evict a"]
    assert scene.reasons == [
        "a has had its turn while b waited, and leaves so that b (3.2 GB) fits; 819.2 MB of 4.0 GB were free"
    ]


def test_in_its_window_a_model_serves_also_who_came_later() -> None:
    """Models do not change places at each answer: for two seconds the one that is here goes on."""
    scene = _contended(window_s=5.0)
    scene.finish(1, after=1.0)
    scene.finish(2, after=1.0)
    assert scene.ask("a") == []
    assert scene.finish(3, after=1.0) == ["start 5"]
    assert scene.ask("a") == []
    assert scene.finish(5, after=4.0) == ["evict a"]


def test_a_window_ends_after_so_many_answers() -> None:
    """Eight short answers are a turn too."""
    scene = _contended(window_s=60.0, window_requests=3)
    scene.finish(1)
    scene.finish(2)
    scene.ask("a")
    assert scene.finish(3) == ["start 5"]
    scene.ask("a")
    assert scene.finish(5) == ["evict a"]


def test_a_window_begins_when_its_room_is_needed_and_an_alarm_says_its_end() -> None:
    """It is stopped two seconds after the other one came, not after it was loaded, and says for whom."""
    scene = Scene(4.0)
    scene.ask("a")
    scene.loaded("a")
    assert scene.ask("b", after=50.0) == []
    assert scene.alarm == 152.0
    assert scene.wait(2.0) == []
    assert scene.model("a").wanted_out == "makes room for b"
    assert scene.alarm is None


def test_a_higher_base_waits_for_no_window() -> None:
    """A batch does not begin another answer in front of somebody who talks."""
    scene = Scene(4.0, window_s=60.0)
    scene.ask("a", priority="batch")
    scene.loaded("a")
    for _ in range(3):
        scene.ask("a", priority="batch")
    scene.ask("b", priority="realtime")
    assert scene.finish(1) == ["evict a"]


def test_a_stopped_model_goes_on_when_nobody_needs_its_room_any_more() -> None:
    """The other one departs, and its requests start again."""
    scene = Scene(4.0, window_s=0.0)
    scene.ask("a", slots=2)
    scene.loaded("a")
    scene.ask("b", after=1.0)
    assert scene.ask("a", slots=2) == []
    assert scene.model("a").wanted_for == "numpy:b"
    assert scene.depart(2) == ["start 3"]
    assert scene.model("a").wanted_out == ""
    assert scene.model("a").window_at is None


def test_a_higher_priority_reopens_a_stopped_model() -> None:
    """Higher overtakes lower, also here; the one that waits gains on it with time."""
    scene = Scene(4.0, window_s=0.0)
    scene.ask("a", slots=2)
    scene.loaded("a")
    scene.ask("b")
    assert scene.ask("a", priority="realtime", slots=2) == ["start 3"]


def test_what_was_loaded_for_somebody_answers_once_at_least() -> None:
    """A stream of higher ones does not make the load a waste."""
    scene = Scene(4.0, window_s=0.0)
    scene.ask("a", priority="batch")
    scene.ask("b", priority="realtime")
    assert scene.loaded("a") == ["start 1"]
    assert scene.finish(1) == ["evict a"]


def test_a_loop_that_asks_again_at_once_keeps_its_model_for_its_window() -> None:
    """Between two questions of one caller the model is idle for a moment, and is not lost in it."""
    scene = Scene(4.0, linger_s=0.05)
    scene.ask("a")
    scene.loaded("a")
    scene.ask("b", after=1.0)
    assert scene.finish(1) == []
    assert scene.alarm == pytest.approx(101.05)
    assert scene.ask("a", after=0.001) == ["start 3"]
    assert scene.finish(3, after=0.1) == []
    assert scene.wait(0.06) == ["evict a"]


# --- the function itself ----------------------------------------------------------------------------


def test_decisions_leave_their_input_as_it_was() -> None:
    """The same state and event give the same decision again."""
    state = State((device("gpu", 8),), now=1.0)
    event = Arrived(1.0, Request("r", "numpy:a", 70, 1.0), (option(3.2),))
    first = decide(state, event)
    assert state == State((device("gpu", 8),), now=1.0)
    assert decide(state, event) == first
    assert first.state.models["numpy:a"].status == "loading"


def test_a_request_to_an_idle_model_starts_by_a_short_way() -> None:
    """The result is what all steps come to; whatever concerns somebody else goes all the way."""
    scene = Scene(8.0)
    scene.have("a", "b")
    known = scene.state.models["numpy:a"]
    event = Arrived(scene.now + 1.0, Request("r", "numpy:a", 70, scene.now + 1.0), known.options)
    short = decide(scene.state, event)
    assert short == weigh(scene.state, event)
    assert short.effects == (Start("r", "numpy:a"),)
    assert short.state.models["numpy:b"] is scene.state.models["numpy:b"]
    for again in (event, replace(event, request=replace(event.request, kind="load"))):
        assert decide(short.state, again) == weigh(short.state, again)
        assert decide(scene.state, again) == weigh(scene.state, again)


def test_an_idle_engine_has_no_timer() -> None:
    """With models resident and nobody waiting, nothing is to be done at any time."""
    scene = Scene(8.0)
    scene.have("a", "b")
    _, effects = decide(scene.state, Ticked(scene.now + 1e6))
    assert effects == ()


def test_time_does_not_go_back() -> None:
    """Of two happenings at odds about the time, the later is right."""
    state = State((device("gpu", 8),), now=50.0)
    assert decide(state, Finished(40.0, "nobody")).state.now == 50.0


def test_alarm_is_the_last_effect() -> None:
    """Who carries effects out in their order sets the timer when the rest is done."""
    scene = Scene(8.0)
    scene.have("a")
    scene.ask("b", 3.0)
    scene.loaded("b")
    scene.ask("c", 7.0)
    assert isinstance(scene.effects[-1], Alarm)
