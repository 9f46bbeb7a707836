"""Moves models: reserve, load, park, wake, unload, and see that the memory came back before it is given away again.

    load     reserve in the ledger ─▶ backend.load ─▶ measure ─▶ charge what was measured ─▶ Loaded
    evict    draining ─▶ park or close ─▶ watch the device ─▶ release the charge, or leave a ghost ─▶ Left
    crash    the runner's own end ─▶ watch the device ─▶ release ─▶ Crashed

A charge is never dropped before its process has ended and the device shows it. Where the ledger cannot be written a
model leaves all the same, and its charge is owed until it can.

Source: spec 4 §Residency (ledger), §Workers (stop); research residency §4.9.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from xprim_nb._threads import settled
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import (
    ConfigError,
    KeyRefusedError,
    LoadFailedError,
    MissingExtraError,
    NotInstalledError,
    StorageError,
    UnsupportedModelError,
    WorkerCrashedError,
    WorkerError,
    WorkerHungError,
    WorkerMemoryError,
    WorkerStartError,
    XprimError,
)
from xprim_nb.events import EventHub, ResidencyChanged, WorkerFailed
from xprim_nb.scheduling.charging import Charging
from xprim_nb.scheduling.happenings import (
    AskForeign,
    Crashed,
    Event,
    Evict,
    Left,
    Load,
    Loaded,
    LoadFailed,
    Recovered,
    Refused,
    Wake,
)
from xprim_nb.scheduling.held import OUR_SETTINGS, Held
from xprim_nb.scheduling.options import Placement
from xprim_nb.scheduling.recovery import recovered
from xprim_nb.scheduling.state import Charges, DeviceState, Foreign, Option
from xprim_nb.workers.contract import Runner
from xprim_nb.workers.crash import crash_message
from xprim_nb.workers.values import CrashReport, Environment, LoadOptions, Measured

__all__ = ["Mover"]

_log = logging.getLogger("xprim_nb.scheduling")

# Faults that the next try would meet again: whoever waits is told at once.
_FINAL = (
    ConfigError,
    KeyRefusedError,
    LoadFailedError,
    MissingExtraError,
    NotInstalledError,
    StorageError,
    UnsupportedModelError,
    WorkerHungError,
    WorkerMemoryError,
    WorkerStartError,
)
# A process whose death an answer met is reaped in well under a second.
_END_S = 5.0
# Crash reports kept for panels.
_REPORTS = 20


class Mover:
    """Does the scheduler's work with processes, memory and the ledger; says what came of it with `post`.

    Args:
        charging: Keeps the ledger in step.
        settings: Limits of memory and time.
        events: Where changes and crashes are told.
    """

    def __init__(self, charging: Charging, settings: AICapabilities, events: EventHub) -> None:
        self._charging, self._settings, self._events = charging, settings, events
        self._changes: dict[str, asyncio.Event] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self.crashes: deque[CrashReport] = deque(maxlen=_REPORTS)

    def bind(self, post: Callable[[Event], None]) -> None:
        """Say where events go, and that this loop is the one."""
        self._post, self._loop = post, asyncio.get_running_loop()

    async def changed(self, key: str) -> None:
        """Wait until something has happened to a model."""
        await self._changes.setdefault(key, asyncio.Event()).wait()

    async def look(self) -> tuple[tuple[DeviceState, ...], tuple[Foreign, ...]]:
        """The devices as they are now, and what other kernels hold.

        Raises:
            StorageError: The ledger cannot be read.
        """
        return await settled(self._charging.look)

    async def asked(self) -> list[Event]:
        """What other processes asked for since the last look.

        Raises:
            StorageError: The ledger cannot be read.
        """
        return await settled(self._charging.asked, self._loop.time())

    @property
    def owes(self) -> bool:
        """True while a model is charged that is gone; the next look gives that back, if the ledger can be written."""
        return self._charging.owes

    async def ask(self, effect: AskForeign) -> None:
        """Ask another kernel to let an idle model go."""
        await settled(self._charging.ledger.ask, effect.lease_id, "evict", effect.reason)

    async def mark(self, held: Held, *, idle: bool, pinned: bool, last_used: float) -> None:
        """Tell other kernels whether a model may leave."""
        if held.lease_id:
            await settled(self._charging.mark, held, idle=idle, pinned=pinned, last_used=last_used)

    async def load(self, held: Held, effect: Load | Wake) -> None:
        """Reserve, load or wake, charge what was measured; ends with `Loaded`, `LoadFailed` or `Refused`."""
        try:
            await self._load(held, effect)
        except XprimError as error:
            self._fail(held, error)
        except Exception as error:  # noqa: BLE001  # whoever waits must hear of it, whatever it is
            told = f"{held.key} could not be loaded: {type(error).__name__}: {error}"
            self._fail(held, LoadFailedError(told, subject=held.key))
        finally:
            self._wake_up(held.key)

    async def evict(self, held: Held, effect: Evict) -> None:
        """Park or unload; ends with `Left`, when the memory was seen to come back or is charged as a ghost."""
        runner = held.runner
        try:
            if runner is None:
                self._post(Left(self._loop.time(), held.key, parked=False))
            elif effect.to == "parked":
                await self._park(held, runner, effect.reason)
            else:
                await self._unload(held, runner, effect.reason)
        finally:
            self._wake_up(held.key)

    async def drop(self, held: Held) -> None:
        """Unload without ceremony: the engine closes."""
        held.leaving = True
        if held.runner is not None:
            await held.runner.close()
            held.runner = None
        await settled(self._charging.release, held, "its kernel closes")

    async def aclose(self) -> None:
        """Wait for what is still being tidied up after crashes."""
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    # --- loading --------------------------------------------------------------------------------

    async def _load(self, held: Held, effect: Load | Wake) -> None:
        if (ending := self._ending.get(held.key)) is not None:  # its crashed worker is still charged
            await asyncio.wait([ending])
        option, began = effect.option, self._loop.time()
        placement = _placement(held, option)
        held.fraction, held.leaving, held.placed = 0.0, False, placement
        try:
            if not await settled(self._charging.reserve, held, placement):
                devices, foreign = await self.look()
                self._post(Refused(self._loop.time(), held.key, devices, foreign))
                return
            measured = await self._start(held, effect, placement)
            held.load_s, held.fraction = self._loop.time() - began, 1.0
            charges = await settled(self._charging.commit, held, placement, measured)
        except BaseException:
            runner, held.runner, held.fraction = held.runner, None, 0.0
            if runner is not None:
                await runner.close()
            with contextlib.suppress(StorageError):  # it is owed
                await settled(self._charging.release, held, "its load ended early")
            raise
        # Its end is watched from here on; one that has come already is told at once.
        if held.runner is not None:
            self._watch(held, held.runner)
        held.failure = None
        self._post(Loaded(self._loop.time(), held.key, charges))
        self._tell(held, "resident", option.device, f"loaded in {held.load_s:.1f} s")

    async def _start(self, held: Held, effect: Load | Wake, placement: Placement) -> Measured:
        if isinstance(effect, Wake) and held.runner is not None:
            return await held.runner.wake()

        def progress(fraction: float, _text: str) -> None:
            held.fraction = fraction

        held.runner = await held.backend.load(held.name, _options(self._settings, held, placement), progress)
        return held.runner.measured

    def _fail(self, held: Held, error: XprimError) -> None:
        held.failure = error
        if isinstance(error, WorkerError) and isinstance(error.report, CrashReport):
            self._report(held, error.message, error.report)
        final = isinstance(error, _FINAL)
        self._post(LoadFailed(self._loop.time(), held.key, error.message, is_final=final))
        self._tell(held, "absent", "", error.message)

    # --- leaving --------------------------------------------------------------------------------

    async def _park(self, held: Held, runner: Runner, reason: str) -> None:
        placement = held.placed
        assert placement is not None, "what is parked was placed"
        try:
            await settled(self._charging.drain, held)
            residue = await runner.park()
            charges = await settled(self._charging.park, held, placement, residue, reason)
        except (StorageError, UnsupportedModelError):  # what cannot be charged as parked does not stay so
            await self._unload(held, runner, reason)
            return
        except WorkerError as error:  # the runner's end is told by its watcher
            _log.warning("%s could not be parked: %s", held.key, error.message)
            return
        self._post(Left(self._loop.time(), held.key, parked=True, charges=charges))
        self._tell(held, "parked", placement.option.device, reason)

    async def _unload(self, held: Held, runner: Runner, reason: str) -> None:
        held.leaving = True
        charges: Charges = ()
        try:
            charges = await self._gone(held, runner, reason)
        except StorageError as error:  # the model leaves all the same
            await runner.close()
            await self._owe(held, reason, error)
        held.runner, held.departures = None, held.departures + 1
        self._post(Left(self._loop.time(), held.key, parked=False, charges=charges))
        self._tell(held, "absent", "", reason)

    async def _gone(self, held: Held, runner: Runner, reason: str) -> Charges:
        """Close a runner and watch its memory come back: nothing, or what is charged as a ghost."""
        if held.served:
            with contextlib.suppress(XprimError):  # a worker that cannot tell leaves all the same
                await settled(self._charging.learn_use, held, (await runner.stats()).measured)
        before = await settled(self._charging.leave, held, reason)
        await runner.close()
        return await recovered(self._charging, held, before)

    async def _owe(self, held: Held, reason: str, error: StorageError) -> None:
        _log.warning("the ledger was not told that %s left: %s", held.key, error.message)
        with contextlib.suppress(StorageError):
            await settled(self._charging.release, held, reason)

    async def exorcise(self, helds: Sequence[Held]) -> None:
        """Look whether ghosts have faded; ends with `Recovered` for each that has."""
        if any(each.ghost_id for each in helds):
            for held in await settled(self._charging.faded, helds):
                self._post(Recovered(self._loop.time(), held.key))

    # --- crashes --------------------------------------------------------------------------------

    async def after_failure(self, held: Held, runner: Runner, error: WorkerError) -> None:
        """Have a worker's death known before the next request is let at it; a worker that lives is left alone."""
        if isinstance(error, WorkerCrashedError | WorkerHungError):
            await asyncio.wait([runner.ended], timeout=_END_S)
        if runner.ended.done() and held.runner is runner and not held.leaving:
            self._end(held, runner.ended.result())

    def _watch(self, held: Held, runner: Runner) -> None:
        def ended(future: asyncio.Future[CrashReport | None]) -> None:
            if held.runner is runner and not held.leaving:
                self._end(held, future.result())

        runner.ended.add_done_callback(ended)

    def _end(self, held: Held, report: CrashReport | None) -> None:
        held.runner, held.departures = None, held.departures + 1
        cause = report.detail if report is not None else "Its worker ended by itself."
        # Charged until its memory has been seen to come back: the process has gone, the driver may not know yet.
        charges = held.placed.option.awake if held.placed is not None else ()
        accelerated = any(name.startswith("cuda") for name, _ in charges)
        self._post(Crashed(self._loop.time(), held.key, cause, charges if accelerated else ()))
        if report is not None:
            self._report(held, crash_message(report), report)
        self._tell(held, "absent", "", cause)
        task = self._ending[held.key] = self._loop.create_task(
            self._tidy(held, cause, accelerated=accelerated)
        )
        task.add_done_callback(lambda _: self._ending.pop(held.key, None))

    async def _tidy(self, held: Held, cause: str, *, accelerated: bool) -> None:
        charges: Charges = ()
        try:
            if accelerated:
                before = await settled(self._charging.leave, held, cause)
                charges = await recovered(self._charging, held, before)
            else:
                await settled(self._charging.release, held, cause)
        except StorageError as error:
            await self._owe(held, cause, error)
        if accelerated:
            self._post(Recovered(self._loop.time(), held.key, charges))
        self._wake_up(held.key)

    def _report(self, held: Held, message: str, report: CrashReport) -> None:
        self.crashes.appendleft(report)
        self._events.publish(WorkerFailed(held.key, message, report))

    def _tell(self, held: Held, status: str, device: str, reason: str) -> None:
        self._events.publish(ResidencyChanged(held.key, status, device, reason))

    def _wake_up(self, key: str) -> None:
        event = self._changes.pop(key, None)
        if event is not None:
            event.set()


def _placement(held: Held, option: Option) -> Placement:
    """What an option was made from; its charges may have been measured since."""
    same = (option.device, option.context_tokens)
    found = next(each for each in held.placements if (each.option.device, each.option.context_tokens) == same)
    return replace(found, option=option)


def _options(settings: AICapabilities, held: Held, placement: Placement) -> LoadOptions:
    option, device = placement.option, placement.device
    is_accelerator = device is not None and device.kind in ("cuda", "mps")
    own = {key: value for key, value in held.settings.items() if key not in OUR_SETTINGS}
    return LoadOptions(
        device=device.runs_on if device is not None else "cpu",
        context_tokens=option.context_tokens,
        device_limit_bytes=dict(option.awake).get(option.device) if is_accelerator else None,
        ram_limit_bytes=settings.max_ram_per_worker_bytes,
        environment=Environment(settings.worker_python, dict(device.variables) if device is not None else {}),
        stall_timeout_s=settings.load_stall_timeout_s,
        settings=own,
    )
