"""What is told: one thing that happened, and what to do about it.

Source: spec 2 §Maintenance ("notify with the next step").
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from xprim_nb.events import CorruptionFound, Event, ModelRefreshed, RolledBack, TrustNotice

__all__ = ["Notice", "Severity", "notice_of"]

Severity: TypeAlias = Literal["info", "warning", "error", "critical"]


class Notice(BaseModel):
    """One thing that happened.

    Attributes:
        at: When, in UTC, ISO 8601.
        kind: `corruption`, `refreshed`, `conflict`, `refresh_failed`, `rolled_back`, `trust`, or another word.
        ref: The model concerned; empty when it is none.
        severity: `info`, `warning`, `error` or `critical`.
        message: What happened, in a sentence.
        next_step: What the reader can do about it; empty when nothing is to be done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    at: str
    kind: str
    ref: str
    severity: Severity
    message: str
    next_step: str = ""

    @classmethod
    def now(cls, kind: str, ref: object, severity: Severity, message: str, next_step: str = "") -> Notice:
        """A notice of this moment."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(at=at, kind=kind, ref=str(ref), severity=severity, message=message, next_step=next_step)

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".rstrip()


def notice_of(event: Event) -> Notice | None:
    """What is told of an event; None for one that concerns nobody outside.

    >>> from xprim_nb.refs import ModelRef
    >>> notice_of(RolledBack(ModelRef("a", "b", "v1"), "0" * 64, "asked for")).severity
    'warning'
    """
    match event:
        case CorruptionFound(ref=ref, verdict=verdict, next_step=step):
            return Notice.now("corruption", ref, "error", verdict, step)
        case ModelRefreshed(ref=ref, conflicts=()):
            return Notice.now("refreshed", ref, "info", str(event), _way_back(event))
        case ModelRefreshed(ref=ref):
            step = f"Compare each with its .upstream beside it. {_way_back(event)}"
            return Notice.now("conflict", ref, "warning", str(event), step.rstrip())
        case RolledBack(ref=ref):
            return Notice.now("rolled_back", ref, "warning", str(event), f"xprim cache backups {ref}")
        case TrustNotice(ref=ref, message=message):
            return Notice.now("trust", ref, "warning", message, "Ask the publisher whether this was meant.")
        case _:
            return None


def _way_back(event: ModelRefreshed) -> str:
    return f"Back to the old version: xprim cache rollback {event.ref}" if event.backup else ""
