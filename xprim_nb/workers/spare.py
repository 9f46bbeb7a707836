"""A started interpreter in waiting, so that the next model does not wait for one.

It has said hello and imported what it was told to, with no model and no device context: it costs memory of this
machine and none of an accelerator. It is asleep, and nothing watches it.

Source: spec 4 §Workers (hot spare); research/residency §5.2 (11).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

from xprim_nb.errors import WorkerError
from xprim_nb.workers.routes import to_the_end
from xprim_nb.workers.spawn import command, environment
from xprim_nb.workers.values import Environment
from xprim_nb.workers.worker import Worker

__all__ = ["Spare"]

# Nobody waits for it; on a machine that needs longer there is none.
_START_S = 60.0
# After a model was loaded it mostly answers at once. Measured on two cores: while torch is imported beside it, a first
# answer takes 1.8 s instead of 0.1 s.
_PAUSE_S = 5.0


class Spare:
    """Keeps one worker for an environment. An async context manager; `aclose` ends the worker that waits.

    Args:
        where: The environment that workers are expected to want.
        preload: Modules to import in waiting; one that is missing is left out.
        pause_s: How long after one was taken the next is started, in seconds.
    """

    def __init__(
        self, where: Environment | None = None, preload: Sequence[str] = (), *, pause_s: float = _PAUSE_S
    ) -> None:
        self._where, self._preload, self._pause_s = where or Environment(), tuple(preload), pause_s
        self._worker: Worker | None = None
        self._started_with: object = None
        self._starting: asyncio.Task[None] | None = None
        self._is_closed = False

    async def __aenter__(self) -> Spare:
        self._begin(0.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def take(self, where: Environment) -> Worker | None:
        """The worker in waiting, whose end is the caller's business from now on; None where there is no equal one."""
        worker = self._worker
        if worker is None or worker.ended.done() or self._started_with != _key(where):
            return None
        self._worker = None
        return worker

    def refill(self) -> None:
        """Start one after a pause, where none waits or it has ended. A start that fails leaves none."""
        self._begin(self._pause_s)

    def _begin(self, pause_s: float) -> None:
        there = self._worker is not None and not self._worker.ended.done()
        if there or self._is_closed or (self._starting is not None and not self._starting.done()):
            return
        self._starting = asyncio.ensure_future(self._start(pause_s))

    async def ready(self) -> bool:
        """Whether one waits, once the one that is being started has or has not."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        return self._worker is not None

    async def _start(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        key = _key(self._where)
        with contextlib.suppress(WorkerError):  # whoever starts a worker there himself is told why
            worker = await Worker.start(self._where, _START_S)
            self._worker, self._started_with = worker, key
            if self._preload:
                await worker.ask("preload", modules=list(self._preload))

    async def aclose(self) -> None:
        """End the one in waiting. Idempotent."""
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
            await to_the_end(_settled(self._starting))
        worker, self._worker = self._worker, None
        if worker is not None:
            await to_the_end(worker.end_now())


async def _settled(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


def _key(where: Environment) -> object:
    return command(where), environment(where, os.environ)
