"""What the registry offers under a name; what is installed answers for itself when nobody can be asked.

Source: spec 1 §Pull.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from xprim_nb._files import write_atomic
from xprim_nb._threads import settled
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store
from xprim_nb.cache.upkeep.archived import Archived, archive_of, manifest_in
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import ModelNotFoundError, NetworkError, StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.manifest import VerifiedManifest

__all__ = ["Offer", "Offers"]

_log = logging.getLogger("xprim_nb.cache")


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


class Offers:
    """Asks. Holds nothing open.

    Args:
        layout: Where archives lie.
        store: What is installed.
        client: The registry.
    """

    def __init__(self, layout: Layout, store: Store, client: RegistryClient) -> None:
        self._layout, self._store, self._client = layout, store, client

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
