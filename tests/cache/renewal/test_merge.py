"""The three-way table: every case of what a user and a new version may have done to one file."""

from __future__ import annotations

import pytest

from xprim_nb.cache.renewal.changes import LocalFile, LocalState
from xprim_nb.cache.renewal.merge import FileChange, UpstreamState, merge

# local, upstream, equal bytes -> action, whether the user's file lies there, name beside. Numbers as in the docstring.
_TABLE: list[tuple[LocalState, UpstreamState, bool, str, str]] = [
    ("unchanged", "unchanged", False, "same", ""),  # 1
    ("unchanged", "changed", False, "updated", ""),  # 2
    ("unchanged", "absent", False, "removed", ""),  # 3
    ("changed", "unchanged", False, "kept", ""),  # 4
    ("changed", "changed", False, "conflict", "f.upstream"),  # 5
    ("changed", "absent", False, "conflict", ""),  # 6
    ("absent", "unchanged", False, "restored", ""),  # 7
    ("absent", "changed", False, "restored", ""),  # 8
    ("absent", "absent", False, "gone", ""),  # 9
    ("absent", "new", False, "new", ""),  # 10
    ("added", "absent", False, "kept", ""),  # 11
    ("added", "new", False, "conflict", "f.upstream"),  # 12
    ("damaged", "unchanged", False, "restored", ""),
    ("damaged", "changed", False, "restored", ""),
    ("damaged", "absent", False, "gone", ""),
    ("replaced", "unchanged", False, "restored", ""),
    ("replaced", "changed", False, "restored", ""),
    ("replaced", "absent", False, "gone", ""),
    ("changed", "changed", True, "updated", ""),  # 13
    ("added", "new", True, "updated", ""),  # 13
]


def _merged(local: LocalState, upstream: UpstreamState, *, equal: bool, preserve: bool = True) -> FileChange:
    mine = {} if local == "absent" and upstream == "new" else {"f": LocalFile("f", local)}
    found = merge(mine, {"f": upstream}, equal={"f"} if equal else (), preserve=preserve)
    (change,) = found
    return change


@pytest.mark.parametrize(("local", "upstream", "equal", "action", "beside"), _TABLE)
def test_each_case_has_its_action(
    local: LocalState, upstream: UpstreamState, equal: bool, action: str, beside: str
) -> None:
    """The table of the docstring, case by case."""
    change = _merged(local, upstream, equal=equal)
    assert (change.action, change.upstream_path) == (action, beside)
    assert change.is_local == (action in ("kept", "conflict"))


@pytest.mark.parametrize(("local", "upstream", "equal", "action", "beside"), _TABLE)
def test_nothing_of_the_users_stays_when_it_is_not_to_be_preserved(
    local: LocalState, upstream: UpstreamState, equal: bool, action: str, beside: str
) -> None:
    """Rule 14: what would be kept is set aside; all else is as before."""
    change = _merged(local, upstream, equal=equal, preserve=False)
    assert (change.action, change.upstream_path, change.is_local) == (
        "set_aside" if action in ("kept", "conflict") else action,
        "",
        False,
    )


def _by_path(changes: tuple[FileChange, ...]) -> dict[str, tuple[str, str]]:
    return {each.path: (each.action, each.upstream_path) for each in changes}


def _locals(**states: LocalState) -> dict[str, LocalFile]:
    return {
        path.replace("__", "/"): LocalFile(path.replace("__", "/"), state) for path, state in states.items()
    }


def test_what_finds_a_directory_in_its_place_is_set_aside() -> None:
    """Rule 15: a user's file where the new version has a directory, and one below what is a file there."""
    found = merge(
        _locals(a="changed", b__mine="added", c="added"),
        {"a": "absent", "a/x": "new", "b": "new", "c/y/z": "new"},
    )
    assert _by_path(found) == {
        "a": ("set_aside", ""),
        "a/x": ("new", ""),
        "b": ("new", ""),
        "b/mine": ("set_aside", ""),
        "c": ("set_aside", ""),
        "c/y/z": ("new", ""),
    }


@pytest.mark.parametrize("owner", ["local", "upstream", "directory"])
def test_a_taken_name_gets_a_number(owner: str) -> None:
    """The new version's file lies beside under a free name, whoever has the first one."""
    local = {"f": LocalFile("f", "changed")}
    upstream: dict[str, UpstreamState] = {"f": "changed"}
    if owner == "local":
        local["f.upstream"] = LocalFile("f.upstream", "added")
    elif owner == "upstream":
        upstream["f.upstream"] = "new"
    else:
        upstream["f.upstream/x"] = "new"
    assert _by_path(merge(local, upstream))["f"] == ("conflict", "f.upstream.2")


def test_the_other_side_of_an_earlier_conflict_stays_until_it_is_settled() -> None:
    """Rule 16: unchanged upstream it stays, a new conflict renews it, a file taken from upstream ends it."""
    earlier = {"f": LocalFile("f", "changed"), "f.upstream": LocalFile("f.upstream", "upstream")}
    assert _by_path(merge(earlier, {"f": "unchanged"})) == {"f": ("kept", ""), "f.upstream": ("kept", "")}
    assert _by_path(merge(earlier, {"f": "changed"})) == {"f": ("conflict", "f.upstream")}
    assert _by_path(merge(earlier, {"f": "changed"}, equal={"f"})) == {
        "f": ("updated", ""),
        "f.upstream": ("removed", ""),
    }
    settled = {"f": LocalFile("f", "unchanged"), "f.upstream": LocalFile("f.upstream", "upstream")}
    assert _by_path(merge(settled, {"f": "unchanged"})) == {"f": ("same", ""), "f.upstream": ("removed", "")}
    assert _by_path(merge(earlier, {"f": "changed", "f.upstream": "new"})) == {
        "f": ("conflict", "f.upstream.2"),
        "f.upstream": ("new", ""),
    }


def test_a_plan_says_what_it_does_not_know() -> None:
    """A path whose new bytes must be seen counts as changed, and says that it is not certain."""
    (change,) = merge({"f": LocalFile("f", "changed")}, {"f": "changed"}, uncertain={"f"})
    assert (change.action, change.certain) == ("conflict", False)
    assert str(change) == "conflict: f, the new version's beside as f.upstream"
