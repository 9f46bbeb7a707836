"""Builds the engine over a manager: its models are the manager's, and so are its settings.

    async with Manager() as manager, open_engine(manager) as engine: …

Source: DESIGN §The rooms; spec 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xprim_nb.manager import Manager
from xprim_nb.manager.library import ManagerLibrary
from xprim_nb.scheduling.devices import Probe
from xprim_nb.scheduling.engine import Engine
from xprim_nb.workers.contract import Backend

__all__ = ["open_engine"]


def open_engine(
    manager: Manager,
    *,
    devices: Sequence[Probe] | None = None,
    backends: Mapping[str, Backend] | None = None,
    label: str = "",
) -> Engine:
    """The engine of a manager; enter it inside the manager's own `async with`.

    Args:
        manager: Whose models and settings it has.
        devices: Instead of what this machine has; see `Engine`.
        backends: Instead of those that are found by entry point.
        label: What this process is, for whoever looks at the ledger.
    """
    settings = manager.config.ai
    return Engine(
        ManagerLibrary(manager, settings.max_model_cache_size_bytes),
        settings,
        events=manager.events,
        offline=manager.config.offline,
        devices=devices,
        backends=backends,
        label=label,
    )
