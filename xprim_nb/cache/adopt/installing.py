"""Install what another program has here, without a download: its manifest is made from its files.

Source: spec 2 §Adopt ("can be published or installed without downloading").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from xprim_nb._files import locked, storage_errors
from xprim_nb._text import format_bytes
from xprim_nb._threads import settled
from xprim_nb.cache.adopt.scanning import AdoptedPlace, FoundModel
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.progress import Meter, telling
from xprim_nb.cache.pull import Puller
from xprim_nb.cache.store import Store
from xprim_nb.cache.values import InstalledModel, Receipt
from xprim_nb.errors import ConfigError, RegistryError, VersionExistsError
from xprim_nb.events import EventHub, ModelInstalled, PullProgress
from xprim_nb.refs import ModelRef
from xprim_nb.registry.chunking import order_files
from xprim_nb.registry.folder import METADATA_DIR, Folder, SourceFile, identity_of
from xprim_nb.registry.manifest import VerifiedManifest
from xprim_nb.registry.paths import check_paths
from xprim_nb.registry.publisher import describe

__all__ = ["REGISTRY", "Adopted", "AdoptionInstaller", "choose_model"]

# What `registry.json` names as the registry of such a model.
REGISTRY = "adopted"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What adopting a directory found, and installed if asked.

    Attributes:
        place: The directory.
        model: The installed model; None when none was asked for.
        receipt: Where its bytes came from; None when none was asked for.
    """

    place: AdoptedPlace
    model: InstalledModel | None = None
    receipt: Receipt | None = None

    def __str__(self) -> str:
        if self.model is None:
            return f"adopted {self.place}"
        return f"adopted {self.place}; installed {self.model.ref} ({format_bytes(self.model.total_size)})"


def choose_model(place: AdoptedPlace, name: str | None) -> FoundModel:
    """The model of a place that is meant.

    Args:
        place: The place.
        name: Its name there, or the part of it that no other has; may be None where there is one only.

    Raises:
        ConfigError: None, or several, of that name.
    """
    exact = [each for each in place.models if each.name == name]
    found = exact or [each for each in place.models if name is None or name in each.name]
    if len(found) == 1:
        return found[0]
    names = [each.name for each in found or place.models]
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    what = "has no model" if not found else "has several models"
    raise ConfigError(
        f"{place.root} {what}{f' named {name!r}' if name else ''}.",
        subject=name or place.root,
        hint=f"Name one of: {shown}." if names else "Adopt a directory that holds a model.",
    )


class AdoptionInstaller:
    """Installs found models. Holds nothing open.

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

    async def install(
        self,
        place: AdoptedPlace,
        found: FoundModel,
        ref: ModelRef,
        *,
        concurrency: int,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> tuple[InstalledModel, Receipt]:
        """Copy a found model's files into the cache, hashed twice: when described, and on the way in.

        The place is in `adopted.json` already.

        Raises:
            ConfigError: Its file names cannot be a model's.
            VersionExistsError: Another model is installed under that name.
            PublishError: A file changed meanwhile.
            NetworkError: The same, noticed later: the bytes are nowhere.
            StorageError: The disk refused.
        """
        await settled(self._require_free, ref, None)
        folder = await settled(_folder, place, found)
        verified = await settled(describe, folder)
        meter = Meter(ref)
        async with telling(meter, self._events, progress), locked(self._layout.ref_lock(ref)):
            await settled(self._installer.recover, ref)
            await settled(self._installer.check_place, ref)
            await settled(self._require_free, ref, verified)
            installed = await settled(self._store.find, ref)
            if installed is not None:
                return installed, meter.receipt()
            extra = {
                "registry": REGISTRY,
                "resolved_version": ref.version,
                "adopted_from": _origin(place, found),
            }
            async with self._puller.assembled(ref, verified, None, meter, concurrency=concurrency) as tree:
                receipt = meter.receipt()
                note = {
                    "registry": REGISTRY,
                    "manifest_hash": verified.digest,
                    "bytes_network": receipt.bytes_network,
                    "bytes_local": receipt.bytes_local,
                    "bytes_present": receipt.bytes_present,
                    "local_models": dict(receipt.local_models),
                }
                model, kept = await settled(self._installer.install, ref, verified, tree, extra, note)
        self._events.publish(ModelInstalled(ref, model.manifest_hash, "installed"))
        return model, replace(receipt, kept=kept, seconds=meter.receipt().seconds)

    def _require_free(self, ref: ModelRef, verified: VerifiedManifest | None) -> None:
        installed = self._store.find(ref)
        if installed is None:
            return
        same = verified is not None and installed.manifest_hash == verified.digest
        if not same and (verified is not None or installed.extra.get("registry") != REGISTRY):
            raise VersionExistsError(
                f"{ref} is installed already, with other bytes.",
                subject=str(ref),
                hint="Choose another name, or remove it first.",
            )


def _folder(place: AdoptedPlace, found: FoundModel) -> Folder:
    root, files = Path(place.root), []
    for path, inside in found.files.items():
        with storage_errors(root / inside, "reading"):
            facts = (root / inside).stat()
        files.append(SourceFile(path, facts.st_size, root / inside, identity_of(facts)))
    try:
        check_paths((file.path for file in files), METADATA_DIR, where=found.name)
    except RegistryError as error:
        raise ConfigError(error.message, subject=error.subject, hint="Rename the file.") from error
    return Folder(root, tuple(order_files(files)), ())


def _origin(place: AdoptedPlace, found: FoundModel) -> str:
    return f"{place.kind} {place.root}: {found.name}"
