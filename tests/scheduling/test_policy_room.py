"""Room in words: who leaves for whom, what is promised, and what is told when nothing helps."""

from __future__ import annotations

from xprim_nb.scheduling.state import Foreign, Option

from .scenes import GB, Scene, device, gb, option

# --- 4.4: eviction ----------------------------------------------------------------------------------


def test_the_least_recently_used_idle_model_leaves() -> None:
    """Of two idle models the one that was used longer ago makes room, and the other one stays."""
    scene = Scene(8.0)
    scene.have("a", "b")
    scene.ask("a")
    scene.finish(3, after=1.0)
    assert scene.ask("c", after=4.0) == ["evict b"]
    assert scene.reasons == [
        "b was idle the longest (5.0 s) and leaves so that c (3.2 GB) fits; 1.6 GB of 8.0 GB were free"
    ]
    assert scene.left("b") == ["load c"]
    assert scene.reasons == ["c (3.2 GB, estimated) fits on gpu: 4.8 GB of 8.0 GB were free"]


def test_what_leaves_is_charged_until_it_has_left() -> None:
    """Nothing is loaded into memory that has not come back yet, and nobody else is evicted meanwhile."""
    scene = Scene(8.0)
    scene.have("a", "b")
    assert scene.ask("c") == ["evict a"]
    assert scene.wait(30.0) == []
    assert scene.model("a").charges == gb(gpu=3.2)


def test_a_model_in_use_is_never_evicted() -> None:
    """The idle one goes though it was used later."""
    scene = Scene(8.0)
    scene.ask("a")
    scene.loaded("a")
    scene.have("b")
    assert scene.ask("c", after=1.0) == ["evict b"]


def test_a_pinned_model_is_never_evicted() -> None:
    """The other one goes though it was used later."""
    scene = Scene(8.0)
    scene.have("a", "b")
    assert scene.pin("a") == []
    assert scene.ask("c") == ["evict b"]


def test_a_loading_model_is_never_evicted() -> None:
    """Who needs its room waits until it is here, and has answered who it was loaded for."""
    scene = Scene(4.0)
    scene.ask("a")
    assert scene.ask("b") == []
    assert scene.loaded("a", after=10.0) == ["start 1"]
    assert scene.finish(1, after=3.0) == ["evict a"]


def test_nothing_is_evicted_in_vain() -> None:
    """Where the idle ones do not make enough room, they stay until the busy one can go too."""
    scene = Scene(8.0)
    scene.have("a", size=3.0)
    scene.ask("b", 3.0)
    scene.loaded("b")
    assert scene.ask("c", 7.0) == []
    assert scene.wait(2.0) == []
    assert scene.finish(2) == ["evict a", "evict b"]


def test_at_the_limit_of_workers_the_least_recently_used_leaves() -> None:
    """Parked, leaving and loading models hold their worker too."""
    scene = Scene(80.0, max_workers=2)
    scene.have("a", "b")
    assert scene.ask("c", after=9.0) == ["evict a"]
    assert scene.reasons == [
        "a was idle the longest (10.0 s) and leaves so that c can start; 2 of 2 worker processes were taken"
    ]
    assert scene.ask("d") == ["evict b"]
    assert scene.left("a") == ["load c"]


# --- 4.4: parking -----------------------------------------------------------------------------------


def _parking(cpu: float, gpu: float = 8.0) -> Scene:
    return Scene(devices=(device("gpu", gpu), device("cpu", cpu)), parked=gb(gpu=0.5, cpu=3))


def test_what_can_park_is_parked_and_woken() -> None:
    """It keeps its worker and a residue, and waking takes the difference only."""
    scene = _parking(16.0)
    scene.have("a", "b")
    assert scene.ask("c") == ["park a"]
    assert dict(scene.model("a").charges)["cpu"] == 3 * GB
    assert scene.left("a", parked=True) == ["load c"]
    scene.loaded("c")
    scene.finish(3)
    assert scene.ask("a", after=1.0) == ["park b"]
    assert scene.left("b", parked=True) == ["wake a"]
    assert dict(scene.model("a").charges) == {"gpu": int(3.2 * GB), "cpu": 3 * GB}
    assert scene.loaded("a", charges=gb(gpu=3.2)) == ["start 4"]
    assert scene.model("a").charges == gb(gpu=3.2)


def test_without_room_in_memory_it_goes_to_disk() -> None:
    """Parking is never above the budget of the machine's memory."""
    scene = _parking(2.0)
    scene.have("a", "b")
    assert scene.ask("c") == ["evict a"]


def test_to_disk_when_its_residue_would_be_in_the_way() -> None:
    """What is left after parking would be too much, so the same model goes altogether."""
    scene = _parking(16.0, gpu=6.5)
    scene.have("a", "b")
    assert scene.ask("c", 3.2) == ["evict a"]


def test_what_is_parked_goes_to_disk_first_when_that_is_enough() -> None:
    """A residue of half a gigabyte is all that is missing: nobody awake has to leave."""
    scene = _parking(16.0)
    scene.have("a", "b")
    scene.ask("c")
    scene.left("a", parked=True)
    scene.loaded("c")
    scene.finish(3)
    assert scene.ask("d", 1.2) == ["evict a"]
    assert scene.reasons == [
        "a was parked and unused for 1.0 s, and leaves the machine so that d (1.2 GB) fits; 1.1 GB of 8.0 GB were free"
    ]


# --- 4.3, 4.6: promised room ------------------------------------------------------------------------


def test_a_smaller_model_does_not_take_the_room_that_a_larger_one_waits_for() -> None:
    """What comes free is promised to who is before; who comes later passes only where that harms nobody."""
    scene = Scene(8.0)
    scene.ask("a", 4.0)
    scene.loaded("a")
    scene.ask("b", 7.0)
    assert scene.ask("c", 3.0) == []
    assert scene.ask("d", 1.0) == ["load d"]
    assert scene.finish(1) == ["evict a"]
    assert scene.left("a") == ["load b"]


def test_a_higher_one_takes_the_room_that_was_promised() -> None:
    """What leaves for one goes to the one of higher priority who came meanwhile."""
    scene = Scene(4.0)
    scene.have("a")
    assert scene.ask("b") == ["evict a"]
    assert scene.ask("c", priority="realtime") == []
    assert scene.left("a") == ["load c"]


# --- 4.7, 4.9 ---------------------------------------------------------------------------------------


def _small(size: float) -> Option:
    return option(size, degraded="context of 2,048 tokens", context_tokens=2048)


def test_less_than_asked_for_only_when_nothing_else_can_ever_be_had() -> None:
    """While eviction of everybody would do, it waits for the whole; when pins leave too little, it takes less."""
    scene = Scene(8.0)
    scene.ask("a", 4.0)
    scene.loaded("a")
    assert scene.ask("b", (option(6.0), _small(3.0))) == []
    scene = Scene(8.0)
    scene.have("a", size=4.0)
    scene.pin("a")
    assert scene.ask("b", (option(6.0), _small(3.0))) == ["load b (context of 2,048 tokens)"]
    (reason,) = scene.reasons
    assert reason.startswith(
        "b (3.0 GB, estimated) fits on gpu, with less than was asked for (context of 2,048 tokens)"
    )


def test_what_can_never_fit_is_told_at_once_with_the_numbers() -> None:
    """Everybody who waits for it hears what it needs, what could be had, and who has the rest."""
    lease = Foreign("l1", "x", gb(gpu=1.5), 4711)
    scene = Scene(devices=(device("gpu", 8, 1),), foreign=(lease,))
    scene.have("a")
    scene.pin("a")
    assert scene.ask("b", 4.0) == ["reject 2: capacity"]
    (message,) = scene.reasons
    assert message == (
        "b needs 4.0 GB on gpu, and at most 2.3 GB of 8.0 GB can be had: "
        "a (3.2 GB) is pinned, other programs take 1.0 GB and other kernels hold 1.5 GB"
    )
    assert scene.state.waiting == ()


def test_larger_than_the_device_is_told_as_that() -> None:
    """Nobody is to blame, and nobody is named."""
    scene = Scene(8.0)
    assert scene.ask("b", (option(12.0), _small(9.0))) == ["reject 1: capacity"]
    assert scene.reasons == [
        "b needs 9.0 GB on gpu even with less than was asked for (context of 2,048 tokens), which has 8.0 GB for models"
    ]


def test_waiting_ends_when_others_take_what_it_waited_for() -> None:
    """Another program has grown meanwhile: who waited is told, and does not wait for ever."""
    scene = Scene(8.0)
    scene.ask("a", 4.0)
    scene.loaded("a")
    assert scene.ask("b", 6.0) == []
    assert scene.look(device("gpu", 8, 3)) == ["reject 2: capacity"]


def test_all_workers_pinned_is_told_as_that() -> None:
    """Memory is not what is missing."""
    scene = Scene(80.0, max_workers=1)
    scene.have("a")
    scene.pin("a")
    assert scene.ask("b") == ["reject 2: capacity"]
    assert scene.reasons == ["b needs a worker process; there may be 1, and a is pinned"]


# --- other kernels ----------------------------------------------------------------------------------


def test_another_kernel_is_asked_once_and_only_when_our_own_do_not_suffice() -> None:
    """Our idle model goes first; the other kernel's is asked for when more is needed, and then waited for."""
    lease = Foreign("l1", "numpy:x", gb(gpu=4), 4711, evictable=True)
    scene = Scene(8.0, foreign=(lease,))
    scene.have("a", size=2.0)
    assert scene.ask("b", 3.0) == ["evict a"]
    assert scene.ask("c", 5.0) == ["ask for l1"]
    assert scene.look(foreign=(lease,)) == []
    assert scene.look(foreign=()) == ["load b"]
    assert scene.left("a") == ["load c"]


def test_what_another_kernel_does_not_let_go_is_not_waited_for_for_ever() -> None:
    """After half a minute it counts as taken, and who waits is told."""
    lease = Foreign("l1", "numpy:x", gb(gpu=6), 4711, evictable=True)
    scene = Scene(8.0, foreign=(lease,))
    assert scene.ask("b", 5.0) == ["ask for l1"]
    assert scene.alarm == 130.0
    assert scene.wait(30.0) == ["reject 1: capacity"]


def test_what_may_leave_some_time_is_waited_for() -> None:
    """A model that answers in another kernel is not asked for, and its end is not ruled out."""
    lease = Foreign("l1", "numpy:x", gb(gpu=6), 4711, may_leave=True)
    scene = Scene(8.0, foreign=(lease,))
    assert scene.ask("b", 5.0) == []
    idle = Foreign("l1", "numpy:x", gb(gpu=6), 4711, evictable=True)
    assert scene.look(foreign=(idle,)) == ["ask for l1"]
