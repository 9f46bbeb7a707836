"""Why something was decided, and why somebody waits, in sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xprim_nb.scheduling.explain import Place, queue_position, queue_positions, why, why_not_evict
from xprim_nb.scheduling.happenings import Arrived, Departed, Effect, Event, Load, Reject, Wake
from xprim_nb.scheduling.replay import Entry
from xprim_nb.scheduling.state import Foreign, ModelState, Request, State

from .scenes import Scene, device, gb, option


def _why(scene: Scene, name: str) -> str:
    return why(scene.log, f"numpy:{name}")


def _waits(scene: Scene) -> list[Place]:
    return queue_positions(scene.state)


# --- why -----------------------------------------------------------------------------------------


def test_an_eviction_is_explained_in_one_sentence() -> None:
    """Who needed the room, how much, what was free, since when it was idle; and how long ago that was."""
    scene = Scene(8.0)
    scene.have("a", "b")
    scene.ask("c", after=1.0)
    scene.wait(4.0)
    assert _why(scene, "a") == (
        "a was idle the longest (2.0 s) and leaves so that c (3.2 GB) fits; 1.6 GB of 8.0 GB were free (4.0 s ago)"
    )


def test_how_long_ago_is_counted_to_the_moment_of_asking() -> None:
    """While nothing happens the log does not grow, and time passes all the same."""
    scene = Scene(8.0)
    scene.have("a")
    assert _why(scene, "a").endswith("(0.0 s ago)")
    assert why(scene.log, "numpy:a", scene.now + 90.0).endswith("(1 min 30 s ago)")
    assert why(scene.log, "numpy:a", scene.now - 1.0).endswith("(0.0 s ago)")


def test_a_load_is_explained_and_so_is_a_wake() -> None:
    """The latest counts: what was loaded, then parked, then woken is told as woken."""
    scene = Scene(devices=(device("gpu", 4), device("cpu", 16)), parked=gb(gpu=0.5, cpu=3))
    scene.have("a")
    assert _why(scene, "a").startswith("a (3.2 GB, estimated) fits on gpu: 4.0 GB of 4.0 GB were free")
    scene.ask("b")
    assert _why(scene, "a").startswith("a was idle the longest (0.0 s) and is parked so that b (3.2 GB) fits")
    scene.left("a", parked=True)
    scene.loaded("b")
    scene.finish(2)
    scene.ask("a")
    scene.left("b", parked=True)
    assert isinstance(scene.effects[0], Wake)
    assert _why(scene, "a").startswith("a (3.2 GB, measured) wakes on gpu")


def test_a_refusal_is_explained_with_its_numbers() -> None:
    """Who was rejected, for whichever model; a request of another model is not mixed up with it."""
    scene = Scene(8.0)
    scene.ask("a", 9.0)
    scene.ask("b")
    assert _why(scene, "a") == "a needs 9.0 GB on gpu, which has 8.0 GB for models (0.0 s ago)"
    assert _why(scene, "b").startswith("b (3.2 GB, estimated) fits")


def test_a_refusal_of_a_request_that_the_log_has_forgotten_explains_nothing() -> None:
    """Which model it was for is known from its arrival alone."""
    log = [Entry(Departed(1.0, "2"), (Reject("1", "capacity", "too large"),))]
    assert why(log, "numpy:a") == "nothing has been decided about a lately"


def test_pins_and_evictions_that_were_refused_are_explained() -> None:
    """A pin that leaves others no room, and an eviction of what is pinned."""
    scene = Scene(4.0)
    scene.have("a")
    scene.pin("a")
    scene.evict("a")
    assert _why(scene, "a") == "a is pinned and stays; unpin it first (0.0 s ago)"
    scene = Scene(8.0)
    scene.ask("a", 5.0)
    assert scene.pin("b", 4.0) == ["no pin for b"]
    assert _why(scene, "b") == f"{scene.reasons[-1]} (0.0 s ago)"


def test_failures_and_crashes_are_explained_by_what_happened() -> None:
    """Where nothing was decided, the event is the reason."""
    scene = Scene(8.0)
    scene.ask("a")
    scene.load_fails("a")
    assert _why(scene, "a") == "a could not be loaded: its files are strange (0.0 s ago)"
    scene.wait(1.0)
    scene.loaded("a")
    scene.crashed("a")
    assert _why(scene, "a") == "a crashed: it was killed (0.0 s ago)"
    scene.ask("b")
    scene.refused("b")
    assert _why(scene, "b") == "b was not loaded, because another kernel took the memory first (0.0 s ago)"


def test_what_was_decided_at_an_event_goes_before_the_event() -> None:
    """A failure that opens the circuit is told as that, with the number of failures."""
    scene = Scene(8.0, circuit_failures=1)
    scene.ask("a")
    scene.load_fails("a")
    assert _why(scene, "a").startswith("a failed 1 time in a short time and is not started for")


def test_another_kernels_model_is_explained_by_its_lease() -> None:
    """Why it was asked for."""
    lease = Foreign("l1", "numpy:x", gb(gpu=3), 4711, evictable=True)
    scene = Scene(4.0, foreign=(lease,))
    scene.ask("a")
    assert why(scene.log, "l1").startswith("x is idle in another kernel (process 4711), which is asked")


def test_of_what_never_happened_nothing_is_told() -> None:
    """An empty log, and one that is about others."""
    scene = Scene(8.0)
    assert _why(scene, "x") == "nothing has been decided about x lately"
    scene.have("a")
    assert _why(scene, "x") == "nothing has been decided about x lately"


def test_of_several_effects_of_one_event_the_last_counts() -> None:
    """What was decided later replaces what was decided before."""
    event: Event = Arrived(1.0, Request("1", "numpy:a", 70, 1.0), ())
    effects: tuple[Effect, ...] = (
        Load("numpy:a", option(1.0), "it fits"),
        Reject("1", "capacity", "it does not fit after all"),
    )
    assert why([Entry(event, effects)], "numpy:a") == "it does not fit after all (0.0 s ago)"


# --- why not -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (ModelState("numpy:a", (), status="resident"), ""),
        (ModelState("numpy:a", (), status="parked"), ""),
        (ModelState("numpy:a", (), status="absent"), ""),
        (ModelState("numpy:a", (), status="resident", pinned=True, in_flight=frozenset("1")), "a is pinned"),
        (ModelState("numpy:a", (), status="resident", in_flight=frozenset("1")), "a gives 1 answer"),
        (ModelState("numpy:a", (), status="resident", in_flight=frozenset("12")), "a gives 2 answers"),
        (ModelState("numpy:a", (), status="loading"), "a is being loaded"),
        (ModelState("numpy:a", (), status="waking"), "a wakes"),
        (ModelState("numpy:a", (), status="leaving"), "a leaves already"),
    ],
)
def test_why_a_model_cannot_be_evicted(model: ModelState, told: str) -> None:
    """What is idle or nowhere can; all else has its reason, pins first."""
    assert why_not_evict(model) == told


# --- the queue -----------------------------------------------------------------------------------


def test_nobody_waits_in_an_empty_queue() -> None:
    """No places; and a request that does not wait has none."""
    scene = Scene()
    assert queue_positions(State()) == []
    scene.ask("a")
    assert queue_position(scene.state, "1") == ("1", 1, "a is being loaded")
    assert queue_position(scene.state, "2") is None


def test_places_are_in_the_order_of_the_queue() -> None:
    """Higher priorities first; who waits for a busy model hears how many are before, each model by itself."""
    scene = Scene(8.0, window_s=60.0)
    scene.ask("a")
    scene.loaded("a")
    scene.ask("a", priority="batch")
    scene.ask("a", priority="realtime")
    scene.ask("a")
    scene.ask("b")
    assert _waits(scene) == [
        ("3", 1, "a gives 1 answer already"),
        ("4", 2, "a gives 1 answer already, and 1 request for it is before"),
        ("5", 3, "b is being loaded"),
        ("2", 4, "a gives 1 answer already, and 2 requests for it are before"),
    ]


def test_who_waits_for_room_hears_who_is_in_the_way() -> None:
    """What leaves already; what answers and has its turn; and since when at the latest that ends."""
    scene = Scene(8.0)
    scene.have("a", "b")
    scene.ask("c")
    assert _waits(scene) == [("3", 1, "c fits when a has left")]
    scene.left("a")
    scene.loaded("c")
    scene.ask("b")
    scene.ask("d", 7.0, after=0.5)
    assert _waits(scene) == [
        (
            "5",
            1,
            "d fits when b has had its turn, in 2.0 s at the latest and c has had its turn, in 2.0 s at the latest",
        )
    ]


def test_several_who_leave_are_named_together() -> None:
    """Our own and another kernel's, which has been asked."""
    lease = Foreign("l1", "numpy:x", gb(gpu=3), 4711, evictable=True)
    scene = Scene(8.0, foreign=(lease,))
    scene.have("a", size=3.0)
    scene.ask("b", 7.0)
    assert _waits(scene) == [("2", 1, "b fits when a and x of another kernel have left")]


def test_who_must_stop_ends_its_answers_first() -> None:
    """Its window has ended: it begins no other, and is loaded again for those who wait for it."""
    scene = Scene(4.0, window_s=0.0)
    scene.ask("a")
    scene.loaded("a")
    scene.ask("b", after=1.0)
    scene.ask("a")
    assert _waits(scene) == [
        ("2", 1, "b fits when a ends its 1 answer"),
        ("3", 2, "a makes room for b, and is loaded again after that"),
    ]


def test_what_a_person_wants_out_comes_back_after_that() -> None:
    """While it answers, and while it leaves."""
    scene = Scene()
    scene.ask("a")
    scene.loaded("a")
    scene.evict("a")
    scene.ask("a")
    assert _waits(scene) == [("2", 1, "a leaves (asked for by its user), and is loaded again after that")]
    scene.finish(1)
    assert _waits(scene) == [("2", 1, "a leaves, and is loaded again after that")]


def test_who_waits_for_a_waking_model_hears_that() -> None:
    """It is not being loaded: that would take longer."""
    scene = Scene(devices=(device("gpu", 4), device("cpu", 16)), parked=gb(gpu=0.5, cpu=3))
    scene.have("a")
    scene.ask("b")
    scene.left("a", parked=True)
    scene.loaded("b")
    scene.finish(2)
    scene.ask("a")
    scene.left("b", parked=True)
    assert _waits(scene) == [("3", 1, "a wakes")]


def test_after_a_failure_the_next_try_is_told() -> None:
    """With its cause; or, where another kernel was quicker, with that."""
    scene = Scene()
    scene.ask("a")
    scene.load_fails("a")
    assert _waits(scene) == [("1", 1, "a failed and is tried again in 1.0 s: its files are strange")]
    scene = Scene()
    scene.ask("a")
    scene.refused("a")
    assert _waits(scene) == [("1", 1, "another kernel was quicker, and a is tried again in 0.5 s")]


def test_behind_others_room_is_promised_away() -> None:
    """A small one does not pass where that would delay a larger one."""
    scene = Scene(8.0, window_s=60.0)
    scene.ask("a", 6.0)
    scene.loaded("a")
    scene.ask("b", 6.0)
    scene.ask("c", 3.0)
    assert _waits(scene)[1] == ("3", 2, "c needs room that is promised to those before it")


def test_loads_of_others_and_their_kernels_and_ghosts_are_waited_for() -> None:
    """Each of those in the way has its own words."""
    scene = Scene(4.0)
    scene.ask("a")
    scene.ask("b", after=1.0)
    assert _waits(scene)[1] == ("2", 2, "b fits when a has been loaded and had its turn")
    lease = Foreign("l1", "numpy:x", gb(gpu=3), 4711, may_leave=True)
    scene = Scene(4.0, foreign=(lease,))
    scene.ask("a")
    assert _waits(scene) == [("1", 1, "a fits when x of another kernel ends its work")]
    scene = Scene(4.0)
    scene.ask("a")
    scene.load_fails("a", is_final=True, left=gb(gpu=1.0))
    scene.ask("b")
    assert _waits(scene) == [("2", 1, "b fits when the memory of a has come back")]


def test_what_is_about_to_be_decided_is_told_as_it_will_be() -> None:
    """A state that no decision has seen yet: one that fits is next, and one that never can is told its numbers."""
    request = Request("1", "numpy:a", 70, 100.0)
    model = ModelState("numpy:a", (option(3.2),))
    state = State((device("gpu", 8),), {"numpy:a": model}, (request,), now=100.0)
    assert queue_positions(state) == [("1", 1, "a is next to be loaded")]
    large = replace(state, models={"numpy:a": replace(model, options=(option(9.0),))})
    assert queue_positions(large) == [("1", 1, "a needs 9.0 GB on gpu, which has 8.0 GB for models")]
