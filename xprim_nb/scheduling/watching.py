"""Looks round once a second, as long as somebody waits or holds something: other kernels and programs call nobody.

Source: spec 4 §Residency ("shared by all kernels"); research residency §4.9.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from xprim_nb.errors import XprimError

if TYPE_CHECKING:
    from xprim_nb.scheduling.moving import Mover
    from xprim_nb.scheduling.scheduler import Scheduler

__all__ = ["Watch"]

_log = logging.getLogger("xprim_nb.scheduling")

# What others ask is heard so soon; each look costs well under a millisecond.
_WATCH_S = 1.0


class Watch:
    """One task that ends by itself when there is nothing to look after.

    Args:
        scheduler: Whose models are told of, and who is told.
        mover: Talks to the ledger.
    """

    def __init__(self, scheduler: Scheduler, mover: Mover) -> None:
        self._scheduler, self._mover = scheduler, mover
        self._task: asyncio.Task[None] | None = None

    def keep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look round from now on."""
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())

    async def aclose(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._is_needed():
            await asyncio.sleep(_WATCH_S)
            try:
                await self._look_round()
            except XprimError as error:  # the ledger's disk, say; the next second may be better
                _log.warning("the ledger could not be looked at: %s", error.message)

    def _is_needed(self) -> bool:
        held = self._scheduler.held.values()
        holds = any(each.lease_id or each.ghost_id for each in held)
        return self._scheduler.has_waiting or self._mover.owes or holds

    async def _look_round(self) -> None:
        """Do what other processes ask, see what came back, tell others what may leave here."""
        scheduler = self._scheduler
        for event in await self._mover.asked():
            scheduler.post(event)
        await self._mover.exorcise(list(scheduler.held.values()))
        for held in list(scheduler.held.values()):
            model = scheduler.state.models.get(held.key)
            if model is not None and held.lease_id:
                idle = model.status in ("resident", "parked") and not model.in_flight
                used = scheduler.epoch + model.last_used
                await self._mover.mark(held, idle=idle, pinned=model.pinned, last_used=used)
        if scheduler.has_waiting:
            await scheduler.look()
