"""What a panel says while something is done to a model, before it is done, and after. Pure.

Source: spec 3 §Views (HealthView); spec 2 §Repair (receipt), §Refresh (conflicts, backups).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from xprim_nb._text import format_bytes
from xprim_nb.cache.health.repaired import Repaired
from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.cache.renewal.values import Refreshed, RefreshPlan, Restored, RollbackPlan
from xprim_nb.events import CheckProgress, PullProgress
from xprim_widgets._base import told
from xprim_widgets._health_rows import told_lines

__all__ = ["DOING", "Doing", "Note", "checked", "plan_note", "progress_of", "receipt_note"]

Doing: TypeAlias = Literal[
    "quick check", "full check", "repair", "refresh", "rollback", "plan refresh", "plan rollback", "measure"
]

# What a row says while it lasts.
DOING: dict[Doing, str] = {
    "quick check": "quick check",
    "full check": "full check",
    "repair": "repairing",
    "refresh": "refreshing",
    "rollback": "rolling back",
    "plan refresh": "looking at what a refresh would change",
    "plan rollback": "looking at what a rollback would change",
    "measure": "measuring the disk",
}


@dataclass(frozen=True, slots=True)
class Note:
    """What stands below a row.

    Attributes:
        kind: `ask` (a plan that waits for a yes), `done` (a receipt), `trouble` (it did not end well).
        title: In one line.
        lines: The rest.
        go: What a yes does; empty where nothing is asked.
        why: Why a yes is not possible; empty where it is.
    """

    kind: Literal["ask", "done", "trouble"]
    title: str
    lines: tuple[str, ...] = ()
    go: Literal["", "refresh", "rollback"] = ""
    why: str = ""

    def plain(self) -> dict[str, Any]:
        """As a trait has it."""
        return {**asdict(self), "lines": list(self.lines)}


def plan_note(plan: RefreshPlan | RollbackPlan) -> Note:
    """What would change, to be said yes to."""
    lines = _lines(str(plan))
    if isinstance(plan, RollbackPlan):
        why = told(plan.problems[0])[:300] if plan.problems else ""
        return Note("ask", f"Roll {plan.ref} back?", lines, "rollback", why)
    if plan.status == "already_current":
        return Note("done", "Nothing to refresh", lines)
    count = len(plan.conflicts)
    told_conflicts = f" {count} file{'s' if count > 1 else ''} changed on both sides." if count else ""
    return Note("ask", f"Refresh {plan.ref}?{told_conflicts}", lines, "refresh")


def receipt_note(result: Repaired | Refreshed | Restored, registry: str) -> Note:
    """What was done, what it took, and from where.

    Args:
        result: What the verb returned.
        registry: Where bytes that came over the network came from.
    """
    if isinstance(result, Repaired):
        lines = [*result.repair_actions]
        if result.bytes_network:
            lines.append(f"{format_bytes(result.bytes_network)} fetched from {registry}")
        for place, count in result.local_sources.items():
            lines.append(f"{count:,} chunk{'s' if count != 1 else ''} copied from {place}")
        lines += [f"Not mended: {issue}" for issue in result.remaining_issues]
        lines += [f"Put aside in {result.kept}"] if result.kept else []
        lines += [f"Yours, left alone: {path}" for path in result.left_alone]
        kind: Literal["done", "trouble"] = "done" if result.success else "trouble"
        return Note(kind, _lines(result.verdict)[0], tuple(told_lines(lines)))
    lines = list(result.sentences)
    title = f"{result.ref} was rolled back"
    if isinstance(result, Refreshed):
        title = f"{result.ref}: {result.status.replace('_', ' ')}"
        if result.receipt.bytes_network:
            lines.append(f"{format_bytes(result.receipt.bytes_network)} came from {registry}")
        for place, count in result.receipt.local_models.items():
            lines.append(f"{count:,} chunk{'s' if count != 1 else ''} copied from {place}")
        if not result.success:
            return Note("trouble", told(title), tuple(told_lines(lines)))
    return Note("done", told(title), tuple(told_lines(lines)))


def checked(reports: list[ValidationReport]) -> str:
    """How a check ended, to be read out."""
    if len(reports) == 1:
        hashed = reports[0].bytes_hashed
        read = f"; {format_bytes(hashed)} were read" if hashed else "; nothing had to be read"
        return told(f"{reports[0].model_id}: {reports[0].overall_status}{read}.")[:300]
    if not reports:
        return "Nothing was checked."
    bad = sum(not each.is_healthy for each in reports)
    found = f"{bad:,} of them not healthy" if bad else "all healthy"
    return f"{len(reports):,} models checked: {found}."


def progress_of(
    doing: Doing, progress: CheckProgress | PullProgress | None, done: int = 0, total: int = 1
) -> tuple[str, int | None]:
    """How far it is in words, and in percent; None while that is not known.

    Args:
        doing: What is done.
        progress: The latest, if there is any.
        done: Models that one after the other are done already, where several are looked at.
        total: How many these are.
    """
    said = DOING[doing]
    if isinstance(progress, PullProgress):
        return f"{said}: {progress}", int(100 * progress.fraction) if progress.bytes_total else None
    if progress is None:
        return (f"{said}, {done:,} of {total:,} models", 100 * done // total) if total > 1 else (said, None)
    if progress.models_total > total:
        done, total = progress.models_done - progress.finished, progress.models_total
    share = progress.fraction if progress.bytes_total or progress.finished else 0.0
    if total > 1:
        percent = min(99, int(100 * (done + share) / total))
        return f"{said}, {min(done + 1, total):,} of {total:,} models: {progress}", percent
    if not progress.bytes_total:
        return said, None
    read = format_bytes(progress.bytes_done)
    return f"{said}: {read} of {format_bytes(progress.bytes_total)} verified", min(99, int(100 * share))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(told_lines(text.split("\n"))) or ("",)
