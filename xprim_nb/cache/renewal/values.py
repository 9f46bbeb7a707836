"""The values that leave this room.

Source: seeds/000 §Tools (`refresh_model_cache`); spec 2 §Refresh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.renewal.merge import FileChange
from xprim_nb.cache.values import InstalledModel, PullPlan, Receipt
from xprim_nb.refs import ModelRef

__all__ = [
    "Backup",
    "BackupReason",
    "DropPlan",
    "Dropped",
    "RefreshPlan",
    "RefreshStatus",
    "Refreshed",
    "Restored",
    "RollbackPlan",
    "Unreadable",
    "Verdict",
]

RefreshStatus: TypeAlias = Literal["refreshed", "already_current", "rolled_back", "failed"]
BackupReason: TypeAlias = Literal["refresh", "rollback"]


class Verdict(Protocol):
    """What is asked of whoever validates a version."""

    @property
    def overall_status(self) -> str:
        """`healthy`, `degraded` or `failed`."""
        ...


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The verdict on a version that could not be looked at; `why` is a sentence."""

    why: str
    overall_status: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class Backup:
    """A version that was put aside whole.

    Attributes:
        ref: Which version it was.
        id: Its name among the backups of this version; later ones sort behind earlier ones.
        manifest_hash: SHA-256 of its manifest, as `registry.json` had it.
        made_at: When it was put aside, in UTC.
        reason: `refresh` or `rollback`: what put it aside.
        replaced_by: The manifest that came into its place.
        size_bytes: Size of its model's files.
        file_count: Files in its model.
        path: Its directory, with `tree` and `backup.json`.
        damage: Paths that were damaged or missing already when it was put aside.
        extra: Further keys that its `registry.json` entry had (`registry`, `resolved_version`, …).
        problem: A sentence that says why it cannot be put back; empty when nothing is known against it.
    """

    ref: ModelRef
    id: str
    manifest_hash: str
    made_at: datetime
    reason: BackupReason
    replaced_by: str
    size_bytes: int
    file_count: int
    path: Path
    damage: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    problem: str = ""

    @property
    def tree(self) -> Path:
        """The model's directory, as it was."""
        return self.path / "tree"

    def __str__(self) -> str:
        version = self.extra.get("resolved_version") or self.ref.version
        when, size = f"{self.made_at:%Y-%m-%d %H:%M} UTC", format_bytes(self.size_bytes)
        told = f"{self.id}: {version}, {self.manifest_hash[:12]}, {size}, {when}"
        return f"{told}. {self.problem}" if self.problem else told


@dataclass(frozen=True, slots=True)
class RefreshPlan:
    """What a refresh would do.

    Attributes:
        ref: What would be refreshed.
        status: `refresh`, or `already_current`.
        installed_hash: The manifest installed now.
        manifest_hash: The one it would bring.
        files: What becomes of each path, those of which nothing becomes left out.
        pull: What would be fetched and copied; None when already current.
        backs_up: True when the old version stays as a backup.
        checked: False when the registry could not be asked.
        sentences: What a user should know.
    """

    ref: ModelRef
    status: Literal["refresh", "already_current"]
    installed_hash: str
    manifest_hash: str
    files: tuple[FileChange, ...] = ()
    pull: PullPlan | None = None
    backs_up: bool = True
    checked: bool = True
    sentences: tuple[str, ...] = ()

    @property
    def conflicts(self) -> tuple[FileChange, ...]:
        """Files that were changed on both sides."""
        return tuple(each for each in self.files if each.action == "conflict")

    def __str__(self) -> str:
        if self.status == "already_current":
            return "\n".join([f"{self.ref} is current ({self.installed_hash[:12]}).", *self.sentences])
        head = f"{self.ref}: {self.installed_hash[:12]} → {self.manifest_hash[:12]}"
        counts = Counter(each.action for each in self.files)
        told = ", ".join(f"{count} {action.replace('_', ' ')}" for action, count in sorted(counts.items()))
        lines = [f"{head}; files: {told or 'none'}."]
        if self.pull is not None:
            lines.append(
                f"{format_bytes(self.pull.bytes_network)} to fetch, {format_bytes(self.pull.bytes_local)} on this machine."
            )
        lines.append("The old version stays as a backup." if self.backs_up else "No backup is made.")
        lines += [f"  {each}" for each in self.files if each.action in ("kept", "conflict", "set_aside")]
        return "\n".join([*lines, *self.sentences])


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did; the seed's shape, and what it took.

    Attributes:
        ref: What was asked for.
        status: `refreshed`, `already_current`, `rolled_back` (the new version was wrong, the old one is back), or
            `failed` (it was wrong, and is in place because the strategy said so).
        success: True for the first two.
        model: What is installed now.
        updated_files: Paths whose bytes came from the new version.
        removed_files: Paths that the new version lacks.
        kept: Paths where the user's file lies.
        conflicts: Of these, the ones that were changed on both sides.
        set_aside: Paths of the user's that lie only in the backup, or in `kept_in`.
        validation_report: What the validation afterwards found; None when there was none.
        backup: The old version; None when none was made.
        kept_in: Where changed files of the old version were put aside; None when none were.
        receipt: What was fetched and copied.
        checked: False when the registry could not be asked.
        sentences: What a user should read.
    """

    ref: ModelRef
    status: RefreshStatus
    model: InstalledModel
    updated_files: tuple[str, ...] = ()
    removed_files: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    conflicts: tuple[FileChange, ...] = ()
    set_aside: tuple[str, ...] = ()
    validation_report: Verdict | None = None
    backup: Backup | None = None
    kept_in: Path | None = None
    receipt: Receipt = field(default_factory=Receipt)
    checked: bool = True
    rollback_available: bool = False
    sentences: tuple[str, ...] = ()

    @property
    def success(self) -> bool:
        """True when what is installed is what the registry offers, and was found right."""
        return self.status in ("refreshed", "already_current")

    def __str__(self) -> str:
        return "\n".join(self.sentences)


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """What a rollback would do.

    Attributes:
        ref: Which version.
        backup: What would be put back.
        installed: What is in place now, and would become a backup; None when nothing is.
        changed: Paths in what is in place now that somebody changed or added; they go into that backup.
        problems: Sentences that say what became of the backup since it was made; it is not put back then.
        damage: What lies in place now is damaged or missing in these paths.
    """

    ref: ModelRef
    backup: Backup
    installed: InstalledModel | None
    changed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.ref}: puts back {self.backup}"]
        if self.installed is not None:
            lines.append(f"{self.installed.manifest_hash[:12]}, in place now, becomes a backup.")
        if self.changed:
            lines.append(f"Files changed or added in it go with it: {', '.join(self.changed)}.")
        return "\n".join([*lines, *self.problems])


@dataclass(frozen=True, slots=True)
class Restored:
    """What a rollback did.

    Attributes:
        ref: Which version.
        model: What is installed now.
        restored_from: The backup that was put back; its directory is gone.
        backup: What was in place before; None when nothing was.
        sentences: What a user should read.
    """

    ref: ModelRef
    model: InstalledModel
    restored_from: Backup
    backup: Backup | None = None
    sentences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self.sentences)


@dataclass(frozen=True, slots=True)
class DropPlan:
    """Which backups of a version would be deleted."""

    ref: ModelRef
    backups: tuple[Backup, ...]

    @property
    def size_bytes(self) -> int:
        """Size of their models' files; blocks shared by reflink count too."""
        return sum(each.size_bytes for each in self.backups)

    def __str__(self) -> str:
        if not self.backups:
            return f"{self.ref}: no backup to drop."
        head = f"{self.ref}: drops {format_count(len(self.backups), 'backup')} of {format_bytes(self.size_bytes)}:"
        return "\n".join([head, *(f"  {each}" for each in self.backups)])


@dataclass(frozen=True, slots=True)
class Dropped:
    """One deleted backup.

    Attributes:
        backup: Which.
        kept: Where files were put aside that somebody had changed or added and that lie nowhere else; None for none.
    """

    backup: Backup
    kept: Path | None = None
