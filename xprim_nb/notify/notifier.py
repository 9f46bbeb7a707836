"""Hears events and delivers notices of them, in a thread of its own.

Source: DESIGN, habit 4 (news rises as events); STYLE rule 11 (a bounded close).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from xprim_nb.errors import XprimError
from xprim_nb.events import Event, EventHub
from xprim_nb.notify.channels import Channel, Sink, open_channel
from xprim_nb.notify.notices import Notice, notice_of
from xprim_nb.refs import ModelRef

__all__ = ["Notifier"]

_log = logging.getLogger("xprim_nb.notify")

# More undelivered notices than this mean that nobody listens; the oldest go.
_LONGEST_LINE = 1000
# What is still to be delivered when we close is waited for this long.
_FLUSH_S = 5.0


class Notifier:
    """Hears events, and delivers notices of them. Owns a thread until closed; a context manager.

    Args:
        events: Whose news is told; None to tell only what `tell` is given.
        channels: To whom.
        options: Further arguments of the webhooks' HTTP client (`proxy`, `verify`).

    Raises:
        ConfigError: A channel cannot work.
    """

    def __init__(
        self,
        events: EventHub | None = None,
        channels: Sequence[Channel] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._options, self._events = options, events
        self._sinks = [open_channel(each, options) for each in channels]
        self._line: queue.Queue[tuple[Notice, Sequence[Sink]] | None] = queue.Queue()
        self._closing, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = events.subscribe(self._heard) if events is not None else lambda: None

    def tell(self, notice: Notice, channels: Sequence[Channel] = ()) -> None:
        """Deliver a notice to the notifier's channels and to these; returns at once, never fails for the delivery.

        Raises:
            ConfigError: A channel cannot work.
        """
        self._put(notice, [*self._sinks, *(open_channel(each, self._options) for each in channels)])

    @contextlib.contextmanager
    def overhearing(self, channels: Sequence[Channel], ref: ModelRef) -> Iterator[None]:
        """While inside, deliver the news of one version to these channels too.

        Raises:
            ConfigError: A channel cannot work.
        """
        sinks = [open_channel(each, self._options) for each in channels]

        def heard(event: Event) -> None:
            notice = notice_of(event) if getattr(event, "ref", None) == ref else None
            if notice is not None:
                self._put(notice, sinks)

        stop = self._events.subscribe(heard) if self._events is not None and sinks else None
        try:
            yield
        finally:
            if stop is not None:
                stop()

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """Hear nothing more, and wait at most `timeout_s` seconds for what is still to be delivered. Idempotent."""
        self._stop()
        with self._lock:
            self._closing.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            self._line.put(None)
            thread.join(timeout_s)
            if thread.is_alive():
                _log.warning("%d notices were not delivered in time", max(self._line.qsize() - 1, 0) + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _heard(self, event: Event) -> None:
        if self._sinks:
            notice = notice_of(event)
            if notice is not None:
                self._put(notice, self._sinks)

    def _put(self, notice: Notice, sinks: Sequence[Sink]) -> None:
        if not sinks:
            return
        with self._lock:
            if self._closing.is_set():
                return
            if self._line.qsize() >= _LONGEST_LINE:
                with contextlib.suppress(queue.Empty):  # taken just now
                    self._line.get_nowait()
                _log.warning("nobody takes the notices: the oldest was dropped")
            self._line.put((notice, sinks))
            if self._thread is None:
                # A daemon: a process that ends does not wait for a hook that is silent.
                self._thread = threading.Thread(target=self._deliver, name="xprim-notify", daemon=True)
                self._thread.start()

    def _deliver(self) -> None:
        while (work := self._line.get()) is not None:
            notice, sinks = work
            for sink in sinks:
                try:
                    sink(notice, self._closing)
                except Exception as error:  # noqa: BLE001  # somebody else's code or host: the work it tells of is done
                    why = error.message if isinstance(error, XprimError) else type(error).__name__
                    _log.warning("a notice could not be delivered to %r: %s", sink, why)
