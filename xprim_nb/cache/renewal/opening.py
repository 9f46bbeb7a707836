"""The room as a whole: what refreshes, and what puts back.

Loaded at the first verb that needs it.
"""

from __future__ import annotations

from typing import NamedTuple

from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.pull import Puller
from xprim_nb.cache.renewal.refresh import Refresher, Validator
from xprim_nb.cache.renewal.rollback import Restorer
from xprim_nb.cache.state import State
from xprim_nb.cache.store import Store
from xprim_nb.events import EventHub
from xprim_nb.registry.client import RegistryClient

__all__ = ["RenewalRoom", "open_renewal"]


class RenewalRoom(NamedTuple):
    """Holds nothing open."""

    refresher: Refresher
    restorer: Restorer


def open_renewal(
    layout: Layout,
    store: Store,
    index: ChunkIndex,
    installer: Installer,
    puller: Puller,
    client: RegistryClient,
    state: State,
    events: EventHub,
    validate: Validator,
) -> RenewalRoom:
    """The room, on top of what its owner has built already; see `Refresher` for the arguments."""
    restorer = Restorer(layout, store, installer, state, events)
    refresher = Refresher(layout, store, index, installer, puller, restorer, client, state, events, validate)
    return RenewalRoom(refresher, restorer)
