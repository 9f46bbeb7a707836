"""Equal work in flight is joined, not started twice; who started it may leave without stopping it for the others.

Source: spec 6 §Caches ("single-flight for equal requests"); DESIGN §One loop ("equal work in flight is joined").
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from xprim_nb.prompts.answers import OnText

__all__ = ["Flights", "Seat"]

_log = logging.getLogger("xprim_nb.prompts")
_T = TypeVar("_T")


@dataclass(slots=True)
class Seat:
    """Of one who waited, when it is over for that one.

    Attributes:
        owns: The work counts as this one's: each piece of work is exactly one's. It is the first's of those who are told
            its end; of those who left before, only the last's, with whom it ended.
        begun: The work had come to where it costs something.
    """

    owns: bool = False
    begun: bool = False


class _Flight(Generic[_T]):
    """One piece of work, who waits for it, and what it has said up to now."""

    def __init__(self) -> None:
        self.waiting = 0
        self.owned = self.begun = False
        self.listeners: list[OnText] = []
        self.said: list[str] = []
        self.task: asyncio.Task[_T]

    def on_text(self, text: str) -> None:
        """Tell all who wait; one whose listener fails is not told again, and stops nobody else."""
        self.said.append(text)
        for listener in tuple(self.listeners):
            try:
                listener(text)
            except Exception:  # noqa: BLE001  # a listener is somebody else's code, and others listen too
                _log.exception("a listener failed and is told no more")
                self.listeners.remove(listener)


class Flights(Generic[_T]):
    """Work by key. Belongs to one event loop."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[_T]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flights

    async def join(
        self,
        key: Hashable,
        start: Callable[[OnText], Awaitable[_T]],
        on_text: OnText | None = None,
        seat: Seat | None = None,
    ) -> tuple[_T, bool]:
        """The result of the work under a key, and whether it counts as somebody else's.

        What it raises reaches everybody who waits; the next to come starts anew. It is cancelled when the last who waits
        is.

        Args:
            key: Equal keys are equal work.
            start: The work; it tells what it says piece by piece.
            on_text: Told each piece; one who joins is told at once what was said before.
            seat: Filled when it is over for this one, however it ends.
        """
        seat = seat or Seat()
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.ensure_future(self._fly(key, flight, start))
        elif on_text is not None and flight.said:
            on_text("".join(flight.said))
        if on_text is not None:
            flight.listeners.append(on_text)
        flight.waiting += 1
        left = False
        try:
            result = await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            left = not flight.task.cancelled()
            raise
        finally:
            flight.waiting -= 1
            if on_text is not None:
                with contextlib.suppress(ValueError):  # it failed, and was removed
                    flight.listeners.remove(on_text)
            seat.begun = flight.begun
            if not flight.owned and (flight.waiting == 0 or not left):
                flight.owned = seat.owns = True
            if flight.waiting == 0 and not flight.task.done():
                self._forget(key, flight)  # who comes now must not join what is being cancelled
                await _end([flight.task])
        return result, not seat.owns

    def begin(self, key: Hashable) -> None:
        """Note that the work under a key costs something from now on; called by the work itself."""
        flight = self._flights.get(key)
        if flight is not None:
            flight.begun = True

    async def close(self) -> None:
        """Cancel all work, and wait for its end."""
        await _end([flight.task for flight in self._flights.values()])

    async def _fly(self, key: Hashable, flight: _Flight[_T], start: Callable[[OnText], Awaitable[_T]]) -> _T:
        try:
            return await start(flight.on_text)
        finally:
            self._forget(key, flight)

    def _forget(self, key: Hashable, flight: _Flight[_T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _end(tasks: Sequence[asyncio.Task[_T]]) -> None:
    """Cancel, and wait for the end; what they raise meanwhile nobody is left to hear."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
