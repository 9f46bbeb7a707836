"""What the engine's values have to tell in a cell."""

from __future__ import annotations

from dataclasses import replace

from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.magics.facts import facts_of, facts_text
from xprim_nb.scheduling.plan import DeviceRoom, Leaving, ResidencyPlan
from xprim_nb.scheduling.values import Charge, DeviceView, EngineSnapshot, QueueView
from xprim_nb.workers.values import CrashReport

from ..fake_engine import AWAKE, MODEL

_GB = 1 << 30
_DEVICE = DeviceView(
    "cuda:0",
    "NVIDIA H100",
    "cuda",
    80 * _GB,
    10 * _GB,
    1 * _GB,
    None,
    (Charge(MODEL, 4 * _GB, "resident", 1),),
)


def test_a_model() -> None:
    """Where it is, what it takes and how that is known, whose it is, and why it cannot leave."""
    told = facts_text(facts_of(replace(AWAKE, pinned=True, why_not_evict="It is pinned.", is_mine=True)))
    lines = told.splitlines()
    assert "Status:      resident" in lines
    assert "Takes:       64.0 MB of cpu, measured" in lines
    assert "Answers:     0 now, 0 waiting, 3 given" in lines
    assert "Held by:     this kernel" in lines
    assert "Stays:       It is pinned." in lines
    gone = facts_of(replace(AWAKE, status="broken", device="", worker_pid=None, cause="It crashed."))
    assert gone["Broken"] == "It crashed."
    assert "Takes" not in gone
    assert facts_of(replace(AWAKE, status="loading", fraction=0.4))["Status"] == "loading, 40%"


def test_a_snapshot() -> None:
    """Who is awake, what each device has left, who waits and why, who crashed."""
    told = facts_of(
        EngineSnapshot(
            0.0,
            (_DEVICE,),
            (AWAKE, replace(AWAKE, key="b", status="broken", cause="It crashed five times.")),
            (QueueView("r1", "c", "batch", 1, "no memory is free", 2.0),),
            (CrashReport("b", 1, "killed", "It was killed by SIGKILL."),),
        )
    )
    assert told["Awake"] == ((MODEL, "resident, 64.0 MB on cpu"),)
    assert told["Devices"] == (("cuda:0", "4.0 GB of 10.0 GB taken by models, 1.0 GB others"),)
    assert told["Queue"] == (("1. c", "no memory is free"),)
    assert told["Broken"] == (("b", "It crashed five times."),)
    assert told["Crashes"] == (("b", "It was killed by SIGKILL."),)
    assert facts_of(EngineSnapshot(0.0))["Awake"] == "no model"


def test_a_device_and_a_place_in_the_queue() -> None:
    """Each says what it is and what is left, in words."""
    assert facts_of(_DEVICE) == {
        "Device": "cuda:0 (NVIDIA H100)",
        "Budget": "10.0 GB of 80.0 GB",
        "Models": ((MODEL, "4.0 GB, resident"),),
        "Other programs": "1.0 GB",
        "Left": "5.0 GB",
    }
    waiting = facts_of(QueueView("r1", "c", "batch", 2, "no memory is free", 2.0, "In [3]"))
    assert (waiting["Place"], waiting["Asked by"]) == ("number 2, priority batch", "In [3]")
    assert "Asked by" not in facts_of(QueueView("r1", "c", "batch", 2, "no memory is free", 2.0))


def test_a_plan() -> None:
    """What would happen, what is needed of each device, who would leave, or why it cannot be."""
    leaves = Leaving("numpy:other v1", "disk", (("cuda:0", 2 * _GB),), idle_s=60.0)
    told = facts_of(
        ResidencyPlan(
            MODEL,
            "evicts",
            device="cuda:0",
            context_tokens=4096,
            source="measured",
            load_s=2.0,
            rooms=(DeviceRoom("cuda:0", 3 * _GB, 2 * _GB, 10 * _GB),),
            leaving=(leaves,),
        )
    )
    assert told["Plan"] == "loads when others have left"
    assert told["Takes"] == (("cuda:0", "3.0 GB, measured"),)
    assert told["Leaves"] == (("numpy:other v1", str(leaves)),)
    assert (told["Frees"], told["Loads in"]) == ("2.0 GB", "about 2.0 s")
    assert facts_of(ResidencyPlan(MODEL, "impossible", "It needs 20.0 GB.")) == {
        "Model": MODEL,
        "Plan": "cannot be loaded",
        "Why": "It needs 20.0 GB.",
    }


def test_names_from_elsewhere_are_harmless(shell: InteractiveShell) -> None:
    """A server's model may be called anything: in a cell it drives no terminal and is no markup."""
    assert shell.display_formatter is not None
    data, _ = shell.display_formatter.format(replace(AWAKE, key="<b>\x1b[31m"))
    assert "\x1b" not in data["text/plain"] + data["text/html"]
    assert "<b>" not in data["text/html"]
