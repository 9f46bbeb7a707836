"""Diagnostics reach an injected logger with their fields, and the standard one is left as it was found."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from xprim_nb.logs import LogBridge

_log = logging.getLogger("xprim_nb.somewhere")
_root = logging.getLogger("xprim_nb")


class Recorder:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, msg: str, **fields: object) -> None:
        """Take a detail."""
        self.told.append(("debug", msg, fields))

    def info(self, msg: str, **fields: object) -> None:
        """Take a normal event."""
        self.told.append(("info", msg, fields))

    def warning(self, msg: str, **fields: object) -> None:
        """Take something a person should know."""
        self.told.append(("warning", msg, fields))

    def error(self, msg: str, **fields: object) -> None:
        """Take a failure."""
        self.told.append(("error", msg, fields))


@pytest.fixture(autouse=True)
def left_alone() -> Iterator[None]:
    """The standard logger is afterwards as it was before."""
    before = (_root.level, _root.propagate, list(_root.handlers))
    yield
    assert (_root.level, _root.propagate, list(_root.handlers)) == before


def test_each_level_has_its_method_and_its_fields() -> None:
    """Messages are put together, `extra` becomes fields, and levels between two belong to the lower one."""
    logger = Recorder()
    bridge = LogBridge(logger)
    bridge.open()
    _log.debug("looking for %s", "x", extra={"ref": "group/model v1"})
    _log.info("found")
    _log.log(logging.WARNING + 5, "odd", extra={"size_bytes": 7})
    _log.error("broken")
    _log.critical("gone")
    bridge.close()
    assert logger.told == [
        ("debug", "looking for x", {"ref": "group/model v1"}),
        ("info", "found", {}),
        ("warning", "odd", {"size_bytes": 7}),
        ("error", "broken", {}),
        ("error", "gone", {}),
    ]


def test_an_exception_is_a_field() -> None:
    """What was caught is told with the message."""
    logger = Recorder()
    bridge = LogBridge(logger)
    bridge.open()
    try:
        raise ValueError("no good")
    except ValueError:
        _log.exception("a subscriber failed")
    bridge.close()
    assert logger.told == [("error", "a subscriber failed", {"error": "ValueError('no good')"})]


def test_only_while_open(caplog: pytest.LogCaptureFixture) -> None:
    """Before `open` and after `close` the injected logger hears nothing; while open the standard one does not."""
    logger = Recorder()
    bridge = LogBridge(logger)
    with caplog.at_level(logging.DEBUG):
        _log.warning("before")
        bridge.open()
        bridge.open()
        _log.warning("while open")
        _log.debug("a flood of details")
        bridge.close()
        bridge.close()
        _log.warning("after")
    assert [msg for _, msg, _ in logger.told] == ["while open", "a flood of details"]
    assert [record.message for record in caplog.records] == ["before", "after"]


def test_it_can_be_opened_again() -> None:
    """A bridge that was closed opens as if it were new."""
    logger = Recorder()
    bridge = LogBridge(logger)
    for _ in range(2):
        bridge.open()
        _log.info("heard")
        bridge.close()
    assert len(logger.told) == 2


@pytest.mark.parametrize("first_closed", [0, 1])
def test_two_bridges_close_in_any_order(first_closed: int) -> None:
    """Two managers with a logger each, left in any order, leave the level as the first one found it."""
    _root.setLevel(logging.ERROR)
    try:
        loggers = [Recorder(), Recorder()]
        bridges = [LogBridge(logger) for logger in loggers]
        for bridge in bridges:
            bridge.open()
        bridges[first_closed].close()
        _log.debug("still heard")
        bridges[1 - first_closed].close()
        assert [len(logger.told) for logger in loggers] == ([0, 1] if first_closed == 0 else [1, 0])
        assert (_root.level, _root.propagate) == (logging.ERROR, True)
    finally:
        _root.setLevel(logging.NOTSET)


def test_without_a_logger_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    """A bridge to nowhere leaves the standard logger to its work."""
    bridge = LogBridge(None)
    bridge.open()
    with caplog.at_level(logging.INFO):
        _log.info("as ever")
    bridge.close()
    assert caplog.messages == ["as ever"]


def test_a_logger_that_fails_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """An injected logger's error is shown on stderr as logging does, and not raised into the pull."""

    class Broken(Recorder):
        def info(self, msg: str, **fields: object) -> None:
            raise RuntimeError("the logger is broken")

    bridge = LogBridge(Broken())
    bridge.open()
    _log.info("does not matter")
    bridge.close()
    assert "the logger is broken" in capsys.readouterr().err
