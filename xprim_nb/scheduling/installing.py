"""Installs a model when it is first asked for: once, however many ask, and owned by nobody who asks.

Source: spec 4 §Install on first use; research residency §2-15 (a load tied to its first client's patience).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from xprim_nb.config.capabilities import AutoInstall
from xprim_nb.errors import NotInstalledError
from xprim_nb.workers.contract import Backend, OnInstall
from xprim_nb.workers.values import InstallProgress

__all__ = ["Installations"]


class Installations:
    """The installations that run now. `aclose` stops them; what was fetched is kept."""

    def __init__(self, policy: AutoInstall) -> None:
        self._policy = policy
        self._running: dict[str, asyncio.Task[None]] = {}
        self._listeners: dict[str, list[OnInstall]] = {}

    async def ensure(
        self, backend: Backend, name: str, tell: OnInstall, *, allowed: bool | None = None
    ) -> None:
        """Return when a model is available; `tell` hears how far its installation is.

        Args:
            backend: Whose model it is.
            name: The model.
            tell: Called with each `InstallProgress`.
            allowed: Overrides the policy for this once.

        Raises:
            NotInstalledError: It is not available, and the policy forbids installing it.
            XprimError: It could not be installed; see `Backend.install_model`.
        """
        if not await backend.check_model_availability([name]):
            return
        if not (self._policy == "yes" if allowed is None else allowed):
            raise NotInstalledError(
                f"{name} is not installed.",
                subject=name,
                hint=f"auto_install_models is {self._policy!r}: install it with `xprim models pull {name}`, "
                "or pass install=True.",
            )
        key = f"{backend.name}:{name}"
        listeners = self._listeners.setdefault(key, [])
        listeners.append(tell)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._install(backend, name, key))
            task.add_done_callback(self._forget(key))
        try:
            await asyncio.shield(task)
        finally:
            listeners.remove(tell)

    async def aclose(self) -> None:
        """Stop what runs, and wait until it has."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _install(self, backend: Backend, name: str, key: str) -> None:
        def tell(progress: InstallProgress) -> None:
            for listener in tuple(self._listeners.get(key, ())):
                listener(progress)

        await backend.install_model(name, tell)

    def _forget(self, key: str) -> Callable[[asyncio.Task[None]], None]:
        def forget(task: asyncio.Task[None]) -> None:
            self._running.pop(key, None)
            self._listeners.pop(key, None)
            if not task.cancelled():
                task.exception()  # whoever waits hears it; when nobody does any more, the next request meets it

        return forget
