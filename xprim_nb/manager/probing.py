"""What doctors ask, and what they are told: each part is looked at in a thread of its own, and never for too long.

Source: spec 3 §Magics (`doctor`); spec 4 §Faces (`xprim ai doctor`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Literal, TypeAlias

from xprim_nb._text import format_seconds
from xprim_nb._threads import DaemonThreads
from xprim_nb.errors import XprimError

__all__ = ["Probe", "Said", "Verdict", "ask", "failed", "guarded"]

Verdict: TypeAlias = Literal["ok", "look at this", "broken"]

Said: TypeAlias = tuple[Verdict, str, str]
"""The verdict, what is the case, and what to do; empty when nothing is to be done."""

Probe: TypeAlias = Callable[[], Said]
"""Looks at one part. May raise, and may take too long: both are told in its place."""


def ask(probes: Mapping[str, Probe], patience_s: float) -> dict[str, Said]:
    """What each probe says, in order; one that is not done after `patience_s` seconds is left behind and told."""
    threads = DaemonThreads(max(1, len(probes)))
    asked: dict[str, Future[Said]] = {
        subject: threads.submit(guarded, probe) for subject, probe in probes.items()
    }
    wait(asked.values(), max(0.0, patience_s))
    return {
        subject: future.result() if future.done() else _silent(patience_s)
        for subject, future in asked.items()
    }


def guarded(probe: Probe) -> Said:
    """What a probe says, or why it could not be asked."""
    try:
        return probe()
    except Exception as error:  # noqa: BLE001  # a probe that fails is a line
        return failed(error)


def failed(error: BaseException) -> Said:
    """What an error says of the part that raised it."""
    if isinstance(error, XprimError):
        return "broken", error.message, error.hint
    return "broken", f"could not be looked at: {type(error).__name__}: {error}"[:300], ""


def _silent(patience_s: float) -> Said:
    return (
        "broken",
        f"has not answered within {format_seconds(patience_s)}",
        "Run it again; if it stays so, it hangs.",
    )
