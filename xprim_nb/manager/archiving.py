"""The verbs that store models in less room: archives, and equal files that share their blocks.

Source: spec 2 §Clean-up ("Deduplication", "Compression").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xprim_nb._files import free_bytes, locked
from xprim_nb._threads import settled
from xprim_nb.cache.history import record
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.pull import Puller
from xprim_nb.cache.state import State
from xprim_nb.cache.upkeep.archive import ArchivePlan, Archiver, plan_archive
from xprim_nb.cache.upkeep.archived import Archived, archives, require_archive
from xprim_nb.cache.upkeep.dedupe import DedupePlan, Deduplicated, deduplicate, plan_dedupe
from xprim_nb.cache.upkeep.dropping import drop_archive
from xprim_nb.cache.upkeep.leases import gate, lease_count
from xprim_nb.cache.upkeep.restoring import Restored, RestorePlan, Restorer
from xprim_nb.cache.upkeep.usage import Usage, Used
from xprim_nb.cache.upkeep.values import told_readers
from xprim_nb.config import Config
from xprim_nb.errors import StorageError
from xprim_nb.events import EventHub, ModelRemoved, PullProgress
from xprim_nb.manager.reading import Reading, at_home
from xprim_nb.refs import ModelRef

__all__ = ["Archiving"]


class Archiving(Reading):
    """Archives, restores, shares. Its parts are the manager's."""

    config: Config
    events: EventHub
    _layout: Layout
    _state: State
    _installer: Installer
    _puller: Puller
    _usage: Usage
    _archiver: Archiver
    _unarchiver: Restorer

    @at_home
    async def plan_dedupe(self, *, hard_links: bool = False) -> DedupePlan:
        """Equal files of installed models that could share their blocks.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        return await settled(lambda: plan_dedupe(self._layout, self._store, hard_links=hard_links))

    @at_home
    async def dedupe(self, plan: DedupePlan | None = None, *, hard_links: bool = False) -> Deduplicated:
        """Let equal files share their blocks: by reflink, or by read-only hard links if asked.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        plan = plan or await self.plan_dedupe(hard_links=hard_links)
        result = await settled(deduplicate, self._layout, self._store, plan)
        details = {"method": result.method, "files": len(result.done), "bytes": result.size_bytes}
        await self._record("dedupe", "", details)
        return result

    @at_home
    async def plan_archive(self, ref: ModelRef | str) -> ArchivePlan:
        """What `archive` would do.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        parsed = ModelRef.parse(ref).require_version()
        return await settled(plan_archive, self._layout, self._store, parsed, free_bytes(self._layout.base))

    @at_home
    async def archive(self, ref: ModelRef | str) -> Archived:
        """Store a model compressed, changed files included, and take it away; `restore` brings it back.

        Raises:
            MissingExtraError: `zstandard` is not installed.
            StorageError: Somebody has it open, or the disk refused; the model is in place.
            InvalidRefError, NotInstalledError: See `errors`.
        """
        parsed = ModelRef.parse(ref).require_version()
        plan = await self.plan_archive(parsed)
        if not plan.fits:
            raise StorageError(
                f"{plan} needs room for both until the model has gone.",
                subject=str(parsed),
                hint="Free some space first.",
            )
        used = (await settled(self._usage.read)).get(str(parsed))
        async with locked(self._layout.ref_lock(parsed)):
            await settled(self._installer.recover, parsed)
            archived = await settled(self._archive, parsed, used)
        self.events.publish(ModelRemoved(parsed))
        details = {"model_bytes": archived.model_bytes, "stored_bytes": archived.stored_bytes}
        await self._record("archive", str(parsed), details)
        return archived

    @at_home
    async def plan_restore(self, ref: ModelRef | str) -> RestorePlan:
        """What `restore` would do.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        return await self._unarchiver.plan(ModelRef.parse(ref).require_version())

    @at_home
    async def restore(
        self,
        ref: ModelRef | str,
        *,
        concurrency: int | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Restored:
        """Put an archived model back as it was, byte for byte; offline too.

        Raises:
            MissingExtraError: `zstandard` is not installed.
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
            NetworkError, RegistryError, HashMismatchError: The archive is damaged, and nobody else has those bytes.
        """
        parsed = ModelRef.parse(ref).require_version()
        wanted = self.config.concurrency if concurrency is None else concurrency
        restored = await self._unarchiver.restore(parsed, concurrency=wanted, progress=progress)
        details = {"bytes_network": restored.receipt.bytes_network, "size": restored.model.total_size}
        await self._record("restore", str(parsed), details)
        return restored

    @at_home
    async def archived(self) -> list[Archived]:
        """Every archived model, sorted by ref."""
        return await settled(archives, self._layout)

    @at_home
    async def remove_archive(self, ref: ModelRef | str) -> Path | None:
        """Delete an archive; where changed files that it held were put aside, if any.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        parsed = ModelRef.parse(ref).require_version()
        await settled(require_archive, self._layout, parsed)
        async with locked(self._layout.ref_lock(parsed)):
            found = await settled(require_archive, self._layout, parsed)
            kept = await settled(lambda: drop_archive(self._layout, found, keep_local=True))
        details = {"removed": True, "stored_bytes": found.stored_bytes, "kept": str(kept or "")}
        await self._record("archive", str(parsed), details)
        return kept

    def _archive(self, ref: ModelRef, used: Used | None) -> Archived:
        """Blocks its thread; the version's lock is held."""
        with gate(self._layout, ref):
            self._require_unread(ref)
        archived = self._archiver.write(ref, used, time.time())
        with gate(self._layout, ref):
            self._require_unread(ref)
            self._archiver.take_away(archived)
        return archived

    def _require_unread(self, ref: ModelRef) -> None:
        if readers := lease_count(self._layout, ref, gated=True):
            raise StorageError(
                f"{told_readers(readers)} {ref} open.", subject=str(ref), hint="Close them, then archive it."
            )

    async def _record(self, kind: str, ref: str, details: Mapping[str, Any]) -> None:
        await settled(record, self._state, kind, ref, details)
