"""What loading would do, told before it is done; and that it then is what is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xprim_nb.scheduling.plan import DeviceRoom, Leaving, ResidencyPlan, plan
from xprim_nb.scheduling.state import PRIORITIES, Foreign

from .scenes import GB, Scene, device, gb, option, words

_ONE = (option(3.2),)


def _leaving(found: ResidencyPlan) -> list[tuple[str, str]]:
    return [(each.model, each.to) for each in found.leaving]


def test_five_models_on_a_device_for_two_are_planned_and_then_done() -> None:
    """Of five models of 3.2 GB on 8 GB each further one takes the place of the least recently used, as planned."""
    scene = Scene(8.0)
    scene.have("a", "b")
    here = ["a", "b"]
    for name in ("c", "d", "e", "a", "b"):
        found = plan(scene.state, f"numpy:{name}", _ONE)
        assert (found.verdict, _leaving(found)) == ("evicts", [(f"numpy:{here[0]}", "disk")])
        assert found.freed_bytes == int(3.2 * GB)
        assert scene.ask(name, after=1.0) == [f"evict {here[0]}"]
        assert scene.left(here.pop(0)) == [f"load {name}"]
        here.append(name)
        scene.loaded(name)
        scene.finish(scene.number)
    used = sorted(scene.state.models.values(), key=lambda each: each.last_used)
    assert [each.key for each in used if each.status == "resident"] == ["numpy:a", "numpy:b"]


def test_a_model_that_was_used_again_is_not_the_one_to_leave() -> None:
    """What counts is the latest answer, not the load."""
    scene = Scene(8.0)
    scene.have("a", "b")
    scene.ask("a", after=1.0)
    scene.finish(scene.number)
    assert _leaving(plan(scene.state, "numpy:c", _ONE)) == [("numpy:b", "disk")]
    assert scene.ask("c") == ["evict b"]


def test_a_plan_changes_nothing() -> None:
    """The state is as it was, and a plan of it is the same again."""
    scene = Scene(8.0)
    scene.have("a", "b")
    before = scene.state
    first = plan(scene.state, "numpy:c", _ONE)
    assert scene.state == before
    assert "numpy:c" not in scene.state.models
    assert plan(scene.state, "numpy:c", _ONE) == first


# --- verdicts ------------------------------------------------------------------------------------


def test_what_fits_is_told_with_its_room() -> None:
    """Nobody leaves; what it needs, what is free and what there is are told."""
    found = plan(Scene(8.0).state, "numpy:a", _ONE)
    assert (found.verdict, found.device, found.source, found.load_s) == ("fits", "gpu", "estimated", 1.0)
    assert found.rooms == (DeviceRoom("gpu", int(3.2 * GB), 8 * GB, 8 * GB),)
    assert (found.leaving, found.freed_bytes, found.message) == ((), 0, "")
    assert str(found) == (
        "a would be loaded on gpu\n  needs 3.2 GB (estimated) on gpu: 8.0 GB of 8.0 GB are free\n  time to load: 1.0 s"
    )


def test_what_is_here_needs_no_plan() -> None:
    """Resident it is there already, loading it comes; options that are known need not be given."""
    scene = Scene(8.0)
    scene.ask("a")
    coming = plan(scene.state, "numpy:a")
    assert (coming.verdict, str(coming)) == ("coming", "a comes to gpu already")
    scene.loaded("a")
    resident = plan(scene.state, "numpy:a")
    assert (resident.verdict, str(resident)) == ("resident", "a is on gpu already")


def test_what_is_parked_is_woken() -> None:
    """Beside its residue it needs the rest, and the time that waking takes; the others are parked for it."""
    scene = Scene(devices=(device("gpu", 4), device("cpu", 16)), parked=gb(gpu=0.5, cpu=3))
    scene.have("a")
    scene.ask("b")
    scene.left("a", parked=True)
    scene.loaded("b")
    scene.finish(2)
    found = plan(scene.state, "numpy:a")
    assert (found.verdict, found.wakes, found.load_s) == ("evicts", True, None)
    assert _leaving(found) == [("numpy:b", "parked")]
    assert [(each.device, each.needed_bytes) for each in found.rooms] == [
        ("gpu", int(3.2 * GB) - int(0.5 * GB))
    ]
    assert str(found).splitlines() == [
        "a would wake on gpu",
        "  needs 2.7 GB (measured) on gpu: 307.2 MB of 4.0 GB are free",
        "  b is parked: idle for 0.0 s; takes 3.0 GB on the CPU, gives back 2.7 GB on gpu",
        "  time to wake: is not known before it has been done once",
    ]
    assert scene.ask("a") == ["park b"]


def test_who_answers_is_waited_for() -> None:
    """The plan says for whom, and why that one cannot leave at once; it comes true when the answer has ended."""
    scene = Scene(4.0)
    scene.ask("a")
    scene.loaded("a")
    found = plan(scene.state, "numpy:b", _ONE)
    assert (found.verdict, _leaving(found)) == ("waits", [("numpy:a", "disk")])
    assert found.message.startswith("b fits when a has had its turn")
    assert found.leaving[0].waits_for == "a gives 1 answer"
    assert f"  waits: {found.message}" in str(found).splitlines()
    assert scene.ask("b") == []
    assert scene.finish(1, after=5.0) == ["evict a"]


def test_who_is_waited_for_by_others_says_so() -> None:
    """An idle model that somebody else's request is next for does not leave at once."""
    scene = Scene(4.0)
    scene.ask("a")
    scene.loaded("a")
    scene.ask("a")
    state = replace(
        scene.state,
        models={"numpy:a": replace(scene.model("a"), in_flight=frozenset(), wanted_out="")},
    )
    found = plan(state, "numpy:b", _ONE)
    assert (found.verdict, found.leaving[0].waits_for) == ("waits", "others wait for it")


def test_what_leaves_comes_back_after_that() -> None:
    """A model on its way out is loaded again once it is gone; where it was is where it would be."""
    scene = Scene(8.0)
    scene.have("a")
    scene.evict("a")
    found = plan(scene.state, "numpy:a")
    assert (found.verdict, found.device) == ("waits", "gpu")
    assert found.message == "a leaves, and is loaded again after that"


def test_others_who_come_first_are_waited_for() -> None:
    """The room is promised: a plan stands behind who came in the same moment, unless its priority is higher."""
    scene = Scene(8.0, window_s=60.0)
    scene.ask("a", 6.0)
    scene.loaded("a")
    scene.ask("b", 6.0)
    small = (option(3.0),)
    found = plan(scene.state, "numpy:c", small)
    assert (found.verdict, found.message) == ("waits", "c needs room that is promised to those before it")
    urgent = plan(scene.state, "numpy:c", small, priority=PRIORITIES["realtime"])
    assert urgent.verdict == "waits"
    assert urgent.leaving[0].model == "numpy:a"


def test_after_a_failure_it_waits_for_the_next_try() -> None:
    """The message has the time and the cause."""
    scene = Scene(8.0)
    scene.ask("a")
    scene.load_fails("a")
    found = plan(scene.state, "numpy:a")
    assert (found.verdict, found.device) == ("waits", "gpu")
    assert found.message == "a failed and is tried again in 1.0 s: its files are strange"


def test_what_is_broken_is_told_until_its_circuit_closes() -> None:
    """Before, the cause; after, a plan as for any other."""
    scene = Scene(8.0, circuit_failures=1)
    scene.ask("a")
    scene.load_fails("a")
    broken = plan(scene.state, "numpy:a")
    assert broken.verdict == "broken"
    assert str(broken).endswith("the last time: its files are strange")
    closed = replace(scene.state, now=scene.model("a").retry_at)
    assert plan(closed, "numpy:a").verdict == "fits"
    assert scene.model("a").status == "broken"


def test_what_can_never_be_had_is_told_with_numbers() -> None:
    """Larger than the device; and a model of which nothing says how it is held."""
    state = Scene(8.0).state
    found = plan(state, "numpy:a", (option(9.0),))
    assert (found.verdict, found.needed_bytes, found.available_bytes) == ("impossible", 9 * GB, 8 * GB)
    assert str(found) == found.message
    assert "9.0 GB" in found.message
    unknown = plan(state, "numpy:a")
    assert (unknown.verdict, unknown.message) == ("impossible", "a cannot be held here: nothing says how")


def test_less_than_was_asked_for_is_told() -> None:
    """The gentler option is planned when the better one can never be had, and its name is in the lines."""
    gentle = option(3.0, degraded="context of 2,048 tokens", context_tokens=2048)
    found = plan(Scene(8.0).state, "numpy:a", (option(9.0), gentle))
    assert (found.verdict, found.context_tokens) == ("fits", 2048)
    assert str(found).startswith(
        "a would be loaded on gpu, with less than was asked for (context of 2,048 tokens)"
    )


# --- who leaves ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lease", "verdict", "leaving"),
    [
        (
            Foreign("l1", "numpy:x", gb(gpu=3), 4711, evictable=True, last_used=90.0),
            "evicts",
            Leaving("numpy:x", "disk", gb(gpu=3), 10.0, 4711),
        ),
        (
            Foreign("l1", "numpy:x", gb(gpu=3), 4711, may_leave=True),
            "waits",
            Leaving("numpy:x", "disk", gb(gpu=3), 0.0, 4711, "it is in use there"),
        ),
    ],
    ids=["idle", "in use"],
)
def test_another_kernels_model_is_named_with_its_process(
    lease: Foreign, verdict: str, leaving: Leaving
) -> None:
    """Idle it is asked for; in use it is waited for."""
    scene = Scene(4.0, foreign=(lease,))
    found = plan(scene.state, "numpy:a", _ONE)
    assert (found.verdict, found.leaving) == (verdict, (leaving,))
    assert str(leaving).startswith("x of another kernel (process 4711) leaves: ")
    assert scene.ask("a") == (["ask for l1"] if verdict == "evicts" else [])


def test_memory_that_has_not_come_back_is_waited_for() -> None:
    """A ghost is named as what it is."""
    scene = Scene(4.0)
    scene.ask("a")
    scene.load_fails("a", is_final=True, left=gb(gpu=1.0))
    found = plan(scene.state, "numpy:b", _ONE)
    assert (found.verdict, [each.waits_for for each in found.leaving]) == (
        "waits",
        ["its memory has not come back yet"],
    )
    assert "a leaves: its memory has not come back yet; gives back 1.0 GB on gpu" in str(found)


def test_for_a_worker_process_a_model_leaves_that_gives_nothing_else() -> None:
    """At the limit of workers even a small one must go; worker processes are no device of the plan."""
    scene = Scene(8.0, max_workers=1)
    scene.have("a", size=0.0)
    found = plan(scene.state, "numpy:b", _ONE)
    assert [each.device for each in found.rooms] == ["gpu"]
    assert [str(each) for each in found.leaving] == [
        "a leaves: idle for 0.0 s; gives back its worker process"
    ]
    scene.ask("b")
    assert [words(each) for each in scene.effects] == ["evict a"]


def test_only_the_plans_device_counts_as_freed() -> None:
    """What parking takes of the machine's memory is not subtracted from what the accelerator gets back."""
    leaving = Leaving("numpy:a", "parked", (("cpu", -3 * GB), ("gpu", 2 * GB)), 1.0)
    found = ResidencyPlan("numpy:b", "evicts", device="gpu", leaving=(leaving, leaving))
    assert found.freed_bytes == 4 * GB
