"""What every verb of the toolkit shares: it starts on our loop, and its handle is known until it has ended."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from xprim_nb._bridge import Handle
from xprim_nb._text import format_paused
from xprim_nb.manager import Manager

__all__ = ["Running", "Verbs"]

_T = TypeVar("_T")

# What was cancelled closes its sockets and lists its chunks well within this.
_CLEANUP_S = 5.0


class Verbs(ABC):
    """The base of the toolkit's verbs. Its running work is the toolkit's."""

    def __init__(self) -> None:
        self._running = Running()

    def _do(
        self,
        describe: str,
        verb: Callable[..., Coroutine[Any, Any, _T]],
        *args: object,
        snapshot: Callable[[], object] | None = None,
        **kwargs: object,
    ) -> Handle[_T]:
        async def work() -> _T:
            return await verb(await self._opened(), *args, **kwargs)

        return self._running.add(Handle(work(), describe, snapshot, stopped=format_paused))

    def start(self, describe: str, verb: Callable[..., Coroutine[Any, Any, _T]], *args: object) -> Handle[_T]:
        """Begin `verb(manager, *args)` on the toolkit's own loop: for whoever adds a verb from outside."""
        return self._do(describe, verb, *args)

    @abstractmethod
    async def _opened(self) -> Manager:
        """The manager, open."""


class Running:
    """The work that has not ended yet. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: set[Handle[Any]] = set()

    def add(self, handle: Handle[_T]) -> Handle[_T]:
        """The handle, remembered until its work has ended."""
        with self._lock:
            self._handles.add(handle)
        handle.add_done_callback(self._drop)
        return handle

    def stop(self) -> None:
        """Cancel all of it, and wait for its clean-up."""
        with self._lock:
            handles = list(self._handles)
        for handle in handles:
            handle.cancel()
        for handle in handles:
            with contextlib.suppress(Exception):  # what became of it is told to whoever holds it
                handle.exception(_CLEANUP_S)

    def _drop(self, handle: Handle[Any]) -> None:
        with self._lock:
            self._handles.discard(handle)
