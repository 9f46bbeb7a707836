"""What the values of checking, mending and renewing have to tell.

Source: spec 2 §Validation, §Repair, §Refresh, §Status; spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from xprim_nb._text import STATUS_WORDS, format_bytes, format_count, format_seconds
from xprim_nb.magics.sheets import Facts, Pairs

if TYPE_CHECKING:
    from xprim_nb.cache.health.glance import StatusRow
    from xprim_nb.cache.health.repaired import RepairAction, Repaired, RepairPlan
    from xprim_nb.cache.health.report import FileFinding, ValidationReport
    from xprim_nb.cache.health.scrub import Scrubbed
    from xprim_nb.cache.health.status import CacheStatus
    from xprim_nb.cache.renewal.merge import FileChange
    from xprim_nb.cache.renewal.values import (
        Backup,
        Dropped,
        DropPlan,
        Refreshed,
        RefreshPlan,
        Restored,
        RollbackPlan,
    )

__all__ = ["FACTS", "present", "shown", "when"]

# Rows that a cell shows of a long list; the value has all of them.
_MOST_ROWS = 30


def when(moment: datetime) -> str:
    """The minute, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def shown(rows: Iterable[tuple[str, str]]) -> Pairs:
    """The first rows, and how many more there are."""
    listed = tuple(rows)
    more = len(listed) - _MOST_ROWS
    return (*listed[:_MOST_ROWS], *([("…", f"and {more:,} more")] if more > 0 else []))


def present(**facts: str | Pairs) -> dict[str, str | Pairs]:
    """The facts that say something, `_` in their names as a space."""
    return {name.replace("_", " "): value for name, value in facts.items() if value}


def _found(findings: Iterable[FileFinding]) -> Pairs:
    return shown((each.path, each.sentence or each.status) for each in findings)


def _report_facts(report: ValidationReport) -> Facts:
    hashed = f", {format_bytes(report.bytes_hashed)} hashed in {format_seconds(report.seconds)}"
    damaged = report.damaged
    return present(
        Model=report.model_id,
        Status=STATUS_WORDS[report.overall_status],
        Verdict=report.verdict,
        Damaged=_found(damaged),
        Yours=_found(each for each in report.findings if not each.is_damage),
        Missing=", ".join(report.checks.completeness.missing_components),
        Needs=", ".join(report.checks.dependencies.unresolved),
        Age=f"{format_count(round(report.checks.freshness.age_days), 'day')}, {report.checks.freshness.status}",
        To_do=report.recommendations.details,
        Looked=f"{report.depth}, {when(report.validation_timestamp)}"
        + (hashed if report.bytes_hashed else ""),
        Note="\n".join(report.notes),
    )


def _finding_facts(finding: FileFinding) -> Facts:
    return present(
        File=finding.path,
        Status=finding.status,
        Found=finding.sentence,
        Chunks=", ".join(map(str, finding.chunks)),
        Wrong=format_bytes(finding.bytes_wrong),
        Holds=finding.holds or "",
    )


def _actions(actions: Iterable[RepairAction]) -> Pairs:
    return shown((each.path, each.sentence) for each in actions)


def _sources(sources: Mapping[str, int]) -> Pairs:
    return shown((place, format_count(chunks, "chunk")) for place, chunks in sources.items())


def _repair_plan_facts(plan: RepairPlan) -> Facts:
    return present(
        Model=plan.model_id,
        Plan=plan.verdict,
        To_mend=_actions(plan.actions),
        To_fetch=f"{format_bytes(plan.bytes_network)} in {format_count(plan.chunks_network, 'chunk')}"
        if plan.actions
        else "",
        From_here=_sources(plan.local_sources),
        Stays_as_it_is="\n".join(plan.left_alone),
        Not_now="\n".join(plan.remaining_issues),
    )


def _repaired_facts(done: Repaired) -> Facts:
    return present(
        Model=done.model_id,
        Status="whole" if done.success else "not whole",
        Verdict=done.verdict,
        Mended="\n".join(done.repair_actions),
        From_here=_sources(done.local_sources),
        Left_alone="\n".join(done.left_alone),
        Put_aside=done.kept or "",
        Not_mended="\n".join(done.remaining_issues),
        Took=format_seconds(done.seconds),
    )


def _scrubbed_facts(done: Scrubbed) -> Facts:
    return present(
        Verdict=done.verdict,
        Hashed=f"{format_bytes(done.bytes_hashed)} in {format_seconds(done.seconds)}",
        Models="\n".join(done.models_checked),
        Damaged=tuple((each.model_id, each.verdict) for each in done.damaged),
        Oldest=when(done.oldest_at) if done.oldest_at else "",
    )


def _status_facts(status: CacheStatus) -> Facts:
    def told(row: StatusRow) -> str:
        age = format_seconds(row.age_s(status.checked_at))
        return f"{STATUS_WORDS.get(row.status, row.status)}, {format_bytes(row.size_bytes)}, {row.depth} {age} ago"

    concerns = status.concerns
    urgent = {row.ref for row in concerns}
    rows = [*concerns, *(row for row in status.rows if row.ref not in urgent)]
    return present(
        Cache=status.verdict,
        Models=shown((row.ref, told(row)) for row in rows),
        To_do="\n".join(status.recommendations),
        Registry=status.contact_line,
    )


def _status_row_facts(row: StatusRow) -> Facts:
    looked = datetime.fromtimestamp(row.checked_at, UTC)
    return present(
        Model=row.ref,
        Status=STATUS_WORDS.get(row.status, row.status),
        Size=format_bytes(row.size_bytes),
        Looked=f"{row.depth}, {when(looked)}",
    )


def _backup_facts(backup: Backup) -> Facts:
    return present(
        Backup=backup.id,
        Model=str(backup.ref),
        Size=f"{format_bytes(backup.size_bytes)} in {format_count(backup.file_count, 'file')}",
        Manifest=backup.manifest_hash[:12],
        Made=f"{when(backup.made_at)}, by a {backup.reason}",
        Path=str(backup.path),
        Problem=backup.problem,
    )


def _change_facts(change: FileChange) -> Facts:
    return present(
        File=change.path,
        Plan=change.action.replace("_", " "),
        Here=change.local,
        Upstream=change.upstream,
        Beside=change.upstream_path,
    )


def _changes(changes: Iterable[FileChange]) -> Pairs:
    return shown((each.path, str(each).partition(f": {each.path}")[0]) for each in changes)


def _refresh_plan_facts(plan: RefreshPlan) -> Facts:
    if plan.status == "already_current":
        return present(Model=str(plan.ref), Plan="already current", Note="\n".join(plan.sentences))
    pull = plan.pull
    return present(
        Model=str(plan.ref),
        Plan=f"refresh: {plan.installed_hash[:12]} → {plan.manifest_hash[:12]}",
        Files=_changes(plan.files),
        To_fetch="" if pull is None else format_bytes(pull.bytes_network),
        This_machine="" if pull is None else format_bytes(pull.bytes_local),
        Backup="the old version stays as one" if plan.backs_up else "none is made",
        Note="\n".join(plan.sentences),
    )


def _refreshed_facts(done: Refreshed) -> Facts:
    return present(
        Model=str(done.ref),
        Status=done.status.replace("_", " "),
        Updated="\n".join(done.updated_files),
        Removed="\n".join(done.removed_files),
        Kept="\n".join(done.kept),
        Both_sides=shown((each.path, each.upstream_path or "gone upstream") for each in done.conflicts),
        Set_aside="\n".join(done.set_aside),
        Backup="" if done.backup is None else str(done.backup),
        Put_aside="" if done.kept_in is None else str(done.kept_in),
        Told="\n".join(done.sentences),
    )


def _rollback_plan_facts(plan: RollbackPlan) -> Facts:
    in_place = plan.installed
    return present(
        Model=str(plan.ref),
        Plan=f"put back {plan.backup}",
        In_place="" if in_place is None else f"{in_place.manifest_hash[:12]} becomes a backup",
        Goes_with_it="\n".join(plan.changed),
        Problem="\n".join(plan.problems),
    )


def _rolled_back_facts(done: Restored) -> Facts:
    return present(
        Model=str(done.ref),
        Status="rolled back",
        From=str(done.restored_from),
        Backup="" if done.backup is None else str(done.backup),
        Told="\n".join(done.sentences),
    )


def _drop_plan_facts(plan: DropPlan) -> Facts:
    return present(
        Model=str(plan.ref),
        Plan=f"drop {format_count(len(plan.backups), 'backup')} ({format_bytes(plan.size_bytes)})",
        Backups="\n".join(map(str, plan.backups)),
    )


def _dropped_facts(done: Dropped) -> Facts:
    return present(Dropped=str(done.backup), Put_aside="" if done.kept is None else str(done.kept))


_HEALTH_ROOM, _RENEWAL_ROOM = "xprim_nb.cache.health.", "xprim_nb.cache.renewal."

FACTS: Mapping[tuple[str, str], Callable[[Any], Facts]] = {
    (f"{_HEALTH_ROOM}glance", "StatusRow"): _status_row_facts,
    (f"{_HEALTH_ROOM}repaired", "RepairPlan"): _repair_plan_facts,
    (f"{_HEALTH_ROOM}repaired", "Repaired"): _repaired_facts,
    (f"{_HEALTH_ROOM}report", "FileFinding"): _finding_facts,
    (f"{_HEALTH_ROOM}report", "ValidationReport"): _report_facts,
    (f"{_HEALTH_ROOM}scrub", "Scrubbed"): _scrubbed_facts,
    (f"{_HEALTH_ROOM}status", "CacheStatus"): _status_facts,
    (f"{_RENEWAL_ROOM}merge", "FileChange"): _change_facts,
    (f"{_RENEWAL_ROOM}values", "Backup"): _backup_facts,
    (f"{_RENEWAL_ROOM}values", "DropPlan"): _drop_plan_facts,
    (f"{_RENEWAL_ROOM}values", "Dropped"): _dropped_facts,
    (f"{_RENEWAL_ROOM}values", "RefreshPlan"): _refresh_plan_facts,
    (f"{_RENEWAL_ROOM}values", "Refreshed"): _refreshed_facts,
    (f"{_RENEWAL_ROOM}values", "Restored"): _rolled_back_facts,
    (f"{_RENEWAL_ROOM}values", "RollbackPlan"): _rollback_plan_facts,
}
