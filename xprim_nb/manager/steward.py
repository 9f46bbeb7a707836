"""The verbs that maintenance is made of, and what it says of them.

Source: spec 2 §Maintenance; seeds/000 §Daily Maintenance Routine, §Error Recovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.health.report import Depth, ValidationReport
from xprim_nb.refs import ModelRef

if TYPE_CHECKING:
    from xprim_nb.cache.upkeep.cleanup import CleanupPolicy

__all__ = [
    "CleanupDone",
    "CleanupSketch",
    "MaintenancePlan",
    "MaintenanceReport",
    "Mended",
    "Steward",
    "Unresolved",
]


class Mended(Protocol):
    """What a repair says."""

    @property
    def success(self) -> bool:
        """True when everything is whole."""
        ...

    @property
    def remaining_issues(self) -> Sequence[str]:
        """What is not, as sentences."""
        ...


class CleanupSketch(Protocol):
    """What a clean-up would do."""

    @property
    def freed_bytes(self) -> int:
        """What would come back on the disk."""
        ...


class CleanupDone(Protocol):
    """What a clean-up did."""

    @property
    def freed_bytes(self) -> int:
        """What came back on the disk."""
        ...

    @property
    def removed_models(self) -> Sequence[str]:
        """Which models went."""
        ...


class Steward(Protocol):
    """Whoever can check, mend, clean and optimise: the manager, or a test's recorder."""

    async def validate_all(self, depth: Depth = "quick") -> Sequence[ValidationReport]:
        """How every installed model is."""
        ...

    async def validate(self, ref: ModelRef, depth: Depth = "quick") -> ValidationReport:
        """How one is."""
        ...

    async def scrub(self, budget_s: float = 60.0) -> object:
        """Hash, for so many seconds, what was verified longest ago."""
        ...

    async def repair(self, ref: ModelRef) -> Mended:
        """Mend one."""
        ...

    async def rollback(self, ref: ModelRef) -> object:
        """Put the newest backup of one back."""
        ...

    async def plan_cleanup(self, policy: CleanupPolicy | None = None) -> CleanupSketch:
        """What would go."""
        ...

    async def cleanup(self, plan: Any) -> CleanupDone:  # noqa: ANN401  # its owner's own type
        """Let it go."""
        ...

    async def dedupe(self) -> object:
        """Let equal bytes share their blocks."""
        ...


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class Unresolved(_Value):
    """What maintenance could not mend.

    Attributes:
        ref: The model.
        problem: What is wrong, and what was tried, in one sentence.
        next_step: The command to run.
    """

    ref: str
    problem: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.ref}: {self.problem} {self.next_step}"


class MaintenancePlan(_Value):
    """What a run would do now. Making it changes nothing, and asks nobody.

    Attributes:
        is_due: By the schedule.
        next_due: When it is; None without a schedule.
        models: How many would be checked.
        to_repair: Models known or found to be damaged by a quick look.
        cleanup: What would go.
        freed_bytes: What that would free.
        optimises: Equal bytes would be made to share their blocks.
    """

    is_due: bool
    next_due: datetime | None
    models: int
    to_repair: tuple[str, ...]
    cleanup: str
    freed_bytes: int
    optimises: bool

    def __str__(self) -> str:
        when = "no schedule" if self.next_due is None else f"due {self.next_due:%Y-%m-%d %H:%M} UTC"
        mend = f"; to be repaired: {', '.join(self.to_repair)}" if self.to_repair else ""
        lines = [
            f"{when}{' (now)' if self.is_due else ''}",
            f"check {format_count(self.models, 'model')}{mend}",
            self.cleanup,
        ]
        return "\n".join([*lines, *(["let equal bytes share their blocks"] if self.optimises else [])])


class MaintenanceReport(_Value):
    """What a run did.

    Attributes:
        ran: False when it was not due, or another process was at it.
        reason: Why not; empty when it ran.
        begun_at: When.
        ended_at: When.
        checked: Models and bundles that were looked at.
        damaged: Of these, the ones that were found damaged.
        repaired: Mended.
        rolled_back: Beyond mending, and put back from a backup.
        unresolved: Neither; with the next step.
        freed_bytes: By the clean-up.
        removed_models: By the clean-up.
        cleanup: The clean-up in words; empty when there was none.
        scrubbed: What was hashed, in words; empty when nothing was.
        optimisation: The same of deduplication.
        problems: Steps that failed, as sentences; the others went on.
        next_due: When the next run is; None without a schedule.
    """

    ran: bool
    reason: str = ""
    begun_at: datetime | None = None
    ended_at: datetime | None = None
    checked: int = 0
    damaged: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    rolled_back: tuple[str, ...] = ()
    unresolved: tuple[Unresolved, ...] = ()
    freed_bytes: int = 0
    removed_models: tuple[str, ...] = ()
    cleanup: str = ""
    scrubbed: str = ""
    optimisation: str = ""
    problems: tuple[str, ...] = ()
    next_due: datetime | None = None

    @property
    def success(self) -> bool:
        """True when nothing is left that somebody has to do."""
        return not self.unresolved and not self.problems

    @property
    def verdict(self) -> str:
        """Everything in one sentence."""
        if not self.ran:
            return self.reason
        told = [f"{self.checked} checked"]
        for count, word in (
            (len(self.repaired), "repaired"),
            (len(self.rolled_back), "rolled back"),
            (len(self.unresolved), "still damaged"),
            (len(self.problems), "steps failed"),
        ):
            told += [f"{count} {word}"] if count else []
        return f"{', '.join(told)}; {format_bytes(self.freed_bytes)} freed."

    def __str__(self) -> str:
        return "\n".join([self.verdict, *map(str, self.unresolved), *self.problems])
