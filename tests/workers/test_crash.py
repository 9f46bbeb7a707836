"""A worker's end is told by its cause, with the error and the advice that belong to it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from xprim_nb.errors import (
    WorkerCrashedError,
    WorkerError,
    WorkerHungError,
    WorkerMemoryError,
    WorkerStartError,
)
from xprim_nb.workers.crash import Circumstances, Verdict, crash_error, crash_report

_TRACEBACK = ("Traceback (most recent call last):", "  File x", "KeyError: 'weights'")
_SEEN = Circumstances(
    model="demo/tiny v1",
    pid=42,
    doing="generate",
    exit_code=-9,
    last_lines=("loading", "loaded"),
    memory=((0.1, 1 << 20), (0.3, 3 << 30), (0.5, 2 << 30)),
)


@pytest.mark.parametrize(
    ("changes", "cause", "detail", "error"),
    [
        ({}, "killed", "from outside or by the kernel for want of memory", WorkerCrashedError),
        ({"exit_code": -15}, "killed", "by SIGTERM, from outside", WorkerCrashedError),
        ({"exit_code": -99}, "killed", "by signal 99", WorkerCrashedError),
        ({"oom_kills": 1}, "out_of_memory", "want of memory; it was seen with 3", WorkerMemoryError),
        ({"exit_code": -11}, "segfault", "SIGSEGV, in native code", WorkerCrashedError),
        ({"exit_code": -6}, "segfault", "SIGABRT", WorkerCrashedError),
        (
            {"exit_code": -6, "last_lines": ("terminate called", "  what():  std::bad_alloc")},
            "out_of_memory",
            "An allocation failed",
            WorkerMemoryError,
        ),
        ({"exit_code": 0xC0000005}, "segfault", "an access violation", WorkerCrashedError),
        ({"exit_code": 3}, "exit", "exit code 3", WorkerCrashedError),
        ({"exit_code": 0}, "exit", "exit code 0", WorkerCrashedError),
        ({"exit_code": 1, "last_lines": _TRACEBACK}, "exception", "KeyError: 'weights'", WorkerCrashedError),
        (
            {"exit_code": 1, "last_lines": (*_TRACEBACK[:2], "MemoryError")},
            "out_of_memory",
            "MemoryError",
            WorkerMemoryError,
        ),
        (
            {"exit_code": 2, "said_hello": False, "doing": "start", "last_lines": ("unknown option -u", "")},
            "no_hello",
            "exit code 2 before it said hello: unknown option -u",
            WorkerStartError,
        ),
        ({"exit_code": -11, "said_hello": False, "doing": "start"}, "segfault", "SIGSEGV", WorkerStartError),
        ({"verdict": Verdict("hung", "It did not stop.")}, "hung", "It did not stop", WorkerHungError),
    ],
)
def test_the_cause_is_told_by_what_was_seen(
    changes: dict[str, object], cause: str, detail: str, error: type[WorkerError]
) -> None:
    """Exit code, last lines and the kernel's counters give one class of cause, and it one class of error."""
    report = crash_report(replace(_SEEN, **changes))  # type: ignore[arg-type]  # by name
    assert report.cause == cause
    told = crash_error(report, retryable=True)
    assert type(told) is error
    assert report.detail in str(told)
    assert re.search(detail, report.detail), report.detail


def test_a_report_has_all_that_a_card_draws() -> None:
    """Model, pid, what it did, its memory and its lines are in it, and advice that is not empty."""
    report = crash_report(_SEEN)
    assert (report.model, report.pid, report.doing, report.exit_code) == ("demo/tiny v1", 42, "generate", -9)
    assert (report.memory, report.last_lines) == (_SEEN.memory, _SEEN.last_lines)
    assert report.advice
    assert report.at > 0


@pytest.mark.parametrize("retryable", [True, False])
def test_the_error_carries_the_report(retryable: bool) -> None:
    """It names the model and what it did, says what to try, and whether the same may be asked again."""
    report = crash_report(_SEEN)
    error = crash_error(report, retryable=retryable)
    assert (error.report, error.retryable, error.subject) == (report, retryable, "demo/tiny v1")
    assert error.hint == report.advice[0]
    assert "demo/tiny v1 (pid 42) is gone while it answered" in str(error)
