"""Who leaves so that something fits: a whole plan, or none.

    1. What is parked already goes to disk, when that alone frees enough.
    2. Otherwise the least recently used go, as few as free enough: into the machine's memory where they can be parked
       and it has room now, to disk where they cannot.
    3. Where what parked models would keep is in the way, the longest parked go to disk too, then the others of the plan.
    4. What the plan can do without stays where it is, the latest used first; what need not go to disk is parked.

The order is the caller's: `by_age` is least recently used first, of equals the quickest to load, then by key.
Nothing here looks at whether a model may leave; that is decided before.

Source: spec 4 §Residency (eviction); research residency §4.9 rule 2 (never evict for nothing), §4.3 (only what is missing).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from xprim_nb.scheduling.room import WORKERS, Amounts, Room, holds_worker
from xprim_nb.scheduling.state import Foreign, ModelState

__all__ = ["Candidate", "Victim", "by_age", "candidate_of", "choose", "ghost_candidate", "lease_candidate"]

Place: TypeAlias = Literal["parked", "disk"]


class Candidate(NamedTuple):
    """Something that could leave.

    Attributes:
        key: Of the model, or the id of another kernel's lease.
        disk: What its going to disk frees.
        park: What its being parked frees, less than nothing of the memory it is parked in; None when it cannot be.
        takes: What parking takes before anything is free, of the memory it is parked in.
        is_parked: It is parked now.
        is_foreign: Another kernel holds it.
        is_ghost: It is memory of a model that is gone, and has not come back yet.
    """

    key: str
    disk: Amounts
    park: Amounts | None = None
    takes: Amounts = {}  # noqa: RUF012  # nobody writes to it
    is_parked: bool = False
    is_foreign: bool = False
    is_ghost: bool = False


class Victim(NamedTuple):
    """One model of a plan, where it goes, and what that frees."""

    who: Candidate
    to: Place

    @property
    def frees(self) -> Amounts:
        """Bytes by device, and its worker process."""
        return (self.who.park or {}) if self.to == "parked" else self.who.disk


def by_age(model: ModelState) -> tuple[float, float, str]:
    """Sorts models, first to go first: least recently used, then quickest to load again, then by key."""
    return (model.last_used, model.placed.load_s if model.placed else 0.0, model.key)


def candidate_of(model: ModelState) -> Candidate:
    """What one of our models would free."""
    charges = dict(model.charges)
    disk = {device: size for device, size in charges.items() if size}
    if holds_worker(model):
        disk[WORKERS] = 1
    parked = model.placed.parked if model.placed else None
    if model.status != "resident" or parked is None:
        return Candidate(model.key, disk, is_parked=model.status == "parked")
    kept = dict(parked)
    park = {each: charges.get(each, 0) - kept.get(each, 0) for each in sorted({*charges, *kept})}
    takes = {each: -size for each, size in park.items() if size < 0}
    return Candidate(model.key, disk, park, takes)


def lease_candidate(lease: Foreign) -> Candidate:
    """What another kernel's model would free."""
    return Candidate(lease.lease_id, dict(lease.charges), is_foreign=True)


def ghost_candidate(model: ModelState) -> Candidate:
    """What a gone model's memory gives when it comes back; its key is no model's."""
    return Candidate(f"ghost of {model.key}", dict(model.ghost), is_ghost=True)


def choose(need: Amounts, room: Room, candidates: Sequence[Candidate]) -> tuple[Victim, ...] | None:
    """The plan that makes `need` fit in `room`: nobody when it will fit anyway, None when all together free too little.

    Args:
        need: What has to fit, by device.
        room: What is there, comes and is promised.
        candidates: Who may leave, first to go first.
    """
    margin = {device: room.later.get(device, 0) - size for device, size in need.items()}
    missing = [device for device, size in margin.items() if size < 0]
    if not missing or not candidates:
        return None if missing else ()
    useful = [each for each in candidates if _helps(each, missing)]
    for device in missing:
        if margin[device] + sum([each.disk.get(device, 0) for each in useful]) < 0:
            return None
    parked = [each for each in useful if each.is_parked]
    awake = [each for each in useful if not each.is_parked]
    for count in range(0 if parked else 1, len(awake) + 1):  # 1 is the plan of nobody awake
        plan = _cover(margin, awake[:count], parked, room)
        if plan is not None:
            return (
                _without_superfluous(margin, plan, room) if len(plan) > 1 or plan[0].who.park else tuple(plan)
            )
    return None


def _helps(who: Candidate, missing: Sequence[str]) -> bool:
    disk = who.disk
    for device in missing:  # noqa: SIM110  # asked so often that a generator shows
        if disk.get(device, 0) > 0:
            return True
    return False


def _cover(
    margin: Amounts, awake: Sequence[Candidate], parked: Sequence[Candidate], room: Room
) -> list[Victim] | None:
    """All of `awake`, with as little as possible to disk; None when even that frees too little."""
    plan: list[Victim] = []
    for who in awake:  # 2
        plan.append(Victim(who, "parked" if _can_park(who, plan, room) else "disk"))
    if _is_enough(margin, plan):
        return plan
    for who in parked:  # 1, 3
        plan.append(Victim(who, "disk"))
        if _is_enough(margin, plan):
            return plan
    for index, who in enumerate(awake):  # 3
        plan[index] = Victim(who, "disk")
        if _is_enough(margin, plan):
            return plan
    return None


def _without_superfluous(margin: Amounts, plan: list[Victim], room: Room) -> tuple[Victim, ...]:
    awake = [each for each in plan if not each.who.is_parked]
    for victim in (*reversed(awake), *(each for each in reversed(plan) if each.who.is_parked)):  # 4
        rest = [each for each in plan if each is not victim]
        if _is_enough(margin, rest):
            plan = rest
    for victim in reversed(awake):
        others = [each for each in plan if each is not victim]
        if len(others) < len(plan) and victim.to == "disk" and _can_park(victim.who, others, room):
            gentler = [Victim(each.who, "parked") if each is victim else each for each in plan]
            if _is_enough(margin, gentler):
                plan = gentler
    return tuple(plan)


def _is_enough(margin: Amounts, plan: Sequence[Victim]) -> bool:
    for device, size in margin.items():
        rest = size
        for victim in plan:
            rest += victim.frees.get(device, 0)
        if rest < 0:
            return False
    return True


def _can_park(who: Candidate, others: Sequence[Victim], room: Room) -> bool:
    """True when the machine's memory has room for it now, beside the others of the plan that are parked there."""
    if who.park is None:
        return False
    for device, size in who.takes.items():
        taken = sum(each.who.takes.get(device, 0) for each in others if each.to == "parked")
        if size + taken > min(room.now.get(device, 0), room.later.get(device, 0)):
            return False
    return True
