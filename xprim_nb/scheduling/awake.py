"""The half of the engine that answers nothing: load, evict, pin, plan, and one look at everything.

Source: spec 4 §Residency, §Faces.
"""

from __future__ import annotations

import logging
import time

from xprim_nb._threads import settled
from xprim_nb.errors import NotInstalledError
from xprim_nb.scheduling import explain, looking
from xprim_nb.scheduling.asking import Asking, check_priority
from xprim_nb.scheduling.happenings import Retried
from xprim_nb.scheduling.held import Held
from xprim_nb.scheduling.leases import TimelineRow, Wish
from xprim_nb.scheduling.plan import ResidencyPlan, plan
from xprim_nb.scheduling.ready import Ready
from xprim_nb.scheduling.values import EngineSnapshot, ModelView
from xprim_nb.workers.values import CrashReport

__all__ = ["Awake"]

_log = logging.getLogger("xprim_nb.scheduling")


class Awake(Ready):
    """Everything of an engine but `generate`; see `Engine` for the arguments."""

    # --- verbs ----------------------------------------------------------------------------------

    async def load(
        self,
        model: str,
        *,
        priority: str = "default",
        install: bool | None = None,
        note: str = "",
        asking: Asking | None = None,
        **settings: object,
    ) -> ModelView:
        """Load a model, so that the first answer need not wait for it; at once when it is loaded.

        Raises:
            ConfigError, InvalidRefError, EngineError, XprimError: As `Engine.generate` does before it answers.
        """
        asking = asking or Asking(str(model))
        held = await self.ready(model, settings, asking, install=install, note=note)
        await self.retry_if_broken(held)
        asking.phase, asking.where = "queued", self.place_of
        options = await self.options(held)

        def note_id(number: str) -> None:
            asking.request_id = number

        await self.scheduler.acquire(
            held, options, priority=check_priority(priority), load_only=True, on_id=note_id, note=note
        )
        return self.view(held.key)

    async def evict(self, model: str) -> ModelView:
        """Unload a model as soon as it is idle; another kernel's is asked for.

        Raises:
            NotInstalledError: No such model is awake.
        """
        held = self._known(model)
        if held is not None:
            await self.scheduler.evict(held.key, "asked for by its user")
            return self.view(held.key)
        foreign = await settled(looking.foreign_lease, self._ledger, model)
        if foreign is None:
            raise NotInstalledError(
                f"{model} is not awake.", subject=str(model), hint="`xprim ai ps` shows what is."
            )
        await settled(
            self._ledger.ask, foreign.id, "evict", f"asked for by {self._label or 'another process'}"
        )
        return looking.foreign_view(foreign)

    async def pin(self, model: str, *, pinned: bool = True) -> ModelView:
        """Keep a model from being evicted, or no longer.

        Raises:
            NotInstalledError: No such model is awake.
            NoCapacityError: Too little would be left for the others.
        """
        held = self._known(model)
        if held is None:
            foreign = await settled(looking.foreign_lease, self._ledger, model)
            if foreign is None:
                raise NotInstalledError(
                    f"{model} is not awake.", subject=str(model), hint="Load it first: `xprim ai load`."
                )
            wish: Wish = "pin" if pinned else "unpin"
            await settled(
                self._ledger.ask, foreign.id, wish, f"asked for by {self._label or 'another process'}"
            )
            return looking.foreign_view(foreign)
        self.scheduler.pin(held.key, pinned, await self.options(held))
        return self.view(held.key)

    async def retry(self, model: str) -> ModelView:
        """Have a broken model tried again at once.

        Raises:
            NotInstalledError: No such model is known.
        """
        held = self._known(model)
        if held is None:
            raise NotInstalledError(f"{model} is not known here.", subject=str(model))
        await self.retry_if_broken(held)
        return self.view(held.key)

    async def retry_if_broken(self, held: Held) -> None:
        """Close the circuit of a model that is broken."""
        known = self.scheduler.state.models.get(held.key)
        if known is not None and (known.status == "broken" or known.retry_at > self.scheduler.now()):
            self.scheduler.post(Retried(self.scheduler.now(), held.key))

    async def plan(self, model: str, **settings: object) -> ResidencyPlan:
        """What loading a model would do: which others leave, how much that frees, how long it takes. Changes nothing.

        Raises:
            NotInstalledError: It is not installed, and its size not known.
        """
        held = await self.ready(model, settings, Asking(str(model)), install=False, changes=False)
        await self.scheduler.look()
        return plan(self.scheduler.state, held.key, await self.options(held))

    async def ps(self) -> list[ModelView]:
        """Every model that is awake, of all kernels of this user on this machine."""
        return [each for each in (await settled(self.snapshot)).models if each.is_awake]

    def snapshot(self) -> EngineSnapshot:
        """Devices, models, queue and crashes as they are now. From any thread, at once."""
        return looking.snapshot(self.scheduler, self._monitor, self._ledger, self.crashes(), time.time())

    def view(self, key: str) -> ModelView:
        """One model of this engine."""
        return looking.view(self.scheduler, key)

    async def why(self, model: str) -> str:
        """Why a model is as it is, in a sentence: why it was evicted, why it waits."""
        held = self._known(model)
        key = held.key if held is not None else str(model)
        return explain.why(list(self.scheduler.log), key, self.scheduler.now())

    async def timeline(self) -> list[TimelineRow]:
        """What happened to models on this machine, and which cell caused it, oldest first."""
        return await settled(self._ledger.timeline)

    def crashes(self) -> tuple[CrashReport, ...]:
        """The latest crash reports, newest first."""
        return tuple(self._mover.crashes)

    def place_of(self, asking: Asking) -> tuple[int, str, float]:
        """Where a request stands: its position, why it waits, and how far its model's loading is."""
        held = self.scheduler.held.get(asking.model)
        place = explain.queue_position(self.scheduler.state, asking.request_id)
        fraction = held.fraction if held is not None else 0.0
        return (place.position, place.reason, fraction) if place is not None else (0, "", fraction)

    def _known(self, model: str) -> Held | None:
        text = str(model)
        held = self._named.get(text) or self.scheduler.held.get(text)
        if held is not None:
            return held
        return next((each for each in self.scheduler.held.values() if text in (each.name, each.key)), None)
