"""Versions that were put aside whole: which there are, whether one can be put back, which are superseded.

A backup is a directory `cache/backup/<group>/<model>/<version>/<stamp>-<token>/` with the version's own directory as
`tree`, renamed and not copied, and `backup.json`. The tree alone is enough: a lost or torn `backup.json` is read from it.

Source: spec 2 §Refresh ("Backup is the old directory itself, renamed"), §Access (schema versions).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from xprim_nb._files import read_plain
from xprim_nb.cache.intents import BACKUP_FILE
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.renewal.changes import LocalFile, examine
from xprim_nb.cache.renewal.values import Backup, BackupReason
from xprim_nb.cache.store import read_manifest
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import InvalidRefError, NotInstalledError, XprimError
from xprim_nb.refs import ModelRef

__all__ = [
    "BackupFacts",
    "damage_in",
    "facts_for",
    "find_backup",
    "has_backup",
    "list_backups",
    "problems_of",
    "superseded",
]

_log = logging.getLogger("xprim_nb.cache")

_SCHEMA_VERSION = 1
# As much of a digest as names one manifest among a few backups.
_SHORT_DIGEST = 8


class BackupFacts(BaseModel):
    """`backup.json`.

    Attributes:
        schema_version: 1.
        ref: Which version it was.
        manifest_hash: As `registry.json` had it.
        made_at: When it was put aside.
        reason: What put it aside.
        trigger: Why that was done, as the strategy said.
        replaced_by: The manifest that came into its place.
        size_bytes: Size of its model's files.
        file_count: Files in its model.
        damage: Paths that were damaged or missing already.
        extra: Further keys of its `registry.json` entry.
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    schema_version: Literal[1] = 1
    ref: str
    manifest_hash: str
    made_at: datetime
    reason: BackupReason
    trigger: str = "manual"
    replaced_by: str = ""
    size_bytes: int
    file_count: int
    damage: tuple[str, ...] = ()
    extra: dict[str, Any] = {}


def facts_for(
    model: InstalledModel,
    reason: BackupReason,
    replaced_by: str,
    damage: Collection[str],
    trigger: str = "manual",
) -> dict[str, Any]:
    """What `backup.json` says of a version that is about to be put aside.

    Args:
        model: The version.
        reason: What puts it aside.
        replaced_by: The digest of the manifest that comes into its place.
        damage: Paths that are damaged or missing in it; see `damage_in`.
        trigger: Why that is done.
    """
    facts = BackupFacts(
        ref=str(model.ref),
        manifest_hash=model.manifest_hash,
        made_at=datetime.now(UTC),
        reason=reason,
        trigger=trigger,
        replaced_by=replaced_by,
        size_bytes=model.total_size,
        file_count=model.file_count,
        damage=tuple(sorted(damage)),
        extra=dict(model.extra),
    )
    return facts.model_dump(mode="json")


def list_backups(layout: Layout, ref: ModelRef | None = None) -> list[Backup]:
    """The backups of one version, or of all, sorted by version and age, the newest last."""
    if ref is not None:
        found = [_backup(layout, ref, path) for path in _children(layout.backups_of(ref))]
    else:
        root = layout.cache / "backup"
        found = [
            _backup(layout, each, path)
            for group in _children(root)
            for model in _children(group)
            for version in _children(model)
            for each in _ref(group.name, model.name, version.name)
            for path in _children(version)
        ]
    return sorted((each for each in found if each is not None), key=lambda each: (each.ref, each.id))


def find_backup(layout: Layout, ref: ModelRef, to: str | None = None) -> Backup:
    """The newest backup that nothing is known against, or the one that `to` names.

    One that was damaged already when it was made comes after those that were not.

    Args:
        layout: Where things lie.
        ref: Which version.
        to: A backup's id, or the first eight or more digits of its manifest's digest.

    Raises:
        NotInstalledError: There is none.
    """
    known = list_backups(layout, ref)
    if to is None:
        usable = [each for each in known if not each.problem] or known
        found = ([each for each in usable if not each.damage] or usable)[-1:]
    else:
        found = [each for each in known if each.id == to] or [
            each for each in known if len(to) >= _SHORT_DIGEST and each.manifest_hash.startswith(to)
        ][-1:]
    if found:
        return found[0]
    raise NotInstalledError(
        f"{ref} has no backup{f' {to}' if to else ''}.",
        subject=str(ref),
        hint=f"Its backups: {', '.join(each.id for each in known)}."
        if known
        else "A refresh makes one; nothing was changed.",
    )


def has_backup(layout: Layout, ref: ModelRef) -> bool:
    """True when there is one that nothing is known against."""
    return any(not each.problem for each in list_backups(layout, ref))


def problems_of(layout: Layout, backup: Backup) -> tuple[str, ...]:
    """Sentences that say what became of a backup since it was made; empty when it can be put back as it was.

    Files that look as they did when they were installed are not read.

    Raises:
        StorageError: It cannot be read.
    """
    if backup.problem:
        return (backup.problem,)
    manifest = read_manifest(layout, backup.tree).manifest
    found = damage_in(examine(layout, backup.tree, manifest))
    return tuple(
        f"{path} {told} in the backup {backup.id}."
        for path, told in found.items()
        if path not in backup.damage
    )


def damage_in(local: Mapping[str, LocalFile]) -> dict[str, str]:
    """Paths that are not what was installed, and are nobody's work: what is wrong with each."""
    told = {"absent": "is missing", "damaged": "is damaged", "replaced": "is no plain file"}
    return {path: told[found.state] for path, found in local.items() if found.state in told}


def superseded(backups: Sequence[Backup], keep: int = 1) -> tuple[Backup, ...]:
    """Those that newer ones of the same version make dispensable. Pure.

    The newest stay, and the newest of those that were whole when they were made.

    Args:
        backups: Any, in any order. One that cannot be put back counts for nothing, and is nobody's to drop unasked.
        keep: How many of each version stay.
    """
    by_version: dict[ModelRef, list[Backup]] = {}
    for each in sorted(backups, key=lambda each: (each.ref, each.id)):
        if not each.problem:
            by_version.setdefault(each.ref, []).append(each)
    gone: list[Backup] = []
    for known in by_version.values():
        whole = [each for each in known if not each.damage]
        stay = [*known[max(len(known) - keep, 0) :], *whole[max(len(whole) - keep, 0) :]]
        gone += [each for each in known if each not in stay]
    return tuple(gone)


def _backup(layout: Layout, ref: ModelRef, path: Path) -> Backup | None:
    tree = path / "tree"
    if not os.path.lexists(tree):
        return None  # the last step of a rollback, or an empty directory of somebody's
    problem = ""
    digest, size, count = "", 0, 0
    try:
        verified = read_manifest(layout, tree)
        digest, size, count = verified.digest, verified.manifest.total_size, len(verified.manifest.files)
    except XprimError as error:
        problem = f"The backup {path.name} is damaged: {error.message}"
    facts, why = _facts(path / BACKUP_FILE)
    made_at = facts.made_at if facts else datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Backup(
        ref=ref,
        id=path.name,
        manifest_hash=facts.manifest_hash if facts else digest,
        made_at=made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC),
        reason=facts.reason if facts else "refresh",
        replaced_by=facts.replaced_by if facts else "",
        size_bytes=facts.size_bytes if facts else size,
        file_count=facts.file_count if facts else count,
        path=path,
        damage=facts.damage if facts else (),
        extra=facts.extra if facts else {},
        problem=why or problem,
    )


def _facts(path: Path) -> tuple[BackupFacts | None, str]:
    """What the file says, and why the backup is to be left alone; neither when it is absent or torn."""
    try:
        document = orjson.loads(read_plain(path))
    except (OSError, ValueError):
        _log.info("a backup has no readable facts: its tree tells them", extra={"path": str(path)})
        return None, ""
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > _SCHEMA_VERSION:
        why = f"The backup {path.parent.name} was made by a newer version (schema {version}), and is left alone."
        return None, why
    try:
        return BackupFacts.model_validate(document), ""
    except ValidationError:
        _log.info("a backup's facts are damaged: its tree tells them", extra={"path": str(path)})
        return None, ""


def _ref(group: str, model: str, version: str) -> Iterator[ModelRef]:
    try:
        yield ModelRef(group, model, version).require_version()
    except InvalidRefError:
        _log.debug("no backup of ours", extra={"path": f"{group}/{model}/{version}"})


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
