"""Whole eviction plans: enough or nothing, nobody too many, parked before gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.scheduling.eviction import Candidate, Victim, by_age, candidate_of, choose, lease_candidate
from xprim_nb.scheduling.room import WORKERS, Amounts, Room
from xprim_nb.scheduling.state import Charges, Foreign, Limits, ModelState, Option, State


def _room(**later: int) -> Room:
    room = Room(State(limits=Limits(max_workers=9)))
    room.now, room.later = dict(later), dict(later)
    return room


def _awake(name: str, size: int, parked: tuple[int, int] | None = None) -> Candidate:
    """It takes `size` of the gpu; parked so much of gpu and cpu."""
    placed = Option(
        "gpu", 1, (("gpu", size),), None if parked is None else (("cpu", parked[1]), ("gpu", parked[0]))
    )
    return candidate_of(
        ModelState(name, (placed,), status="resident", placed=placed, charges=(("gpu", size),))
    )


def _parked(name: str, size: int, cpu: int = 0) -> Candidate:
    charges: Charges = (("cpu", cpu), ("gpu", size))
    placed = Option("gpu", 1, (("gpu", 9),), charges)
    return candidate_of(ModelState(name, (placed,), status="parked", placed=placed, charges=charges))


def _plan(need: int, room: Room, *candidates: Candidate) -> list[str] | None:
    found = choose({"gpu": need}, room, candidates)
    return None if found is None else [f"{each.who.key} {each.to}" for each in found]


def test_what_fits_anyway_needs_nobody() -> None:
    """Room that comes is room."""
    assert _plan(4, _room(gpu=4), _awake("a", 9)) == []


def test_the_oldest_go_until_it_is_enough() -> None:
    """In the order they are given in, and no more of them."""
    assert _plan(6, _room(gpu=1), _awake("a", 3), _awake("b", 3), _awake("c", 3)) == ["a disk", "b disk"]


def test_too_little_is_nothing() -> None:
    """Where all together do not free enough, nobody is evicted."""
    assert _plan(9, _room(gpu=1), _awake("a", 3), _awake("b", 3)) is None


def test_the_superfluous_stay() -> None:
    """A large one that is needed anyhow makes two small older ones unnecessary."""
    assert _plan(6, _room(gpu=1), _awake("a", 1), _awake("b", 1), _awake("c", 5)) == ["c disk"]


def test_what_does_not_help_stays() -> None:
    """A model on another device is not touched."""
    other = Candidate("x", {"gpu2": 9})
    assert _plan(3, _room(gpu=1, gpu2=0), other, _awake("a", 3)) == ["a disk"]


def test_parked_where_the_machine_has_room() -> None:
    """The second one finds no more room in memory, and goes to disk."""
    one, two = _awake("a", 4, parked=(1, 4)), _awake("b", 4, parked=(1, 4))
    assert _plan(6, _room(gpu=0, cpu=5), one, two) == ["a parked", "b disk"]


def test_to_disk_when_the_residue_is_in_the_way() -> None:
    """Three of four gigabytes come back when it is parked; four are needed."""
    assert _plan(4, _room(gpu=0, cpu=9), _awake("a", 4, parked=(1, 4))) == ["a disk"]


def test_the_oldest_sinks_deepest() -> None:
    """Of two that could be parked, the one used longer ago goes to disk when one has to."""
    one, two = _awake("a", 4, parked=(1, 4)), _awake("b", 4, parked=(1, 4))
    assert _plan(7, _room(gpu=0, cpu=9), one, two) == ["a disk", "b parked"]


def test_parked_ones_go_first_when_they_suffice() -> None:
    """Nobody awake leaves for what two residues give."""
    assert _plan(2, _room(gpu=0), _awake("a", 4), _parked("p", 1), _parked("q", 1)) == ["p disk", "q disk"]


def test_parked_ones_stay_when_they_do_not_suffice_and_are_not_needed() -> None:
    """One awake model frees enough by itself."""
    assert _plan(4, _room(gpu=0), _awake("a", 4), _parked("p", 1)) == ["a disk"]


def test_parked_ones_go_too_where_their_residue_is_missing() -> None:
    """Parking one and dropping a residue is gentler than sending two to disk."""
    assert _plan(4, _room(gpu=0, cpu=9), _awake("a", 4, parked=(1, 4)), _parked("p", 1, 1)) == [
        "a parked",
        "p disk",
    ]


def test_a_worker_is_freed_by_disk_only() -> None:
    """A parked model keeps its process."""
    room = _room(gpu=9, cpu=9)
    room.later[WORKERS] = 0
    found = choose({"gpu": 1, WORKERS: 1}, room, [_awake("a", 4, parked=(1, 4))])
    assert found is not None
    assert [each.to for each in found] == ["disk"]


def test_order_is_by_use_then_by_the_cost_of_loading_again_then_by_key() -> None:
    """Least recently used first, of equals the quickest to load again."""

    def model(key: str, used: float, load_s: float) -> ModelState:
        return ModelState(key, (), placed=Option("gpu", 1, (), load_s=load_s), last_used=used)

    models = [model("d", 2, 1), model("c", 1, 5), model("b", 1, 3), model("a", 1, 5)]
    assert [each.key for each in sorted(models, key=by_age)] == ["b", "a", "c", "d"]


def test_another_kernels_lease_frees_what_it_takes() -> None:
    """Its worker is not one of ours."""
    lease = lease_candidate(Foreign("l1", "x", (("gpu", 4),), 1))
    assert (lease.disk, lease.is_foreign) == ({"gpu": 4}, True)


_sizes = st.integers(1, 9)
_candidates = st.one_of(
    st.tuples(_sizes, st.none() | st.tuples(st.integers(0, 4), _sizes)).map(lambda each: ("awake", *each)),
    st.tuples(st.integers(0, 4), st.integers(0, 5)).map(lambda each: ("parked", *each)),
)


def _margins(need: Amounts, room: Room, plan: list[Victim]) -> list[int]:
    return [
        room.later.get(key, 0) - size + sum(each.frees.get(key, 0) for each in plan)
        for key, size in need.items()
    ]


@given(
    st.lists(_candidates, max_size=7),
    st.integers(0, 12),
    st.integers(0, 4),
    st.integers(0, 8),
    st.integers(0, 8),
)
def test_plans_are_enough_minimal_and_found_when_there_is_one(
    drawn: list[tuple[str, int, object]], gpu: int, cpu: int, free_gpu: int, free_cpu: int
) -> None:
    """A plan frees enough, is not enough without any of its victims, parks within memory, and exists when it can."""
    made = []
    for number, (kind, size, more) in enumerate(drawn):
        key = f"m{number}"
        made.append(_awake(key, size, more) if kind == "awake" else _parked(key, size, more))  # type: ignore[arg-type]  # drawn
    room, need = _room(gpu=free_gpu, cpu=free_cpu), {"gpu": gpu, "cpu": cpu}
    found = choose(need, room, made)
    everybody = [Victim(each, "disk") for each in made]
    if found is None:
        assert min(_margins(need, room, everybody)) < 0
        return
    plan = list(found)
    assert min(_margins(need, room, plan)) >= 0
    assert len({each.who.key for each in plan}) == len(plan)
    for victim in plan:
        assert min(_margins(need, room, [each for each in plan if each is not victim])) < 0
    assert sum(each.who.takes.get("cpu", 0) for each in plan if each.to == "parked") <= free_cpu


def test_what_is_parked_cannot_be_parked_again() -> None:
    """It goes to disk or stays."""
    assert _parked("p", 1).park is None
