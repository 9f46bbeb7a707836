"""Build what this room consists of, in one line of its owner."""

from __future__ import annotations

from dataclasses import dataclass

from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.health.examine import Examiner
from xprim_nb.cache.health.repair import Repairer
from xprim_nb.cache.health.scrub import Scrubber
from xprim_nb.cache.health.validate import Validator
from xprim_nb.cache.health.verdicts import Verdicts
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.state import State
from xprim_nb.cache.store import Store
from xprim_nb.cache.values import Pulled, Removed
from xprim_nb.config import Config
from xprim_nb.events import EventHub
from xprim_nb.registry.client import RegistryClient

__all__ = ["HealthRoom", "open_health"]


@dataclass(frozen=True, slots=True)
class HealthRoom:
    """Those who look after what is installed. Nothing of it is held open here."""

    verdicts: Verdicts
    examiner: Examiner
    validator: Validator
    scrubber: Scrubber
    repairer: Repairer

    def installed(self, pulled: Pulled) -> None:
        """Every byte was verified just now: older verdicts say nothing any more. The pull goes into the history."""
        self.verdicts.forget(pulled.ref)
        receipt = pulled.receipt
        self.verdicts.remember(
            "pull",
            str(pulled.ref),
            status=pulled.status,
            manifest_hash=pulled.model.manifest_hash,
            bytes_network=receipt.bytes_network,
            bytes_local=receipt.bytes_local,
            seconds=round(receipt.seconds, 3),
        )

    def removed(self, removed: Removed) -> None:
        """What was known of a model goes with it. The removal goes into the history."""
        self.verdicts.forget(removed.ref)
        self.verdicts.remember("remove", str(removed.ref), bytes_freed=removed.bytes_freed)


def open_health(
    layout: Layout,
    store: Store,
    index: ChunkIndex,
    state: State,
    installer: Installer,
    client: RegistryClient,
    events: EventHub,
    config: Config,
) -> HealthRoom:
    """The room, on top of what its owner has built already."""
    verdicts = Verdicts(state)
    examiner = Examiner(layout, store, index, verdicts, client.url)
    validator = Validator(store, examiner, verdicts, client, events)
    scrubber = Scrubber(store, examiner, validator, verdicts, client, events)
    repairer = Repairer(
        layout, store, index, installer, examiner, validator, verdicts, client, events, config.concurrency
    )
    return HealthRoom(verdicts, examiner, validator, scrubber, repairer)
