"""What is true on a simulated machine: who is where, what it takes, who answers. Known from what happened alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from xprim_nb.scheduling.happenings import Effect, Event, Evict, Load, Loaded, Wake
from xprim_nb.scheduling.room import HOLDING, takes_worker
from xprim_nb.scheduling.state import Charges, DeviceState, State

GB = 1024**3
TENTH = GB // 10


class Machine:
    """Devices, other programs, other kernels, and our models in whatever state they are."""

    def __init__(self, state: State, models: Iterable[str], chance: random.Random) -> None:
        names = list(models)
        self.chance = chance
        self.status: dict[str, str] = dict.fromkeys(names, "absent")
        self.workers: dict[str, int] = dict.fromkeys(names, 0)
        self.memory: dict[str, Charges] = dict.fromkeys(names, ())
        self.residue: dict[str, Charges] = dict.fromkeys(names, ())
        self.ghosts: dict[str, Charges] = dict.fromkeys(names, ())
        self.answering: dict[str, set[str]] = {key: set() for key in names}
        self.pinned: set[str] = set()
        self.external = Counter({each.id: each.external_bytes for each in state.devices})
        self.foreign = {each.lease_id: each for each in state.foreign}
        self.budgets = {each.id: each.budget_bytes for each in state.devices}

    def devices(self, known: tuple[DeviceState, ...]) -> tuple[DeviceState, ...]:
        """As a driver tells: what loads or leaves may have taken anything between nothing and all."""
        used = Counter(self.external)
        for lease in self.foreign.values():
            used.update(dict(lease.charges))
        for key, status in self.status.items():
            share = self.chance.random() if status in ("loading", "waking", "leaving") else 1.0
            kept = dict(self.residue[key]) if status == "waking" else {}
            for device, size in self.memory[key]:
                low = kept.get(device, 0)
                used[device] += low + int((size - low) * share)
            used.update(dict(self.ghosts[key]))
        # A margin lies outside the budget, as on a real device.
        return tuple(
            replace(
                each,
                external_bytes=self.external[each.id],
                free_bytes=None if each.free_bytes is None else each.budget_bytes + TENTH - used[each.id],
            )
            for each in known
        )

    def drop(self, model: str, *, ghost: bool) -> Charges:
        """A model is gone, and the result is what did not come back."""
        left = tuple((device, size // 2) for device, size in self.memory[model] if size > 1) if ghost else ()
        self.status[model], self.workers[model] = "absent", 0
        self.memory[model], self.residue[model] = (), ()
        self.answering[model].clear()
        both = Counter(dict(self.ghosts[model])) + Counter(dict(left))
        self.ghosts[model] = tuple(sorted(both.items()))
        return left

    def begin(self, effect: Load | Wake) -> None:
        """A model loads or wakes."""
        key, is_waking = effect.model, isinstance(effect, Wake)
        assert self.status[key] == ("parked" if is_waking else "absent"), "one load at a time"
        self.status[key] = "waking" if is_waking else "loading"
        self.residue[key] = self.memory[key]
        kept = dict(self.memory[key])
        for device, size in effect.option.awake:
            kept[device] = max(size, kept.get(device, 0))
        self.memory[key] = tuple(sorted(kept.items()))
        self.workers[key] = int(takes_worker(effect.option))

    def arrive(self, effect: Load | Wake) -> Charges:
        """A model is resident, and takes about what was thought."""
        key = effect.model
        self.status[key], self.residue[key] = "resident", ()
        share = self.chance.choice([1.0, 0.8, 0.95, 1.05])
        self.memory[key] = tuple((device, int(size * share)) for device, size in effect.option.awake)
        return self.memory[key]

    def leave(self, effect: Evict, charges: Charges) -> None:
        """A model begins to leave."""
        key = effect.model
        assert self.status[key] in ("resident", "parked"), "neither loading, nor leaving already"
        assert not self.answering[key], "never while it answers"
        assert key not in self.pinned, "never when it is pinned"
        self.status[key], self.memory[key] = "leaving", charges

    def check(self, before: State, event: Event, state: State, effects: tuple[Effect, ...]) -> None:
        """The state tells the truth, and what we decided to take fits the budget with all that is taken already."""
        assert sum(self.workers.values()) <= state.limits.max_workers
        for key, model in state.models.items():
            assert model.status in (self.status[key], "broken"), (key, model.status, self.status[key])
            assert model.charges == (self.memory[key] if model.status in HOLDING else ())
            assert model.in_flight == self.answering[key]
            assert model.ghost == self.ghosts[key]
            assert model.pinned == (key in self.pinned)
        measured = (
            event.model if isinstance(event, Loaded) else ""
        )  # what it really takes is nobody's decision
        grew: set[str] = set()
        for each in effects:
            if isinstance(each, Load | Wake | Evict) and each.model != measured:
                was = dict(before.models[each.model].charges) if each.model in before.models else {}
                grew |= {device for device, size in self.memory[each.model] if size > was.get(device, 0)}
        for device in state.devices:
            if device.id in grew:
                ours = (*self.memory.values(), *self.ghosts.values())
                theirs = (each.charges for each in state.foreign)
                taken = sum(dict(size).get(device.id, 0) for size in (*ours, *theirs))
                assert device.external_bytes + taken <= device.budget_bytes, "never above the budget"
