"""Who waits for a worker's frames, and how to wait for what no cancellation may cut short.

Source: spec 4 §Workers; STYLE rule 11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from xprim_nb.errors import WorkerError

__all__ = ["Reply", "Route", "to_the_end"]

_T = TypeVar("_T")


async def to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which a cancellation does not stop; it is raised when the work is done."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # heard below
            cancelled = True
    result = task.result()
    if cancelled:
        raise asyncio.CancelledError
    return result


class Route(Protocol):
    """Who waits for the frames of one id."""

    doing: str

    def take(self, header: dict[str, Any]) -> None:
        """A frame came."""
        ...

    def fail(self, error: Callable[[bool], WorkerError]) -> None:
        """The worker is gone; `error` makes the error, told whether the same may be asked again."""
        ...


class Reply:
    """The route of a question with one answer.

    Args:
        doing: What the worker does meanwhile: `load`, `generate`, or `idle`.
        on_progress: Called with the headers of what comes before the answer.
    """

    def __init__(self, doing: str, on_progress: Callable[[dict[str, Any]], object] | None = None) -> None:
        self.doing, self._on_progress = doing, on_progress
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def take(self, header: dict[str, Any]) -> None:
        """A frame came: progress, or the answer."""
        if self.answer.done():
            return
        if header["op"] == "progress":
            if self._on_progress is not None:
                try:
                    self._on_progress(header)
                except Exception as error:  # noqa: BLE001  # whoever waits for the answer hears it
                    self.answer.set_exception(error)
        else:
            self.answer.set_result(header)

    def fail(self, error: Callable[[bool], WorkerError]) -> None:
        """The worker is gone."""
        if not self.answer.done():
            self.answer.set_exception(error(True))
