"""Bring an archived model back: a pull whose nearest source is the archive.

Source: spec 2 §Clean-up ("restored by an ordinary pull whose nearest source is that archive, byte-identical").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from xprim_nb._files import locked, read_plain
from xprim_nb._hashing import Digest
from xprim_nb._text import format_bytes, format_count
from xprim_nb._threads import settled
from xprim_nb.cache.install import Installer
from xprim_nb.cache.intents import Displacement
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.progress import Meter, telling
from xprim_nb.cache.pull import Puller
from xprim_nb.cache.store import Store
from xprim_nb.cache.upkeep.archive import lay_over
from xprim_nb.cache.upkeep.archived import Archived, manifest_in, require_archive, zstandard
from xprim_nb.cache.upkeep.dropping import drop_archive
from xprim_nb.cache.values import InstalledModel, PullPlan, Receipt
from xprim_nb.events import EventHub, ModelInstalled, PullProgress
from xprim_nb.refs import ModelRef

__all__ = ["RestorePlan", "Restored", "Restorer"]

_MARK = "restored_from"


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What restoring an archive would do.

    Attributes:
        archived: The archive.
        pull: Where its chunks would come from.
        local_files: Changed files that come back too.
    """

    archived: Archived
    pull: PullPlan
    local_files: tuple[str, ...]

    def __str__(self) -> str:
        mine = (
            f", {format_count(len(self.local_files), 'changed file')} laid over it"
            if self.local_files
            else ""
        )
        return (
            f"restore {self.archived.ref}: {format_bytes(self.archived.model_bytes)}, of them "
            f"{format_bytes(self.pull.bytes_network)} over the network{mine}"
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """A model that is back.

    Attributes:
        ref: Which.
        model: The installed model.
        receipt: Where its bytes came from.
        local_files: Changed files that came back too.
        bytes_freed: What the archive took, in bytes on disk.
    """

    ref: ModelRef
    model: InstalledModel
    receipt: Receipt
    local_files: tuple[str, ...]
    bytes_freed: int

    @property
    def path(self) -> Path:
        """The model's absolute directory."""
        return self.model.path

    def __str__(self) -> str:
        return f"{self.ref} is back: {format_bytes(self.model.total_size)} in {self.receipt.seconds:.1f} s"


class Restorer:
    """Restores archives. Holds nothing open.

    Args:
        layout: Where things lie.
        store: What is installed.
        puller: Gathers the chunks.
        installer: Puts the tree in place.
        events: Where progress and results are told.
    """

    def __init__(
        self, layout: Layout, store: Store, puller: Puller, installer: Installer, events: EventHub
    ) -> None:
        self._layout, self._store = layout, store
        self._puller, self._installer, self._events = puller, installer, events

    async def plan(self, ref: ModelRef) -> RestorePlan:
        """What `restore` would do now.

        Raises:
            NotInstalledError: It is not archived.
            StorageError: The archive cannot be read.
        """
        archived = await settled(require_archive, self._layout, ref)
        verified = await settled(manifest_in, self._layout, archived)
        installed = await settled(self._store.find, ref)
        plan = await self._puller.plan_of(ref, verified, installed)
        missing = archived.document.missing
        if missing:  # the files that have them come from the archive as they are
            sizes = [verified.manifest.sizes[verified.manifest.distinct[Digest(each)][0]] for each in missing]
            fetched = plan.bytes_network - min(sum(sizes), plan.bytes_network)
            plan = replace(
                plan, bytes_network=fetched, chunks_network=max(0, plan.chunks_network - len(missing))
            )
        return RestorePlan(archived, plan, archived.local_files)

    async def restore(
        self,
        ref: ModelRef,
        *,
        concurrency: int,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Restored:
        """Put an archived model back as it was, changed files included; the archive goes.

        Raises:
            MissingExtraError: `zstandard` is not installed.
            NotInstalledError: It is not archived.
            NetworkError, RegistryError, HashMismatchError: A chunk of the archive is damaged, and nobody else has it.
            StorageError: The disk refused; the archive is whole.
        """
        await settled(require_archive, self._layout, ref)
        zstandard()
        meter = Meter(ref)
        async with telling(meter, self._events, progress), locked(self._layout.ref_lock(ref)):
            await settled(self._installer.recover, ref)
            await settled(self._installer.check_place, ref)
            archived = await settled(require_archive, self._layout, ref)
            installed = await settled(self._store.find, ref)
            receipt, model = Receipt(), installed
            if installed is None or not await settled(self._is_back, archived):
                model, receipt = await self._put_back(archived, installed, meter, concurrency)
            assert model is not None, "it was there, or was put there"
            await settled(lambda: drop_archive(self._layout, archived, keep_local=False))
        self._events.publish(ModelInstalled(ref, model.manifest_hash, "installed"))
        return Restored(ref, model, receipt, archived.local_files, archived.stored_bytes)

    async def _put_back(
        self, archived: Archived, installed: InstalledModel | None, meter: Meter, concurrency: int
    ) -> tuple[InstalledModel, Receipt]:
        document, ref = archived.document, archived.ref
        verified = await settled(manifest_in, self._layout, archived)
        known = document.receipt.get("local")
        recorded = known if isinstance(known, dict) else {}
        own = {file.path for file in verified.manifest.files}
        local = {
            path: recorded.get(path) or {"kind": "kept" if path in own else "added", "sha256": file.sha256}
            for path, file in document.local.items()
            if file.changed or path in recorded
        }
        left_out = {"files", "local", "token", _MARK}
        note = {key: value for key, value in document.receipt.items() if key not in left_out}
        async with self._puller.assembled(
            ref,
            verified,
            installed,
            meter,
            concurrency=concurrency,
            further_bytes=sum(file.size for file in document.local.values()),
            without=[Digest(digest) for digest in document.missing],
        ) as tree:
            receipt = meter.receipt()
            await settled(lay_over, archived, tree)
            note |= {_MARK: document.id}
            model, kept = await settled(
                self._installer.install, ref, verified, tree, dict(document.entry), note, Displacement(local)
            )
        return model, replace(receipt, kept=kept, seconds=meter.receipt().seconds)

    def _is_back(self, archived: Archived) -> bool:
        """True when an earlier restore put it in place, and was killed before the archive went."""
        path = self._layout.receipt_file(self._layout.model_dir(archived.ref))
        try:
            return bool(orjson.loads(read_plain(path)).get(_MARK) == archived.document.id)
        except (OSError, ValueError, AttributeError):
            return False
