"""News that rises from the rooms: frozen values, and the hub that hands them on.

A publisher never waits for a subscriber and never learns who listens.

Source: DESIGN, habit 4; spec 1 §Pull (progress), §Client (trust on first use).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xprim_nb._text import format_bytes
from xprim_nb.refs import ModelRef

__all__ = [
    "CheckProgress",
    "CorruptionFound",
    "Event",
    "EventHub",
    "FetchRetried",
    "IndexStale",
    "ModelInstalled",
    "ModelRefreshed",
    "ModelRemoved",
    "PullProgress",
    "ResidencyChanged",
    "RolledBack",
    "TrustNotice",
    "WorkerFailed",
]

_log = logging.getLogger("xprim_nb.events")

Phase: TypeAlias = Literal["manifest", "chunks", "extracting"]


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far one pull is. Bytes are counted in the model's own bytes.

    Attributes:
        ref: The model being pulled.
        phase: `manifest`, `chunks`, or `extracting` (made durable and put in place).
        chunks_total: Distinct chunks of the model.
        chunks_completed: Distinct chunks verified and in place.
        bytes_total: Size of the model.
        bytes_completed: Bytes verified and in place; never falls.
        bytes_network: Bytes that came over the network, retries included.
        bytes_in_flight: Bytes received of chunks not yet verified.
        bytes_reused: Bytes that were already on this machine.
        current_file: The file that the latest chunk belongs to.
        speed_bytes_s: Moving average of verified bytes a second, over about five seconds.
        eta_s: Seconds left at that speed; None while unknown.
        waiting_for: What the pull waits for ("another process pulls this model"); empty while it works.
        chunk_map: A digit for each chunk, or for each of 128 stretches of them: 0 missing, 1 in flight, 2 was here,
            3 fetched; empty before there is a manifest.
    """

    ref: ModelRef
    phase: Phase
    chunks_total: int = 0
    chunks_completed: int = 0
    bytes_total: int = 0
    bytes_completed: int = 0
    bytes_network: int = 0
    bytes_in_flight: int = 0
    bytes_reused: int = 0
    current_file: str = ""
    speed_bytes_s: float = 0.0
    eta_s: float | None = None
    waiting_for: str = ""
    chunk_map: str = ""

    @property
    def fraction(self) -> float:
        """Bytes done, in-flight ones included, as a share of the whole: 0.0 to 1.0."""
        if self.bytes_total == 0:
            return 1.0 if self.phase == "extracting" else 0.0
        return min(1.0, (self.bytes_completed + self.bytes_in_flight) / self.bytes_total)

    def __str__(self) -> str:
        if self.waiting_for:
            return f"waits for {self.waiting_for}"
        if not self.bytes_total:
            return "reads the manifest"
        done = f"{self.fraction:.0%} of {format_bytes(self.bytes_total)}"
        return (
            f"{done}, {format_bytes(self.speed_bytes_s)}/s"
            if self.phase == "chunks"
            else f"{done}, is put in place"
        )


@dataclass(frozen=True, slots=True)
class ModelInstalled:
    """A model was put in place: `status` is `installed` or `updated`."""

    ref: ModelRef
    manifest_hash: str
    status: str


@dataclass(frozen=True, slots=True)
class ModelRemoved:
    """A model was removed from this machine."""

    ref: ModelRef


@dataclass(frozen=True, slots=True)
class ModelRefreshed:
    """A new version was put in place, and what a user had done to the old one is in it.

    Attributes:
        ref: Which version.
        manifest_hash: What is installed now.
        kept: Paths where the user's file lies.
        conflicts: Of these, the ones that the new version changed too.
        backup: The id of the old version's backup; empty when none was made.
    """

    ref: ModelRef
    manifest_hash: str
    kept: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    backup: str = ""

    def __str__(self) -> str:
        told = f"{self.ref} was refreshed to {self.manifest_hash[:12]}"
        return (
            f"{told}; changed on both sides: {', '.join(self.conflicts)}." if self.conflicts else f"{told}."
        )


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A version that was put aside is back in place; `why` is part of a sentence (`asked for`)."""

    ref: ModelRef
    manifest_hash: str
    why: str

    def __str__(self) -> str:
        return f"{self.ref} was rolled back to {self.manifest_hash[:12]}: {self.why}."


@dataclass(frozen=True, slots=True)
class TrustNotice:
    """The registry says something it did not say before, and should not.

    Attributes:
        kind: `rollback` (a version moved back to a superseded manifest) or `rewritten` (an immutable version
            names another manifest).
        ref: The version concerned.
        known_hash: The manifest hash remembered from before.
        offered_hash: The manifest hash offered now.
    """

    kind: Literal["rollback", "rewritten"]
    ref: ModelRef
    known_hash: str
    offered_hash: str

    @property
    def message(self) -> str:
        """One sentence for a person."""
        if self.kind == "rollback":
            return (
                f"{self.ref} went back to a manifest that had been superseded "
                f"({self.known_hash[:12]} → {self.offered_hash[:12]}): a rollback, or an old mirror."
            )
        return (
            f"{self.ref} is an immutable version and now names another manifest "
            f"({self.known_hash[:12]} → {self.offered_hash[:12]}): republished, or tampered with."
        )


@dataclass(frozen=True, slots=True)
class FetchRetried:
    """One object is being tried again after `delay_s` seconds."""

    what: str
    source: str
    attempt: int
    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class IndexStale:
    """The registry could not be asked; the answer is `age_s` seconds old."""

    registry: str
    age_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """How far one validation or scrub is.

    Attributes:
        ref: The model being looked at.
        doing: `validate`, `scrub` or `repair`.
        bytes_total: Bytes to be hashed of this model; 0 while unknown.
        bytes_done: Bytes hashed so far.
        models_total: Models to be looked at.
        models_done: Models looked at already.
        finished: True for the last one of this model.
    """

    ref: ModelRef
    doing: Literal["validate", "scrub", "repair"]
    bytes_total: int = 0
    bytes_done: int = 0
    models_total: int = 1
    models_done: int = 0
    finished: bool = False

    @property
    def fraction(self) -> float:
        """Share of this model's bytes that is done: 0.0 to 1.0."""
        if self.finished or not self.bytes_total:
            return 1.0 if self.finished else 0.0
        return min(1.0, self.bytes_done / self.bytes_total)

    def __str__(self) -> str:
        return f"{self.ref}: {self.fraction:.0%} of {format_bytes(self.bytes_total)} verified"


@dataclass(frozen=True, slots=True)
class CorruptionFound:
    """Installed bytes are not what they should be.

    Attributes:
        ref: The model concerned.
        verdict: What was found, in one sentence.
        next_step: The command to run.
    """

    ref: ModelRef
    verdict: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.verdict} {self.next_step}" if self.next_step not in self.verdict else self.verdict


@dataclass(frozen=True, slots=True)
class ResidencyChanged:
    """A model was loaded, parked, evicted, pinned, or broke; or a request began or ceased to wait.

    Attributes:
        model: `backend:name`.
        status: What it is now: `loading`, `resident`, `parked`, `absent`, `broken` …
        device: Where; empty when nowhere.
        reason: Why, in a sentence.
    """

    model: str
    status: str
    device: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.model} is {self.status}{f' on {self.device}' if self.device else ''}: {self.reason}"


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker crashed, hung or never started; `report` is a `CrashReport`.

    Attributes:
        model: What it ran.
        message: One sentence.
        report: Everything that is known.
    """

    model: str
    message: str
    report: object = None

    def __str__(self) -> str:
        return self.message


Event: TypeAlias = (
    PullProgress
    | ModelInstalled
    | ModelRemoved
    | ModelRefreshed
    | RolledBack
    | TrustNotice
    | FetchRetried
    | IndexStale
    | CheckProgress
    | CorruptionFound
    | ResidencyChanged
    | WorkerFailed
)


class EventHub:
    """Hands each event to every subscriber, in the publisher's thread. Thread-safe.

    A subscriber must not block; one that raises is logged and the others still hear.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: tuple[tuple[Callable[[Event], None]], ...] = ()

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Hear every event from now on; the result ends it.

        >>> hub, heard = EventHub(), []
        >>> stop = hub.subscribe(heard.append)
        >>> hub.publish(IndexStale("demo", 3.0, "offline")); stop(); len(heard)
        1
        """
        subscription = (callback,)  # an identity of its own: the same callback may subscribe twice
        with self._lock:
            self._subscribers = (*self._subscribers, subscription)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(each for each in self._subscribers if each is not subscription)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Tell everybody who listens now."""
        for (callback,) in self._subscribers:
            try:
                callback(event)
            except Exception:  # noqa: BLE001  # a subscriber that fails must not fail the pull
                _log.exception("an event subscriber failed", extra={"event": type(event).__name__})
