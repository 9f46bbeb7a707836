"""What a pruned thread keeps, decided purely."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.prompts.checkpoints.keeping import Mark, plan_prune


def _chain(*marks: Mark) -> list[str]:
    return sorted(id_ for _, id_ in plan_prune(marks))


def test_the_newest_of_each_namespace_is_kept() -> None:
    """Of a thread without anything special one checkpoint a namespace is left."""
    marks = [Mark(space, str(number)) for space in ("", "child") for number in range(3)]
    assert plan_prune(marks) == {("", "2"), ("child", "2")}
    assert plan_prune([]) == set()


def test_ancestors_are_kept_back_to_a_full_value_of_each_delta_channel() -> None:
    """The walk ends where every delta channel has its value; one that was never written asks for none."""
    deltas, versions = {"log", "never"}, {"log", "other"}
    assert _chain(
        Mark("", "1", values={"log"}, versions=versions),
        Mark("", "2", "1", values={"log"}, versions=versions),
        Mark("", "3", "2", values={"other"}, versions=versions, deltas=deltas),
        Mark("", "4", "3", values={"other"}, versions=versions, deltas=deltas),
    ) == ["2", "3", "4"]


def test_a_channel_that_is_no_delta_any_more_is_still_one() -> None:
    """The newest may say nothing of deltas, after its graph was changed; its ancestors do."""
    assert _chain(
        Mark("", "1", values={"log"}, versions={"log"}),
        Mark("", "2", "1", versions={"log"}, deltas={"log"}),
        Mark("", "3", "2", versions={"log"}),
    ) == ["1", "2", "3"]


def test_tips_that_wait_are_kept_and_what_went_on_is_not() -> None:
    """An interrupt counts where nothing came after it."""
    assert _chain(
        Mark("", "1", is_waiting=True),
        Mark("", "2", "1", is_waiting=True),
        Mark("", "3", "1"),
    ) == ["2", "3"]


def test_a_call_goes_with_the_root_that_it_was_made_from() -> None:
    """A subgraph's call is over when its root is saved and not kept; one without a task, or whose root is unknown, stays."""
    kept = plan_prune(
        [
            Mark("", "1"),
            Mark("", "2", "1"),
            Mark("over:a", "1", root="1"),
            Mark("running:b", "1", root="2"),
            Mark("early:c", "1", root="3"),
            Mark("memory", "1", root="1"),
        ]
    )
    assert kept == {("", "2"), ("running:b", "1"), ("early:c", "1"), ("memory", "1")}


def test_a_circle_of_parents_ends() -> None:
    """A checkpoint that was stored again under its own descendant does not hang the plan."""
    assert _chain(
        Mark("", "1", "2", versions={"log"}, deltas={"log"}),
        Mark("", "2", "1", versions={"log"}, deltas={"log"}),
    ) == ["1", "2"]


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_every_kept_delta_channel_can_be_rebuilt(shapes: list[tuple[int, bool, bool]]) -> None:
    """In any tree, whatever is kept reaches a full value, or the root, over kept checkpoints alone; twice is once."""
    marks = {}
    for number, (parent, has_value, is_waiting) in enumerate(shapes):
        marks[f"{number:02}"] = Mark(
            "",
            f"{number:02}",
            f"{parent % number:02}" if number else None,
            values={"log"} if has_value else (),
            versions={"log"},
            deltas=() if has_value else {"log"},
            is_waiting=is_waiting,
        )
    kept = {id_ for _, id_ in plan_prune(list(marks.values()))}
    assert max(marks) in kept
    for id_ in kept:
        mark = marks[id_]
        while "log" not in mark.values and mark.parent is not None:
            assert mark.parent in kept
            mark = marks[mark.parent]
    left = [mark for id_, mark in marks.items() if id_ in kept]
    assert {id_ for _, id_ in plan_prune(left)} == kept
