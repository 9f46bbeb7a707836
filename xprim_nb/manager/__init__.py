"""Everything one can do with models here, as plain asyncio: the public face of the registry and the cache.

    async with Manager(Config(registry_url="https://models.example.org")) as manager:
        pulled = await manager.pull("fast-whisper/tiny fp16")
        print(pulled.path)

Source: seeds/002 §Public API; spec 1 §Manager.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from xprim_nb import demo
from xprim_nb._threads import halting, settled
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.export import export as export_models
from xprim_nb.cache.health.mending import sweep_mending
from xprim_nb.cache.health.opening import open_health
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.peek import peek_installed, peek_remote
from xprim_nb.cache.prune import discard as discard_partial
from xprim_nb.cache.prune import prune as prune_leftovers
from xprim_nb.cache.pull import Puller
from xprim_nb.cache.remove import Remover
from xprim_nb.cache.state import State
from xprim_nb.cache.store import Store
from xprim_nb.cache.upkeep.dropping import drop_spent_archive
from xprim_nb.cache.values import (
    Exported,
    Peeked,
    Pruned,
    Pulled,
    PullPlan,
    Removed,
)
from xprim_nb.config import Config, expand_home, mask_url
from xprim_nb.errors import StorageError
from xprim_nb.events import EventHub, PullProgress
from xprim_nb.logs import LogBridge, Logger
from xprim_nb.manager.adopting import Adopting
from xprim_nb.manager.bundles import Bundles
from xprim_nb.manager.health import Health
from xprim_nb.manager.maintenance import Maintenance
from xprim_nb.manager.reading import at_home
from xprim_nb.manager.renewal import Renewal, check_channels
from xprim_nb.manager.upkeep import Upkeep
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.opening import AsyncClientLike, open_sources
from xprim_nb.registry.retry import RetryPolicy

if TYPE_CHECKING:
    from xprim_nb.notify import Channel

__all__ = ["Manager"]

_log = logging.getLogger("xprim_nb.manager")


class Manager(Health, Renewal, Upkeep, Adopting, Bundles, Maintenance):
    """Lists, pulls, removes, exports. An async context manager: it owns connections and a database until left.

    Safe from many tasks and from other threads' loops while its own loop runs; two managers on one directory are safe.

    Args:
        config: The settings; the environment is applied on top (`Config.from_env`).
        client: An `httpx2.AsyncClient`-like object that carries everything, chunks included. Stays its owner's.
        logger: Receives diagnostics instead of the standard library's `xprim_nb` logger.
        events: Where progress and news are told; a new hub when None.
        notify: Who hears of damage, refreshes and rollbacks: `log`, `notebook`, `webhook:URL`, `file:PATH`, a callable.

    Raises:
        ConfigError: A setting cannot work.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        client: AsyncClientLike | None = None,
        logger: Logger | None = None,
        events: EventHub | None = None,
        notify: Sequence[Channel] = (),
    ) -> None:
        self.config = Config.from_env(config)
        self.events = events or EventHub()
        self._injected, self._logs = client, LogBridge(logger)
        self._layout = Layout.of(self.config)
        self._store = Store(self._layout)
        self._channels = check_channels(notify)

    @property
    def uses_demo_registry(self) -> bool:
        """True when no registry is configured and the embedded one answers."""
        return self.config.registry_url is None

    @property
    def registry_url(self) -> str:
        """The registry's base URL or directory, passwords masked."""
        return mask_url(self.config.registry_url or str(demo.registry_path()))

    async def __aenter__(self) -> Self:
        async with (
            contextlib.AsyncExitStack() as opened
        ):  # closes what is open when the rest cannot be opened
            self._logs.open()
            opened.callback(self._logs.close)
            sources = open_sources(self.config, str(demo.registry_path()), self._injected)
            self._client = RegistryClient(
                sources,
                cache_dir=self._layout.cache,
                metadata_dir=self._layout.metadata_name,
                policy=RetryPolicy(self.config.tries, self.config.backoff_s),
                offline=self.config.offline,
                events=self.events,
            )
            opened.push_async_callback(self._client.aclose)
            self._state = State(self._layout)
            opened.callback(self._state.close)
            self._index = ChunkIndex(self._layout, self._state)
            self._installer = Installer(self._layout, self._store, self._index)
            self._puller = Puller(self._layout, self._store, self._index, self._client, self.events)
            self._remover = Remover(self._layout, self._store, self._installer, self.events)
            self._health = open_health(
                self._layout,
                self._store,
                self._index,
                self._state,
                self._installer,
                self._client,
                self.events,
                self.config,
            )
            self._open_renewal(opened)
            self._open_upkeep(opened)
            opened.push_async_callback(self._close_bundles)
            await settled(self._installer.recover)
            self._opened = opened.pop_all()
        self._home = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_watch()
        self._home = None
        await self._opened.aclose()

    @at_home
    async def plan_pull(
        self, ref: ModelRef | str, *, force: bool = False, manifest_hash: str | None = None
    ) -> PullPlan:
        """What `pull` would do now; see `Puller.plan` for the arguments and the errors."""
        parsed = ModelRef.parse(ref).require_version()
        return await self._puller.plan(parsed, force=force, manifest_hash=manifest_hash)

    @at_home
    async def pull(
        self,
        ref: ModelRef | str,
        *,
        force: bool = False,
        concurrency: int | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Pulled:
        """Install or update a model.

        Args:
            ref: Which version.
            force: Verify what is installed byte by byte, and mend what is wrong.
            concurrency: Chunks fetched at once, 1 to 16; the configuration's when None.
            progress: Called with each `PullProgress`, in a thread, about ten times a second.

        Raises:
            ModelNotFoundError, NetworkError, RegistryError, HashMismatchError, StorageError: What was fetched is kept,
                the old version is untouched, and the same call goes on from there.
        """
        parsed = ModelRef.parse(ref).require_version()
        wanted = self.config.concurrency if concurrency is None else concurrency
        pulled = await self._puller.pull(parsed, force=force, concurrency=wanted, progress=progress)
        await drop_spent_archive(self._layout, self._store, parsed)
        if pulled.status != "already_installed":
            await settled(self._health.installed, pulled)
            try:
                await settled(prune_leftovers, self._layout, idle_s=self.config.partial_max_age_s)
                await settled(sweep_mending, self._layout, idle_s=self.config.partial_max_age_s)
            except StorageError as error:  # the model is installed all the same
                _log.warning("leftovers could not be pruned: %s", error.message)
        return pulled

    @at_home
    async def remove(self, ref: ModelRef | str) -> Removed:
        """Remove an installed version. Files that somebody changed or added in it are put aside, not deleted.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        removed = await self._remover.remove(ModelRef.parse(ref).require_version())
        await settled(self._health.removed, removed)
        return removed

    @at_home
    async def remove_all(self, group: str, model: str) -> list[Removed]:
        """Remove every installed version of a model.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        removed = await self._remover.remove_all(ModelRef(group, model))
        for each in removed:
            await settled(self._health.removed, each)
        return removed

    @at_home
    async def prune(self) -> Pruned:
        """Remove every unfinished pull nobody works on, and other leftovers.

        Raises:
            StorageError: The disk refused.
        """
        await settled(self._installer.recover)
        await settled(sweep_mending, self._layout)
        return await settled(prune_leftovers, self._layout)

    @at_home
    async def discard(self, ref: ModelRef | str) -> Pruned:
        """Remove what an unfinished pull of a version has fetched; what is installed stays. Asks nobody.

        Raises:
            InvalidRefError, StorageError: See `errors`.
        """
        parsed = ModelRef.parse(ref).require_version()
        client = self._client
        known = await (client.cached_index() if client.needs_network else client.index())
        remote = known.index.models.get(parsed) if known is not None else None
        if remote is None:
            return Pruned((), 0, ())
        return await settled(discard_partial, self._layout, remote.manifest_hash)

    @at_home
    async def export(self, refs: Sequence[ModelRef | str] | ModelRef | str, *, to: Path | str) -> Exported:
        """Make a registry directory from installed models, with local bytes only.

        Raises:
            ConfigError, NotInstalledError, HashMismatchError, VersionExistsError, StorageError: See `errors`.
        """
        wanted = [refs] if isinstance(refs, (str, ModelRef)) else list(refs)
        parsed = [ModelRef.parse(ref) for ref in wanted]
        known = await self._client.cached_index()
        target = expand_home(to, "to").absolute()
        index = known.index if known else None
        return await halting(
            lambda check: export_models(self._layout, self._store, parsed, target, index, check)
        )

    @at_home
    async def peek(self, ref: ModelRef | str) -> Peeked:
        """Tensors, dtypes and parameters of a model, from its headers alone.

        Raises:
            HeaderError: A tensor file is malformed.
            ModelNotFoundError, NetworkError, RegistryError, HashMismatchError, StorageError: See `pull`.
        """
        parsed = ModelRef.parse(ref).require_version()
        model = await settled(self._store.find, parsed)
        if model is not None:
            return await settled(peek_installed, parsed, model.path, self._store.manifest_of(model))
        remote = (await self._client.index()).index.get(parsed)
        verified = await self._client.manifest(remote.manifest_hash)
        digests = list(verified.manifest.distinct)
        local = await settled(LocalChunks, self._layout, self._index, verified.digest, digests)
        return await peek_remote(parsed, verified, self._layout, self._client, local)
