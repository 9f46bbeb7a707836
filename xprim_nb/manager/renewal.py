"""The verbs that bring an installed version up to date and back, and who is told.

Source: spec 2 §Refresh; seeds/000 §Tools (`refresh_model_cache`).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xprim_nb._threads import settled
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.health.opening import HealthRoom
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.pull import Puller
from xprim_nb.cache.state import State
from xprim_nb.cache.upkeep.dropping import drop_spent_archive
from xprim_nb.config import Config
from xprim_nb.errors import XprimError
from xprim_nb.events import EventHub, PullProgress
from xprim_nb.manager.reading import Reading, at_home
from xprim_nb.refs import ModelRef

if TYPE_CHECKING:
    from xprim_nb.cache.renewal.opening import RenewalRoom
    from xprim_nb.cache.renewal.strategy import UpdateStrategy
    from xprim_nb.cache.renewal.values import (
        Backup,
        Dropped,
        DropPlan,
        Refreshed,
        RefreshPlan,
        Restored,
        RollbackPlan,
    )
    from xprim_nb.notify import Channel, Notifier

__all__ = ["Renewal", "check_channels"]


def check_channels(channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """The channels, when each of them can work.

    Raises:
        ConfigError: One cannot; the message says why.
    """
    for each in channels:
        importlib.import_module("xprim_nb.notify").open_channel(each)
    return tuple(channels)


class Renewal(Reading):
    """The part of `Manager` that refreshes and rolls back. Loads what it is made of at its first verb."""

    config: Config
    events: EventHub
    _layout: Layout
    _index: ChunkIndex
    _installer: Installer
    _puller: Puller
    _health: HealthRoom
    _state: State
    _channels: tuple[Channel, ...]
    _room: RenewalRoom | None = None
    _told: Notifier | None = None

    def _open_renewal(self, opened: contextlib.AsyncExitStack) -> None:
        """Begin to hear, if there is anybody to tell; `opened` ends it."""
        self._room = self._told = None
        opened.push_async_callback(self._close_renewal)
        if self._channels:
            _ = self._notifier

    async def _close_renewal(self) -> None:
        if self._told is not None:
            await settled(self._told.close)

    @property
    def _notifier(self) -> Notifier:
        if self._told is None:
            options = {"proxy": self.config.proxy, "verify": self.config.verify}
            made: Notifier = importlib.import_module("xprim_nb.notify").Notifier(
                self.events, self._channels, options
            )
            self._told = made
        return self._told

    @property
    def _renewal(self) -> RenewalRoom:
        if self._room is None:
            made: RenewalRoom = importlib.import_module("xprim_nb.cache.renewal.opening").open_renewal(
                self._layout,
                self._store,
                self._index,
                self._installer,
                self._puller,
                self._client,
                self._state,
                self.events,
                lambda ref: self._health.validator.validate(ref, "full"),
            )
            self._room = made
        return self._room

    @at_home
    async def plan_refresh(self, ref: ModelRef | str, strategy: UpdateStrategy | None = None) -> RefreshPlan:
        """What `refresh` would do now; see `Refresher.plan` for the errors."""
        return await self._renewal.refresher.plan(_version(ref), strategy or _by_default())

    @at_home
    async def refresh(
        self,
        ref: ModelRef | str,
        strategy: UpdateStrategy | None = None,
        *,
        concurrency: int | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Refreshed:
        """Bring an installed version up to date, and lose nothing of what somebody did to it.

        Args:
            ref: Which version, or an alias such as `latest`.
            strategy: How; by default local changes are kept, a backup is made, and a wrong new version is taken back.
            concurrency: Chunks fetched at once, 1 to 16; the configuration's when None.
            progress: Called with each `PullProgress`, in a thread, about ten times a second.

        Raises:
            ConfigError: A notification channel cannot work.
            NotInstalledError: There is nothing to refresh.
            ModelNotFoundError, NetworkError, RegistryError, HashMismatchError, StorageError: The old version is in
                place, what was fetched is kept, and the same call goes on from there.
        """
        parsed, chosen = _version(ref), strategy or _by_default()
        channels = check_channels(chosen.notification_channels)
        wanted = self.config.concurrency if concurrency is None else concurrency
        # Its own channels hear what is told while it runs: this refresh, and damage found on the way.
        with self._notifier.overhearing(channels, parsed):
            try:
                done = await self._renewal.refresher.refresh(
                    parsed, chosen, concurrency=wanted, progress=progress
                )
            except XprimError as error:
                notices = importlib.import_module("xprim_nb.notify.notices")
                notice = notices.Notice.now("refresh_failed", parsed, "error", error.message, error.hint)
                self._notifier.tell(notice, channels)
                raise
        if done.status == "rolled_back" or (done.status == "refreshed" and done.validation_report is None):
            await settled(self._health.verdicts.forget, parsed)  # they are of another version
        if done.success:
            await drop_spent_archive(self._layout, self._store, parsed)
        return done

    @at_home
    async def plan_rollback(self, ref: ModelRef | str, to: str | None = None) -> RollbackPlan:
        """What `rollback` would do now; see `rollback` for the errors."""
        return await self._renewal.restorer.plan(_version(ref), to)

    @at_home
    async def rollback(self, ref: ModelRef | str, to: str | None = None, *, force: bool = False) -> Restored:
        """Put a backup back, with no network; what was in place becomes a backup, so that this can be undone.

        Args:
            ref: Which version.
            to: Which backup, by its id or the first digits of its manifest's digest; the newest when None.
            force: Put it back although files in it are damaged or missing.

        Raises:
            NotInstalledError: There is no such backup.
            StorageError: It is damaged, or the disk refused; what was in place is in place.
        """
        restored = await self._renewal.restorer.rollback(_version(ref), to, force=force)
        await settled(self._health.verdicts.forget, restored.ref)  # they are of another version
        return restored

    @at_home
    async def backups(self, ref: ModelRef | str | None = None) -> list[Backup]:
        """The backups of one version, or of all; sorted by version and age, the newest last.

        Raises:
            InvalidRefError: See `errors`.
        """
        return await self._renewal.restorer.backups(None if ref is None else _version(ref))

    @at_home
    async def plan_drop_backup(self, ref: ModelRef | str, which: str | None = None) -> DropPlan:
        """Which backups `drop_backup` would delete.

        Raises:
            NotInstalledError: There is no such backup.
        """
        return await self._renewal.restorer.plan_drop(_version(ref), which)

    @at_home
    async def drop_backup(self, ref: ModelRef | str, which: str | None = None) -> tuple[Dropped, ...]:
        """Delete a backup, or, with `which` None, all of a version but the newest.

        Files in it that somebody had changed or added, and that do not lie in the installed version, are put aside.

        Raises:
            NotInstalledError: There is no such backup.
            StorageError: The disk refused.
        """
        return await self._renewal.restorer.drop(_version(ref), which)


def _by_default() -> UpdateStrategy:
    made: UpdateStrategy = importlib.import_module("xprim_nb.cache.renewal.strategy").UpdateStrategy()
    return made


def _version(ref: ModelRef | str) -> ModelRef:
    return ModelRef.parse(ref).require_version()
