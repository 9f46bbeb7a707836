"""Carries out what `policy` decides, and tells it what has happened. One event at a time, all on one loop.

    acquire ─▶ Arrived ─▶ decide ─▶ Load ─▶ reserve in the ledger ─▶ backend.load ─▶ Loaded ─▶ decide ─▶ Start ─▶ Grant
                                 └▶ Evict ─▶ runner.close, memory seen to come back ─▶ Left ─▶ decide …

A decision reads nothing but its state; whatever takes time runs in a task of its own and comes back as an event.

Source: spec 4 §Residency; research residency §4.2.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from xprim_nb.errors import (
    NoCapacityError,
    WorkerError,
)
from xprim_nb.events import EventHub, ResidencyChanged
from xprim_nb.scheduling import explain, policy
from xprim_nb.scheduling.happenings import (
    Alarm,
    Arrived,
    AskForeign,
    Departed,
    Effect,
    Event,
    Evict,
    EvictAsked,
    EvictRefused,
    Finished,
    Load,
    Observed,
    PinRefused,
    PinSet,
    Reject,
    Start,
    Ticked,
    Wake,
)
from xprim_nb.scheduling.held import Grant, Held
from xprim_nb.scheduling.moving import Mover
from xprim_nb.scheduling.refusals import rejected, too_late
from xprim_nb.scheduling.replay import Entry
from xprim_nb.scheduling.state import PRIORITIES, Limits, Option, Request, State
from xprim_nb.scheduling.watching import Watch

__all__ = ["Scheduler"]

_log = logging.getLogger("xprim_nb.scheduling")

# Enough to explain an afternoon; an event and its effects take about a kilobyte.
_LOG_LENGTH = 10_000
# Where a model is that has left.
_GONE = ("absent", "broken", "parked")


@dataclass(slots=True)
class _Waiting:
    """Somebody who waits for a turn."""

    future: asyncio.Future[Grant]
    model: str
    since: float


class Scheduler:
    """Owns the runners of one engine, from `open` to `aclose`.

    Args:
        mover: Loads, parks and unloads.
        limits: Numbers of the policy.
        events: Where changes are told.
    """

    def __init__(self, mover: Mover, limits: Limits, events: EventHub) -> None:
        self.state = State(limits=limits)
        self.held: dict[str, Held] = {}
        self.log: deque[Entry] = deque(maxlen=_LOG_LENGTH)
        self.refusals: dict[str, PinRefused | EvictRefused] = {}
        self._mover, self._events = mover, events
        self._numbers = itertools.count(1)
        self._waiting: dict[str, _Waiting] = {}
        self._pending: deque[Event] = deque()
        self._posting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._watch = Watch(self, mover)
        self._closed = False

    async def open(self) -> None:
        """Begin: this loop is the one that everything runs on."""
        self._loop = asyncio.get_running_loop()
        # Fixed, so that the same moment is always the same number, and nobody is told it twice.
        self.epoch = time.time() - self._loop.time()
        self._mover.bind(self.post)
        await self.look()

    async def aclose(self) -> None:
        """End what is answered, unload everything, give back every lease. Idempotent."""
        self._closed = True
        for waiting in self._waiting.values():
            if not waiting.future.done():
                waiting.future.cancel()
        self._waiting.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        running = [*self._tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, self._watch.aclose(), return_exceptions=True)
        await asyncio.gather(*(self._mover.drop(each) for each in self.held.values()), return_exceptions=True)
        await self._mover.aclose()

    def now(self) -> float:
        """The policy's clock, in seconds."""
        return self._loop.time()

    async def acquire(
        self,
        held: Held,
        options: tuple[Option, ...],
        *,
        priority: str,
        load_only: bool = False,
        limit_s: float | None = None,
        on_id: Callable[[str], object] | None = None,
        note: str = "",
    ) -> Grant:
        """A turn with a model, which is loaded if it is not.

        Cancelling gives the place in the queue back; a load that has begun goes on, for whoever comes next.

        Args:
            held: The model.
            options: Ways to hold it, best first.
            priority: A name of `PRIORITIES`.
            load_only: Only to have it loaded; the grant needs no release.
            limit_s: Longest wait, loading not counted: that has a limit of its own; None for no limit.
            on_id: Told the request's id.
            note: What asks.

        Raises:
            NoCapacityError: No device can hold it, whatever leaves.
            TimedOutError: It had no turn within the limit; the message says what it waited for.
            CircuitOpenError: Its worker crashed too often.
            EngineError, WorkerError, XprimError: It could not be loaded.
        """
        known = self.state.models.get(held.key)
        if known is None or known.status != "resident":
            await self.look()
        number = f"r{next(self._numbers)}"
        waiting = self._waiting[number] = _Waiting(self._loop.create_future(), held.key, self.now())
        request = Request(
            number, held.key, PRIORITIES[priority], waiting.since, "load" if load_only else "generate", note
        )
        if on_id is not None:
            on_id(number)
        self.post(Arrived(self.now(), request, options, held.backend.capabilities.slots))
        self._watch.keep(self._loop)
        try:
            # A model that is awake and idle answered in the same moment: nothing is waited for then.
            while not (waiting.future.done() or (await asyncio.wait([waiting.future], timeout=limit_s))[0]):
                if self._is_coming(held.key):
                    continue
                place = explain.queue_position(self.state, number)
                self.post(Departed(self.now(), number))
                raise too_late(held, limit_s or 0.0, place.reason if place is not None else "")
            return waiting.future.result()
        except asyncio.CancelledError:
            if not waiting.future.cancelled() and waiting.future.done():
                waiting.future.exception()
                self.post(Finished(self.now(), number))  # granted in the same moment
            else:
                self.post(Departed(self.now(), number))
            raise
        finally:
            self._waiting.pop(number, None)

    def release(self, grant: Grant) -> None:
        """The turn is over."""
        if not self._closed:
            self.post(Finished(self.now(), grant.request_id))

    def _is_coming(self, key: str) -> bool:
        model = self.state.models.get(key)
        return model is not None and model.status in ("loading", "waking")

    async def after_failure(self, grant: Grant, error: WorkerError) -> None:
        """Have a worker's death known before its turn is released."""
        await self._mover.after_failure(grant.held, grant.runner, error)

    def post(self, event: Event) -> None:
        """Decide what follows from an event, and set it going. On the loop's thread."""
        self._pending.append(event)
        if self._posting or self._closed:
            return
        self._posting = True
        try:
            while self._pending:
                next_event = self._pending.popleft()
                self.state, effects = policy.decide(self.state, next_event)
                self.log.append(Entry(next_event, tuple(effects)))
                self._set_alarm(effects)
                for effect in effects:
                    self._carry_out(effect)
        finally:
            self._posting = False

    async def look(self) -> None:
        """Look at the devices and at other kernels' leases, and decide again."""
        devices, foreign = await self._mover.look()
        self.post(Observed(self.now(), devices, foreign))

    async def evict(self, key: str, by: str) -> None:
        """Have a model leave as soon as it is idle, and wait until it has; at once when it is nowhere.

        Raises:
            NoCapacityError: It is pinned.
        """
        held = self.held[key]
        before = held.departures  # whoever waits for it may have it loaded again at once
        self._wish(EvictAsked(self.now(), key, by))
        while held.departures == before and self.state.models[key].status not in _GONE:
            await self._mover.changed(key)

    def pin(self, key: str, pinned: bool, options: tuple[Option, ...]) -> None:
        """Keep a model from being evicted, or no longer; `NoCapacityError` when too little is left for others."""
        self._wish(PinSet(self.now(), key, pinned, options))

    def _wish(self, event: EvictAsked | PinSet) -> None:
        self.refusals.pop(event.model, None)
        self.post(event)
        refused = self.refusals.pop(event.model, None)
        if isinstance(refused, PinRefused):
            raise NoCapacityError(
                refused.message,
                subject=event.model,
                needed_bytes=refused.needed_bytes,
                available_bytes=refused.available_bytes,
            )
        if refused is not None:
            raise NoCapacityError(refused.message, subject=event.model, hint="Unpin it first.")

    @property
    def has_waiting(self) -> bool:
        """True while somebody waits."""
        return bool(self._waiting)

    def waited_for(self, key: str) -> int:
        """How many requests wait for a model."""
        return sum(each.model == key for each in self._waiting.values())

    # --- effects --------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Start():
                self._start(effect)
            case Reject():
                self._reject(effect)
            case Load() | Wake():
                held = self.held[effect.model]
                held.evicted, held.making_room = held.making_room, ()
                self._tell(effect.model, "loading", effect.option.device, effect.reason)
                self._spawn(self._mover.load(held, effect))
            case Evict():
                self._tell(effect.model, "leaving", "", effect.reason)
                if (wants := self.held.get(effect.for_model)) is not None:
                    wants.making_room = (*wants.making_room, effect.model)
                self._spawn(self._mover.evict(self.held[effect.model], effect))
            case AskForeign():
                self._spawn(self._mover.ask(effect))
            case PinRefused() | EvictRefused():
                self.refusals[effect.model] = effect
            case Alarm():
                pass  # set for all effects of a decision together

    def _start(self, effect: Start) -> None:
        waiting, held = self._waiting.get(effect.request_id), self.held[effect.model]
        model = self.state.models[effect.model]
        if waiting is None or waiting.future.done() or held.runner is None or model.placed is None:
            self._pending.append(Finished(self.now(), effect.request_id))
            return
        waited = self.now() - waiting.since
        loading_s = min(waited, held.load_s) if model.loaded_at >= waiting.since else 0.0
        evicted = held.evicted if loading_s else ()
        waiting.future.set_result(
            Grant(effect.request_id, held, held.runner, model.placed, loading_s, evicted)
        )

    def _reject(self, effect: Reject) -> None:
        waiting = self._waiting.get(effect.request_id)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_exception(rejected(effect, self.held[waiting.model]))

    def _tell(self, model: str, status: str, device: str, reason: str) -> None:
        self._events.publish(ResidencyChanged(model, status, device, reason))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the scheduler could not carry out a decision", exc_info=error)

    def _set_alarm(self, effects: tuple[Effect, ...] | list[Effect]) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        at = min((each.at for each in effects if isinstance(each, Alarm)), default=None)
        if at is not None:
            self._alarm = self._loop.call_at(at, lambda: self.post(Ticked(self.now())))
