"""Install a model: resolve, plan, gather its chunks from the nearest sources, put it in place.

    1. What does the registry offer under this name? (or: what did it, when it cannot be asked)
    2. Installed already, and not forced: done, also offline.
    3. Its manifest, verified.
    4. Can the disk hold it? If not: refuse, showing the sum.
    5. Each distinct chunk once: from the unfinished pull, this machine, the network; straight to its places.
    6. Durable, swapped in, named.

Source: spec 1 §Pull.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from xprim_nb._files import free_bytes, locked
from xprim_nb._hashing import Digest
from xprim_nb._threads import Check, halting, settled
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.gather import Gatherer
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.offers import Offer, Offers
from xprim_nb.cache.partial import Partial
from xprim_nb.cache.planning import already_installed, check_space, plan_pull
from xprim_nb.cache.progress import Meter, telling
from xprim_nb.cache.store import Store, manifest_digest
from xprim_nb.cache.values import InstalledModel, Pulled, PullPlan, PullStatus, Receipt
from xprim_nb.cache.verify import is_whole
from xprim_nb.config import MAX_CONCURRENCY
from xprim_nb.errors import ConfigError
from xprim_nb.events import EventHub, ModelInstalled, PullProgress
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.manifest import VerifiedManifest

__all__ = ["Puller"]

_log = logging.getLogger("xprim_nb.cache")

# A swap takes milliseconds, unless it has gigabytes to delete.
_SWAP_POLL_S = 0.05


class Puller:
    """Plans and executes pulls. Holds nothing open itself.

    Args:
        layout: Where things lie.
        store: What is installed.
        index: Where chunks lie.
        client: The registry.
        events: Where progress and results are told.
    """

    def __init__(
        self, layout: Layout, store: Store, index: ChunkIndex, client: RegistryClient, events: EventHub
    ) -> None:
        self._layout, self._store, self._index = layout, store, index
        self._client, self._events = client, events
        self.offers = Offers(layout, store, client)
        self._installer = Installer(layout, store, index)

    async def plan(self, ref: ModelRef, *, force: bool = False, manifest_hash: str | None = None) -> PullPlan:
        """What `pull` would do now. Writes nothing but the cached index and manifest.

        Args:
            ref: Which version.
            force: As if what is installed had to be verified byte by byte.
            manifest_hash: What the registry offers, where that is known: then its index is not asked for it again.

        Raises:
            ModelNotFoundError: The registry has no such model or version.
            NetworkError: It could not be asked, and the answer is not on this machine.
            RegistryError, HashMismatchError: Its answer is broken.
        """
        known = Offer(manifest_hash, ref.version) if manifest_hash is not None else None
        offer = known or await self.offers.offer(ref)
        installed = await settled(self._store.find, ref)
        if installed is not None and installed.manifest_hash == offer.manifest_hash and not force:
            verified = await settled(self._store.manifest_of, installed)
            return already_installed(installed, verified, free_bytes(self._layout.base))
        verified = await self.offers.manifest_of(offer, installed)
        return await self.plan_of(ref, verified, installed)

    async def plan_of(
        self,
        ref: ModelRef,
        verified: VerifiedManifest,
        installed: InstalledModel | None,
        local: LocalChunks | None = None,
        without: Collection[Digest] = (),
    ) -> PullPlan:
        """What it would take to assemble a manifest's files now; see `assembled` for the arguments."""
        partial = Partial(self._layout.partials / verified.digest, verified)
        await halting(partial.recall)
        chunks = local if local is not None else await settled(self.local_chunks, verified)
        return await settled(self._plan, ref, verified, installed, partial, chunks, without)

    async def pull(
        self,
        ref: ModelRef,
        *,
        force: bool = False,
        concurrency: int = 4,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Pulled:
        """Install or update a model; see the module's decision list.

        Raises:
            ConfigError: `concurrency` is out of range.
            ModelNotFoundError, NetworkError, RegistryError, HashMismatchError, StorageError: What was fetched is kept,
                the old version is untouched, and the same call goes on from there.
        """
        if not 1 <= concurrency <= MAX_CONCURRENCY:
            raise ConfigError(
                f"concurrency is {concurrency}, and must be 1 to {MAX_CONCURRENCY}.", subject="concurrency"
            )
        meter = Meter(ref)
        async with telling(meter, self._events, progress):
            offer = await self.offers.offer(ref)  # 1
            found = await settled(self._store.find, ref)
            if found is not None and found.manifest_hash == offer.manifest_hash and not force:  # 2
                return Pulled(ref, "already_installed", found, meter.receipt(), offer.checked, offer.warnings)
            verified = await self.offers.manifest_of(offer, found)  # 3

            def waits() -> None:
                meter.waiting_for = f"another process that works on {ref}"

            async with locked(self._layout.ref_lock(ref), waits):
                meter.waiting_for = ""
                pulled = await self._pull_locked(
                    ref, offer, verified, force=force, concurrency=concurrency, meter=meter
                )
        if pulled.status != "already_installed":  # another process was first
            self._events.publish(ModelInstalled(ref, pulled.model.manifest_hash, pulled.status))
        return pulled

    async def _pull_locked(
        self,
        ref: ModelRef,
        offer: Offer,
        verified: VerifiedManifest,
        *,
        force: bool,
        concurrency: int,
        meter: Meter,
    ) -> Pulled:
        await settled(self._installer.recover, ref)
        await settled(self._installer.check_place, ref)
        installed = await settled(self._store.find, ref)
        same = installed is not None and installed.manifest_hash == verified.digest
        if installed is not None and same and not force:  # another process was first
            return Pulled(ref, "already_installed", installed, meter.receipt(), offer.checked, offer.warnings)
        whole = await halting(lambda check: self._whole_in_place(ref, verified, offer, meter, check))
        if whole is not None:
            return Pulled(ref, "installed", whole, meter.receipt(), offer.checked, offer.warnings)

        async with self.assembled(ref, verified, installed, meter, concurrency=concurrency) as tree:
            receipt = meter.receipt()
            model, kept = await settled(
                self._installer.install, ref, verified, tree, self.extra(offer), self.note(verified, receipt)
            )
        status: PullStatus = "updated" if installed is not None and not same else "installed"
        receipt = replace(receipt, kept=kept, seconds=meter.receipt().seconds)
        return Pulled(ref, status, model, receipt, offer.checked, offer.warnings)

    @contextlib.asynccontextmanager
    async def assembled(
        self,
        ref: ModelRef,
        verified: VerifiedManifest,
        installed: InstalledModel | None,
        meter: Meter,
        *,
        concurrency: int,
        local: LocalChunks | None = None,
        further_bytes: int = 0,
        without: Collection[Digest] = (),
    ) -> AsyncIterator[Path]:
        """A tree of all the manifest's files, verified, in an unfinished pull that is locked while inside.

        Args:
            ref: The version it is for; the caller holds its lock.
            verified: The manifest.
            installed: What is installed under `ref`.
            meter: What is counted.
            concurrency: Chunks fetched at once.
            local: Where chunks lie on this machine; looked for when None.
            further_bytes: What the caller will write beside the model's own files.
            without: Chunks that are not gathered: the caller replaces or removes every file that has bytes of them.

        Raises:
            NetworkError, HashMismatchError, StorageError: What was fetched is kept, and the next one goes on from there.
        """

        def waits() -> None:
            meter.waiting_for = "another pull of the same bytes under another name"

        async with locked(self._layout.partial_lock(verified.digest), waits):
            partial = Partial(self._layout.partials / verified.digest, verified)
            while not await settled(self._installer.is_free, partial.tree):
                waits()
                await asyncio.sleep(_SWAP_POLL_S)
            try:
                meter.waiting_for = "what an earlier pull left to be verified"
                await halting(partial.recall)
                chunks = local if local is not None else await settled(self.local_chunks, verified)
                plan = await settled(self._plan, ref, verified, installed, partial, chunks)
                check_space(
                    replace(plan, disk_needed=plan.disk_needed + further_bytes), self._layout.base
                )  # 4
                await settled(partial.prepare)
                meter.begin(verified.manifest, set(partial.present))
                partial.present |= set(
                    without
                )  # not listed: whoever goes on with this unfinished pull fetches them
                await Gatherer(self._layout, self._client, partial, chunks, meter).run(concurrency)  # 5
                meter.phase, meter.waiting_for = "extracting", ""
                partial.release()
                yield partial.tree
            finally:
                partial.release()

    def local_chunks(self, verified: VerifiedManifest) -> LocalChunks:
        """Where the chunks of a manifest lie on this machine."""
        self._index.reconcile(self._store.list())
        return LocalChunks(
            self._layout,
            self._index,
            verified.digest,
            list(verified.manifest.distinct),
            manifest=verified.manifest,
        )

    def _plan(
        self,
        ref: ModelRef,
        verified: VerifiedManifest,
        installed: InstalledModel | None,
        partial: Partial,
        local: LocalChunks,
        without: Collection[Digest] = (),
    ) -> PullPlan:
        found = {
            digest: local.source_of(digest)
            for digest in verified.manifest.distinct
            if digest not in partial.present
        }
        return plan_pull(
            ref,
            verified,
            installed=installed,
            present=partial.present,
            local={digest: source for digest, source in found.items() if source is not None},
            allocated=_allocated(partial.tree, verified),
            disk_free=free_bytes(self._layout.base),
            without=without,
        )

    def _whole_in_place(
        self, ref: ModelRef, verified: VerifiedManifest, offer: Offer, meter: Meter, check: Check
    ) -> InstalledModel | None:
        """The model, when its directory holds exactly this manifest's bytes already.

        Only its name was missing then, or a forced pull found nothing wrong.
        """
        directory = self._layout.model_dir(ref)
        if manifest_digest(self._layout, directory) != verified.digest or not is_whole(
            directory, verified.manifest, check
        ):
            return None
        meter.begin(verified.manifest, set(verified.manifest.distinct))
        self._index.add(ref, verified)
        return self._store.record(ref, verified, self.extra(offer))

    def note(self, verified: VerifiedManifest, receipt: Receipt) -> dict[str, Any]:
        """What the receipt inside the model says of where it came from."""
        return {
            "registry": self._client.url,
            "manifest_hash": verified.digest,
            "bytes_network": receipt.bytes_network,
            "bytes_local": receipt.bytes_local,
            "bytes_present": receipt.bytes_present,
            "local_models": dict(receipt.local_models),
        }

    def extra(self, offer: Offer) -> dict[str, Any]:
        """What the `registry.json` entry says beside the usual."""
        return {"registry": self._client.url, "resolved_version": offer.version}


def _allocated(tree: Path, verified: VerifiedManifest) -> int:
    """Bytes on disk that the files of an unfinished pull have."""
    total = 0
    for file in verified.manifest.files:
        try:
            found = os.stat(tree / file.path)  # noqa: PTH116  # thousands of files: no second path object
        except OSError:
            continue
        total += min(getattr(found, "st_blocks", 0) * 512, file.size)
    return total
