# house: one world, whose parts are only right together
"""A small world that does what the policy decides, some of it badly, and holds every decision against what is true there.

Nothing here looks at how a decision was made: what answers, loads and is pinned is known from what happened.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, replace

from xprim_nb.scheduling.explain import queue_positions
from xprim_nb.scheduling.happenings import (
    Alarm,
    Arrived,
    AskForeign,
    Crashed,
    Departed,
    Effect,
    Event,
    Evict,
    EvictAsked,
    EvictRefused,
    Finished,
    Left,
    Load,
    Loaded,
    LoadFailed,
    Observed,
    PinRefused,
    PinSet,
    Recovered,
    Refused,
    Reject,
    Retried,
    Start,
    Ticked,
    Wake,
)
from xprim_nb.scheduling.plan import plan
from xprim_nb.scheduling.policy import decide, weigh
from xprim_nb.scheduling.queue import rank
from xprim_nb.scheduling.state import Charges, Option, Request, State

from .machine import Machine


@dataclass(frozen=True)
class Odds:
    """How often things go wrong, and how long they take at most, in seconds."""

    crash: float = 0.0
    load_fails: float = 0.0
    is_final: float = 0.0
    refused: float = 0.0
    ghost: float = 0.0
    ignores: float = 0.0  # another kernel does not let go
    answer_s: float = 2.0
    load_s: float = 1.0
    leave_s: float = 0.5


@dataclass(frozen=True)
class Deed:
    """One thing that somebody does at a time."""

    at: float
    what: str  # generate, load, depart, pin, unpin, evict, retry, look
    model: str = ""
    priority: int = 70
    number: int = 0


class World:  # house: one world, whose parts are only right together
    """Requests come, models load, crash and leave; `done` says what became of each request, and when."""

    def __init__(
        self,
        state: State,
        options: dict[str, tuple[Option, ...]],
        slots: dict[str, int],
        *,
        odds: Odds = Odds(),
        seed: int = 0,
    ) -> None:
        self.state, self.options, self.slots, self.odds = state, options, slots, odds
        self.first = state
        self.chance = random.Random(seed)
        self.now = state.now
        self.log: list[tuple[Event, tuple[Effect, ...]]] = []
        self.alarm: float | None = None
        self._agenda: list[tuple[float, int, object]] = []
        self._number = itertools.count()
        self.requests: dict[str, Request] = {}
        self.done: dict[str, tuple[str, float]] = {}
        self.machine = Machine(state, options, self.chance)
        self.evictions: list[Evict] = []

    # --- what happens --------------------------------------------------------------------------

    def later(self, after: float, what: object) -> None:
        heapq.heappush(self._agenda, (self.now + after, next(self._number), what))

    def plan(self, deeds: list[Deed]) -> None:
        for each in deeds:
            heapq.heappush(self._agenda, (each.at, next(self._number), each))

    def run(self, until: float = float("inf")) -> None:
        """Go on until nothing is to come."""
        for _ in range(50_000):
            coming = self._agenda[0][0] if self._agenda else float("inf")
            if self.alarm is not None and self.alarm <= min(coming, until):
                self.now, self.alarm = max(self.now, self.alarm), None
                self.tell(Ticked(self.now))
            elif self._agenda and coming <= until:
                at, _number, what = heapq.heappop(self._agenda)
                if not self._agenda or self._agenda[0][0] != at:
                    self._between(at)
                self.now = max(self.now, at)
                self._happen(what)
            else:
                return
        raise AssertionError("the world does not come to rest")

    def _between(self, at: float) -> None:
        """The passing of time alone changes nothing before the alarm, so the policy needs none earlier."""
        if at > self.now:
            self._idle_tick(self.now + (at - self.now) * self.chance.random())

    def _idle_tick(self, at: float) -> None:
        state, effects = decide(self.state, Ticked(at))
        assert [each for each in effects if not isinstance(each, Alarm)] == [], (at, effects)
        assert self._alarm_of(effects) == self.alarm, (at, effects, self.alarm)
        assert replace(state, now=self.state.now) == self.state, (at, state)

    def _happen(self, what: object) -> None:
        match what:
            case Deed():
                self._act(what)
            case Finished():
                for ids in self.machine.answering.values():
                    if what.request_id in ids:
                        ids.discard(what.request_id)
                        self.tell(replace(what, at=self.now))
                        break
            case ("crash", str(model)):
                self._crash(model)
            case ("loaded", str(model), Load() | Wake() as effect):
                self._load_ends(model, effect)
            case ("left", str(model), Evict() as effect):
                self._leave_ends(model, effect)
            case ("recovered", str(model)):
                self.machine.ghosts[model] = ()
                self.tell(Recovered(self.now, model))
            case ("released", str(lease)):
                self.machine.foreign.pop(lease, None)
                self.look()
            case _:
                raise AssertionError(what)

    def _act(self, deed: Deed) -> None:
        key = deed.model
        match deed.what:
            case "generate" | "load":
                name = f"r{len(self.requests):03}"
                request = Request(
                    name, key, deed.priority, self.now, "load" if deed.what == "load" else "generate"
                )
                self.requests[name] = request
                self.tell(Arrived(self.now, request, self.options[key], self.slots[key]))
            case "depart":
                waiting = sorted(each.id for each in self.state.waiting)
                if waiting:
                    name = waiting[deed.number % len(waiting)]
                    self.done[name] = ("departed", self.now)
                    self.tell(Departed(self.now, name))
            case "pin" | "unpin":
                self.tell(PinSet(self.now, key, deed.what == "pin", self.options[key]))
            case "evict":
                effects = self.tell(EvictAsked(self.now, key, "asked for by its user"))
                holds = self.machine.status[key] in ("loading", "resident", "parked", "waking")
                assert any(isinstance(each, EvictRefused) for each in effects) == (
                    key in self.machine.pinned and holds
                )
            case "retry":
                self.tell(Retried(self.now, key))
            case "look":
                self.look()
            case "others":  # other programs take more or less
                device = sorted(self.machine.budgets)[deed.number % len(self.machine.budgets)]
                self.machine.external[device] = (deed.number % 5) * self.machine.budgets[device] // 10
                self.look()
            case "lease":  # another kernel begins to use its model, or stops
                for lease in list(self.machine.foreign.values())[:1]:
                    busy = lease.evictable
                    if busy:  # nothing is in use for ever
                        self.later(self.odds.answer_s, Deed(0.0, "lease"))
                    self.machine.foreign[lease.lease_id] = replace(lease, evictable=not busy, may_leave=busy)
                self.look()
            case _:
                raise AssertionError(deed.what)

    def look(self) -> None:
        seen = self.machine.devices(self.state.devices)
        self.tell(Observed(self.now, seen, tuple(self.machine.foreign.values())))

    def _crash(self, model: str) -> None:
        if self.machine.status[model] == "resident":
            self._drop(model, ghost=False)
            self.tell(Crashed(self.now, model, "it was killed"))

    def _drop(self, model: str, *, ghost: bool) -> Charges:
        left = self.machine.drop(model, ghost=ghost)
        if left:
            self.later(5.0 * self.chance.random(), ("recovered", model))
        return left

    def _load_ends(self, model: str, effect: Load | Wake) -> None:
        luck, machine = self.chance.random(), self.machine
        if luck < self.odds.refused:
            if isinstance(effect, Wake):
                machine.status[model], machine.memory[model] = "parked", machine.residue[model]
                machine.residue[model] = ()
            else:
                self._drop(model, ghost=False)
            seen = machine.devices(self.state.devices)
            self.tell(Refused(self.now, model, seen, tuple(machine.foreign.values())))
        elif luck < self.odds.refused + self.odds.load_fails:
            left = self._drop(model, ghost=self.chance.random() < self.odds.ghost)
            is_final = self.chance.random() < self.odds.is_final
            self.tell(LoadFailed(self.now, model, "its files are strange", is_final, left))
        else:
            self.tell(Loaded(self.now, model, machine.arrive(effect)))

    def _leave_ends(self, model: str, effect: Evict) -> None:
        machine = self.machine
        if self.chance.random() < self.odds.crash:
            self._drop(model, ghost=False)
            self.tell(Crashed(self.now, model, "it was killed while it left"))
        elif effect.to == "parked":
            placed = self.state.models[model].placed
            assert placed is not None
            machine.status[model], machine.memory[model] = "parked", placed.parked or ()
            self.tell(Left(self.now, model, True, machine.memory[model]))
        else:
            left = self._drop(model, ghost=self.chance.random() < self.odds.ghost)
            self.tell(Left(self.now, model, False, left))

    # --- what is decided -----------------------------------------------------------------------

    def tell(self, event: Event) -> tuple[Effect, ...]:
        """One decision, checked and carried out."""
        before = self.state
        self.state, effects = decide(before, event)
        assert before.waiting or weigh(before, event) == (self.state, effects), "the short way is another"
        self.log.append((event, effects))
        self.alarm = self._alarm_of(effects)
        if isinstance(event, PinSet) and not any(isinstance(each, PinRefused) for each in effects):
            (self.machine.pinned.add if event.pinned else self.machine.pinned.discard)(event.model)
        for effect in effects:
            self._carry_out(effect)
        self.machine.check(before, event, self.state, effects)
        self._idle_tick(self.now)
        if self.chance.random() < 0.1:
            self._ask_around()
        return effects

    def _ask_around(self) -> None:
        """Who waits is told why, each at a place of their own; and a plan is what the next decision then is."""
        places = queue_positions(self.state)
        assert [each.position for each in places] == list(range(1, len(self.state.waiting) + 1))
        assert {each.request_id for each in places} == {each.id for each in self.state.waiting}
        assert all(each.reason for each in places)
        key = self.chance.choice(sorted(self.options))
        found = plan(self.state, key, self.options[key], slots=self.slots[key])
        assert str(found)
        # Behind whoever came in the same moment, as a plan ranks: the next number that the scheduler gives.
        asked = Arrived(self.now, Request("~", key, 70, self.now), self.options[key], self.slots[key])
        effects = decide(self.state, asked).effects
        if any(each.model == key for each in self.state.waiting) or found.verdict in ("resident", "coming"):
            return  # it was decided for who was before
        reason = f"so that {key.partition(':')[2]} "  # others may leave for others, whose promised room this one takes
        evicted = [each for each in effects if isinstance(each, Evict)]
        leaves = [each.model for each in evicted if reason in each.reason or each.model == key]
        expected = (
            [each.model for each in found.leaving if not each.kernel_pid] if found.verdict == "evicts" else []
        )
        assert leaves == expected, (found, effects)
        loads = [each.option for each in effects if isinstance(each, Load | Wake) and each.model == key]
        # Who leaves may do so for those before, so that what is free already is taken at once.
        assert bool(loads) == (found.verdict == "fits") or (loads and found.verdict == "evicts"), (
            found,
            effects,
        )
        assert not loads or found.degraded == loads[0].degraded
        rejected = [each.kind for each in effects if isinstance(each, Reject) and each.request_id == "~"]
        assert rejected == {"impossible": ["capacity"], "broken": ["broken"]}.get(found.verdict, [])

    def _alarm_of(self, effects: tuple[Effect, ...]) -> float | None:
        alarms = [each.at for each in effects if isinstance(each, Alarm)]
        assert len(alarms) <= 1
        assert not alarms or (alarms[0] > self.now and effects[-1] == Alarm(alarms[0]) and self.state.waiting)
        return alarms[0] if alarms else None

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Start():
                self._started(effect)
            case Load() | Wake():
                self._begins(effect)
            case Evict():
                self._leaves(effect)
            case Reject():
                assert effect.request_id not in self.done
                assert effect.message
                self.done[effect.request_id] = (effect.kind, self.now)
            case AskForeign():
                lease = self.machine.foreign[effect.lease_id]
                assert lease.evictable
                assert effect.reason
                if self.chance.random() >= self.odds.ignores:
                    self.later(self.odds.leave_s * self.chance.random(), ("released", effect.lease_id))
            case _:
                pass

    def _started(self, effect: Start) -> None:
        request = self.requests[effect.request_id]
        assert request.id not in self.done, "a request starts once"
        assert self.machine.status[request.model] == "resident", "and only where its model is"
        self.done[request.id] = ("started", self.now)
        if request.kind == "load":
            return
        mine = rank(request, self.now, self.state.limits)
        passed = [
            each
            for each in self.state.waiting
            if each.model == request.model and rank(each, self.now, self.state.limits) < mine
        ]
        assert passed == [], "the next of its model goes first"
        self.machine.answering[request.model].add(request.id)
        assert len(self.machine.answering[request.model]) <= self.slots[request.model]
        self.later(self.odds.answer_s * (0.05 + 0.95 * self.chance.random()), Finished(0.0, request.id))
        if self.chance.random() < self.odds.crash:
            self.later(self.odds.answer_s * 0.5 * self.chance.random(), ("crash", request.model))

    def _begins(self, effect: Load | Wake) -> None:
        assert effect.reason
        self.machine.begin(effect)
        self.later(self.odds.load_s * (0.05 + 0.95 * self.chance.random()), ("loaded", effect.model, effect))

    def _leaves(self, effect: Evict) -> None:
        assert effect.reason
        self.machine.leave(effect, self.state.models[effect.model].charges)
        self.evictions.append(effect)
        self.later(self.odds.leave_s * (0.05 + 0.95 * self.chance.random()), ("left", effect.model, effect))

    def bound_s(self) -> float:
        """How long anybody may wait: until no later one passes, and then once for each that may be before."""
        limits, odds = self.state.limits, self.odds
        lowest = min((each.priority for each in self.requests.values()), default=limits.ageing_cap)
        ageing = max(0, limits.ageing_cap - lowest) * limits.ageing_s
        turn = odds.answer_s + 2 * (odds.load_s + odds.leave_s) + limits.window_s + limits.linger_s
        mishaps = (
            (limits.circuit_failures + 1) * (limits.backoff_cap_s + odds.load_s) + 5.0 + limits.foreign_s
        )
        return ageing + (len(self.requests) + 1) * turn + len(self.options) * mishaps

    def check_end(self) -> None:
        """Nobody waits any more, nobody was forgotten, and nobody waited longer than is allowed."""
        assert self.state.waiting == (), "somebody waits, and nothing will happen any more"
        assert set(self.done) == set(self.requests)
        assert self.alarm is None, "an idle engine has no timer"
        bound = self.bound_s()
        for name, (_, at) in self.done.items():
            assert at - self.requests[name].arrived <= bound
