"""Bring an installed version up to date, and lose nothing of what somebody did to it.

    1. What does the registry offer under this name? The same as is installed: nothing is done, and damage is told.
    2. What was done to the files here, and what does the new version do to them? That is the plan.
    3. The new version's chunks are brought together as by a pull, from the nearest places; what was gathered stays,
       whatever happens, and the old version is untouched.
    4. The user's files are put into the new tree; it is made durable.
    5. The trees change places; the old one is the backup, renamed. `registry.json` is written last.
    6. The new version is read again. If it is wrong, the old one comes back.

Source: spec 2 §Refresh; seeds/000 §3 (Update Process).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from xprim_nb._files import locked
from xprim_nb._threads import settled
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.history import record
from xprim_nb.cache.install import Installer
from xprim_nb.cache.intents import Displacement
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.offers import Offer
from xprim_nb.cache.progress import Meter, telling
from xprim_nb.cache.pull import Puller
from xprim_nb.cache.renewal.backups import damage_in, facts_for, find_backup, has_backup
from xprim_nb.cache.renewal.carry import carried_bytes, carry, merge_trees, unread_chunks, unread_paths
from xprim_nb.cache.renewal.changes import LocalFile, examine
from xprim_nb.cache.renewal.compare import compare
from xprim_nb.cache.renewal.merge import FileChange, merge
from xprim_nb.cache.renewal.nearby import NoChunks, sound_chunks
from xprim_nb.cache.renewal.rollback import Restorer
from xprim_nb.cache.renewal.strategy import UpdateStrategy
from xprim_nb.cache.renewal.telling import told_damage, told_plan, told_result
from xprim_nb.cache.renewal.values import Refreshed, RefreshPlan, Unreadable, Verdict
from xprim_nb.cache.state import State
from xprim_nb.cache.store import Store
from xprim_nb.cache.values import InstalledModel
from xprim_nb.config import MAX_CONCURRENCY
from xprim_nb.errors import ConfigError, StorageError, XprimError
from xprim_nb.events import Event, EventHub, ModelInstalled, ModelRefreshed, PullProgress, RolledBack
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.manifest import Manifest, VerifiedManifest

__all__ = ["Refresher", "Validator"]

Validator: TypeAlias = Callable[[ModelRef], Awaitable[Verdict]]


@dataclass(frozen=True, slots=True)
class _Old:
    """What is installed, its manifest, and what was done to its files."""

    model: InstalledModel
    manifest: Manifest | None
    local: Mapping[str, LocalFile]


class Refresher:
    """Plans and executes refreshes. Holds nothing open.

    Args:
        layout: Where things lie.
        store: What is installed.
        index: Where chunks lie.
        installer: Moves trees.
        puller: Brings chunks together.
        restorer: Puts backups back.
        client: The registry.
        state: Where what was done is remembered.
        events: Where it is told.
        validate: Judges a version that was just put in place, while its lock is held: it takes none itself.
    """

    def __init__(
        self,
        layout: Layout,
        store: Store,
        index: ChunkIndex,
        installer: Installer,
        puller: Puller,
        restorer: Restorer,
        client: RegistryClient,
        state: State,
        events: EventHub,
        validate: Validator,
    ) -> None:
        self._layout, self._store, self._index = layout, store, index
        self._installer, self._puller, self._restorer = installer, puller, restorer
        self._client, self._state, self._events = client, state, events
        self._validate = validate

    async def plan(self, ref: ModelRef, strategy: UpdateStrategy) -> RefreshPlan:
        """What `refresh` would do now. Writes nothing but the cached index and manifest.

        Raises:
            NotInstalledError: There is nothing to refresh.
            NetworkError, RegistryError, HashMismatchError: The new manifest could not be had.
            StorageError: The disk cannot be read.
        """
        installed = await settled(self._store.get, ref)
        offer = await self._puller.offers.offer(ref)  # 1
        old = await self._look(installed)
        if offer.manifest_hash == installed.manifest_hash:
            told = (*offer.warnings, *told_damage(ref, old.local))
            return RefreshPlan(
                ref,
                "already_current",
                installed.manifest_hash,
                offer.manifest_hash,
                checked=offer.checked,
                sentences=told,
            )
        verified = await self._puller.offers.manifest_of(offer, installed)
        changes = _foreseen(old, verified.manifest, strategy)
        pull = await self._puller.plan_of(
            ref,
            verified,
            installed,
            await settled(self._nearby, verified, old, strategy),
            unread_chunks(unread_paths(changes, verified.manifest), verified.manifest),
        )
        shown = tuple(each for each in changes if each.action not in ("same", "gone"))
        backs_up = strategy.update_policy.backup_before_update
        told = (*offer.warnings, *told_damage(ref, old.local), *told_plan(shown))
        return RefreshPlan(
            ref,
            "refresh",
            installed.manifest_hash,
            verified.digest,
            shown,
            pull,
            backs_up,
            offer.checked,
            told,
        )

    async def refresh(
        self,
        ref: ModelRef,
        strategy: UpdateStrategy,
        *,
        concurrency: int = 4,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Refreshed:
        """Bring a version up to date; see the module's list.

        Raises:
            ConfigError: `concurrency` is out of range.
            NotInstalledError: There is nothing to refresh.
            ModelNotFoundError, NetworkError, RegistryError, HashMismatchError, StorageError: The old version is in
                place, what was fetched is kept, and the same call goes on from there.
        """
        if not 1 <= concurrency <= MAX_CONCURRENCY:
            raise ConfigError(
                f"concurrency is {concurrency}, and must be 1 to {MAX_CONCURRENCY}.", subject="concurrency"
            )
        await settled(self._store.get, ref)  # an unknown name fails at once, and leaves no lock file
        meter = Meter(ref)
        async with telling(meter, self._events, progress):
            offer = await self._puller.offers.offer(ref)  # 1

            def waits() -> None:
                meter.waiting_for = f"another process that works on {ref}"

            async with locked(self._layout.ref_lock(ref), waits):
                meter.waiting_for = ""
                await settled(self._installer.recover, ref)
                await settled(self._installer.check_place, ref)
                installed = await settled(self._store.get, ref)
                old = await self._look(installed)
                if offer.manifest_hash == installed.manifest_hash:
                    told = (f"{ref} is current.", *offer.warnings, *told_damage(ref, old.local))
                    return Refreshed(
                        ref, "already_current", installed, checked=offer.checked, sentences=told,
                        rollback_available=await settled(has_backup, self._layout, ref),
                    )  # fmt: skip
                verified = await self._puller.offers.manifest_of(offer, installed)
                done = await self._renew(ref, offer, verified, old, strategy, concurrency, meter)
                done = await self._judge(done, old, strategy)  # 6
        await settled(record, self._state, "refresh", ref, _details(done, strategy, old.model))
        for event in _news(done):
            self._events.publish(event)
        return done

    def _nearby(self, verified: VerifiedManifest, old: _Old, strategy: UpdateStrategy) -> LocalChunks:
        if not strategy.update_policy.incremental_updates:
            return NoChunks(self._layout, self._index, verified.digest, [])
        spoiled = {path for path, known in old.local.items() if known.state != "unchanged"}
        return sound_chunks(self._puller.local_chunks(verified), old.model.ref, spoiled)

    async def _look(self, installed: InstalledModel) -> _Old:
        """Decision 2; a damaged manifest is had from the cache or the registry, where one of them has it."""
        manifest: Manifest | None = None
        try:
            manifest = (await settled(self._store.manifest_of, installed)).manifest
        except StorageError:
            with contextlib.suppress(XprimError):  # nobody has it: each file may be anybody's
                manifest = (await self._client.manifest(installed.manifest_hash)).manifest
        return _Old(installed, manifest, await settled(examine, self._layout, installed.path, manifest))

    async def _renew(
        self,
        ref: ModelRef,
        offer: Offer,
        verified: VerifiedManifest,
        old: _Old,
        strategy: UpdateStrategy,
        concurrency: int,
        meter: Meter,
    ) -> Refreshed:
        """Steps 3 to 5."""
        unread = unread_paths(_foreseen(old, verified.manifest, strategy), verified.manifest)
        assembled = self._puller.assembled(
            ref,
            verified,
            old.model,
            meter,
            concurrency=concurrency,
            local=await settled(self._nearby, verified, old, strategy),
            further_bytes=carried_bytes(old.local),
            without=unread_chunks(unread, verified.manifest),
        )
        async with assembled as tree:
            receipt = meter.receipt()
            note = self._puller.note(verified, receipt)
            done = await settled(
                self._put_in_place, verified, old, strategy, (tree, unread), self._puller.extra(offer), note
            )
        return replace(
            done,
            receipt=replace(receipt, seconds=meter.receipt().seconds, kept=done.kept_in),
            checked=offer.checked,
            sentences=offer.warnings,
        )

    def _put_in_place(
        self,
        verified: VerifiedManifest,
        old: _Old,
        strategy: UpdateStrategy,
        assembled: tuple[Path, frozenset[str]],
        extra: dict[str, object],
        note: dict[str, object],
    ) -> Refreshed:
        """Steps 4 and 5."""
        policy, ref = strategy.update_policy, old.model.ref
        tree, unread = assembled
        changes = merge_trees(
            old.local,
            compare(old.manifest, verified.manifest),
            old.manifest,
            verified.manifest,
            (old.model.path, tree),
            preserve=policy.preserve_local_modifications,
            unread=unread,
        )
        held = carry(changes, old.local, old.model.path, tree)
        # Without a backup asked for, the old version still has to stay until the new one was found right.
        stays = policy.backup_before_update or (
            strategy.validation_after_update and policy.rollback_on_failure
        )
        place = self._layout.new_backup(ref) if stays else None
        facts = facts_for(old.model, "refresh", verified.digest, damage_in(old.local), strategy.trigger)
        model, kept = self._installer.install(
            ref, verified, tree, extra, note, Displacement(held, place, facts)
        )
        return Refreshed(
            ref=ref,
            status="refreshed",
            model=model,
            updated_files=_paths(changes, "updated", "new", "restored"),
            removed_files=_paths(changes, "removed"),
            kept=tuple(each.path for each in changes if each.is_local and each.local != "upstream"),
            conflicts=tuple(each for each in changes if each.action == "conflict"),
            set_aside=_paths(changes, "set_aside"),
            backup=find_backup(self._layout, ref, place.name) if place else None,
            kept_in=kept,
        )

    async def _judge(self, done: Refreshed, old: _Old, strategy: UpdateStrategy) -> Refreshed:
        """Decision 6, and an old version that was kept for it alone goes."""
        verdict = await _verdict(self._validate, done.ref) if strategy.validation_after_update else None
        policy, backup, wrong = strategy.update_policy, done.backup, False
        if verdict is not None and verdict.overall_status == "failed":
            wrong = True
            if policy.rollback_on_failure and backup is not None:
                model = await settled(self._restorer.take_back, backup)
                done = replace(
                    done, status="rolled_back", model=model, backup=None, updated_files=(), removed_files=(),
                    kept=(), conflicts=(), set_aside=(),
                )  # fmt: skip
            else:
                done = replace(done, status="failed")
        if done.backup is not None and not policy.backup_before_update and not wrong:
            dropped = await settled(self._restorer.discard, done.backup)
            done = replace(done, backup=None, kept_in=dropped.kept)
        available = await settled(has_backup, self._layout, done.ref)
        done = replace(done, validation_report=verdict, rollback_available=available)
        sentences = (*told_damage(done.ref, old.local, renewed=done.success), *told_result(done))
        return replace(done, sentences=(*done.sentences, *sentences))


def _foreseen(old: _Old, new: Manifest, strategy: UpdateStrategy) -> tuple[FileChange, ...]:
    """Decision 2, without the new version's bytes: what they would have to settle is not certain."""
    compared = compare(old.manifest, new)
    known = {file.path: file.sha256 for file in new.files if file.sha256}
    equal = {path for path, found in old.local.items() if found.sha256 and known.get(path) == found.sha256}
    return merge(
        old.local,
        compared.states,
        equal=equal,
        uncertain=compared.uncertain,
        preserve=strategy.update_policy.preserve_local_modifications,
    )


def _details(done: Refreshed, strategy: UpdateStrategy, old: InstalledModel) -> dict[str, object]:
    """What the history says of it."""
    return {
        "status": done.status,
        "trigger": strategy.trigger,
        "from": old.manifest_hash,
        "to": done.model.manifest_hash,
        "kept": list(done.kept),
        "conflicts": [each.path for each in done.conflicts],
        "backup": done.backup.id if done.backup else "",
    }


def _news(done: Refreshed) -> tuple[Event, ...]:
    digest = done.model.manifest_hash
    if done.status == "rolled_back":
        return (RolledBack(done.ref, digest, "the new version was not what its manifest says"),)
    backup = done.backup.id if done.backup else ""
    conflicts = tuple(each.path for each in done.conflicts)
    refreshed = ModelRefreshed(done.ref, digest, done.kept, conflicts, backup)
    return (ModelInstalled(done.ref, digest, "updated"), refreshed)


async def _verdict(validate: Validator, ref: ModelRef) -> Verdict:
    try:
        return await validate(ref)
    except XprimError as error:  # what cannot be read is not whole
        return Unreadable(error.message)


def _paths(changes: tuple[FileChange, ...], *actions: str) -> tuple[str, ...]:
    return tuple(each.path for each in changes if each.action in actions)
