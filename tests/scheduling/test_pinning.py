"""Pins may not starve the rest."""

from __future__ import annotations

from xprim_nb.scheduling.happenings import PinRefused

from .scenes import GB, Scene, option


def test_a_pin_is_refused_when_another_model_could_never_be_loaded_beside_it() -> None:
    """The refusal names the other one, with the numbers; the model stays as it was."""
    scene = Scene(8.0)
    scene.have("a", size=5.0)
    scene.have("b", size=3.0)
    assert scene.pin("a") == []
    assert scene.pin("b") == []
    scene = Scene(8.0)
    scene.have("a", size=5.0)
    scene.ask("b", 4.0)
    assert scene.pin("a") == ["no pin for a"]
    assert scene.effects[0] == PinRefused(
        "numpy:a",
        "a is not pinned: b needs 4.0 GB on gpu, and 3.0 GB would be left for it",
        4 * GB,
        3 * GB,
    )
    assert not scene.model("a").pinned


def test_all_pins_count_together() -> None:
    """Two pins that would do alone do not together."""
    scene = Scene(8.0)
    scene.have("a", "b", size=2.0)
    scene.have("c", size=4.0)
    assert scene.pin("a") == []
    assert scene.pin("b") == []
    scene = Scene(8.0)
    scene.have("a", "b", size=2.5)
    scene.ask("c", 4.0)
    assert scene.pin("a") == []
    assert scene.pin("b") == ["no pin for b"]


def test_what_could_not_be_loaded_anyhow_is_no_reason() -> None:
    """A model larger than the device keeps nobody from pinning."""
    scene = Scene(8.0)
    scene.have("a")
    scene.ask("huge", 20.0)
    assert scene.pin("a") == []


def test_a_model_that_is_not_here_is_pinned_by_its_size() -> None:
    """It stays when it has come."""
    scene = Scene(8.0)
    scene.have("a", size=5.0)
    assert scene.pin("b", 4.0) == ["no pin for b"]
    assert scene.pin("c", 3.0) == []
    assert scene.ask("c", 3.0) == ["load c"]
    assert scene.model("c").pinned


def test_one_worker_is_left_for_the_others() -> None:
    """With two workers one model can be pinned, not two."""
    scene = Scene(80.0, max_workers=2)
    scene.have("a", "b")
    scene.ask("c")
    assert scene.pin("a") == []
    assert scene.pin("b") == ["no pin for b"]
    assert scene.reasons == ["b is not pinned: of 2 worker processes none would be left for c"]


def test_less_than_asked_for_is_not_what_others_are_left() -> None:
    """That another model could run degraded is no excuse for a pin."""
    scene = Scene(8.0)
    scene.have("a", size=5.0)
    scene.ask("b", (option(4.0), option(2.0, degraded="context of 2,048 tokens")))
    assert scene.pin("a") == ["no pin for a"]


def test_a_pin_takes_a_stop_back_and_unpinning_lets_it_go() -> None:
    """A model that made room is pinned, and serves again; unpinned, it is evicted like any other."""
    scene = Scene(8.0, window_s=0.0)
    scene.have("c")
    scene.ask("a", slots=2)
    scene.loaded("a")
    scene.ask("c")
    scene.ask("b", 4.8)
    assert scene.ask("a", slots=2) == []
    assert scene.model("a").wanted_for == "numpy:b"
    assert scene.pin("a") == ["start 5"]
    scene = Scene(8.0)
    scene.have("a", "b")
    scene.pin("a")
    scene.unpin("a")
    assert scene.ask("c") == ["evict a"]
