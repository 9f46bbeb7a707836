"""Diagnostics for who wants them elsewhere than in the standard library's `logging`.

Source: seeds/002 §Logger interface; spec 1 §Manager ("an own `Logger` can be injected").
"""

from __future__ import annotations

import logging
from typing import Protocol

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
    """Hands records of the `xprim_nb` logger to an injected one while open; does nothing without one."""

    def __init__(self, logger: Logger | None) -> None:
        super().__init__(logging.DEBUG)
        self._logger = logger
        self._level_before = logging.NOTSET

    def open(self) -> None:
        """Begin."""
        if self._logger is not None:
            root = logging.getLogger("xprim_nb")
            self._level_before = root.level
            root.setLevel(logging.DEBUG)
            root.addHandler(self)

    def close(self) -> None:
        """End."""
        if self._logger is not None:
            root = logging.getLogger("xprim_nb")
            root.removeHandler(self)
            root.setLevel(self._level_before)
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
        try:
            take(record.getMessage(), **{key: value for key, value in vars(record).items() if key not in _STANDARD})
        except Exception:  # a logger that fails must not fail the pull
            self.handleError(record)
