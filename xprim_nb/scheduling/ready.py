"""Opens and closes what an engine is made of, and gets models ready: named, installed, known, with ways to hold them.

Source: spec 4 §Residency, §Faces.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xprim_nb._threads import settled
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import ConfigError
from xprim_nb.events import EventHub
from xprim_nb.logs import Logger
from xprim_nb.scheduling.asking import Asking
from xprim_nb.scheduling.backends import Backends
from xprim_nb.scheduling.charging import Charging
from xprim_nb.scheduling.devices import Probe, find_probes
from xprim_nb.scheduling.footprints import settings_digest
from xprim_nb.scheduling.held import OUR_SETTINGS, Held
from xprim_nb.scheduling.installing import Installations
from xprim_nb.scheduling.kernels import this_kernel
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.machine import MachineProbe
from xprim_nb.scheduling.monitor import DeviceMonitor
from xprim_nb.scheduling.moving import Mover
from xprim_nb.scheduling.naming import ModelName
from xprim_nb.scheduling.options import placements_for
from xprim_nb.scheduling.scheduler import Scheduler
from xprim_nb.scheduling.state import Limits, Option
from xprim_nb.workers.contract import Backend, BackendContext, Library
from xprim_nb.workers.values import InstallProgress, LoadOptions, ModelFacts

__all__ = ["Ready"]

_log = logging.getLogger("xprim_nb.scheduling")


class Ready:
    """The base of an engine; see `Engine` for the arguments."""

    no_path = Path()

    def __init__(
        self,
        library: Library,
        settings: AICapabilities | None = None,
        *,
        events: EventHub | None = None,
        offline: bool = False,
        logger: Logger | None = None,
        devices: Sequence[Probe] | None = None,
        backends: Mapping[str, Backend] | None = None,
        label: str = "",
    ) -> None:
        self.library, self.settings = library, settings or AICapabilities()
        self.events = events or EventHub()
        context = BackendContext(
            library,
            self.settings.endpoints,
            self.settings.keys,
            offline,
            logger,
            hot_spare=self.settings.hot_spare,
        )
        self.backends = Backends(context, dict(backends or {}))
        self._devices, self._label = devices, label
        self._installations = Installations(self.settings.auto_install_models)
        self._named: dict[str, Held] = {}
        self._getting_ready: dict[str, asyncio.Lock] = {}
        self._closed = False

    async def _open(self) -> None:
        directory, kernel = self.settings.ledger_dir, this_kernel(self._label)
        self._ledger = await settled(lambda: Ledger(directory, kernel=kernel))
        await settled(self._ledger.reap)
        self._monitor = DeviceMonitor(await settled(self._probes))
        mover = Mover(Charging(self._ledger, self._monitor), self.settings, self.events)
        limits = Limits(max_workers=self.settings.max_concurrent_workers)
        self.scheduler = Scheduler(mover, limits, self.events)
        self._mover = mover
        await self.scheduler.open()

    def _probes(self) -> Sequence[Probe]:
        ram = self.settings.max_ram_bytes
        if (
            self._devices is not None
        ):  # whatever computes where, its process takes some of the machine's memory
            return (*self._devices, MachineProbe(ram))
        found = find_probes(
            max_vram_bytes=self.settings.max_vram_bytes,
            max_ram_bytes=ram,
            visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        )
        for note in found.notes:
            _log.info("%s", note)
        return found.probes

    async def aclose(self) -> None:
        """End every answer, unload every model, give back what they took. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._installations.aclose()
        await self.scheduler.aclose()
        await self.backends.aclose()
        await settled(self._ledger.close)
        self._monitor.close()

    # --- models ---------------------------------------------------------------------------------

    async def ready(
        self,
        model: str,
        settings: Mapping[str, object],
        asking: Asking,
        *,
        install: bool | None = None,
        note: str = "",
        changes: bool = True,
    ) -> Held:
        """A model that is installed, and known to the scheduler.

        Args:
            model: As a user names it.
            settings: What it shall be loaded with; those of before when empty.
            asking: Where the progress is told.
            install: Whether it may be installed now; None for the setting.
            note: What asks.
            changes: Know it from now on, and load it with these settings. False for whoever only looks: the result is
                a copy then, and nothing remembers it.

        Raises:
            InvalidRefError, NotInstalledError, ModelNotFoundError, NetworkError, StorageError: It is not to be had.
            UnsupportedModelError: Its backend cannot run it.
        """
        model = str(model)
        known = self._named.get(model)
        if known is not None and known.runner is not None and dict(settings) in ({}, dict(known.settings)):
            asking.model = known.key
            return known if changes else replace(known)
        # Of several that ask for the same model at first, one looks and the others find.
        async with self._getting_ready.setdefault(model, asyncio.Lock()):
            return await self._ready(model, settings, asking, install, note, changes=changes)

    async def settings_of(self, model: str) -> Mapping[str, object]:
        """With which settings a model would answer now, if none are named: those it was loaded with last.

        Empty for its own, and for a model that is not known here. Loads nothing, and installs nothing.

        Raises:
            InvalidRefError, UnsupportedModelError, LoadFailedError: It names no model, or one that nobody runs.
        """
        if not any(held.settings for held in self.scheduler.held.values()):
            return {}  # as nearly always; to resolve a name costs a look into the model's files
        name = ModelName.parse(str(model), self.backends.names())
        backend, local = await self.backends.resolve(name)
        held = self.scheduler.held.get(f"{backend.name}:{local.name if local is not None else name.name}")
        return dict(held.settings) if held is not None else {}

    async def _ready(
        self,
        model: str,
        settings: Mapping[str, object],
        asking: Asking,
        install: bool | None,
        note: str,
        *,
        changes: bool,
    ) -> Held:
        name = ModelName.parse(model, self.backends.names())
        backend, local = await self.backends.resolve(name)
        wanted = local.name if local is not None else name.name

        def tell(progress: InstallProgress) -> None:
            asking.phase, asking.fraction, asking.reason = "installing", progress.fraction, progress.text

        if local is None:
            await self._installations.ensure(backend, wanted, tell, allowed=install)
            backend, local = await self.backends.resolve(name)
            wanted = local.name if local is not None else name.name
        key = f"{backend.name}:{wanted}"
        asking.model = key
        held = self.scheduler.held.get(key)
        if not changes:
            return await self._looked_at(key, wanted, backend, held, settings)
        if held is None:
            facts = await self._facts(backend, wanted, settings)
            held = self.scheduler.held[key] = Held(key, wanted, backend, facts, dict(settings))
        elif settings and dict(settings) != dict(held.settings):
            held.facts = await self._facts(backend, wanted, settings)
            held.settings = dict(settings)
            if held.runner is not None:
                await self.scheduler.evict(key, "its settings were changed")
        elif held.runner is None:  # it may have been updated since it was loaded last
            held.facts = await self._facts(backend, wanted, held.settings)
        held.note = note or held.note
        self._named[model] = held
        return held

    async def _looked_at(
        self, key: str, name: str, backend: Backend, held: Held | None, settings: Mapping[str, object]
    ) -> Held:
        """What a model would be with these settings; those of before when empty."""
        used = dict(settings) or dict(held.settings if held is not None else {})
        facts = await self._facts(backend, name, used)
        if held is None:
            return Held(key, name, backend, facts, used)
        return replace(held, facts=facts, settings=used)

    async def _facts(self, backend: Backend, name: str, settings: Mapping[str, object]) -> ModelFacts:
        own = {key: value for key, value in settings.items() if key not in OUR_SETTINGS}
        facts = await backend.facts(name, LoadOptions(settings=own))
        given = settings.get("footprint_bytes")
        if given is None:
            return facts
        if not isinstance(given, int | float) or given < 0:
            raise ConfigError(f"footprint_bytes is {given!r:.60}, and is a size.", subject="footprint_bytes")
        return replace(facts, footprint_bytes=int(given))

    async def options(self, held: Held) -> tuple[Option, ...]:
        """Ways to hold a model, best first; those in force while it is loaded."""
        model = self.scheduler.state.models.get(held.key)
        if model is not None and model.status == "resident":
            return model.options
        found = await settled(
            lambda: placements_for(
                held.facts,
                self._monitor.devices,
                self._ledger.footprints.known(),
                context_tokens=self._context(held),
                allow_smaller_context=self.settings.allow_smaller_context,
                allow_cpu=self.settings.allow_cpu,
                capabilities=held.backend.capabilities,
                settings=settings_digest(held.settings),
            )
        )
        # Those of before are kept: somebody who was there first may be about to be served with one of them.
        kinds = {(each.option.device, each.option.context_tokens) for each in found}
        held.placements = (
            *found,
            *(
                each
                for each in held.placements
                if (each.option.device, each.option.context_tokens) not in kinds
            ),
        )
        return tuple(each.option for each in found)

    def _context(self, held: Held) -> int:
        asked = held.settings.get("context_tokens", self.settings.context_tokens)
        if not isinstance(asked, int) or asked < 1:
            raise ConfigError(
                f"context_tokens is {asked!r:.60}, and must be at least 1.", subject="context_tokens"
            )
        longest = held.facts.max_context_tokens
        return min(asked, longest) if longest else asked

    def _now(self) -> float:
        return time.monotonic()
