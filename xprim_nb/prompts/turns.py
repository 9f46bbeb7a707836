"""The turn of a request among all processes of this base: one asks, the others wait for its answer, and are told so.

    1. Who gets the lease asks. It says so again every few seconds, and at the end that it is over.
    2. Who does not looks for the answer a few times a second.
    3. When the holder has ended and kept nothing (it failed, its answer was cut …), whoever waited asks for itself, all at
       once: another one's failure is no answer, and to wait in a row for the next would be.
    4. When the holder died or hangs, one of those who wait gets the lease.
    5. Nobody waits longer than `MOST_WAITED_S`, and nobody at all for a cache that cannot be used.

Source: spec 6 §Caches ("single-flight for equal requests"); DESIGN §One loop ("equal work in flight is joined").
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from xprim_nb._hashing import Digest
from xprim_nb.errors import MissingExtraError, StorageError
from xprim_nb.prompts.answers import Answer
from xprim_nb.prompts.caches.leases import RENEWED_S, Lease, Leases, Wish

__all__ = ["MOST_WAITED_S", "OnWait", "Turn", "Turns"]

_T = TypeVar("_T")
_log = logging.getLogger("xprim_nb.prompts")

MOST_WAITED_S: Final = 300.0
"""As long as people wait for a turn with a model (`queue_timeout_s`); then it is rather paid for twice."""
# Who waits looks so often: a fraction of what the shortest answer takes, and a read of one row.
_LOOKED_S: Final = 0.2

OnWait: TypeAlias = Callable[[str], object]
"""Told why a request waits for another process, and with an empty text that it does no longer; on the loop."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What waiting came to.

    Attributes:
        answer: Another process's, which is kept by now; None for whoever has to ask.
        waited: For whom it waited and how long, in a sentence; empty for who did not wait.
    """

    answer: Answer | None = None
    waited: str = ""


class Turns:
    """The turns of one asker. Belongs to one event loop.

    Args:
        leases: Of this base.
        writer: Works for the caches, one thing after the other.
        most_waited_s: Nobody waits longer.
    """

    def __init__(
        self, leases: Leases, writer: ThreadPoolExecutor, most_waited_s: float = MOST_WAITED_S
    ) -> None:
        self._leases, self._writer, self._most_waited_s = leases, writer, most_waited_s

    @contextlib.asynccontextmanager
    async def of(self, request: Digest, wish: Wish, on_wait: OnWait | None = None) -> AsyncIterator[Turn]:
        """A turn, by the rules above. What is to be kept of it is kept within it.

        Args:
            request: What is asked.
            wish: Whose answer would do.
            on_wait: Told while it waits.
        """
        own = Lease()
        try:
            is_ours, turn = await self._waited(request, wish, own, on_wait)
            renewing = asyncio.create_task(self._renew(request, own)) if is_ours else None
            try:
                yield turn
            finally:
                if renewing is not None:
                    renewing.cancel()
        finally:
            # Whoever leaves need not wait for it; who was cancelled while it took the lease may have got it.
            self._writer.submit(_quietly, self._leases.end, request, own)

    async def _waited(
        self, request: Digest, wish: Wish, own: Lease, on_wait: OnWait | None
    ) -> tuple[bool, Turn]:
        """Whether the lease is ours, and what waiting came to."""
        began, holder = time.monotonic(), 0
        try:
            while True:
                seen = await self._aside(self._leases.take, request, wish, own)
                if seen.answer is not None:
                    return False, Turn(seen.answer, _sentence(holder, began))
                if seen.lease is None:
                    return True, Turn(waited=_sentence(holder, began))
                if seen.lease.pid != holder:
                    holder = seen.lease.pid
                    _tell(on_wait, holder)
                turn = await self._looked(request, wish, seen.lease, began)
                if turn is not None:
                    return False, turn
        except (StorageError, MissingExtraError) as error:
            _log.info("asked without a look at who else asks the same: %s", error.message)
            return False, Turn()
        finally:
            if holder:
                _tell(on_wait, 0)

    async def _looked(self, request: Digest, wish: Wish, held: Lease, began: float) -> Turn | None:
        """What became of another's lease; None when one of those who wait may have it."""
        answer = None
        while time.monotonic() - began < self._most_waited_s:
            await asyncio.sleep(_LOOKED_S)
            seen = await self._aside(self._leases.look, request, wish, held)
            answer = seen.answer
            if answer is not None or (seen.lease is not None and seen.lease.ended):
                break
            if seen.lease is None:
                return None
        return Turn(answer, _sentence(held.pid, began))

    async def _renew(self, request: Digest, own: Lease) -> None:
        while True:
            await asyncio.sleep(RENEWED_S)
            with contextlib.suppress(StorageError):  # told where the answer is kept
                if not await self._aside(self._leases.renew, request, own):
                    return  # it took too long, and another asks by now

    async def _aside(self, work: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *args)


def _quietly(work: Callable[..., object], *args: object) -> None:
    with contextlib.suppress(StorageError):  # told where the answer is kept; a lease runs out by itself
        work(*args)


def _tell(on_wait: OnWait | None, pid: int) -> None:
    text = f"process {pid} is asking the same, and its answer will be this one's" if pid else ""
    if text:
        _log.info("a prompt waits: %s", text)
    if on_wait is not None:
        try:
            on_wait(text)
        except Exception:  # noqa: BLE001  # a listener is somebody else's code
            _log.exception("who is told why a request waits failed")


def _sentence(pid: int, began: float) -> str:
    return (
        f"It waited {time.monotonic() - began:.1f} s for process {pid}, which asked the same." if pid else ""
    )
