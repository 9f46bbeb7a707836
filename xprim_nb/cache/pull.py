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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xprim_nb._files import free_bytes, locked, write_atomic
from xprim_nb._hashing import Digest
from xprim_nb._threads import settled
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.gather import Gatherer
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.partial import Partial
from xprim_nb.cache.planning import already_installed, check_space, plan_pull
from xprim_nb.cache.progress import Meter, telling
from xprim_nb.cache.store import Store, manifest_digest
from xprim_nb.cache.upkeep.archived import Archived, archive_of, manifest_in
from xprim_nb.cache.values import InstalledModel, Pulled, PullPlan, PullStatus, Receipt
from xprim_nb.cache.verify import is_whole
from xprim_nb.config import MAX_CONCURRENCY
from xprim_nb.errors import ConfigError, ModelNotFoundError, NetworkError, StorageError
from xprim_nb.events import EventHub, ModelInstalled, PullProgress
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.manifest import VerifiedManifest

__all__ = ["Offer", "Puller"]

_log = logging.getLogger("xprim_nb.cache")

# A swap takes milliseconds, unless it has gigabytes to delete.
_SWAP_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be installed under a name.

    Attributes:
        manifest_hash: Which manifest.
        version: The real version behind an alias.
        checked: False when the registry could not be asked.
        warnings: Sentences for the user.
    """

    manifest_hash: str
    version: str
    checked: bool = True
    warnings: tuple[str, ...] = ()


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
        self._installer = Installer(layout, store, index)

    async def plan(self, ref: ModelRef, *, force: bool = False) -> PullPlan:
        """What `pull` would do now. Writes nothing but the cached index and manifest.

        Raises:
            ModelNotFoundError: The registry has no such model or version.
            NetworkError: It could not be asked, and the answer is not on this machine.
            RegistryError, HashMismatchError: Its answer is broken.
        """
        offer = await self.offer(ref)
        installed = await settled(self._store.find, ref)
        if installed is not None and installed.manifest_hash == offer.manifest_hash and not force:
            verified = await settled(self._store.manifest_of, installed)
            return already_installed(installed, verified, free_bytes(self._layout.base))
        verified = await self.manifest_of(offer, installed)
        return await self.plan_of(ref, verified, installed)

    async def plan_of(
        self,
        ref: ModelRef,
        verified: VerifiedManifest,
        installed: InstalledModel | None,
        local: LocalChunks | None = None,
    ) -> PullPlan:
        """What it would take to assemble a manifest's files now; see `assembled` for the arguments."""
        partial = Partial(self._layout.partials / verified.digest, verified)
        await settled(partial.recall)
        chunks = local if local is not None else await settled(self._local, verified)
        return await settled(self._plan, ref, verified, installed, partial, chunks)

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
            offer = await self.offer(ref)  # 1
            found = await settled(self._store.find, ref)
            if found is not None and found.manifest_hash == offer.manifest_hash and not force:  # 2
                return Pulled(ref, "already_installed", found, meter.receipt(), offer.checked, offer.warnings)
            verified = await self.manifest_of(offer, found)  # 3

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
        whole = await settled(self._whole_in_place, ref, verified, offer, meter)
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
                await settled(partial.recall)
                chunks = local if local is not None else await settled(self._local, verified)
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

    async def offer(self, ref: ModelRef) -> Offer:
        """What the registry has under a name (decision 1); what is here answers for itself when nobody else can.

        Raises:
            ModelNotFoundError: The registry has no such model or version, and it is not installed.
            NetworkError, RegistryError: The registry could not be asked, or its answer is broken.
        """
        try:
            answer = await self._client.index()
        except NetworkError as error:
            kept = await settled(self._here, ref)
            if kept is None:
                raise
            told = f"The registry could not be asked whether {ref} is current: {error.message}"
            return Offer(kept.manifest_hash, ref.version, checked=False, warnings=(told,))
        found = await settled(self._store.find, ref)
        try:
            model = answer.index.get(ref)
        except ModelNotFoundError as error:
            kept = await settled(self._here, ref)
            if kept is None:
                raise
            told = (
                f"{error.message} What is {'installed was left as it is' if found else 'archived is used'}."
            )
            return Offer(kept.manifest_hash, ref.version, checked=not answer.stale, warnings=(told,))
        warnings = []
        notice = answer.notice_for(ref)
        if notice is not None:
            warnings.append(notice.message)
        if answer.stale:
            warnings.append(
                f"The registry could not be asked; its answer is {answer.age_s:.0f} s old: {answer.why_stale}"
            )
            kept = await settled(self._here, ref)
            if kept is not None:
                return Offer(kept.manifest_hash, ref.version, checked=False, warnings=tuple(warnings))
        return Offer(model.manifest_hash, model.alias_of or ref.version, not answer.stale, tuple(warnings))

    async def manifest_of(self, offer: Offer, installed: InstalledModel | None) -> VerifiedManifest:
        """The manifest offered (decision 3); what is installed knows its own, also where nobody can be asked.

        Raises:
            NetworkError, RegistryError, HashMismatchError: It could not be had.
        """
        if installed is not None and installed.manifest_hash == offer.manifest_hash:
            with contextlib.suppress(StorageError):  # damaged: the registry has it
                own = await settled(self._store.manifest_of, installed)
                if own.digest == offer.manifest_hash:
                    return own
        return await self._client.manifest(offer.manifest_hash)

    def _here(self, ref: ModelRef) -> InstalledModel | Archived | None:
        """What is installed, else what is archived, its manifest where the client looks for it."""
        if (found := self._store.find(ref)) is not None:
            return found
        try:
            archived = archive_of(self._layout, ref)
            if archived is not None:
                verified = manifest_in(self._layout, archived)
                write_atomic(self._layout.manifests / verified.digest, verified.raw, durable=False)
        except StorageError as error:  # it answers for nobody; its chunks are looked at all the same
            _log.warning("an archive is left alone: %s", error.message)
            return None
        return archived

    def _local(self, verified: VerifiedManifest) -> LocalChunks:
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
        )

    def _whole_in_place(
        self, ref: ModelRef, verified: VerifiedManifest, offer: Offer, meter: Meter
    ) -> InstalledModel | None:
        """The model, when its directory holds exactly this manifest's bytes already.

        Only its name was missing then, or a forced pull found nothing wrong.
        """
        directory = self._layout.model_dir(ref)
        if manifest_digest(self._layout, directory) != verified.digest or not is_whole(
            directory, verified.manifest
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
