"""The notebook's side: one toolkit on our own loop, whose verbs return a `Handle` at once.

    kit = connect()
    handle = kit.pull("demo/tiny-llama v1")
    handle.result().path

The one place that builds and closes every owner.

Source: DESIGN §One loop; spec 1 §Manager.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from xprim_nb._bridge import Handle
from xprim_nb.config import Config
from xprim_nb.errors import ConfigError
from xprim_nb.events import EventHub
from xprim_nb.logs import Logger
from xprim_nb.manager import Manager
from xprim_nb.registry.opening import AsyncClientLike
from xprim_nb.toolkit.ai import AIVerbs
from xprim_nb.toolkit.bundles import BundleVerbs
from xprim_nb.toolkit.health import HealthVerbs
from xprim_nb.toolkit.maintenance import MaintenanceVerbs
from xprim_nb.toolkit.models import ModelVerbs
from xprim_nb.toolkit.prompts import PromptVerbs
from xprim_nb.toolkit.renewal import RenewalVerbs
from xprim_nb.toolkit.upkeep import UpkeepVerbs

if TYPE_CHECKING:
    from types import TracebackType

    from xprim_nb.manager.prompting import EngineAnswers
    from xprim_nb.notify import Channel
    from xprim_nb.prompts.desk import Prompts
    from xprim_nb.scheduling.devices import Probe
    from xprim_nb.scheduling.engine import Engine
    from xprim_nb.workers.contract import Backend

__all__ = ["Toolkit", "allow_nested_loops", "connect"]


def connect(
    config: Config | None = None,
    *,
    client: AsyncClientLike | None = None,
    logger: Logger | None = None,
    notify: Sequence[Channel] = (),
    devices: Sequence[Probe] | None = None,
    backends: Mapping[str, Backend] | None = None,
) -> Toolkit:
    """A toolkit for notebooks and scripts. Touches no disk and no network until its first verb.

    Args:
        config: The settings; the environment is applied on top.
        client: Carries every request when given.
        logger: Receives diagnostics.
        notify: Who hears of damage, refreshes and rollbacks; see `Manager`.
        devices: What models run on, instead of what this machine has: simulated ones, say.
        backends: How models are run, instead of what is installed.

    Raises:
        ConfigError: A setting cannot work.
    """
    return Toolkit(config, client=client, logger=logger, notify=notify, devices=devices, backends=backends)


class Toolkit(
    ModelVerbs, HealthVerbs, RenewalVerbs, UpkeepVerbs, BundleVerbs, MaintenanceVerbs, AIVerbs, PromptVerbs
):
    """`Manager`'s verbs, each returning a `Handle`. Thread-safe; `close` (or leaving the `with` block) ends it.

    Equal pulls in flight are joined: the second call returns the first one's handle.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        client: AsyncClientLike | None = None,
        logger: Logger | None = None,
        notify: Sequence[Channel] = (),
        devices: Sequence[Probe] | None = None,
        backends: Mapping[str, Backend] | None = None,
    ) -> None:
        super().__init__()
        self.events = EventHub()
        self._manager = Manager(config, client=client, logger=logger, events=self.events, notify=notify)
        self._opening: asyncio.Task[Manager] | None = None
        self._engine_parts = {"devices": devices, "backends": backends}
        self._engine_opening: asyncio.Task[Engine] | None = None
        self._prompts_opening: asyncio.Task[Prompts] | None = None
        self._closed = False
        self.events.subscribe(self._remember)

    @property
    def config(self) -> Config:
        """The settings in force, the environment applied."""
        return self._manager.config

    @property
    def registry_url(self) -> str:
        """The registry's base URL or directory, passwords masked."""
        return self._manager.registry_url

    @property
    def uses_demo_registry(self) -> bool:
        """True when no registry is configured and the embedded one answers."""
        return self._manager.uses_demo_registry

    def close(self) -> None:
        """Cancel what runs, wait for its clean-up, close connections and the database. Idempotent."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            try:
                self._running.stop()
            finally:
                Handle(self._close(), "close").result()

    def __repr__(self) -> str:
        registry = "the embedded demo registry" if self.uses_demo_registry else self.registry_url
        return f"<Toolkit: {registry}, models in {self.config.base_dir}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _opened(self) -> Manager:
        if self._closed:
            raise ConfigError(
                "This toolkit is closed.", subject="toolkit", hint="Make a new one with connect()."
            )
        opening = self._opening
        if opening is None or _is_lost(opening):
            self._opening = opening = asyncio.create_task(self._manager.__aenter__())
        return await asyncio.shield(opening)

    async def _engine_opened(self) -> Engine:
        manager = await self._opened()
        opening = self._engine_opening
        if opening is None or _is_lost(opening):
            # Loaded with the first model that runs: who only pulls does not pay for it.
            make = importlib.import_module("xprim_nb.manager.engines").open_engine
            self._engine_opening = opening = asyncio.create_task(
                make(manager, **self._engine_parts).__aenter__()
            )
        self.engine = await asyncio.shield(opening)
        return self.engine

    async def _prompts_opened(self) -> tuple[Prompts, EngineAnswers]:
        manager = await self._opened()
        opening = self._prompts_opening
        if opening is None or _is_lost(opening):
            room = importlib.import_module("xprim_nb.manager.prompting")
            # The engine is opened with the first prompt that a model answers: the cache alone needs none.
            self._answers: EngineAnswers = room.EngineAnswers(
                manager, self._engine_opened, lambda: self.engine
            )
            prompts: Prompts = room.open_prompts(manager, self._answers)
            self._prompts_opening = opening = asyncio.create_task(prompts.__aenter__())
        return await asyncio.shield(opening), self._answers

    async def _close_prompts(self) -> None:
        opening, self._prompts_opening = self._prompts_opening, None
        if opening is not None and not _is_lost(opening):
            await asyncio.wait([opening])
            if not _is_lost(opening):
                await opening.result().__aexit__(None, None, None)

    async def _close_engine(self) -> None:
        opening, self._engine_opening, self.engine = self._engine_opening, None, None
        if opening is not None and not _is_lost(opening):
            await asyncio.wait([opening])
            if not _is_lost(opening):
                await opening.result().aclose()

    async def _close(self) -> None:
        await self._close_prompts()
        await self._close_engine()
        opening, self._opening = self._opening, None
        if opening is not None and not _is_lost(opening):
            await asyncio.wait([opening])
            if not _is_lost(opening):
                await self._manager.__aexit__(None, None, None)


def _is_lost(opening: asyncio.Task[Any]) -> bool:
    """True when it failed, or its loop is another: that one was stopped, or we are a fork of its process."""
    if opening.get_loop() is not asyncio.get_running_loop():
        return True
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


def allow_nested_loops() -> None:
    """Let code in cells call `asyncio.run` although the notebook's loop runs. Patches the whole process.

    For third-party code only: nothing of ours needs it. Uses `nest-asyncio2`; refuses uvloop, which cannot be patched.

    Raises:
        ConfigError: The running loop cannot be patched.
    """
    module = sys.modules.get("uvloop")
    try:
        running: object = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if module is not None and isinstance(running, module.Loop):
        raise ConfigError(
            "The running loop is uvloop's, which cannot be nested.", subject="allow_nested_loops"
        )
    importlib.import_module("nest_asyncio2").apply()
