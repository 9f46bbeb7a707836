"""What happens to a model, in words: crashes, failing loads, circuits, ghosts, refusals, wishes. Rule 1 of `policy`."""

from __future__ import annotations

import pytest

from xprim_nb.scheduling import happenings
from xprim_nb.scheduling.happenings import Arrived, Finished, Reject
from xprim_nb.scheduling.state import Foreign, Request

from .scenes import Scene, device, gb, option


def test_a_crashed_model_is_loaded_again_after_a_second_when_somebody_waits() -> None:
    """Its answers are gone; who waited goes on waiting, and an alarm says until when."""
    scene = Scene()
    scene.ask("a")
    scene.ask("a")
    scene.loaded("a")
    assert scene.crashed("a") == []
    assert scene.model("a").in_flight == frozenset()
    assert scene.alarm == 101.0
    assert scene.wait(0.9) == []
    assert scene.wait(0.1) == ["load a"]
    assert scene.loaded("a") == ["start 2"]


def test_nobody_waits_and_nothing_is_loaded_again() -> None:
    """A model that crashes while it is idle stays away, without a timer."""
    scene = Scene()
    scene.have("a")
    assert scene.crashed("a") == []
    assert scene.alarm is None
    assert scene.ask("a") == []
    assert scene.wait(1.0) == ["load a"]


def test_the_wait_doubles_with_each_recent_failure_up_to_its_cap() -> None:
    """1, 2, 4, 8 and so on, 30 s at most; failures that the circuit does not look back to do not count."""
    scene = Scene(circuit_failures=100)
    scene.ask("a")
    waits = []
    for _ in range(7):
        scene.load_fails("a")
        assert scene.alarm is not None
        waits.append(scene.alarm - scene.now)
        scene.wait(waits[-1])
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    scene.loaded("a")
    scene.finish(1)
    scene.wait(1000.0)
    scene.crashed("a")
    assert scene.model("a").retry_at - scene.now == 1.0


def test_too_many_failures_open_the_circuit_and_everybody_is_told() -> None:
    """Who waits is rejected with the cause, who comes is rejected at once, and no timer runs."""
    scene = Scene(circuit_failures=2)
    scene.ask("a")
    scene.ask("a")
    scene.load_fails("a")
    scene.wait(1.0)
    assert scene.load_fails("a") == ["reject 1: broken", "reject 2: broken"]
    assert scene.reasons[0] == (
        "a failed 2 times in a short time and is not started for 9 min 59 s; the last time: its files are strange"
    )
    assert scene.model("a").status == "broken"
    assert scene.ask("a", after=10.0) == ["reject 3: broken"]
    assert scene.alarm is None


def test_a_circuit_closes_by_hand_or_when_its_failures_are_long_ago() -> None:
    """A retry forgets the failures; otherwise one more failure within the time opens it again."""
    scene = Scene(circuit_failures=2)
    for _ in range(2):
        scene.ask("a", after=5.0)
        scene.load_fails("a")
        scene.wait(1.0)
        scene.load_fails("a")
        assert scene.model("a").status == "broken"
        assert scene.retry("a") == []
    assert scene.ask("a") == ["load a"]
    scene.load_fails("a")
    scene.wait(1.0)
    scene.load_fails("a")
    assert scene.ask("a", after=599.0) == ["load a"]
    assert scene.load_fails("a") == ["reject 4: broken"]


def test_a_final_failure_is_told_at_once() -> None:
    """Trying again cannot help; a later request tries again all the same, because the files may have been mended."""
    scene = Scene()
    scene.ask("a")
    scene.ask("a")
    assert scene.load_fails("a", is_final=True) == ["reject 1: refused", "reject 2: refused"]
    assert scene.reasons[0] == "a cannot be loaded: its files are strange"
    assert scene.ask("a") == ["load a"]


def test_a_crash_while_it_leaves_is_no_failure() -> None:
    """It was to go anyhow."""
    scene = Scene(4.0)
    scene.have("a")
    scene.ask("b")
    assert scene.crashed("a") == ["load b"]
    assert scene.model("a").failures == ()


def test_a_crash_while_it_is_parked_frees_its_residue() -> None:
    """Its worker is gone, and it is loaded, not woken, the next time."""
    scene = Scene(devices=(device("gpu", 4), device("cpu", 16)), parked=gb(gpu=0.5, cpu=3))
    scene.have("a")
    scene.ask("b")
    scene.left("a", parked=True)
    scene.crashed("a")
    assert scene.model("a").charges == ()
    assert scene.model("a").status == "absent"


def test_a_ghost_is_charged_until_it_has_recovered() -> None:
    """What did not come back is not given away; when it has, who waits is served."""
    scene = Scene(4.0)
    scene.have("a")
    scene.ask("b")
    assert scene.left("a", charges=gb(gpu=1.0)) == []
    assert scene.model("a").ghost == gb(gpu=1.0)
    assert scene.recovered("a", gb(gpu=0.1)) == ["load b"]
    assert scene.recovered("a") == []


def test_a_ghost_is_not_waited_for_for_ever() -> None:
    """It has half a minute to go; after that who waits for its memory is told."""
    scene = Scene(4.0)
    scene.ask("a")
    scene.ask("b")
    assert scene.load_fails("a", is_final=True, left=gb(gpu=1.0)) == ["reject 1: refused"]
    assert scene.alarm == 130.0
    assert scene.wait(30.0) == ["reject 2: capacity"]
    assert scene.reasons[0] == (
        "b needs 3.2 GB on gpu, and at most 3.0 GB of 4.0 GB can be had: 1.0 GB of a have not come back"
    )


def test_ghosts_of_several_failures_add_up() -> None:
    """A model that is loaded again has its ghost beside its charges."""
    scene = Scene(8.0)
    scene.ask("a")
    scene.load_fails("a", left=gb(gpu=1.0))
    scene.wait(1.0)
    scene.load_fails("a", left=gb(gpu=1.0))
    scene.wait(2.0)
    assert scene.model("a").ghost == gb(gpu=2.0)
    assert scene.model("a").charges == gb(gpu=3.2)
    assert scene.ask("b", 3.0) == []


def test_what_the_ledger_refuses_is_tried_again_a_moment_later() -> None:
    """Another kernel was quicker: what it took is known now, and no failure is counted."""
    scene = Scene(8.0)
    scene.have("a")
    scene.ask("b")
    lease = Foreign("l1", "x", gb(gpu=2), 4711)
    assert scene.refused("b", foreign=(lease,)) == []
    assert scene.model("b").failures == ()
    assert scene.alarm == scene.now + 0.5
    assert scene.wait(0.5) == ["evict a"]


def test_a_refused_wake_leaves_it_parked() -> None:
    """Its process and its residue are still there."""
    scene = Scene(devices=(device("gpu", 4), device("cpu", 16)), parked=gb(gpu=0.5, cpu=3))
    scene.have("a")
    scene.ask("b")
    scene.left("a", parked=True)
    scene.loaded("b")
    scene.ask("a")
    scene.finish(2, after=9.0)
    assert scene.left("b", parked=True) == ["wake a"]
    scene.refused("a")
    assert (scene.model("a").status, scene.model("a").charges) == ("parked", gb(gpu=0.5, cpu=3))
    assert scene.wait(0.5) == ["wake a"]


def test_what_was_measured_replaces_what_was_estimated() -> None:
    """After one load nothing is a guess: the room that is really left is given away."""
    scene = Scene(8.0)
    scene.ask("a", 5.0)
    scene.loaded("a", charges=gb(gpu=4.0))
    assert scene.model("a").options[0].source == "measured"
    assert scene.ask("b", 4.0) == ["load b"]


def test_a_model_that_is_wanted_out_leaves_when_it_is_idle() -> None:
    """It ends its answer, begins no other, and comes back for who waits."""
    scene = Scene()
    scene.ask("a")
    scene.loaded("a")
    assert scene.evict("a") == []
    assert scene.ask("a") == []
    assert scene.finish(1) == ["evict a"]
    assert scene.reasons == ["a leaves: asked for by its user"]
    assert scene.left("a") == ["load a"]


def test_an_idle_model_that_is_wanted_out_leaves_at_once() -> None:
    """Parked ones too."""
    scene = Scene(devices=(device("gpu", 4), device("cpu", 16)), parked=gb(gpu=0.5, cpu=3))
    scene.have("a")
    scene.ask("b")
    scene.left("a", parked=True)
    assert scene.evict("a") == ["evict a"]
    assert scene.evict("a") == []


def test_a_pinned_model_is_not_evicted_by_hand_either() -> None:
    """It is said, and nothing is marked: its next request starts."""
    scene = Scene()
    scene.have("a")
    scene.pin("a")
    assert scene.evict("a") == ["a stays"]
    assert scene.reasons == ["a is pinned and stays; unpin it first"]
    assert scene.ask("a") == ["start 2"]


def test_a_request_that_is_told_twice_waits_once() -> None:
    """Also when it has been started already."""
    scene = Scene()
    scene.ask("a")
    scene.number = 0
    assert scene.ask("a") == []
    assert [each.id for each in scene.state.waiting] == ["1"]
    scene.loaded("a")
    scene.number = 0
    assert scene.ask("a") == []
    assert not scene.state.waiting


@pytest.mark.parametrize(
    "late", ["loaded", "load_fails", "left", "crashed", "recovered", "retry", "evict", "unpin"]
)
def test_what_comes_too_late_changes_nothing(late: str) -> None:
    """News of a model that nobody has here leaves everything as it was."""
    scene = Scene()
    scene.have("a")
    before = scene.state
    if late in ("loaded", "load_fails"):
        assert getattr(scene, late)("a") == []
    else:
        kinds: dict[str, happenings.Event] = {
            "left": happenings.Left(scene.now, "numpy:x", False),
            "crashed": happenings.Crashed(scene.now, "numpy:x", "it was killed"),
            "recovered": happenings.Recovered(scene.now, "numpy:x"),
            "retry": happenings.Retried(scene.now, "numpy:x"),
            "evict": happenings.EvictAsked(scene.now, "numpy:x", "asked for"),
            "unpin": happenings.PinSet(scene.now, "numpy:x", False),
        }
        assert scene.tell(kinds[late]) == []
    assert scene.tell(Finished(scene.now, "nobody")) == []
    assert scene.state == before


def test_a_departed_request_is_not_answered() -> None:
    """It neither starts nor is it rejected."""
    scene = Scene()
    scene.ask("a")
    scene.ask("a")
    scene.depart(1)
    assert scene.loaded("a") == ["start 2"]
    assert not any(isinstance(each, Reject) for each in scene.effects)


def test_a_request_that_comes_again_keeps_its_place() -> None:
    """One that a crash ended is asked anew with its old time, and is before those who came since."""
    scene = Scene()
    scene.ask("a")
    scene.loaded("a")
    scene.ask("a", after=1.0)
    scene.crashed("a")
    scene.tell(Arrived(scene.now, Request("again", "numpy:a", 70, 100.0), (option(3.2),)))
    scene.wait(1.0)
    assert scene.loaded("a") == ["start again"]
