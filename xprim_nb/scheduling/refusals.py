"""What somebody who waited is told when there will be no turn.

Source: spec 4 §Residency (`NoCapacityError` with the numbers), §Workers (circuit).
"""

from __future__ import annotations

from xprim_nb.errors import (
    CircuitOpenError,
    LoadFailedError,
    NoCapacityError,
    TimedOutError,
    WorkerError,
    XprimError,
)
from xprim_nb.scheduling.happenings import Reject
from xprim_nb.scheduling.held import Held

__all__ = ["rejected", "too_late"]


def rejected(effect: Reject, held: Held) -> XprimError:
    """The error for a request that the policy rejects."""
    failure = held.failure
    match effect.kind:
        case "capacity":
            return NoCapacityError(
                effect.message,
                subject=held.key,
                needed_bytes=effect.needed_bytes,
                available_bytes=effect.available_bytes,
            )
        case "broken":
            report = failure.report if isinstance(failure, WorkerError) else None
            error = CircuitOpenError(effect.message, subject=held.key, report=report)
            error.__cause__ = failure
            return error
        case "refused":
            return failure or LoadFailedError(effect.message, subject=held.key)


def too_late(held: Held, limit_s: float, reason: str) -> TimedOutError:
    """The error for a request that had no turn within its limit; `reason` says what it waited for."""
    why = f": {reason}" if reason else ""
    return TimedOutError(
        f"{held.key} had no turn within {limit_s:g} s{why}.",
        subject=held.key,
        hint="`xprim ai ps` shows who holds the memory; queue_timeout_s is the setting.",
        phase="queue",
    )
