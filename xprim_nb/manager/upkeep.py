"""The verbs of upkeep: true sizes, clean-up, pins, leases, usage, archives, sharing of equal files.

Source: spec 2 §Clean-up, §Access.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from xprim_nb._threads import settled
from xprim_nb.cache.upkeep import pins as pinning
from xprim_nb.cache.upkeep.accounting import CacheAccounts, account
from xprim_nb.cache.upkeep.archive import Archiver
from xprim_nb.cache.upkeep.cleanup import CleanupPlan, CleanupPolicy, parse_size, plan_cleanup
from xprim_nb.cache.upkeep.execute import CleanupResult, Executor
from xprim_nb.cache.upkeep.facts import Look, collect
from xprim_nb.cache.upkeep.leases import Lease, Leases
from xprim_nb.cache.upkeep.opening import OpenedFile, open_file
from xprim_nb.cache.upkeep.pins import Pin
from xprim_nb.cache.upkeep.restoring import Restorer
from xprim_nb.cache.upkeep.usage import Usage, Used
from xprim_nb.cache.upkeep.why import Why, why
from xprim_nb.manager.archiving import Archiving
from xprim_nb.manager.reading import at_home
from xprim_nb.refs import ModelRef

__all__ = ["Upkeep"]


class Upkeep(Archiving):
    """What keeps the cache in bounds and tells why something is in it. Its parts are the manager's."""

    _leases: Leases

    def _open_upkeep(self, opened: contextlib.AsyncExitStack) -> None:
        """Build what these verbs own; `opened` closes it."""
        self._usage, self._leases = Usage(self._state), Leases(self._layout, self._store)
        self._flushing: set[asyncio.Future[None]] = set()
        opened.callback(self._usage.flush)
        opened.callback(self._leases.close)
        self._archiver = Archiver(self._layout, self._store, self._installer)
        self._unarchiver = Restorer(self._layout, self._store, self._puller, self._installer, self.events)

    @at_home
    async def accounts(self) -> CacheAccounts:
        """The true size of everything in the cache, as `du` counts.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        return account(await settled(collect, await self._look()))

    @at_home
    async def plan_cleanup(self, policy: CleanupPolicy | None = None) -> CleanupPlan:
        """What `cleanup` would remove, and what it would spare. The default policy takes no model.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        facts = await settled(collect, await self._look())
        return plan_cleanup(facts, policy or CleanupPolicy(), time.time())

    @at_home
    async def plan_free(self, size: str | float, policy: CleanupPolicy | None = None) -> CleanupPlan:
        """What `free` would remove.

        Raises:
            ConfigError: `size` is no size.
            StorageError: `registry.json` cannot be read.
        """
        wanted = parse_size(size)
        facts = await settled(collect, await self._look())
        return plan_cleanup(facts, policy or CleanupPolicy(), time.time(), target_bytes=wanted)

    @at_home
    async def cleanup(self, plan: CleanupPlan | CleanupPolicy | None = None) -> CleanupResult:
        """Carry out a plan, or plan by a policy and carry that out. Each guard is asked again at the moment of acting.

        Raises:
            StorageError: `registry.json` cannot be read. What the disk refuses otherwise is told in the result.
        """
        if not isinstance(plan, CleanupPlan):
            plan = await self.plan_cleanup(plan)
        await settled(self._usage.flush)
        executor = Executor(await self._look(), self._installer, self._archiver, self.events)
        result = await settled(executor.run, plan)
        await self._record(
            "cleanup",
            "",
            {
                "freed_bytes": result.freed_bytes,
                "removed": list(result.removed_models),
                "archived": list(result.archived_models),
                "things": len(result.done),
                "spared": len(result.spared),
            },
        )
        if plan.policy.deduplication_enabled:
            result = replace(result, deduplicated=await self.dedupe())
        return result

    @at_home
    async def free(self, size: str | float, policy: CleanupPolicy | None = None) -> CleanupResult:
        """Free so much, in the order of a clean-up, and no more models than that needs.

        Args:
            size: `"20 GB"`, `"1.5GiB"`, or bytes.
            policy: What else may go, and what is spared.

        Raises:
            ConfigError: `size` is no size.
            StorageError: See `cleanup`.
        """
        return await self.cleanup(await self.plan_free(size, policy))

    @at_home
    async def pin(self, ref: ModelRef | str, reason: str = "") -> Pin:
        """Keep a model from every clean-up.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        return await settled(pinning.pin, self._store, ModelRef.parse(ref).require_version(), reason)

    @at_home
    async def unpin(self, ref: ModelRef | str) -> bool:
        """Take a pin away; False when there was none.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        return await settled(pinning.unpin, self._store, ModelRef.parse(ref).require_version())

    @at_home
    async def pins(self) -> list[Pin]:
        """Every pinned model.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        return await settled(pinning.pins, self._store)

    @at_home
    async def lease(self, ref: ModelRef | str) -> Lease:
        """Keep a model from every clean-up until the lease (a context manager) is closed, or this process ends.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        found = await settled(self._leases.take, ModelRef.parse(ref).require_version())
        self._used(found.ref)
        return found

    @at_home
    async def open_file(self, ref: ModelRef | str, path: str, mmap: bool = True) -> OpenedFile:
        """A file of an installed model, as a read-only memory map or a plain handle, leased until it is closed.

        Raises:
            NotInstalledError: There is no such model, or no such file in it.
            InvalidRefError, StorageError: See `errors`.
        """
        parsed = ModelRef.parse(ref).require_version()
        opened = await settled(
            lambda: open_file(self._layout, self._store, self._leases, parsed, path, mapped=mmap)
        )
        self._used(opened.ref)
        return opened

    @at_home
    async def usage(self) -> Mapping[str, Used]:
        """When each model was last used and how often, by ref; what was never used is not in it."""
        return await settled(self._usage.read)

    @at_home
    async def why(self, path: Path | str) -> Why:
        """Which model a path belongs to, and why it is kept.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        look = await self._look()
        return await settled(why, look, self._state, Path(path).expanduser())

    def _used(self, ref: ModelRef) -> None:
        """Count a use; written down in the background, and only now and then."""
        if self._usage.touch(ref):
            writing = asyncio.get_running_loop().run_in_executor(None, self._usage.flush)
            self._flushing.add(writing)
            writing.add_done_callback(self._flushing.discard)

    async def _look(self) -> Look:
        known = await self._client.cached_index()
        metadata = {str(ref): model.metadata for ref, model in known.index.models.items()} if known else {}
        return Look(self._layout, self._store, await settled(self._usage.read), metadata)
