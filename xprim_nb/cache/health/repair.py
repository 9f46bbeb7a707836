"""Mend an installed model: only its damaged chunks are obtained, from the nearest source, and only where they are wrong.

    1. Under the version's lock: what a killed process began is finished, `registry.json` names the model again.
    2. Its manifest is put back, from the copies here or the registry; files and directories can be read again.
    3. Every byte is looked at. Files that somebody changed stay, unless they are to be put back.
    4. Each damaged file is copied beside itself (shared blocks where the file system can); what is right in it, in other
       places of the model, on this machine, in the registry fills the copy, in that order.
    5. The whole copy is verified, made durable and renamed into its place; what lay there is put aside unless it is known
       to be worth nothing. A file that lacks a chunk is left for the next time, its copy too.
    6. The receipt in the model is brought up to date, and the model is looked at again: only what changed is hashed.

Killed at any instant each file is the old one or the new one, whole.

Source: spec 2 §Repair; research pull §2 (no peer repairs an installed model by the chunk).
"""

from __future__ import annotations

import functools
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from xprim_nb._files import free_bytes, locked
from xprim_nb._hashing import Digest
from xprim_nb._text import format_bytes, format_count
from xprim_nb._threads import settled
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.gather import Gatherer
from xprim_nb.cache.health.examine import Examined, Examiner
from xprim_nb.cache.health.findings import look_at
from xprim_nb.cache.health.groundwork import Groundwork, RepairWork
from xprim_nb.cache.health.hashing import stoppable
from xprim_nb.cache.health.inspect import CheckedFile
from xprim_nb.cache.health.mending import Mending, begin_mending, end_mending
from xprim_nb.cache.health.planning import action_of, left_alone, plan_of, to_mend
from xprim_nb.cache.health.repaired import Repaired, RepairPlan, receipt_sentence
from xprim_nb.cache.health.replace import put_in_place, settle_receipt
from xprim_nb.cache.health.report import FileFinding
from xprim_nb.cache.health.rules import HealthPolicy
from xprim_nb.cache.health.validate import Teller, Validator
from xprim_nb.cache.health.verdicts import Verdicts
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.partial import hash_segments
from xprim_nb.cache.progress import Meter, telling
from xprim_nb.cache.store import Store
from xprim_nb.errors import (
    HashMismatchError,
    InsufficientSpaceError,
    NetworkError,
    RegistryError,
)
from xprim_nb.events import EventHub
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import IndexAnswer, RegistryClient
from xprim_nb.registry.manifest import VerifiedManifest
from xprim_nb.registry.retry import is_final

__all__ = ["Repairer"]

_log = logging.getLogger("xprim_nb.cache")


class Repairer:
    """Plans and does repairs. Holds nothing open itself.

    Args:
        layout: Where things lie.
        store: What is installed.
        index: Where chunks lie.
        installer: Finishes what killed processes began.
        examiner: Looks at a model.
        validator: Keeps what was found.
        verdicts: The same; and the history.
        client: The registry.
        events: Where progress is told.
        concurrency: Chunks fetched at once.
    """

    def __init__(
        self,
        layout: Layout,
        store: Store,
        index: ChunkIndex,
        installer: Installer,
        examiner: Examiner,
        validator: Validator,
        verdicts: Verdicts,
        client: RegistryClient,
        events: EventHub,
        concurrency: int,
    ) -> None:
        self._layout, self._store, self._index = layout, store, index
        self._installer, self._examiner, self._validator = installer, examiner, validator
        self._verdicts, self._client, self._events = verdicts, client, events
        self._concurrency = concurrency
        self._groundwork = Groundwork(layout, store, examiner, client)

    async def plan(self, ref: ModelRef, *, overwrite_modified: bool = False) -> RepairPlan:
        """What `repair` would do now. Every byte of the model is looked at; nothing of it is changed.

        Raises:
            NotInstalledError: It is neither listed nor there.
            StorageError: The disk cannot be read.
        """
        found = await self._look(ref, await self._client.cached_index())
        return await settled(
            plan_of,
            ref,
            found,
            self._examiner,
            may_ask=self._client.may_ask,
            overwrite_modified=overwrite_modified,
        )

    async def repair(self, ref: ModelRef, *, overwrite_modified: bool = False) -> Repaired:
        """Mend a model as far as that is possible now; see the module's list.

        Raises:
            NotInstalledError: It is neither listed nor there.
            StorageError: The disk refused; every file is the old one or the new one.
        """
        meter = Meter(ref)
        answer = await self._client.cached_index()
        await settled(self._examiner.require, ref)  # an unknown name fails at once, and leaves no lock file

        def waits() -> None:
            meter.waiting_for = f"another process that works on {ref}"

        async with telling(meter, self._events, None), locked(self._layout.ref_lock(ref), waits):
            meter.waiting_for = "every byte to be looked at"
            repaired = await self._repair_locked(ref, answer, meter, overwrite_modified=overwrite_modified)
        if repaired.repair_actions or repaired.remaining_issues:
            await settled(_remember, self._verdicts, repaired)
        return repaired

    async def _look(self, ref: ModelRef, answer: IndexAnswer | None) -> Examined:
        """Every byte of a model; what was found is kept."""
        teller = Teller(self._events, ref, "repair")

        found = await stoppable(
            lambda stop: self._validator.look(ref, "full", answer, HealthPolicy(), told=teller, stop=stop)
        )
        teller.finish(found.report.bytes_hashed)
        return found

    async def _repair_locked(
        self, ref: ModelRef, answer: IndexAnswer | None, meter: Meter, *, overwrite_modified: bool
    ) -> Repaired:
        began = time.monotonic()
        work = RepairWork(ref, meter, self._layout.kept_dir(ref))
        await settled(self._installer.recover, ref)  # 1
        await settled(self._groundwork.put_back_name, work)
        await self._groundwork.put_back_manifest(work)  # 2
        found = await self._look(ref, answer)
        readable = await settled(self._groundwork.let_read, work, found)
        if readable:
            found = await self._look(ref, answer)  # 3
            wrong = {each.path for each in found.report.findings}
            await settled(self._settle, found, [path for path in readable if path not in wrong])
        if found.manifest is None:
            work.issues += [str(each) for each in found.report.damaged]
        else:
            await self._mend_files(work, found, found.manifest, overwrite_modified=overwrite_modified)
        last = found
        if work.actions:  # 6
            last = await settled(
                functools.partial(self._validator.look, ref, "quick", answer, HealthPolicy())
            )
        return self._result(work, last, time.monotonic() - began)

    def _result(self, work: RepairWork, last: Examined, seconds: float) -> Repaired:
        receipt = work.meter.receipt()
        manifest = last.manifest.manifest if last.manifest is not None else None
        total = len(manifest.distinct) if manifest is not None else 0
        told = receipt_sentence(total, receipt.chunks_network, receipt.bytes_network, receipt.chunks_local)
        whole = last.report.overall_status != "failed" and not work.issues
        return Repaired(
            model_id=str(work.ref),
            repairable=whole,
            repair_actions=tuple(work.actions),
            success=whole,
            remaining_issues=tuple(work.issues),
            chunks_total=total,
            chunks_network=receipt.chunks_network,
            chunks_local=receipt.chunks_local,
            bytes_network=receipt.bytes_network,
            bytes_local=receipt.bytes_local,
            local_sources=dict(receipt.local_models),
            kept=str(work.kept) if work.aside else None,
            left_alone=left_alone(last.report.findings),
            seconds=seconds,
            receipt=told,
            validation_report=last.report,
        )

    def _settle(self, found: Examined, paths: list[str]) -> None:
        """These files were found right as they look now."""
        if paths:
            settle_receipt(self._layout, found.model.path, paths)
            looks = {path: look_at(found.model.path, path, {}).identity for path in paths}
            now = time.time()
            files = {path: CheckedFile(look, now, None) for path, look in looks.items()}
            self._verdicts.record_files(found.model.ref, found.model.manifest_hash, files)

    # --- 4 and 5: files ---------------------------------------------------------------------------

    async def _mend_files(
        self, work: RepairWork, found: Examined, verified: VerifiedManifest, *, overwrite_modified: bool
    ) -> None:
        chosen = to_mend(verified.manifest, found.report.findings, overwrite_modified=overwrite_modified)
        if not chosen:
            await settled(end_mending, self._layout, work.ref)
            return
        foreign = [
            number
            for number, file in enumerate(verified.manifest.files)
            if number not in chosen and any(each.path == file.path for each in found.report.findings)
        ]
        directory = await settled(begin_mending, self._layout, work.ref)
        mending = Mending(directory, verified, found.model.path, chosen, foreign)
        local = await settled(self._prepare, mending, chosen, found, work)
        await self._fetch(mending, chosen, local, work)
        done = await settled(self._put_in_place, mending, chosen, work)
        await settled(self._settle, found, done)
        if len(done) == len(chosen):
            await settled(end_mending, self._layout, work.ref)

    def _prepare(
        self, mending: Mending, chosen: dict[int, FileFinding], found: Examined, work: RepairWork
    ) -> LocalChunks:
        """Make the copies, and fill them from this machine."""
        manifest, root = mending.manifest, mending.root
        held = {finding.holds: root / finding.path for finding in found.report.findings if finding.holds}
        bases = {}
        for number, finding in chosen.items():
            path = manifest.files[number].path
            if path in held:
                bases[number] = held[path]
            elif finding.status in ("corrupted", "modified"):
                bases[number] = root / path
        _require_room(mending, chosen)
        mending.make_copies(bases)
        mending.recall()
        self._index.reconcile(self._store.list())
        missing = [digest for digest in manifest.distinct if digest not in mending.present]
        # Under no name: an unfinished pull of this very model is as good a neighbour as any.
        local = LocalChunks(self._layout, self._index, "", missing, manifest=manifest)
        work.meter.begin(manifest, set(mending.present))
        with ThreadPoolExecutor(self._concurrency) as pool:
            for digest, source in zip(
                missing, pool.map(functools.partial(_copied, mending, found, local), missing), strict=True
            ):
                if source is not None:
                    work.meter.count(digest, "local", source)
        return local

    async def _fetch(
        self, mending: Mending, chosen: dict[int, FileFinding], local: LocalChunks, work: RepairWork
    ) -> None:
        """What no source here holds comes from the registry, file by file: one that lacks a chunk holds up no other."""
        wanted = {number: mending.needed_for(number) for number in chosen}
        everything = set[Digest]().union(*wanted.values())
        silent: str | None = None
        for number in sorted(wanted):
            missing = wanted[number] - mending.present
            if not missing:
                continue
            if silent is None:
                others = everything - missing - mending.present
                mending.present |= others
                # What they hold was copied already; sharing whole files would reach for those that are not mended.
                local.places.clear()
                try:
                    gatherer = Gatherer(self._layout, self._client, mending, local, work.meter)
                    await gatherer.run(self._concurrency)
                    continue
                except (NetworkError, HashMismatchError, RegistryError) as error:
                    why = error.message
                    if isinstance(error, NetworkError) and not is_final(error):
                        silent = why  # nobody answers: the next file need not ask
                finally:
                    mending.present -= others
            else:
                why = silent
            left = len(wanted[number] - mending.present)
            path = mending.manifest.files[number].path
            work.issues.append(
                f"{path}: {format_count(left, 'chunk')} cannot be had from this machine or the registry: {why}"
            )

    def _put_in_place(self, mending: Mending, chosen: dict[int, FileFinding], work: RepairWork) -> list[str]:
        """Step 5 for every file that has all its chunks; the paths of those that are mended."""
        done, whole = [], []
        # All before the first goes to its place: neighbours in one chunk are verified together.
        for number in sorted(chosen):
            if mending.needed_for(number):
                continue
            if mending.is_whole(number):
                whole.append(number)
            else:
                path = mending.manifest.files[number].path
                work.issues.append(f"{path}: what was written is not what the disk gives back.")
        for number in whole:
            finding, path = chosen[number], mending.manifest.files[number].path
            keep_old = finding.status == "modified" or not finding.certain
            aside = put_in_place(mending.root, path, mending.tree / path, work.kept, keep_old=keep_old)
            work.aside = work.aside or aside
            work.actions.append(str(action_of(finding)))
            done.append(path)
        return done


def _copied(mending: Mending, found: Examined, local: LocalChunks, digest: Digest) -> str | None:
    """Fill one chunk from this machine, and name the place; None when no place has it."""
    writer = mending.writer(digest)
    try:
        for index in mending.manifest.distinct[digest]:
            if index in found.inspection.right:
                writer.restart()
                whole = hash_segments(mending.root, mending.manifest, index, writer.write)
                if whole and digest in mending.present:
                    return str(found.model.ref)
        return local.copy(digest, writer)
    finally:
        writer.close()


def _require_room(mending: Mending, chosen: dict[int, FileFinding]) -> None:
    """Refuse at once what the disk cannot hold, unless copies may share their blocks."""
    needed = sum(
        mending.manifest.files[number].size
        for number, finding in chosen.items()
        if finding.status in ("missing", "replaced")
    )
    free = free_bytes(mending.root)
    if needed > free:
        raise InsufficientSpaceError(
            f"Repairing needs {format_bytes(needed)}, and the disk has {format_bytes(free)} free.",
            subject=str(mending.root),
        )


def _remember(verdicts: Verdicts, repaired: Repaired) -> None:
    """A line in the history."""
    verdicts.remember(
        "repair",
        repaired.model_id,
        success=repaired.success,
        receipt=repaired.receipt,
        actions=len(repaired.repair_actions),
        chunks_network=repaired.chunks_network,
        bytes_network=repaired.bytes_network,
        remaining_issues=list(repaired.remaining_issues),
    )
