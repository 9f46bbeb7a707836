"""What the planner of clean-ups reads: facts that were collected once, and can be replayed.

Source: spec 2 §Clean-up; STYLE, habit 3 ("decide purely").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from xprim_nb._text import format_count

__all__ = ["CacheFacts", "Folder", "Holding", "HoldingKind", "Inode", "told_readers"]

HoldingKind: TypeAlias = Literal["model", "partial", "backup", "archive", "kept", "leftover", "bundle"]


def told_readers(count: int) -> str:
    """The beginning of a sentence about what is open.

    >>> told_readers(1), told_readers(2)
    ('1 reader has', '2 readers have')
    """
    return f"{format_count(count, 'reader')} {'has' if count == 1 else 'have'}"


class Inode(NamedTuple):
    """A file's blocks on a disk, as `du` counts them.

    Attributes:
        device: Number of the disk.
        number: Number of the inode there.
        disk_bytes: Blocks it has, in bytes.
        links: How many names it has anywhere; 1 for a directory.
        seen: How many of these lie in the holding.
    """

    device: int
    number: int
    disk_bytes: int
    links: int = 1
    seen: int = 1

    @property
    def key(self) -> tuple[int, int]:
        """What tells one inode from another."""
        return self.device, self.number


class Folder(NamedTuple):
    """A directory that goes when the last thing in it has gone (`group/model`, say).

    Attributes:
        path: Relative to the base.
        disk_bytes: Its own blocks, in bytes.
        entries: How many names it holds now.
        parent: The next such directory above it; empty when there is none.
    """

    path: str
    disk_bytes: int
    entries: int
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Holding:
    """One thing in the cache that is kept, or goes, as a whole.

    Attributes:
        kind: What it is. A `leftover` is a loose chunk, a tree on its way out or an archive that was never finished.
        name: A ref for models, backups and archives; else the name of the file or directory.
        path: Where it lies, relative to the base, `/`-separated.
        inodes: What it is made of, directories included.
        folder: The directory that goes when it was the last thing in it; empty when that stays.
        ref: The model version it belongs to; empty for none.
        manifest_hash: Which manifest; empty when that says nothing here.
        created_at: When it was put there, in unix seconds.
        used_at: When it was last used or touched, in unix seconds.
        uses: How often it was used.
        pinned: The pin's reason, or a default one; empty when it is not pinned.
        leases: How many living readers hold it.
        busy: Somebody works on it now.
        changed: Files in it that somebody changed or added, and that are nowhere else.
        depends_on: Refs or `group/model` names that it needs.
        superseded: A backup that is not the newest of its version.
        stored: True when its chunks are compressed (an archive).
    """

    kind: HoldingKind
    name: str
    path: str
    inodes: tuple[Inode, ...] = field(repr=False)
    folder: str = ""
    ref: str = ""
    manifest_hash: str = ""
    created_at: float = 0.0
    used_at: float = 0.0
    uses: int = 0
    pinned: str = ""
    leases: int = 0
    busy: bool = False
    changed: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    superseded: bool = False
    stored: bool = False

    @property
    def disk_bytes(self) -> int:
        """What `du` says of it alone."""
        return sum(inode.disk_bytes for inode in self.inodes)


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """Everything in the cache at one moment.

    Attributes:
        holdings: In no particular order.
        folders: By path.
        collected_at: When, in unix seconds.
        disk_free: Bytes free on the disk then.
    """

    holdings: tuple[Holding, ...]
    folders: Mapping[str, Folder] = field(default_factory=dict)
    collected_at: float = 0.0
    disk_free: int = 0

    @property
    def models(self) -> tuple[Holding, ...]:
        """The installed models."""
        return tuple(each for each in self.holdings if each.kind == "model")
