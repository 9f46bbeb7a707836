"""The planner of clean-ups, over caches made at random: what it never takes, in which order, and what it says is freed."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xprim_nb.cache.upkeep.accounting import Ledger, account, total_bytes
from xprim_nb.cache.upkeep.cleanup import (
    CleanupPlan,
    CleanupPolicy,
    dependents,
    parse_size,
    plan_cleanup,
)
from xprim_nb.cache.upkeep.values import CacheFacts, Folder, Holding, Inode
from xprim_nb.errors import ConfigError

_NOW = 1_000_000_000.0
# A cache is drawn from some hundred choices: as many as a loaded machine makes within the time limit.
_FEW = settings(max_examples=60)
_HOUR, _DAY, _GB = 3600.0, 86_400.0, 1024**3


_GUARDS: dict[str, dict[str, Any]] = {
    "pinned": {"pinned": "mine"},
    "leased": {"leases": 2},
    "busy": {"busy": True},
    "changed": {"changed": ("a",)},
}


def _holding(kind: str, name: str, size: int = 100, *, days: float = 10.0, **facts: object) -> Holding:
    """Something of one inode, put there and last used so many days ago."""
    at = _NOW - days * _DAY
    number = zlib.crc32(f"{kind} {name}".encode())
    given: dict[str, object] = {
        "path": f"{kind}/{name}",
        "ref": name if kind in ("model", "archive", "backup") else "",
        "inodes": (Inode(1, number, size),),
        "created_at": at,
        "used_at": at,
        **facts,
    }
    return Holding(kind=kind, name=name, **given)  # type: ignore[arg-type]  # facts by name


def _plan(*holdings: Holding, free: int | None = None, **policy: object) -> CleanupPlan:
    facts = CacheFacts(tuple(holdings))
    return plan_cleanup(facts, CleanupPolicy.model_validate(policy), _NOW, target_bytes=free)


def _names(plan: CleanupPlan) -> list[str]:
    return [each.name for each in plan.candidates]


@st.composite
def _caches(draw: st.DrawFn) -> CacheFacts:
    """A cache with models that share inodes and depend on each other, and all sorts of leftovers."""
    count = draw(st.integers(0, 7))
    names = [f"g/m{number} v1" for number in range(count)]
    shared = draw(st.lists(st.integers(1, 50), max_size=3))
    links = [draw(st.integers(0, 2)) for _ in shared]  # names outside of the cache
    users: list[list[int]] = [
        draw(st.lists(st.integers(0, count - 1), unique=True, max_size=4)) if count else [] for _ in shared
    ]
    holdings = []
    for number, name in enumerate(names):
        inodes = [Inode(1, 100 + number, draw(st.integers(0, 100)))]
        for which, size in enumerate(shared):
            if number in users[which]:
                inodes.append(Inode(1, which, size, len(users[which]) + links[which]))
        created = draw(st.floats(0, 100))
        used = draw(st.floats(0, created))
        holdings.append(
            _holding(
                "model",
                name,
                folder=f"g/m{number}" if draw(st.booleans()) else "",
                inodes=tuple(inodes),
                created_at=_NOW - created * _DAY,
                used_at=_NOW - used * _DAY,
                **draw(st.sampled_from([{}, {}, *_GUARDS.values()])),
                depends_on=tuple(draw(st.lists(st.sampled_from([*names, "g/m1"]), max_size=2))),
            )
        )
    for number in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["partial", "leftover", "backup", "archive", "kept", "bundle"]))
        holdings.append(
            _holding(
                kind,
                f"g/x{number} v1",
                draw(st.integers(0, 100)),
                days=draw(st.floats(0, 100)),
                busy=draw(st.sampled_from([False, False, True])),
                changed=draw(st.sampled_from([(), (), ("b",)])),
                superseded=kind == "backup" and draw(st.booleans()),
                pinned=draw(st.sampled_from(["", "", "mine"])) if kind == "archive" else "",
            )
        )
    folders = {
        f"g/m{number}": Folder(f"g/m{number}", 4, draw(st.integers(1, 2)), "g") for number in range(count)
    }
    folders["g"] = Folder("g", 8, max(1, count))
    return CacheFacts(tuple(holdings), folders, _NOW)


_POLICIES = st.builds(
    CleanupPolicy,
    max_cache_size_gb=st.none() | st.integers(0, 500).map(lambda size: size / _GB),
    max_model_age_days=st.none() | st.floats(0, 100),
    unused_threshold_days=st.none() | st.floats(0, 100),
    compression_enabled=st.booleans(),
    min_age_hours=st.sampled_from([0.0, 1.0, 24.0]),
)
_TARGETS = st.none() | st.integers(0, 400)


@_FEW
@given(_caches(), _POLICIES, _TARGETS)
def test_nothing_guarded_is_ever_taken(facts: CacheFacts, policy: CleanupPolicy, target: int | None) -> None:
    """No pinned, leased, busy, changed, young or depended-on thing is a candidate, whatever the policy and target."""
    plan = plan_cleanup(facts, policy, _NOW, target_bytes=target)
    by_path = {each.path: each for each in facts.holdings}
    removed = {each.path for each in plan.candidates if each.action == "remove"}
    left = [each for each in facts.models if each.path not in removed]
    for candidate in plan.candidates:
        holding = by_path[candidate.path]
        assert not any((holding.pinned, holding.leases, holding.busy, holding.changed))
        assert holding.kind not in ("kept", "bundle")
        assert holding.kind != "backup" or holding.superseded
        idle = policy.partial_idle_hours if holding.kind in ("partial", "leftover") else policy.min_age_hours
        assert _NOW - max(holding.used_at, holding.created_at) >= idle * _HOUR
        if candidate.action == "remove" and holding.kind == "model":
            assert dependents(holding, left) == []
    assert removed.isdisjoint(each.path for each in plan.spared)


@_FEW
@given(_caches(), _POLICIES, _TARGETS)
def test_freed_bytes_are_what_is_left_less(
    facts: CacheFacts, policy: CleanupPolicy, target: int | None
) -> None:
    """The freed bytes sum up, and are those blocks of which no name is left, in or outside of the cache."""
    plan = plan_cleanup(facts, policy, _NOW, target_bytes=target)
    removed = {each.path for each in plan.candidates if each.action == "remove"}
    gone = [each for each in facts.holdings if each.path in removed]
    assert plan.freed_bytes == sum(each.freed_bytes for each in plan.candidates)
    names: dict[tuple[int, int], int] = {}
    inodes = {inode.key: inode for each in facts.holdings for inode in each.inodes}
    for holding in gone:
        for inode in holding.inodes:
            names[inode.key] = names.get(inode.key, 0) + inode.seen
    freed = sum(inodes[key].disk_bytes for key, count in names.items() if count >= inodes[key].links)
    entries = {path: folder.entries for path, folder in facts.folders.items()}
    for holding in gone:
        path = holding.folder
        while path:
            entries[path] -= 1
            if entries[path]:
                break
            freed += facts.folders[path].disk_bytes
            path = facts.folders[path].parent
    assert plan.freed_bytes == freed
    assert plan.total_bytes == total_bytes(facts.holdings, facts)


@_FEW
@given(_caches(), _POLICIES, _TARGETS)
def test_steps_come_in_order(facts: CacheFacts, policy: CleanupPolicy, target: int | None) -> None:
    """Leftovers before backups before over-age before unused before least recently used; each thing goes once."""
    plan = plan_cleanup(facts, policy, _NOW, target_bytes=target)
    steps = [each.step for each in plan.candidates]
    assert steps == sorted(steps)
    assert len({each.path for each in plan.candidates}) == len(plan.candidates)
    assert plan == plan_cleanup(
        replace(facts, holdings=facts.holdings[::-1]), policy, _NOW, target_bytes=target
    ) or len({(each.used_at, each.name) for each in facts.holdings}) < len(facts.holdings)


@_FEW
@given(_caches(), _POLICIES, st.integers(1, 400))
def test_free_takes_no_model_that_it_does_not_need(
    facts: CacheFacts, policy: CleanupPolicy, target: int
) -> None:
    """When the target is reached, no least-used model can be left out; when it is not, nothing more may go."""
    plan = plan_cleanup(facts, policy, _NOW, target_bytes=target)
    assert plan.short_bytes == max(0, target - plan.freed_bytes)
    by_path = {each.path: each for each in facts.holdings}
    removed = [by_path[each.path] for each in plan.candidates if each.action == "remove"]
    if plan.short_bytes == 0:
        for candidate in plan.candidates:
            if candidate.step != 5:
                continue
            rest = [each for each in removed if each.path != candidate.path]
            ledger = Ledger(facts)
            left_out = by_path[candidate.path]
            needs = any(each.kind == "model" and dependents(each, [left_out]) for each in rest)
            assert needs or sum(ledger.take(each) for each in rest) < target
        return
    kept = {each.path for each in plan.spared} | {each.path for each in removed}
    assert all(each.path in kept for each in facts.models)


@_FEW
@given(_caches(), _POLICIES, st.integers(0, 500))
def test_size_limit_is_kept_or_the_shortfall_is_said(
    facts: CacheFacts, policy: CleanupPolicy, limit: int
) -> None:
    """Afterwards the cache is below the limit, or the plan says by how much it is not."""
    plan = plan_cleanup(facts, policy.model_copy(update={"max_cache_size_gb": limit / _GB}), _NOW)
    assert plan.total_bytes - plan.freed_bytes <= limit + plan.short_bytes


@_FEW
@given(_caches())
def test_accounts_agree_with_the_ledger(facts: CacheFacts) -> None:
    """Exclusive and shared bytes sum to the holding's own; what removing it frees is never more."""
    accounts = account(facts)
    for holding, each in ((h, a) for h in facts.holdings for a in accounts.accounts if a.path == h.path):
        assert each.total_bytes == holding.disk_bytes
        folders = sum(folder.disk_bytes for folder in facts.folders.values())
        assert each.reclaimable_bytes <= each.exclusive_bytes + each.shared_bytes + folders
    assert accounts.total_bytes <= sum(a.total_bytes for a in accounts.accounts) + sum(
        folder.disk_bytes for folder in facts.folders.values()
    )


def test_default_policy_takes_no_model() -> None:
    """Without limits only stale leftovers and superseded backups go."""
    plan = _plan(
        _holding("model", "g/m v1", days=1000),
        _holding("partial", "p"),
        _holding("partial", "fresh", days=0.5),
        _holding("backup", "b1", superseded=True),
        _holding("backup", "b2"),
        _holding("kept", "k"),
    )
    assert _names(plan) == ["p", "b1"]
    assert [(each.name, each.guard) for each in plan.spared] == [("fresh", "young")]


@pytest.mark.parametrize("guard", _GUARDS)
@pytest.mark.parametrize(
    "rule",
    [{"max_model_age_days": 1}, {"unused_threshold_days": 1}, {"max_cache_size_gb": 0}, {"free": 50}],
    ids=lambda rule: next(iter(rule)),
)
def test_each_guard_keeps_a_model_from_each_rule(guard: str, rule: dict[str, Any]) -> None:
    """A model that would go is spared for the one reason it has, and the reason is a sentence; another goes."""
    kept, gone = _holding("model", "g/kept v1", **_GUARDS[guard]), _holding("model", "g/gone v1")
    plan = _plan(kept, gone, **rule)
    assert _names(plan) == ["g/gone v1"]
    assert _names(_plan(kept, **rule)) == []
    assert [each.guard for each in _plan(kept, **rule).spared] == [guard]


def test_each_rule_gives_its_reason() -> None:
    """Over-age, unused and least-used models each go for a reason that a person can read."""
    old, idle, used = (
        _holding("model", "g/old v1", days=100, used_at=_NOW - 2 * _DAY),
        _holding("model", "g/idle v1", days=40),
        _holding("model", "g/used v1", days=30, used_at=_NOW - 3 * _DAY),
    )
    plan = _plan(old, idle, used, max_model_age_days=90, unused_threshold_days=35, max_cache_size_gb=0)
    assert [(each.name, each.step) for each in plan.candidates] == [
        ("g/old v1", 3),
        ("g/idle v1", 4),
        ("g/used v1", 5),
    ]
    assert "Installed 100 days ago; the limit is 90 days." in str(plan)
    assert "Unused for 40 days; the limit is 35 days." in str(plan)
    assert "Least recently used (3 days ago)" in str(plan)
    assert plan.freed_bytes == 300


def test_a_dependency_goes_only_after_what_needs_it() -> None:
    """The base of a kept LoRA stays; when the LoRA goes too, the base may follow, in that order."""
    base = _holding("model", "g/base v1", days=50)
    lora = _holding("model", "g/lora v1", days=20, depends_on=("g/base v1",))
    kept = _plan(base, replace(lora, pinned="mine"), unused_threshold_days=10)
    assert _names(kept) == []
    assert [(each.name, each.guard) for each in kept.spared] == [
        ("g/base v1", "needed"),
        ("g/lora v1", "pinned"),
    ]
    assert _names(_plan(base, lora, unused_threshold_days=10)) == ["g/lora v1", "g/base v1"]
    assert _names(_plan(base, lora, free=200)) == ["g/lora v1", "g/base v1"]


def test_hard_linked_models_free_their_blocks_with_the_last() -> None:
    """Two models that are one file: the first frees nothing, the second all; neither is taken where that helps nobody."""
    one, two = (
        _holding("model", f"g/{name} v1", days=days, inodes=(Inode(1, 7, 500, 2),))
        for name, days in (("one", 30), ("two", 20))
    )
    plan = _plan(one, two, free=400)
    assert [(each.name, each.freed_bytes) for each in plan.candidates] == [("g/one v1", 0), ("g/two v1", 500)]
    third = _holding("model", "g/three v1", 450, days=10)
    assert _names(_plan(one, replace(two, pinned="mine"), third, free=400)) == ["g/three v1"]


def test_compression_archives_the_unused_and_removes_them_only_when_space_is_short() -> None:
    """An archived model counts as nothing freed; a limit that needs its bytes removes it after all."""
    idle = _holding("model", "g/idle v1", days=40)
    plan = _plan(idle, unused_threshold_days=30, compression_enabled=True)
    assert [(each.action, each.freed_bytes) for each in plan.candidates] == [("archive", 0)]
    short = _plan(idle, unused_threshold_days=30, compression_enabled=True, max_cache_size_gb=0)
    assert [(each.action, each.step) for each in short.candidates] == [("remove", 5)]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20 GB", 20 * _GB),
        ("1.5GiB", 3 * _GB // 2),
        ("512", 512),
        (" 3 kb ", 3072),
        ("2T", 2 * 1024**4),
        (7, 7),
        (1.5, 1),
        ("0", 0),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str | float, size: int) -> None:
    """Units are powers of 1024, in any case, with or without a blank, a `B` or an `i`."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 XB", "1 2", "nan", -5, float("nan"), float("inf")])
def test_what_is_no_size_is_refused(text: str | float) -> None:
    """A text or number that is no size is an error that shows how to write one."""
    with pytest.raises(ConfigError) as caught:
        parse_size(text)
    assert "20 GB" in caught.value.hint
