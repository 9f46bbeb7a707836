"""Decides what a pruned thread keeps. Pure.

1. Of each namespace its newest checkpoint, and every tip that waits for an answer: one with an interrupt and no child.
2. For each of these, every ancestor back to the nearest that has a full value of each delta channel: a delta channel is
   the writes since then, and would be empty without them, silently.
3. A subgraph's call goes with the root checkpoint that it was made from, once that one is saved and not kept; a subgraph
   that keeps its own state between calls has no task in its namespace, and stays.

Source: spec 6 §Checkpoints; langgraph-checkpoint (`prune`); langgraph-checkpoint-postgres 3.2 (calls of subgraphs);
research prompts §1, traps a and b.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Mark", "plan_prune"]

# A call's namespace ends in the id of its task: "child:5c2f…".
_CALL = ":"


@dataclass(frozen=True, slots=True)
class Mark:
    """What is asked about one checkpoint.

    Args:
        namespace: Its namespace.
        id: Ids grow with time.
        parent: The id of its parent, in the same namespace.
        values: The channels whose values it has.
        versions: The channels that were ever written.
        deltas: The channels of which it says that writes have come since their last full value.
        root: The root graph's checkpoint that a subgraph's call was made from.
        is_waiting: It has a pending interrupt.
    """

    namespace: str
    id: str
    parent: str | None = None
    values: Collection[str] = ()
    versions: Collection[str] = ()
    deltas: Collection[str] = ()
    root: str | None = None
    is_waiting: bool = False


def plan_prune(marks: Sequence[Mark]) -> set[tuple[str, str]]:
    """Namespace and id of what one thread keeps.

    >>> sorted(plan_prune([Mark("", "1"), Mark("", "2", parent="1"), Mark("", "3", parent="2")]))
    [('', '3')]
    >>> sorted(plan_prune([
    ...     Mark("", "1", values={"log"}, versions={"log"}),
    ...     Mark("", "2", parent="1", versions={"log"}, deltas={"log"}),
    ... ]))
    [('', '1'), ('', '2')]
    """
    by_namespace: dict[str, dict[str, Mark]] = defaultdict(dict)
    for mark in marks:
        by_namespace[mark.namespace][mark.id] = mark
    kept: set[tuple[str, str]] = set()
    for namespace in sorted(by_namespace):  # the root graph's is "", and comes first
        of = by_namespace[namespace]
        newest = of[max(of)]
        if _is_finished_call(newest, by_namespace.get("", {}), kept):
            continue
        parents = {mark.parent for mark in of.values()}
        tips = [mark for mark in of.values() if mark.is_waiting and mark.id not in parents]
        deltas = {channel for mark in of.values() for channel in mark.deltas}
        for mark in (newest, *tips):
            kept.add((namespace, mark.id))
            kept.update((namespace, each) for each in _history(mark, of, deltas))
    return kept


def _is_finished_call(newest: Mark, roots: Mapping[str, Mark], kept: Collection[tuple[str, str]]) -> bool:
    # A run saves in the background, where a call may be stored before the checkpoint that it was made from.
    return _CALL in newest.namespace and newest.root in roots and ("", newest.root) not in kept


def _history(mark: Mark, of: Mapping[str, Mark], deltas: Collection[str]) -> Iterator[str]:
    """The ancestors that its delta channels are made of."""
    missing = {channel for channel in deltas if channel in mark.versions} - set(mark.values)
    seen = {mark.id}
    while missing and mark.parent is not None and mark.parent in of and mark.parent not in seen:
        mark = of[mark.parent]
        seen.add(mark.id)
        yield mark.id
        missing -= set(mark.values)
