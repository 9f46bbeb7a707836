"""The toolkit's verbs for information bundles.

Source: spec 2 §Information bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xprim_nb._bridge import Handle
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit.base import Verbs

if TYPE_CHECKING:
    from xprim_nb.cache.bundles.initialize import BundlePlan, Initialized
    from xprim_nb.cache.bundles.keeper import BundleRepaired
    from xprim_nb.cache.bundles.manifest import CacheInitRequest
    from xprim_nb.cache.bundles.store import Bundle
    from xprim_nb.cache.health.report import Depth, ValidationReport

__all__ = ["BundleVerbs"]


class BundleVerbs(Verbs):
    """See `Manager`; each verb returns a `Handle`, but for `bundle`, which waits for nothing."""

    _manager: Manager

    def bundle(self, ref: ModelRef | str) -> Bundle:
        """See `Manager.bundle`."""
        return self._manager.bundle(ref)

    def list_bundles(self) -> Handle[list[Bundle]]:
        """See `Manager.list_bundles`."""
        return self._do("list bundles", Manager.list_bundles)

    def plan_initialize(self, request: CacheInitRequest) -> Handle[BundlePlan]:
        """See `Manager.plan_initialize`."""
        return self._do(f"plan a bundle of {request.model_id}", Manager.plan_initialize, request)

    def initialize(self, request: CacheInitRequest) -> Handle[Initialized]:
        """See `Manager.initialize`."""
        return self._do(f"make a bundle of {request.model_id}", Manager.initialize, request)

    def derive(self, ref: ModelRef | str) -> Handle[Initialized]:
        """See `Manager.derive`."""
        return self._do(f"derive a bundle of {ref}", Manager.derive, ref)

    def validate_bundle(self, ref: ModelRef | str, depth: Depth = "full") -> Handle[ValidationReport]:
        """See `Manager.validate_bundle`."""
        return self._do(f"validate the bundle of {ref}", Manager.validate_bundle, ref, depth)

    def plan_refresh_bundle(self, ref: ModelRef | str) -> Handle[BundlePlan]:
        """See `Manager.plan_refresh_bundle`."""
        return self._do(f"plan a refresh of the bundle of {ref}", Manager.plan_refresh_bundle, ref)

    def refresh_bundle(self, ref: ModelRef | str) -> Handle[Initialized]:
        """See `Manager.refresh_bundle`."""
        return self._do(f"refresh the bundle of {ref}", Manager.refresh_bundle, ref)

    def plan_repair_bundle(self, ref: ModelRef | str) -> Handle[BundlePlan]:
        """See `Manager.plan_repair_bundle`."""
        return self._do(f"plan a repair of the bundle of {ref}", Manager.plan_repair_bundle, ref)

    def repair_bundle(self, ref: ModelRef | str) -> Handle[BundleRepaired]:
        """See `Manager.repair_bundle`."""
        return self._do(f"repair the bundle of {ref}", Manager.repair_bundle, ref)
