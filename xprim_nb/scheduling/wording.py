"""Why something is decided, in sentences with names and numbers.

Source: spec 4 §Residency ("explains itself"); research residency §6.3.
"""

from __future__ import annotations

from typing import NamedTuple

from xprim_nb._text import format_bytes, format_count, format_seconds
from xprim_nb.scheduling.eviction import Victim
from xprim_nb.scheduling.room import HOLDING, WORKERS, Amounts, Room, holds_worker, need_of, total
from xprim_nb.scheduling.state import ModelState, Option, State
from xprim_nb.scheduling.survey import Outlook, ever

__all__ = [
    "Shortage",
    "ask_reason",
    "broken_message",
    "evict_reason",
    "load_reason",
    "name_of",
    "shortage",
    "size_on",
    "tightest",
]


class Shortage(NamedTuple):
    """Why a model can never be had: a sentence, and its numbers."""

    message: str
    needed_bytes: int
    available_bytes: int


def name_of(key: str) -> str:
    """The model without its backend.

    >>> name_of("ollama:llama3:8b")
    'llama3:8b'
    """
    return key.partition(":")[2] or key


def where(device: str) -> str:
    """A device as it stands in a sentence."""
    return "the CPU" if device == "cpu" else device


def joined(names: list[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def tightest(need: Amounts, there: Amounts) -> str:
    """The device on which most is missing; the one that most is needed of when nothing is."""
    devices = [each for each in need if each != WORKERS]
    missing = {each: need[each] - there.get(each, 0) for each in devices}
    if devices and max(missing.values()) > 0:
        return max(devices, key=lambda each: missing[each])
    if need.get(WORKERS, 0) > there.get(WORKERS, 0):
        return WORKERS
    return max(devices, key=lambda each: need[each], default=WORKERS)


def size_on(option: Option) -> int:
    """What it takes of the device it computes on, or of the one it takes most of."""
    sizes = dict(option.awake)
    return sizes.get(option.device, max(sizes.values(), default=0))


def _budget(state: State, device: str) -> int:
    return next((each.budget_bytes for each in state.devices if each.id == device), 0)


def _were_free(state: State, device: str) -> str:
    if device == WORKERS:
        taken = sum(map(holds_worker, state.models.values()))
        return f"{taken} of {state.limits.max_workers} worker processes were taken"
    free = max(0, Room(state).now.get(device, 0))
    return f"{format_bytes(free)} of {format_bytes(_budget(state, device))} were free"


def load_reason(state: State, outlook: Outlook) -> str:
    """Why a model is loaded or woken, and where."""
    assert outlook.option is not None and outlook.need is not None  # noqa: PT018  # it fits, so both are known
    name, option = name_of(outlook.request.model), outlook.option
    if not total(option.awake):
        return f"{name} runs elsewhere and takes no memory here"
    size = format_bytes(size_on(option))
    less = f", with less than was asked for ({option.degraded})" if option.degraded else ""
    device = option.device if option.device in outlook.need else tightest(outlook.need, {})
    verb = "wakes" if state.models[outlook.request.model].status == "parked" else "fits"
    if device == WORKERS:  # nothing but a process, or nothing at all, is needed beyond what it holds
        return f"{name} ({size}, {option.source}) {verb} on {where(option.device)}{less}"
    return f"{name} ({size}, {option.source}) {verb} on {where(device)}{less}: {_were_free(state, device)}"


def evict_reason(state: State, outlook: Outlook, victim: Victim) -> str:
    """Why one model of a plan leaves."""
    model, head = state.models[victim.who.key], name_of(outlook.request.model)
    name = name_of(model.key)
    if model.key == outlook.request.model:
        return f"{name} cannot be woken beside what stays, and leaves so that it can be loaded anew"
    since = format_seconds(max(0.0, state.now - model.last_used))
    leaves = "is parked" if victim.to == "parked" else "leaves"
    if model.status == "parked":
        why = f"{name} was parked and unused for {since}, and leaves the machine"
    elif model.wanted_for or any(each.model == model.key for each in state.waiting):
        why = f"{name} has had its turn while {head} waited, and {leaves}"
    elif model.key == outlook.oldest:
        why = f"{name} was idle the longest ({since}) and {leaves}"
    else:
        why = f"{name} was idle for {since} and {leaves} too"
    return f"{why} {_so_that(state, outlook)}"


def ask_reason(state: State, outlook: Outlook, victim: Victim) -> str:
    """Why another kernel is asked for a model."""
    lease = next(each for each in state.foreign if each.lease_id == victim.who.key)
    return (
        f"{name_of(lease.model)} is idle in another kernel (process {lease.kernel_pid}), "
        f"which is asked to let it go {_so_that(state, outlook)}"
    )


def _so_that(state: State, outlook: Outlook) -> str:
    head, need = name_of(outlook.request.model), outlook.need or {}
    device = tightest(need, Room(state).now)
    if device == WORKERS:
        return f"so that {head} can start; {_were_free(state, device)}"
    return f"so that {head} ({format_bytes(need[device])}) fits; {_were_free(state, device)}"


def broken_message(model: ModelState, now: float) -> str:
    """Why nobody starts a model for now."""
    wait, often = format_seconds(max(0.0, model.retry_at - now)), format_count(len(model.failures), "time")
    return (
        f"{name_of(model.key)} failed {often} in a short time and is not started for {wait}; "
        f"the last time: {model.cause}"
    )


def shortage(state: State, model: ModelState) -> Shortage:
    """Why a model can never be had, with its gentlest option and the tightest device of that."""
    name, room = name_of(model.key), ever(state, model)
    if not model.options:
        return Shortage(f"{name} cannot be held here: nothing says how", 0, 0)
    # A parked one is told about as if it were not there: it would be loaded anew.
    gone = ModelState(model.key, model.options)
    needs = [(need_of(gone, option), option) for option in model.options]
    need, option = min(needs, key=lambda each: _missing(each[0], room))
    device = tightest(need, room)
    if device == WORKERS:
        pinned = [name_of(each.key) for each in state.models.values() if each.pinned and holds_worker(each)]
        held = f", and {joined(pinned)} {'are' if len(pinned) > 1 else 'is'} pinned" if pinned else ""
        limit = state.limits.max_workers
        return Shortage(f"{name} needs a worker process; there may be {limit}{held}", 0, 0)
    needed, most = need[device], max(0, room.get(device, 0))
    even = f" even with less than was asked for ({option.degraded})" if option.degraded else ""
    if all(each.id != device for each in state.devices):
        return Shortage(f"{name} needs {format_bytes(needed)} on {device}, which is not here", needed, 0)
    holders = _holders(state, device, room.get(device, 0))
    budget = format_bytes(_budget(state, device))
    rest = f", and at most {format_bytes(most)} of {budget} can be had: {holders}" if holders else ""
    message = f"{name} needs {format_bytes(needed)} on {where(device)}{even}{rest or f', which has {budget} for models'}"
    return Shortage(message, needed, most)


def _missing(need: Amounts, room: Amounts) -> tuple[int, int]:
    short = [(each == WORKERS, max(0, size - room.get(each, 0))) for each, size in need.items()]
    return (
        sum(size for is_worker, size in short if is_worker),
        sum(size for is_worker, size in short if not is_worker),
    )


def _holders(state: State, device: str, most: int) -> str:
    """Who has the rest of a device, for good as far as anybody knows."""
    told: list[str] = []
    left = _budget(state, device)
    for model in state.models.values():
        size = dict(model.charges).get(device, 0)
        if model.pinned and model.status in HOLDING and size:
            told.append(f"{name_of(model.key)} ({format_bytes(size)}) is pinned")
            left -= size
    external = next(each.external_bytes for each in state.devices if each.id == device)
    if external:
        told.append(f"other programs take {format_bytes(external)}")
        left -= external
    theirs = _of_other_kernels(state, device)
    if theirs:
        told.append(f"other kernels hold {format_bytes(theirs)}")
        left -= theirs
    for model in state.models.values():
        ghost = dict(model.ghost).get(device, 0)
        if ghost:
            told.append(f"{format_bytes(ghost)} of {name_of(model.key)} have not come back")
            left -= ghost
    if most < left:
        told.append(f"{format_bytes(left - most)} more are in use than anybody tells")
    return joined(told)


def _of_other_kernels(state: State, device: str) -> int:
    """What other kernels hold of a device and will not let go."""
    leases = [each for each in state.foreign if not (each.may_leave or (each.evictable and not each.asked))]
    return sum(dict(each.charges).get(device, 0) for each in leases)
