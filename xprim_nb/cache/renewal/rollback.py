"""Put a backup back, by rename; what was in place becomes a backup itself, so that this can be undone.

    1. The backup: the newest that can be put back, or the one asked for. A damaged one is refused.
    2. Its tree and the one in place change places, by the same intent as an install; nothing is copied.
    3. `registry.json` names what is in place now.

Works with no network, and where the version has been removed.

Source: spec 2 §Refresh ("rollback renames it back, also later").
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from xprim_nb._files import locked
from xprim_nb._threads import settled
from xprim_nb.cache.history import record
from xprim_nb.cache.install import Installer
from xprim_nb.cache.intents import Displacement
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.renewal.backups import (
    damage_in,
    facts_for,
    find_backup,
    list_backups,
    problems_of,
    superseded,
)
from xprim_nb.cache.renewal.changes import LocalFile, examine
from xprim_nb.cache.renewal.values import Backup, Dropped, DropPlan, Restored, RollbackPlan
from xprim_nb.cache.state import State
from xprim_nb.cache.store import Store, manifest_digest, read_manifest
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import NotInstalledError, StorageError
from xprim_nb.events import EventHub, RolledBack
from xprim_nb.refs import ModelRef

__all__ = ["Restorer"]


class Restorer:
    """Puts backups back, and drops them. Holds nothing open.

    Args:
        layout: Where things lie.
        store: What is installed.
        installer: Moves trees.
        state: Where what was done is remembered.
        events: Where it is told.
    """

    def __init__(
        self, layout: Layout, store: Store, installer: Installer, state: State, events: EventHub
    ) -> None:
        self._layout, self._store, self._installer = layout, store, installer
        self._state, self._events = state, events

    async def backups(self, ref: ModelRef | None = None) -> list[Backup]:
        """The backups of one version, or of all, sorted by version and age, the newest last."""
        return await settled(list_backups, self._layout, ref)

    async def plan(self, ref: ModelRef, to: str | None = None) -> RollbackPlan:
        """What `rollback` would do now.

        Raises:
            NotInstalledError: There is no such backup.
            StorageError: The disk cannot be read.
        """
        return await settled(self._plan, ref, to)

    async def rollback(self, ref: ModelRef, to: str | None = None, *, force: bool = False) -> Restored:
        """Put a backup back.

        Args:
            ref: Which version.
            to: Which backup, by its id or its manifest's digest; the newest when None.
            force: Put it back although files in it are damaged or missing.

        Raises:
            NotInstalledError: There is no such backup.
            StorageError: It is damaged, or the disk refused; what was in place is in place.
        """
        await settled(
            find_backup, self._layout, ref, to
        )  # an unknown one fails at once, and leaves no lock file
        async with locked(self._layout.ref_lock(ref)):
            await settled(self._installer.recover, ref)
            plan = await settled(self._plan, ref, to)
            restored = await settled(self._put_back, plan, force)
        details = {"from": plan.backup.id, "manifest_hash": restored.model.manifest_hash}
        await settled(record, self._state, "rollback", ref, details)
        self._events.publish(RolledBack(ref, restored.model.manifest_hash, "asked for"))
        return restored

    def take_back(self, backup: Backup) -> InstalledModel:
        """Undo a refresh whose new version turned out wrong: that one goes. The caller holds the version's lock.

        Raises:
            StorageError: The disk refused.
        """
        return self._installer.restore(backup.ref, backup.tree, _entry(backup, None), None)

    async def plan_drop(self, ref: ModelRef, which: str | None = None) -> DropPlan:
        """Which backups `drop` would delete: the one named, or all that a newer one makes dispensable.

        Raises:
            NotInstalledError: There is no such backup.
        """
        return await settled(self._plan_drop, ref, which)

    async def drop(self, ref: ModelRef, which: str | None = None) -> tuple[Dropped, ...]:
        """Delete backups; files that somebody had changed or added, and that lie nowhere else, are put aside.

        Raises:
            NotInstalledError: There is no such backup.
            StorageError: The disk refused; those dropped before stay dropped.
        """
        await settled(self._plan_drop, ref, which)
        async with locked(self._layout.ref_lock(ref)):
            await settled(self._installer.recover, ref)
            plan = await settled(self._plan_drop, ref, which)
            return tuple([await settled(self.discard, each) for each in plan.backups])

    def discard(self, backup: Backup) -> Dropped:
        """Delete one. The caller holds the version's lock.

        Raises:
            StorageError: The disk refused; it is whole, or the next operation finishes this.
        """
        return Dropped(backup, self._installer.discard(backup.ref, backup.tree))

    def _plan(self, ref: ModelRef, to: str | None) -> RollbackPlan:
        backup = find_backup(self._layout, ref, to)
        installed = self._in_place(ref)
        local: Mapping[str, LocalFile] = {}
        if installed is not None:
            manifest = None
            with contextlib.suppress(StorageError):  # damaged: that is no reason not to go back
                manifest = read_manifest(self._layout, installed.path).manifest
            local = examine(self._layout, installed.path, manifest)
        changed = tuple(path for path, found in local.items() if found.state in ("changed", "added"))
        problems, damage = problems_of(self._layout, backup), tuple(damage_in(local))
        return RollbackPlan(ref, backup, installed, changed, problems, damage)

    def _in_place(self, ref: ModelRef) -> InstalledModel | None:
        """What lies in the version's place, listed or not, however damaged; None when nothing does."""
        installed, place = self._store.find(ref), self._layout.model_dir(ref)
        if installed is not None or not os.path.lexists(place):
            return installed
        try:
            return self._store.get_entry(ref)
        except NotInstalledError:  # its name is gone
            digest = manifest_digest(self._layout, place) or ""
            return InstalledModel(ref, digest, 0, 0, datetime.now(UTC), self._layout.base)

    def _plan_drop(self, ref: ModelRef, which: str | None) -> DropPlan:
        if which is not None:
            return DropPlan(ref, (find_backup(self._layout, ref, which),))
        return DropPlan(ref, superseded(list_backups(self._layout, ref)))

    def _put_back(self, plan: RollbackPlan, force: bool) -> Restored:
        ref, backup, installed = plan.ref, plan.backup, plan.installed
        if plan.problems and (backup.problem or not force):
            raise StorageError(
                f"{ref} was not rolled back: {plan.problems[0]}",
                subject=str(backup.path),
                hint="Choose another backup, or pull the version with force."
                if backup.problem
                else "Choose another backup, or put it back all the same with force and repair it then.",
            )
        aside = None
        if installed is not None:
            facts = facts_for(installed, "rollback", backup.manifest_hash, plan.damage)
            aside = Displacement({}, self._layout.new_backup(ref), facts)
        model = self._installer.restore(ref, backup.tree, _entry(backup, installed), aside)
        made = None
        if aside is not None and aside.backup is not None:
            made = find_backup(self._layout, ref, aside.backup.name)
        return Restored(ref, model, backup, made, tuple(_told(plan, made)))


def _entry(backup: Backup, installed: InstalledModel | None) -> dict[str, Any]:
    """What the `registry.json` entry says of a version that comes back; a pin is the entry's own and stays."""
    known: Mapping[str, Any] = installed.extra if installed is not None else {}
    entry: dict[str, Any] = {"manifest_hash": backup.manifest_hash}
    for key in ("registry", "resolved_version"):
        if key in backup.extra or key in known:
            entry[key] = backup.extra.get(key)
    return entry


def _told(plan: RollbackPlan, made: Backup | None) -> list[str]:
    version = plan.backup.extra.get("resolved_version")
    of = f" ({version})" if version and version != plan.ref.version else ""
    told = [f"{plan.ref} is back at {plan.backup.manifest_hash[:12]}{of}."]
    if made is not None:
        told.append(f"What was in place is the backup {made.id}: roll back again to undo this.")
    if plan.changed:
        told.append(f"Files changed or added in it are there too: {', '.join(plan.changed)}.")
    if plan.backup.damage:
        mend = f"mend it: `xprim cache repair {plan.ref}`"
        told.append(f"Damaged or missing in it already: {', '.join(plan.backup.damage)}; {mend}.")
    return [*told, *plan.problems]
