"""What becomes of each file when a new version meets what somebody did to the old one. Pure.

    locally / upstream    unchanged        changed             absent              new there
    unchanged             1 same           2 updated           3 removed           -
    changed               4 kept           5 conflict          6 conflict          -
    absent                7 restored       8 restored          9 gone              10 new
    added                 -                -                   11 kept             12 conflict
    damaged, replaced     7 restored       8 restored          9 gone              -

    13. What somebody changed or added and is, to the byte, what the new version has: no conflict, it is updated (2).
    14. Local modifications are not to be preserved: 4, 5, 12 are set aside and the new version's file is put there,
        6 and 11 are set aside.
    15. What cannot lie where it lay, because the new version has a directory there or a file above it, is set aside.
    16. The other side of an earlier conflict stays until the file itself is taken from upstream, or meets a new one.

A conflict leaves the local file in its place, and the new version's beside it as `<name>.upstream`; in 6 there is none.
Set aside means: in the backup, or where none is made in `cache/kept`.

Source: spec 2 §Refresh ("three-way per file, by hash"); diff3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xprim_nb.cache.renewal.changes import LocalFile, LocalState

__all__ = ["Action", "FileChange", "UpstreamState", "conflict_name", "merge"]

UpstreamState: TypeAlias = Literal["unchanged", "changed", "absent", "new"]
Action: TypeAlias = Literal[
    "same", "updated", "new", "restored", "removed", "gone", "kept", "conflict", "set_aside"
]

_TAKEN: frozenset[Action] = frozenset({"same", "updated", "new", "restored"})


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path, and what becomes of it.

    Attributes:
        path: Relative, `/`-separated.
        local: What somebody did to it.
        upstream: What the new version did to it.
        action: What is done; see the table.
        upstream_path: In a conflict, where the new version's file lies; empty when it has none.
        certain: False while the new version's bytes must be seen to tell whether it changed the file.
    """

    path: str
    local: LocalState
    upstream: UpstreamState
    action: Action
    upstream_path: str = ""
    certain: bool = True

    @property
    def is_local(self) -> bool:
        """True when the user's file lies under the path afterwards."""
        return self.action in ("kept", "conflict")

    def __str__(self) -> str:
        beside = f", the new version's beside as {self.upstream_path}" if self.upstream_path else ""
        return f"{self.action.replace('_', ' ')}: {self.path}{beside}"


def merge(
    local: Mapping[str, LocalFile],
    upstream: Mapping[str, UpstreamState],
    *,
    equal: Collection[str] = (),
    uncertain: Collection[str] = (),
    preserve: bool = True,
) -> tuple[FileChange, ...]:
    """Decide for every path, sorted.

    Args:
        local: What somebody did to each path of the old version and of its directory.
        upstream: What the new version did to each path of the old and of the new one.
        equal: Paths whose local bytes are the new version's.
        uncertain: Paths of which it is not known whether the new version changed them; they count as changed.
        preserve: False for rule 14.
    """
    theirs = {path for path, state in upstream.items() if state != "absent"}
    folders = {parent for path in theirs for parent in _parents(path)}
    mine_too = {path for path, found in local.items() if found.state != "upstream"}
    taken = theirs | mine_too | {parent for path in theirs | mine_too for parent in _parents(path)}
    decided = []
    for path in sorted({*local, *upstream}):
        mine = local[path].state if path in local else "absent"
        other = upstream.get(path, "absent")
        action = _action(mine, other, is_equal=path in equal)
        fits = path not in folders and theirs.isdisjoint(_parents(path))
        if action in ("kept", "conflict") and not (preserve and fits):  # 14, 15
            action = "set_aside"
        beside = ""
        if action == "conflict" and other != "absent":
            beside = conflict_name(path, taken)
            taken.add(beside)
        decided.append(FileChange(path, mine, other, action, beside, certain=path not in uncertain))
    return tuple(_earlier_conflicts(decided))


def conflict_name(path: str, taken: Collection[str]) -> str:
    """`<path>.upstream`, or with a number when that name is taken."""
    number, name = 1, f"{path}.upstream"
    while name in taken:
        number += 1
        name = f"{path}.upstream.{number}"
    return name


def _action(mine: LocalState, other: UpstreamState, *, is_equal: bool) -> Action:
    if mine == "upstream":  # 16, decided when the others are
        return "kept"
    if mine in ("changed", "added"):
        if is_equal and other != "absent":  # 13
            return "updated"
        if other == "unchanged" or (mine == "added" and other == "absent"):  # 4, 11
            return "kept"
        return "conflict"  # 5, 6, 12
    if other == "absent":
        return "removed" if mine == "unchanged" else "gone"  # 3, 9
    if other == "new":  # 10
        return "new"
    if mine == "unchanged":
        return "same" if other == "unchanged" else "updated"  # 1, 2
    return "restored"  # 7, 8


def _earlier_conflicts(decided: list[FileChange]) -> Iterable[FileChange]:
    """Rule 16."""
    by_path = {each.path: each for each in decided}
    renewed = {each.upstream_path for each in decided if each.upstream_path}
    for each in decided:
        if each.local != "upstream":
            yield each
            continue
        owner = by_path.get(each.path.rpartition(".upstream")[0])
        stays = owner is not None and owner.is_local and each.path not in renewed
        if each.upstream != "absent":  # the new version has a file of this very name
            yield FileChange(each.path, each.local, each.upstream, "new")
        elif not stays and each.path not in renewed:
            yield FileChange(each.path, each.local, each.upstream, "removed")
        elif stays:
            yield each


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))
