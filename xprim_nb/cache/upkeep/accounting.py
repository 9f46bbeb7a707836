"""True bytes: what lies on the disk, what is shared, what a removal gives back. Pure.

    1. An inode counts once, with its blocks, however many names it has (as `du` counts).
    2. A holding has an inode alone, or shares it with another holding.
    3. Its blocks come back when the last of all its names goes, also of names outside the cache.
    4. A directory goes when the last thing in it goes, and takes its own blocks along; so do those above it.

Source: spec 2 §Clean-up ("its true freed bytes"); du(1), stat(2) `st_blocks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.upkeep.values import CacheFacts, Holding, HoldingKind

__all__ = ["Account", "CacheAccounts", "Ledger", "account", "total_bytes"]


@dataclass(frozen=True, slots=True)
class Account:
    """The true size of one holding.

    Attributes:
        kind: What it is.
        name: Its ref, or the name of its file or directory.
        path: Relative to the base.
        exclusive_bytes: On disk, in inodes that no other holding has.
        shared_bytes: On disk, in inodes that another holding has too (hard links).
        reclaimable_bytes: What removing it alone gives back.
    """

    kind: HoldingKind
    name: str
    path: str
    exclusive_bytes: int
    shared_bytes: int
    reclaimable_bytes: int

    @property
    def total_bytes(self) -> int:
        """What `du` says of it alone."""
        return self.exclusive_bytes + self.shared_bytes

    def __str__(self) -> str:
        shared = f", {format_bytes(self.shared_bytes)} of it shared" if self.shared_bytes else ""
        return (
            f"{self.kind} {self.name}: {format_bytes(self.total_bytes)}{shared}; "
            f"removing it frees {format_bytes(self.reclaimable_bytes)}"
        )


@dataclass(frozen=True, slots=True)
class CacheAccounts:
    """The true sizes of everything in the cache.

    Attributes:
        accounts: Models first, then by kind and name.
        total_bytes: What all of it takes together: less than the sum where files are shared.
        disk_free: Bytes free on that disk.
    """

    accounts: tuple[Account, ...]
    total_bytes: int
    disk_free: int

    def of(self, name: str, kind: HoldingKind = "model") -> Account:
        """The account of one holding.

        Raises:
            KeyError: There is none of that name.
        """
        for each in self.accounts:
            if each.kind == kind and each.name == name:
                return each
        raise KeyError(name)

    def by_kind(self) -> dict[str, int]:
        """Exclusive and shared bytes by kind; shared ones count in each."""
        found: Counter[str] = Counter()
        for each in self.accounts:
            found[each.kind] += each.total_bytes
        return dict(found)

    def __str__(self) -> str:
        models = sum(each.kind == "model" for each in self.accounts)
        return (
            f"{format_bytes(self.total_bytes)} on disk: {format_count(models, 'model')} and "
            f"{format_count(len(self.accounts) - models, 'other thing')}; {format_bytes(self.disk_free)} free"
        )


class Ledger:
    """Which names of which inodes are left, while one holding after the other is taken away.

    Args:
        facts: Where it begins.
    """

    def __init__(self, facts: CacheFacts) -> None:
        self._folders = facts.folders
        self._left: dict[tuple[int, int], int] = {}
        for holding in facts.holdings:
            for inode in holding.inodes:
                self._left[inode.key] = max(inode.links, self._left.get(inode.key, 0))
        # Names that were made while the facts were collected: more were seen than the inode said it had.
        seen: Counter[tuple[int, int]] = Counter()
        for holding in facts.holdings:
            for inode in holding.inodes:
                seen[inode.key] += inode.seen
        for key, count in seen.items():
            self._left[key] = max(count, self._left[key])
        self._entries = {path: folder.entries for path, folder in facts.folders.items()}

    def freed_by(self, holding: Holding) -> int:
        """Bytes that come back when it is taken away next."""
        freed = sum(inode.disk_bytes for inode in holding.inodes if self._left[inode.key] <= inode.seen)
        path = holding.folder
        while path and self._entries.get(path, 0) == 1:  # 4
            freed += self._folders[path].disk_bytes
            path = self._folders[path].parent
        return freed

    def take(self, holding: Holding) -> int:
        """Take it away; the bytes that come back."""
        freed = self.freed_by(holding)
        for inode in holding.inodes:
            self._left[inode.key] -= inode.seen  # 3
        path = holding.folder
        while path:
            self._entries[path] = self._entries.get(path, 1) - 1
            if self._entries[path] > 0:
                break
            path = self._folders[path].parent
        return freed


def total_bytes(holdings: Iterable[Holding], facts: CacheFacts) -> int:
    """What holdings take together, the directories above them included."""
    inodes, folders = dict[tuple[int, int], int](), dict[str, int]()
    for holding in holdings:
        inodes |= {inode.key: inode.disk_bytes for inode in holding.inodes}  # 1
        path = holding.folder
        while path:
            folders[path] = facts.folders[path].disk_bytes
            path = facts.folders[path].parent
    return sum(inodes.values()) + sum(folders.values())


def account(facts: CacheFacts) -> CacheAccounts:
    """The true size of every holding, and of all of them."""
    owners: Counter[tuple[int, int]] = Counter()
    for holding in facts.holdings:
        owners.update({inode.key for inode in holding.inodes})
    ledger = Ledger(facts)

    def of(holding: Holding) -> Account:
        shared = sum(inode.disk_bytes for inode in holding.inodes if owners[inode.key] > 1)  # 2
        return Account(
            holding.kind,
            holding.name,
            holding.path,
            holding.disk_bytes - shared,
            shared,
            ledger.freed_by(holding),
        )

    ordered = sorted(facts.holdings, key=lambda each: (each.kind != "model", each.kind, each.name, each.path))
    return CacheAccounts(
        tuple(of(each) for each in ordered), total_bytes(facts.holdings, facts), facts.disk_free
    )
