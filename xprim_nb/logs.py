"""Diagnostics for who wants them elsewhere than in the standard library's `logging`.

Source: seeds/002 §Logger interface; spec 1 §Manager ("an own `Logger` can be injected").
"""

from __future__ import annotations

import logging
import threading
from typing import ClassVar, Protocol

__all__ = ["LogBridge", "Logger"]

_STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Logger(Protocol):
    """What an injected logger offers; `fields` are the structured part (`ref`, `chunk`, `path` …)."""

    def debug(self, msg: str, **fields: object) -> None:
        """Take a detail."""
        ...

    def info(self, msg: str, **fields: object) -> None:
        """Take a normal event."""
        ...

    def warning(self, msg: str, **fields: object) -> None:
        """Take something a person should know."""
        ...

    def error(self, msg: str, **fields: object) -> None:
        """Take a failure."""
        ...


class LogBridge(logging.Handler):
    """Hands records of the `xprim_nb` logger to an injected one while open; does nothing without one.

    The standard library's logger is the process's own: while any bridge is open, every bridge gets all records, and
    the handlers of the root logger get none.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _open: ClassVar[set[LogBridge]] = set()
    _before: ClassVar[tuple[int, bool]] = (logging.NOTSET, True)

    def __init__(self, logger: Logger | None) -> None:
        super().__init__(logging.DEBUG)
        self._logger = logger

    def open(self) -> None:
        """Begin. Idempotent."""
        if self._logger is None:
            return
        root = logging.getLogger("xprim_nb")
        with self._lock:
            if not self._open:
                LogBridge._before = (root.level, root.propagate)
                # Debug records for the injected logger, and no flood of them for everybody else.
                root.setLevel(logging.DEBUG)
                root.propagate = False
            self._open.add(self)
            root.addHandler(self)

    def close(self) -> None:
        """End; the last one leaves the standard logger as the first one found it. Idempotent."""
        root = logging.getLogger("xprim_nb")
        with self._lock:
            if self in self._open:
                self._open.remove(self)
                root.removeHandler(self)
                if not self._open:
                    root.setLevel(self._before[0])
                    root.propagate = self._before[1]
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Translate one record."""
        assert self._logger is not None, "only added with a logger"
        take = self._logger.debug
        for level, method in (
            (logging.INFO, self._logger.info),
            (logging.WARNING, self._logger.warning),
            (logging.ERROR, self._logger.error),
        ):
            take = method if record.levelno >= level else take
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = repr(record.exc_info[1])
        try:
            take(record.getMessage(), **fields)
        except Exception:  # noqa: BLE001  # a logger that fails must not fail the pull
            self.handleError(record)
