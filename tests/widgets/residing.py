"""An engine that records what it is asked and shows what a test wants, and looks at it to show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from xprim_nb._bridge import Handle
from xprim_nb.errors import NotInstalledError
from xprim_nb.events import EventHub
from xprim_nb.scheduling.plan import DeviceRoom, Leaving, PlanVerdict, ResidencyPlan
from xprim_nb.scheduling.values import Charge, DeviceView, EngineSnapshot, ModelView, QueueView
from xprim_nb.toolkit import Toolkit
from xprim_nb.workers.values import CrashReport

__all__ = ["CRASH", "GB", "LOOK", "OTHER", "A", "B", "FakeAI", "FakeKit", "as_kit", "changed"]

GB = 1 << 30
A, B, OTHER = "numpy:demo/a v1", "numpy:demo/b v1", "numpy:demo/theirs v1"

CRASH = CrashReport(
    model=A,
    pid=4711,
    cause="killed",
    detail="It was killed by SIGKILL, from outside or by the kernel for want of memory.",
    exit_code=-9,
    doing="generate",
    last_lines=("loading weights", "step 12"),
    memory=((0.0, GB), (1.0, 3 * GB), (2.0, 2 * GB)),
    advice=("Look whether the machine ran out of memory.", "Run again: a new worker is started."),
    at=1000.0,
)
LOOK = EngineSnapshot(
    at=2000.0,
    devices=(
        DeviceView("cpu", "the CPU", "cpu", 16 * GB, 12 * GB, external_bytes=2 * GB),
        DeviceView(
            "sim:8gb",
            "simulated",
            "sim",
            8 * GB,
            8 * GB,
            external_bytes=GB,
            charges=(Charge(A, 2 * GB, "resident", 1), Charge(OTHER, GB, "resident", 77, is_mine=False)),
        ),
    ),
    models=(
        ModelView(B, "demo/b v1", "numpy", "absent", kernel_pid=1),
        ModelView(
            A,
            "demo/a v1",
            "numpy",
            "resident",
            device="sim:8gb",
            size_bytes=2 * GB,
            source="measured",
            context_tokens=4096,
            served=3,
            idle_s=200.0,
            worker_pid=4711,
            kernel_pid=1,
            note="cell 4",
        ),
        ModelView(
            OTHER,
            "demo/theirs v1",
            "numpy",
            "resident",
            device="sim:8gb",
            size_bytes=GB,
            kernel_pid=77,
            is_mine=False,
            why_not_evict="Another kernel uses it.",
        ),
    ),
    queue=(QueueView("r1", B, "default", 1, "demo/a v1 answers, and its memory is needed", 3.2),),
)


class FakeAI:
    """Shows `look`, and records every verb; `held` keeps the next ones from ending."""

    def __init__(self) -> None:
        self.look = LOOK
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.held = False
        self.looks = 0
        self.verdict: PlanVerdict = "evicts"
        self.missing: set[str] = set()

    def snapshot(self) -> EngineSnapshot:
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        return self.look

    def evict(self, key: str) -> Handle[ModelView]:
        return self._do("evict", key, lambda: self._of(key))

    def pin(self, key: str) -> Handle[ModelView]:
        return self._do("pin", key, lambda: self._of(key))

    def unpin(self, key: str) -> Handle[ModelView]:
        return self._do("unpin", key, lambda: self._of(key))

    def retry(self, key: str) -> Handle[ModelView]:
        return self._do("retry", key, lambda: self._of(key))

    def load(self, key: str, note: str = "") -> Handle[ModelView]:
        return self._do("load", key, lambda: self._of(key) if ":" in key else self.look.models[0], note)

    def plan(self, key: str) -> Handle[ResidencyPlan]:
        found = ResidencyPlan(
            key if ":" in key else f"numpy:{key}",
            self.verdict,
            message="It needs more than there is." if self.verdict == "impossible" else "",
            device="sim:8gb",
            source="estimated",
            rooms=(DeviceRoom("sim:8gb", 7 * GB, 4 * GB, 8 * GB),),
            leaving=(Leaving(A, "disk", (("sim:8gb", 2 * GB),), 200.0),),
        )
        return self._do("plan", key, lambda: found if key not in self.missing else self._refuse(key))

    def _refuse(self, key: str) -> ResidencyPlan:
        raise NotInstalledError(f"{key} is not installed.", subject=key)

    def _of(self, key: str) -> ModelView:
        return next(each for each in self.look.models if each.key == key)

    def _do(self, verb: str, key: str, result: Callable[[], Any], *more: object) -> Handle[Any]:
        self.asked.append((verb, key, *more))

        async def work() -> Any:
            if self.held:
                await asyncio.Event().wait()  # until it is cancelled
            return result()

        return Handle(work(), f"{verb} {key}")


class FakeKit:
    """What a panel wants of a toolkit."""

    def __init__(self) -> None:
        self.ai, self.events = FakeAI(), EventHub()
        self.installed = ["demo/c v1"]

    def list_installed(self) -> Handle[list[SimpleNamespace]]:
        """What there is to choose from."""

        async def work() -> list[SimpleNamespace]:
            return [SimpleNamespace(ref=each) for each in self.installed]

        return Handle(work(), "list what is installed")


def as_kit(fake: FakeKit) -> Toolkit:
    """It, as the panel's signature has it."""
    return cast(Toolkit, fake)


def changed(key: str, **facts: Any) -> EngineSnapshot:
    """The look with one model changed."""
    models = tuple(replace(each, **facts) if each.key == key else each for each in LOOK.models)
    return replace(LOOK, models=models)
