"""Random worlds: machines, models, people who do things, and how often things go wrong."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from xprim_nb.scheduling.state import PRIORITIES, Charges, DeviceState, Foreign, Limits, Option, State

from .machine import TENTH
from .simulation import Deed, Odds, World

_tenths = st.integers(1, 40)
_base = st.sampled_from(sorted(PRIORITIES.values()))
_LIMITS = st.builds(
    Limits,
    max_workers=st.integers(1, 5),
    ageing_s=st.sampled_from([0.1, 0.3, 2.0]),
    window_s=st.sampled_from([0.0, 0.5, 2.0]),
    window_requests=st.integers(1, 8),
    linger_s=st.sampled_from([0.0, 0.05, 0.3]),
    circuit_failures=st.integers(2, 5),
    circuit_within_s=st.sampled_from([5.0, 600.0]),
    backoff_cap_s=st.just(4.0),
    foreign_s=st.sampled_from([0.2, 5.0]),
)
CALM = st.just(Odds())
ROUGH = st.builds(
    Odds,
    crash=st.sampled_from([0.0, 0.1, 0.3]),
    load_fails=st.sampled_from([0.0, 0.2, 0.5]),
    is_final=st.sampled_from([0.0, 0.3]),
    refused=st.sampled_from([0.0, 0.2]),
    ghost=st.sampled_from([0.0, 0.5]),
    ignores=st.sampled_from([0.0, 0.5]),
    answer_s=st.sampled_from([0.2, 3.0]),
    load_s=st.sampled_from([0.1, 2.0]),
)
ASKS = st.sampled_from(["generate"] * 6 + ["load"])
ANYTHING = st.sampled_from(["generate"] * 9 + "load depart pin unpin evict retry look others lease".split())


def charges(**sizes: int) -> Charges:
    """From tenths of a gigabyte by device."""
    return tuple(sorted((device, size * TENTH) for device, size in sizes.items() if size))


@st.composite
def _model_options(draw: st.DrawFn, devices: list[str]) -> tuple[Option, ...]:
    """Of one model: remote, or on one or two devices, with or without parking, with or without something gentler."""
    if draw(st.integers(0, 9)) == 0:
        return (Option("elsewhere", 4096, (), takes_worker=False),)
    size, load_s = draw(_tenths), draw(st.sampled_from([0.5, 3.0]))
    takes_worker = draw(st.integers(0, 5)) > 0
    options = []
    for device in draw(st.lists(st.sampled_from(devices), min_size=1, max_size=2, unique=True)):
        parked = draw(
            st.none() | st.builds(lambda kept, d=device: charges(**{d: kept, "cpu": size}), st.integers(0, 4))
        )
        host = draw(st.integers(0, 3)) if device != "cpu" else 0
        awake = charges(**{device: size, "cpu": host}) if device != "cpu" else charges(cpu=size)
        options.append(
            Option(
                device,
                4096,
                awake,
                None if device == "cpu" else parked,
                load_s=load_s,
                takes_worker=takes_worker,
            )
        )
    if draw(st.booleans()):
        small = charges(**{options[0].device: max(1, size // 2)})
        options.append(replace(options[0], awake=small, parked=None, degraded="context of 2,048 tokens"))
    return tuple(options)


@st.composite
def worlds(draw: st.DrawFn, odds: st.SearchStrategy[Odds], acts: st.SearchStrategy[str]) -> World:
    """A machine with one to three devices, up to seven models, and up to forty things that people do."""
    ids = ["gpu0", "gpu1", "cpu"][draw(st.integers(0, 2)) :]
    devices = tuple(
        DeviceState(
            each,
            draw(st.integers(20, 80)) * TENTH,
            draw(st.integers(0, 8)) * TENTH,
            draw(st.sampled_from([None, 80 * TENTH])),
        )
        for each in ids
    )
    models = {f"numpy:m{number}": draw(_model_options(ids)) for number in range(draw(st.integers(1, 7)))}
    foreign = tuple(
        Foreign(
            f"lease{number}",
            f"numpy:x{number}",
            charges(**{draw(st.sampled_from(ids)): draw(st.integers(1, 20))}),
            4711,
            evictable=draw(st.booleans()),
        )
        for number in range(draw(st.sampled_from([0, 0, 1, 2])))
    )
    state = State(devices, {}, (), foreign, draw(_LIMITS), 100.0)
    return draw(_peopled(state, models, odds, acts, 40))


@st.composite
def crowds(draw: st.DrawFn, odds: st.SearchStrategy[Odds], acts: st.SearchStrategy[str]) -> World:
    """One accelerator that holds two or three of many models, all of which can be parked, and long queues."""
    devices = (
        DeviceState("gpu0", 80 * TENTH, 0, draw(st.sampled_from([None, 81 * TENTH]))),
        DeviceState("cpu", draw(st.sampled_from([40, 100, 300])) * TENTH, 0, None),
    )
    models: dict[str, tuple[Option, ...]] = {}
    for number in range(draw(st.integers(3, 8))):
        size, kept = draw(st.integers(20, 45)), draw(st.integers(1, 6))
        parked = draw(st.sampled_from([None, charges(gpu0=kept, cpu=size)]))
        awake = charges(gpu0=size, cpu=draw(st.integers(0, 5)))
        models[f"numpy:m{number}"] = (Option("gpu0", 4096, awake, parked, load_s=float(size)),)
    limits = draw(_LIMITS)
    state = State(devices, {}, (), (), replace(limits, max_workers=draw(st.integers(2, 8))), 100.0)
    return draw(_peopled(state, models, odds, acts, 60))


@st.composite
def _peopled(
    draw: st.DrawFn,
    state: State,
    models: dict[str, tuple[Option, ...]],
    odds: st.SearchStrategy[Odds],
    acts: st.SearchStrategy[str],
    most: int,
) -> World:
    """A world where people do things, at once or with pauses."""
    slots = {key: draw(st.integers(1, 3)) for key in models}
    world = World(state, models, slots, odds=draw(odds), seed=draw(st.integers(0, 2**32)))
    world.look()
    pauses = draw(st.sampled_from([[0.0, 0.0, 0.01, 0.2], [0.0, 0.0, 0.01, 0.2, 1.0, 5.0]]))
    at, deeds = state.now, []
    for number in range(draw(st.integers(1, most))):
        at += draw(st.sampled_from(pauses))
        what, model = draw(acts), draw(st.sampled_from(sorted(models)))
        deeds.append(Deed(at, what, model, draw(_base), number))
    world.plan(deeds)
    return world
