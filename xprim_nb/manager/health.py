"""The verbs that look after what is installed: validate, scrub, repair, status.

Source: spec 2 §Validation, §Repair, §Status.
"""

from __future__ import annotations

from xprim_nb._threads import settled
from xprim_nb.cache.health.opening import HealthRoom
from xprim_nb.cache.health.repaired import Repaired, RepairPlan
from xprim_nb.cache.health.report import Depth, ValidationReport
from xprim_nb.cache.health.rules import HealthPolicy
from xprim_nb.cache.health.scrub import Scrubbed
from xprim_nb.cache.health.status import CacheStatus, Contact, status_of
from xprim_nb.cache.state import State
from xprim_nb.config import Config, mask_url
from xprim_nb.errors import ConfigError
from xprim_nb.manager.reading import Reading, at_home
from xprim_nb.refs import ModelRef

__all__ = ["Health"]


class Health(Reading):
    """The part of `Manager` that looks after what is installed."""

    config: Config
    _health: HealthRoom
    _state: State

    @at_home
    async def validate(
        self, ref: ModelRef | str, depth: Depth = "quick", *, policy: HealthPolicy | None = None
    ) -> ValidationReport:
        """Whether an installed model is right, fresh, complete, and has what it builds on. Asks nobody.

        Args:
            ref: Which version.
            depth: `quick` hashes only what changed since it was installed or last checked, `full` every byte.
            policy: What counts as old.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        return await self._health.validator.validate(
            ModelRef.parse(ref).require_version(), _checked(depth), policy
        )

    @at_home
    async def validate_all(
        self, depth: Depth = "quick", *, policy: HealthPolicy | None = None
    ) -> list[ValidationReport]:
        """The same for every installed model, sorted by ref.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        return await self._health.validator.validate_all(_checked(depth), policy)

    @at_home
    async def scrub(self, budget_s: float = 60.0, *, policy: HealthPolicy | None = None) -> Scrubbed:
        """Hash, for so many seconds, what was verified longest ago, and remember it.

        Raises:
            ConfigError: `budget_s` is negative.
            StorageError: `registry.json` cannot be read.
        """
        if not budget_s >= 0:  # written so that NaN is refused too
            raise ConfigError(f"budget_s is {budget_s}, and cannot be negative.", subject="budget_s")
        return await self._health.scrubber.scrub(budget_s, policy)

    @at_home
    async def plan_repair(self, ref: ModelRef | str, *, overwrite_modified: bool = False) -> RepairPlan:
        """What `repair` would do now. Reads every byte of the model, changes none.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        parsed = ModelRef.parse(ref).require_version()
        return await self._health.repairer.plan(parsed, overwrite_modified=overwrite_modified)

    @at_home
    async def repair(self, ref: ModelRef | str, *, overwrite_modified: bool = False) -> Repaired:
        """Mend a damaged model: only what is wrong is obtained, from the nearest source.

        What cannot be had now is listed in `remaining_issues`; the same call goes on from there.

        Args:
            ref: Which version.
            overwrite_modified: Put files back that somebody changed; theirs are put aside.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        parsed = ModelRef.parse(ref).require_version()
        return await self._health.repairer.repair(parsed, overwrite_modified=overwrite_modified)

    @at_home
    async def status(self, ref: ModelRef | str | None = None) -> CacheStatus:
        """How everything here is, or one model. Touches no model file and asks nobody.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        client = self._client
        is_demo = self.config.registry_url is None
        shown = "the embedded demo registry" if is_demo else mask_url(client.url)
        contact = Contact(shown, self.config.offline, client.needs_network, client.last_contact_at())
        wanted = None if ref is None else ModelRef.parse(ref)
        return await settled(status_of, self._store, self._state, contact, wanted)


def _checked(depth: Depth) -> Depth:
    if depth not in ("quick", "full"):
        raise ConfigError(f"depth is {depth!r}, and must be 'quick' or 'full'.", subject="depth")
    return depth
