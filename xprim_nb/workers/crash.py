"""Why a worker ended, in words a person can act on: pure functions of what was seen.

Source: spec 4 §Workers, §Faces ("crash card: cause class, memory curve, last lines, what to try").
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from xprim_nb._text import format_bytes
from xprim_nb.errors import (
    WorkerCrashedError,
    WorkerError,
    WorkerHungError,
    WorkerMemoryError,
    WorkerStartError,
)
from xprim_nb.workers.values import CrashCause, CrashReport

__all__ = ["Circumstances", "Verdict", "crash_error", "crash_message", "crash_report"]

# Signals that a process brings on itself. By their numbers' names, because Windows has not all of them.
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS")
# What Windows calls the same: NTSTATUS of an access violation, an illegal instruction, a stack overflow, a fast fail.
_NT_FAULTS = {
    0xC0000005: "an access violation",
    0xC000001D: "an illegal instruction",
    0xC00000FD: "a stack overflow",
    0xC0000409: "a fast fail",
}
# What C++, Python and torch write when an allocation failed and nobody caught it.
_WANT = ("std::bad_alloc", "memoryerror", "cannot allocate memory", "out of memory", "outofmemoryerror")
_ADVICE: dict[CrashCause, tuple[str, ...]] = {
    "out_of_memory": (
        "Use a smaller context, dtype or model.",
        "Raise max_ram_per_worker, if the machine has more memory.",
        "Evict another model first: `xprim ai ps` shows what is loaded.",
    ),
    "killed": (
        "Look whether the machine ran out of memory: the memory curve, `dmesg`, or the job's own log.",
        "Run again: a new worker is started.",
    ),
    "segfault": (
        "Read the last lines: they end in the Python frames it happened in.",
        "Try another build of the package that those frames belong to, or the device `cpu`.",
        "Prove that the model's files are whole: `xprim cache validate MODEL --full`.",
    ),
    "exception": ("Read the last lines: they end in the exception.", "Run again: a new worker is started."),
    "exit": (
        "Read the last lines: something in the engine ended the process on purpose.",
        "Run again: a new worker is started.",
    ),
    "hung": (
        "Run again: a new worker is started.",
        "If it happens at the same request again, try a shorter prompt, or the device `cpu`.",
    ),
    "no_hello": (
        "Run the interpreter by hand: it must start, and be Python 3.11 or newer.",
        "Look at the last lines, and at PYTHON… variables of the environment.",
    ),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the worker was ended by its own kernel, said before it was."""

    cause: CrashCause
    detail: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was seen of a worker that has ended.

    Attributes:
        model: What it ran.
        pid: Of the worker.
        doing: `start`, `load`, `generate`, or `idle`.
        exit_code: As `subprocess` has it.
        said_hello: Whether it ever spoke.
        verdict: Why it was ended on purpose; None when it ended by itself.
        oom_kills: How many processes Linux killed for want of memory meanwhile.
        last_lines: What it wrote last.
        memory: Its memory curve.
    """

    model: str
    pid: int
    doing: str
    exit_code: int | None
    said_hello: bool = True
    verdict: Verdict | None = None
    oom_kills: int = 0
    last_lines: tuple[str, ...] = ()
    memory: tuple[tuple[float, int], ...] = ()


def crash_report(seen: Circumstances) -> CrashReport:
    """The report of an end that nobody asked for."""
    found = seen.verdict or _judged(seen)
    return CrashReport(
        model=seen.model,
        pid=seen.pid,
        cause=found.cause,
        detail=found.detail,
        exit_code=seen.exit_code,
        doing=seen.doing,
        last_lines=seen.last_lines,
        memory=seen.memory,
        advice=_ADVICE[found.cause],
        at=time.time(),
    )


def _judged(seen: Circumstances) -> Verdict:
    code = seen.exit_code
    wants_memory = _wants_memory(seen.last_lines)
    if code is not None and code < 0:
        name = _signal_name(-code)
        if name == "SIGKILL" and seen.oom_kills:
            return Verdict("out_of_memory", f"Linux killed it for want of memory{_peak(seen)}.")
        if name == "SIGABRT" and wants_memory:
            return Verdict("out_of_memory", f"An allocation failed, and it ended by {name}{_peak(seen)}.")
        if name in _FAULTS:
            return Verdict("segfault", f"It crashed by {name}, in native code.")
        if name == "SIGKILL":
            return Verdict(
                "killed", "It was killed by SIGKILL, from outside or by the kernel for want of memory."
            )
        return Verdict("killed", f"It was killed by {name}, from outside.")
    if code in _NT_FAULTS:
        return Verdict("segfault", f"It crashed by {_NT_FAULTS[code]}, in native code.")
    if not seen.said_hello:
        return Verdict("no_hello", f"It ended with exit code {code} before it said hello{_said(seen)}.")
    if code == 1 and any(line.startswith("Traceback (most recent") for line in seen.last_lines):
        if wants_memory:
            return Verdict("out_of_memory", f"It ended for want of memory{_said(seen)}.")
        return Verdict("exception", f"It ended by an exception that nobody caught{_said(seen)}.")
    return Verdict("exit", f"It ended by itself, with exit code {code}.")


def _wants_memory(lines: Sequence[str]) -> bool:
    # The last few lines alone: an allocation that failed earlier was survived.
    return any(word in line.lower() for line in lines[-5:] for word in _WANT)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _said(seen: Circumstances) -> str:
    line = next((line.strip() for line in reversed(seen.last_lines) if line.strip()), "")
    return f": {line:.300}" if line else ""


def _peak(seen: Circumstances) -> str:
    peak = max((size for _, size in seen.memory), default=0)
    return f"; it was seen with {format_bytes(peak)}" if peak else ""


_ERRORS: dict[CrashCause, type[WorkerError]] = {
    "out_of_memory": WorkerMemoryError,
    "hung": WorkerHungError,
    "no_hello": WorkerStartError,
}


def crash_message(report: CrashReport) -> str:
    """Whose worker is gone, what it did then, and why."""
    while_doing = {"load": " while it loaded", "generate": " while it answered"}.get(report.doing, "")
    return f"The worker of {report.model} (pid {report.pid}) is gone{while_doing}. {report.detail}"


def crash_error(report: CrashReport, *, retryable: bool) -> WorkerError:
    """What those who waited for the worker are told.

    Args:
        report: Of its end.
        retryable: Whether nothing had been sent to whoever is told.
    """
    kind: type[WorkerError] = _ERRORS.get(report.cause, WorkerCrashedError)
    if report.doing == "start":
        kind = WorkerStartError
    return kind(
        crash_message(report),
        subject=report.model,
        hint=report.advice[0],
        retryable=retryable,
        report=report,
    )
