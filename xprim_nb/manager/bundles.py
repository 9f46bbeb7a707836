"""The verbs on information bundles.

Source: spec 2 §Information bundle.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from xprim_nb._threads import settled
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store
from xprim_nb.config import Config
from xprim_nb.events import EventHub
from xprim_nb.manager.reading import Reading, at_home
from xprim_nb.refs import ModelRef
from xprim_nb.registry.opening import AsyncClientLike

if TYPE_CHECKING:
    from xprim_nb.cache.bundles.initialize import BundlePlan, Initialized
    from xprim_nb.cache.bundles.keeper import BundleKeeper, BundleRepaired
    from xprim_nb.cache.bundles.manifest import CacheInitRequest
    from xprim_nb.cache.bundles.store import Bundle
    from xprim_nb.cache.health.report import Depth, ValidationReport

__all__ = ["Bundles"]


class Bundles(Reading):
    """The half of `Manager` for bundles. A version in a `ref` is ignored but by `derive` and `initialize`.

    What it is made of is loaded at its first verb: who only pulls does not pay for it.
    """

    config: Config
    events: EventHub
    _injected: AsyncClientLike | None
    _layout: Layout
    _store: Store
    _keeper: BundleKeeper | None = None

    @property
    def _bundles(self) -> BundleKeeper:
        if self._keeper is None:
            fetch = importlib.import_module("xprim_nb.cache.bundles.fetch")
            keeper = importlib.import_module("xprim_nb.cache.bundles.keeper")
            fetcher = fetch.Fetcher(self.config, self._injected, self.events)
            made: BundleKeeper = keeper.BundleKeeper(self._layout, self._store, fetcher)
            self._keeper = made
        return self._keeper

    async def _close_bundles(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.fetcher.aclose()

    def bundle(self, ref: ModelRef | str) -> Bundle:
        """A model's bundle, whether or not there is one. Touches no disk; its documents load when they are read.

            manager.bundle("demo/tiny-llama").read("documentation/README.md")

        Raises:
            InvalidRefError: The text is no reference.
        """
        ref = ModelRef.parse(ref).with_version("")
        store = importlib.import_module("xprim_nb.cache.bundles.store")
        found: Bundle = store.Bundle(ref, self._layout.info / ref.group / ref.model)
        return found

    @at_home
    async def list_bundles(self) -> list[Bundle]:
        """Every bundle, sorted by ref. Opens no document."""
        store = importlib.import_module("xprim_nb.cache.bundles.store")
        found: list[Bundle] = await settled(store.list_bundles, self._layout.info)
        return found

    @at_home
    async def plan_initialize(self, request: CacheInitRequest) -> BundlePlan:
        """What `initialize` would do; see there for the errors."""
        return await self._bundles.plan_initialize(request)

    @at_home
    async def initialize(self, request: CacheInitRequest) -> Initialized:
        """Make or complete a bundle from URLs; what could be had is kept, and the same call goes on from there.

        Raises:
            InvalidRefError, ConfigError: The request cannot work; nothing was touched.
            StorageError: The disk refused; what was written stays.
        """
        return await self._bundles.initialize(request)

    @at_home
    async def derive(self, ref: ModelRef | str) -> Initialized:
        """Make or complete a bundle from an installed model, asking nobody. Without a version, the one installed last.

        Raises:
            InvalidRefError, NotInstalledError, ConfigError, StorageError: See `errors`.
        """
        return await self._bundles.derive(ModelRef.parse(ref))

    @at_home
    async def validate_bundle(self, ref: ModelRef | str, depth: Depth = "full") -> ValidationReport:
        """How a bundle is now; its manifest remembers it.

        Raises:
            InvalidRefError, NotInstalledError, ConfigError, StorageError: See `errors`.
        """
        return await self._bundles.validate(ModelRef.parse(ref), depth)

    @at_home
    async def plan_refresh_bundle(self, ref: ModelRef | str) -> BundlePlan:
        """What `refresh_bundle` would do; see there for the errors."""
        return await self._bundles.plan_refresh(ModelRef.parse(ref))

    @at_home
    async def refresh_bundle(self, ref: ModelRef | str) -> Initialized:
        """Ask upstream for what changed, and derive again what was derived. Edited documents stay as they are.

        Raises:
            InvalidRefError, NotInstalledError, ConfigError, StorageError: See `errors`.
        """
        return await self._bundles.refresh(ModelRef.parse(ref))

    @at_home
    async def plan_repair_bundle(self, ref: ModelRef | str) -> BundlePlan:
        """What `repair_bundle` would bring; see there for the errors."""
        return await self._bundles.plan_repair(ModelRef.parse(ref))

    @at_home
    async def repair_bundle(self, ref: ModelRef | str) -> BundleRepaired:
        """Fetch or derive again just the documents that are damaged or missing; their old bytes are put aside.

        Raises:
            InvalidRefError, NotInstalledError, ConfigError, StorageError: See `errors`.
        """
        return await self._bundles.repair(ModelRef.parse(ref))
