"""From a look at the engine to rows: words, shares, what can be done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xprim_nb.scheduling.values import Charge, DeviceView, EngineSnapshot, ModelView, QueueView
from xprim_widgets._residency_rows import (
    crash_row,
    device_rows,
    is_busy,
    model_rows,
    name_of,
    queue_rows,
    verdict_of,
)

from .residing import CRASH, GB, LOOK, OTHER, A

_EVIL = "<img src=x onerror=alert(1)>\x1b[31m\u202e" + "x" * 10_000


def _model(**facts: object) -> ModelView:
    return replace(LOOK.models[1], **facts)  # type: ignore[arg-type]  # facts of a ModelView


def test_a_bar_is_whole() -> None:
    """Models, other kernels', other programs and what is free are all of it."""
    sim, cpu = device_rows(LOOK)
    assert [(part.kind, part.percent) for part in sim.parts] == [
        ("resident", 25.0),
        ("kernel", 12.5),
        ("external", 12.5),
        ("free", 50.0),
    ]
    assert sim.percent == 50
    assert sim.line == "3.0 GB of 8.0 GB taken by models, 4.0 GB free for more"
    assert sim.notes.startswith("simulated")
    assert sim.parts[1].words == "loaded, by kernel 77"
    assert cpu.name == "this machine's memory"
    assert cpu.notes == "models may take 12.0 GB of its 16.0 GB"


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("reserved", "loading"),
        ("loading", "loading"),
        ("resident", "resident"),
        ("draining", "leaving"),
        ("releasing", "leaving"),
        ("parked", "parked"),
        ("ghost", "ghost"),
        ("something new", "resident"),
    ],
)
def test_each_state_of_a_lease_has_its_kind(state: str, kind: str) -> None:
    """And is said in words too."""
    view = DeviceView("cuda:0", "GPU", "cuda", 8 * GB, 8 * GB, charges=(Charge(A, GB, state, 1),))
    (row,) = device_rows(EngineSnapshot(0.0, (view,)))
    assert row.parts[0].kind == kind
    assert row.parts[0].words


def test_more_may_be_taken_than_may_be() -> None:
    """The bar is as long as what is taken, and says so."""
    view = DeviceView(
        "cuda:0", "GPU", "cuda", 8 * GB, 4 * GB, 3 * GB, charges=(Charge(A, 3 * GB, "resident", 1),)
    )
    (row,) = device_rows(EngineSnapshot(0.0, (view,)))
    assert sum(part.percent for part in row.parts) == 100.0
    assert row.percent == 100
    assert "2.0 GB more is taken than models may take" in row.notes


def test_a_device_of_nothing_is_drawn() -> None:
    """A budget of 0 is no division by it."""
    (row,) = device_rows(EngineSnapshot(0.0, (DeviceView("mps", "GPU", "mps", 0, 0),)))
    assert row.parts == ()


@pytest.mark.parametrize(
    ("facts", "acts"),
    [
        ({"status": "resident"}, ("evict", "pin")),
        ({"status": "resident", "pinned": True}, ("evict", "unpin")),
        ({"status": "loading"}, ("evict", "pin")),
        ({"status": "broken"}, ("retry",)),
        ({"status": "absent"}, ("plan",)),
        ({"status": "elsewhere"}, ()),
    ],
)
def test_only_what_applies_can_be_done(facts: dict[str, object], acts: tuple[str, ...]) -> None:
    """By state, and whether it is pinned."""
    (row,) = model_rows(EngineSnapshot(0.0, models=(_model(**facts),)))
    assert row.acts == acts


def test_a_row_says_everything() -> None:
    """Where, how much and how that is known, for whom, since when."""
    row = model_rows(LOOK)[0]
    assert (row.size, row.device, row.context) == ("2.0 GB measured", "sim:8gb", "4,096 tokens")
    assert (row.counts, row.idle, row.process) == (
        "3 served",
        "idle for 3 minutes",
        "process 4711, this kernel",
    )
    assert row.note == "loaded for cell 4"
    (gone,) = model_rows(EngineSnapshot(0.0, models=(_model(status="absent", worker_pid=None),)))
    assert (gone.note, gone.process) == ("last loaded for cell 4", "")
    (busy,) = model_rows(
        EngineSnapshot(0.0, models=(_model(in_flight=2, waiting=1, why_not_evict="It answers."),))
    )
    assert (busy.counts, busy.idle, busy.why_not_evict) == (
        "2 in flight, 1 waiting, 3 served",
        "",
        "It answers.",
    )
    (loading,) = model_rows(EngineSnapshot(0.0, models=(_model(status="loading", fraction=0.4),)))
    assert loading.percent == 40
    (broken,) = model_rows(
        EngineSnapshot(0.0, models=(_model(status="broken", cause="It crashed 3 times."),))
    )
    assert (broken.cause, broken.percent) == ("It crashed 3 times.", None)


def test_the_same_model_of_two_kernels_is_two_rows() -> None:
    """A name means this kernel's then: the other's has no button that would hit the wrong one."""
    mine = _model()
    theirs = _model(kernel_pid=77, is_mine=False)
    rows = model_rows(EngineSnapshot(0.0, models=(theirs, mine)))
    assert [row.mine for row in rows] == [True, False]
    assert len({row.id for row in rows}) == 2
    assert rows[1].acts == ("evict",)
    assert "kernel 77" in rows[1].why_not_evict


def test_it_is_told_in_a_sentence() -> None:
    """Nothing awake, answers being given."""
    assert verdict_of(EngineSnapshot(0.0)) == "No model is awake."
    assert (
        verdict_of(EngineSnapshot(0.0, models=(_model(in_flight=1),)))
        == "1 model awake, 1 answer being given."
    )


def test_what_goes_on_by_itself_is_busy() -> None:
    """Loading, answering and waiting are; loaded is not."""
    assert is_busy(LOOK)
    assert not is_busy(replace(LOOK, queue=()))
    assert is_busy(EngineSnapshot(0.0, models=(_model(status="loading"),)))
    assert is_busy(EngineSnapshot(0.0, models=(_model(in_flight=1),)))


def test_a_long_queue_is_cut() -> None:
    """The first are on screen, by position."""
    queue = [QueueView(str(at), A, "batch", at, "waits", 61.0) for at in range(200, 0, -1)]
    rows = queue_rows(queue)
    assert [row.position for row in rows] == list(range(1, 21))
    assert rows[0].waited == "1 minute"


def test_hostile_text_is_text() -> None:
    """Names, causes, reasons and log lines hold no control character, and have an end."""
    model = _model(name=_EVIL, cause=_EVIL, note=_EVIL, why_not_evict=_EVIL, status="broken")
    (row,) = model_rows(EngineSnapshot(0.0, models=(model,)))
    (waiting,) = queue_rows([QueueView("1", f"x:{_EVIL}", "default", 1, _EVIL, 0.0)])
    crash = crash_row(replace(CRASH, model=f"x:{_EVIL}", detail=_EVIL, last_lines=(_EVIL,), advice=(_EVIL,)))
    for text in (
        row.name,
        row.cause,
        row.note,
        waiting.model,
        waiting.reason,
        crash["title"],
        *crash["lines"],
    ):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert len(text) < 1000
    assert name_of(OTHER) == "demo/theirs v1"
