"""An engine that answers from a script, and a toolkit that has it: what doors ask of an engine, without a model."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xprim_nb.errors import NotInstalledError, XprimError
from xprim_nb.scheduling.asking import Asking, build_request, parse_loras
from xprim_nb.scheduling.leases import TimelineRow
from xprim_nb.scheduling.values import EngineSnapshot, ModelView, Phase, Reply, Timings
from xprim_nb.toolkit import Toolkit
from xprim_nb.workers.values import CrashReport

MODEL = "numpy:demo/tiny-llama v2"
TIMINGS = Timings(queue_s=0.4, load_s=2.0, first_token_s=0.1, generate_s=0.7, total_s=3.1)
REPLY = Reply("", MODEL, "stop", 4, 3, TIMINGS, seed=0, worker_pid=4242, device="cpu")
AWAKE = ModelView(
    key=MODEL,
    name="demo/tiny-llama v2",
    backend="numpy",
    status="resident",
    device="cpu",
    size_bytes=64 << 20,
    source="measured",
    context_tokens=4096,
    served=3,
    idle_s=75.0,
    worker_pid=4242,
    kernel_pid=4000,
    is_mine=False,
    load_s=1.25,
    note="In [12]",
)


def row(at: float, state: str, model: str = MODEL, lease_id: str = "l1", **changes: Any) -> TimelineRow:
    """A change at a moment, in seconds since the epoch."""
    size = 0 if state == "gone" else 64 << 20
    made = TimelineRow(
        at, lease_id, model, state, "cpu", size, size, f"it is {state}", "In [12]", "process 4000", 4000
    )
    return replace(made, **changes)


@dataclass
class FakeEngine:
    """Answers from a script; what it was asked is in `calls`, by verb.

    Attributes:
        pieces: The answer.
        before: Phases that a request goes through before the first piece, with fraction, position and reason.
        hold_after: After so many pieces the answer waits for `let_go`; None for never.
        released_by: A file that lets go too, for whoever is in another process.
        views: What is awake.
        rows: The timeline.
        fails: What verbs raise, by name.
        answer: The reply, but for its text.
    """

    pieces: Sequence[str] = ("Once ", "upon ", "a time.")
    before: Sequence[tuple[Phase, float, int, str]] = ()
    hold_after: int | None = None
    released_by: str = ""
    views: list[ModelView] = field(default_factory=list)
    rows: Sequence[TimelineRow] = ()
    fails: dict[str, XprimError] = field(default_factory=dict)
    answer: Reply = REPLY
    plan_value: object = "Nothing leaves."
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    crash_reports: tuple[CrashReport, ...] = ()
    scheduled: EngineSnapshot | None = None
    offered: dict[str, Any] = field(default_factory=dict)

    @property
    def backends(self) -> Any:
        """What `recommended` asks."""
        return SimpleNamespace(names=lambda: sorted(self.offered), get=self._offer)

    def asked(self, verb: str) -> dict[str, Any]:
        """The options of the latest call of a verb."""
        return next(options for name, options in reversed(self.calls) if name == verb)

    async def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Any = None,
        loras: Any = (),
        asking: Asking | None = None,
        **options: Any,
    ) -> Reply:
        """The script's answer."""
        asking = asking or Asking(model)
        self._note("generate", model=model, prompt=prompt, messages=messages, loras=loras, **options)
        names = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop")
        defaults: dict[str, Any] = {
            "max_tokens": 256, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": None, "stop": (),
        }  # fmt: skip
        given: dict[str, Any] = {name: options.get(name, defaults[name]) for name in names}
        build_request(prompt, messages, **given)
        layers = tuple(name for name, _ in parse_loras(loras))
        asking.model = MODEL
        try:
            for phase, fraction, position, reason in self.before:
                asking.phase, asking.fraction, asking.reason = phase, fraction, reason
                asking.where = lambda _, at=(position, reason, fraction): at
                if self.hold_after == 0:
                    await self._hold()
            for number, text in enumerate(self.pieces):
                if number == self.hold_after and not self.before:
                    await self._hold()
                asking.add(text, 1)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return replace(self.answer, text="".join(self.pieces), loras=layers)

    async def load(self, model: str, *, asking: Asking, **options: Any) -> ModelView:
        """The model, awake in this process."""
        self._note("load", model=model, **options)
        for phase, fraction, _, reason in self.before:
            asking.phase, asking.fraction, asking.reason = phase, fraction, reason
        if self.hold_after is not None:
            await self._hold()
        return replace(AWAKE, kernel_pid=os.getpid(), is_mine=True)

    async def evict(self, model: str) -> ModelView:
        """The model, which `obeys` takes away."""
        self._note("evict", model=model)
        return self._view(model)

    async def pin(self, model: str, *, pinned: bool = True) -> ModelView:
        """The model as it was."""
        self._note("pin" if pinned else "unpin", model=model)
        return self._view(model)

    async def retry(self, model: str) -> ModelView:
        """The model as it was."""
        self._note("retry", model=model)
        return self._view(model)

    async def plan(self, model: str, **settings: object) -> object:
        """The script's plan."""
        self._note("plan", model=model, **settings)
        return self.plan_value

    async def ps(self) -> list[ModelView]:
        """What is awake."""
        self._note("ps")
        return [each for each in self.views if each.is_awake]

    async def why(self, model: str) -> str:
        """A sentence."""
        self._note("why", model=model)
        return f"{model} waits for its turn."

    async def timeline(self) -> list[TimelineRow]:
        """The script's timeline."""
        self._note("timeline")
        return list(self.rows)

    def snapshot(self) -> EngineSnapshot:
        """What is awake."""
        return self.scheduled or EngineSnapshot(1_000_000.0, models=tuple(self.views))

    def crashes(self) -> tuple[CrashReport, ...]:
        """The script's reports."""
        return self.crash_reports

    def _note(self, verb: str, **options: Any) -> None:
        self.calls.append((verb, options))
        if verb in self.fails:
            raise self.fails[verb]

    def _view(self, model: str) -> ModelView:
        found = next((each for each in self.views if model in (each.key, each.name)), None)
        if found is None:
            raise NotInstalledError(
                f"{model} is not awake.", subject=model, hint="`xprim ai ps` shows what is."
            )
        return found

    def _offer(self, name: str) -> Any:
        if isinstance(self.offered[name], Exception):
            raise self.offered[name]
        return self.offered[name]

    async def _hold(self) -> None:
        self.held.set()
        while not (self.let_go.is_set() or Path(self.released_by or "nowhere").is_file()):  # noqa: ASYNC110  # a thread's event: a test lets go from its own
            await asyncio.sleep(0.005)


@contextmanager
def engine_for_toolkits(monkeypatch: pytest.MonkeyPatch, engine: FakeEngine) -> Iterator[FakeEngine]:
    """Every toolkit that is made inside the block has this engine."""

    async def opened(self: Toolkit) -> FakeEngine:
        await self._opened()
        self.engine = engine  # type: ignore[assignment]  # as much of one as doors ask for
        return engine

    with monkeypatch.context() as patch:
        patch.setattr(Toolkit, "_engine_opened", opened)
        try:
            yield engine
        finally:
            engine.let_go.set()
