"""What is known of the models as rows, shares of a bar and one sentence. Nothing here waits, or asks anybody.

    failed     damaged or incomplete on disk: repair it
    degraded   whole, and old or in want of something: refresh it
    healthy    nothing to do; or, unused for long, something that could go

Source: spec 3 §Views (HealthView); spec 2 §Validation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.cache.health.rules import HealthPolicy
from xprim_nb.cache.health.status import CacheStatus, Contact, HealthSummary, StatusRow
from xprim_nb.cache.renewal.values import Backup
from xprim_nb.cache.upkeep.accounting import CacheAccounts
from xprim_nb.refs import ModelRef
from xprim_widgets._base import told

__all__ = [
    "STATES",
    "HealthRow",
    "Share",
    "contact_sentence",
    "disk_sentence",
    "edits",
    "health_rows",
    "is_wanted",
    "plain",
    "shares_of",
    "told_lines",
    "verdict_of",
]

# The most urgent first.
STATES: Final = ("failed", "degraded", "healthy")

# A row shows its start, a panel the rest; nobody reads more, and a name or an error may be of any length.
_LONGEST, _MOST_LINES = 600, 12
# Above this share of rows that differ, all of them are sent anew.
_EDITED = 0.2


class HealthRow(NamedTuple):
    """One model as it is drawn. Sent as a list: there may be ten thousand.

    Attributes:
        ref: `group/model version`.
        size_bytes: Of its files.
        status: One of `STATES`.
        depth: How the verdict was reached: `quick`, `full` or `install`.
        checked_at: When, in seconds since the epoch; 0 where that is not known.
        found: What is wrong, in a sentence; empty when nothing is.
        advice: What to do about it, in a sentence; empty when nothing is to be done.
        acts: What applies, the first first: [`repair` | `refresh` | `rollback`, why it cannot be done now or ""].
        lines: What a panel says beyond that.
    """

    ref: str
    size_bytes: int
    status: str
    depth: str
    checked_at: float
    found: str
    advice: str
    acts: list[list[str]]
    lines: list[str]


class Share(NamedTuple):
    """A part of the bar: the models of one state, their number and size, and their percentage of all bytes."""

    state: str
    models: int
    size_bytes: int
    percent: float


class _Told(NamedTuple):
    found: str = ""
    advice: str = ""
    lines: tuple[str, ...] = ()
    refreshable: bool = False
    wrong_chunks: int = 0
    wrong_files: int = 0


def is_wanted(name: str, wanted: frozenset[ModelRef] | None) -> bool:
    """Whether a row is one of those asked for; a ref without a version asks for all versions."""
    return wanted is None or any(
        name == str(each) or (not each.version and name.startswith(f"{each} ")) for each in wanted
    )


def health_rows(
    status: CacheStatus, backups: Iterable[Backup] = (), wanted: frozenset[ModelRef] | None = None
) -> list[HealthRow]:
    """A row for each model, in the cache's order.

    Args:
        status: How everything is.
        backups: The versions that were put aside.
        wanted: Which models; all when None.
    """
    by_ref: dict[str, list[Backup]] = {}
    for each in backups:
        by_ref.setdefault(str(each.ref), []).append(each)
    contact = status.contact
    unreachable = "offline mode is on" if contact.offline and contact.needs_network else ""
    return [
        _row(row, by_ref.get(row.ref, ()), unreachable) for row in status.rows if is_wanted(row.ref, wanted)
    ]


def shares_of(rows: Iterable[HealthRow]) -> list[Share]:
    """The parts of the bar, those of no model left out."""
    counts, sizes = dict.fromkeys(STATES, 0), dict.fromkeys(STATES, 0)
    for row in rows:
        counts[row.status] += 1
        sizes[row.status] += row.size_bytes
    total = sum(sizes.values()) or 1
    return [
        Share(state, counts[state], sizes[state], round(100 * sizes[state] / total, 1))
        for state in STATES
        if counts[state]
    ]


def verdict_of(status: CacheStatus, wanted: frozenset[ModelRef] | None = None) -> str:
    """Everything in one sentence, with what to do.

    "3 of 4 models healthy; 42.0 GB unused for 90 days; 1 corrupt chunk: repair it."
    """
    rows = [row for row in status.rows if is_wanted(row.ref, wanted)]
    if not rows:
        return "Nothing is installed." if wanted is None else "None of these models is installed."
    by_state = {state: [row for row in rows if _state(row.status) == state] for state in STATES}
    total, healthy = len(rows), len(by_state["healthy"])
    if healthy == total:
        parts = [f"All {total:,} models healthy" if total > 1 else "The model is healthy"]
    else:
        parts = [f"{healthy:,} of {format_count(total, 'model')} healthy"]
    unused = sum(row.size_bytes for row in rows if row.action == "remove")
    if unused:
        parts.append(f"{format_bytes(unused)} unused for {HealthPolicy().unused_days or 0:.0f} days")
    old = by_state["degraded"]
    if old:
        advice = f": refresh {_it(len(old))}" if all(row.action == "refresh" for row in old) else ""
        parts.append(f"{len(old):,} degraded{advice}")
    if by_state["failed"]:
        parts.append(_damage(by_state["failed"]))
    return "; ".join(parts) + "."


def contact_sentence(contact: Contact) -> str:
    """How the registry can be reached, in words that stay true while they are on screen."""
    if not contact.needs_network:
        return f"The registry lies on this machine: {contact.registry}."
    mode = "Offline mode is on; " if contact.offline else ""
    if contact.last_contact_at is None:
        return f"{mode}{contact.registry} has not answered yet."
    when = datetime.fromtimestamp(contact.last_contact_at, UTC)
    return f"{mode}{contact.registry} last answered {when:%Y-%m-%d %H:%M} UTC."


def disk_sentence(accounts: CacheAccounts) -> str:
    """What the disk says, which shares blocks and holds more than models."""
    others: dict[str, int] = {}
    for each in accounts.accounts:
        if each.kind != "model":
            others[each.kind] = others.get(each.kind, 0) + each.total_bytes
    beside = ", ".join(f"{format_bytes(size)} in {kind}s" for kind, size in sorted(others.items()))
    said = f"{format_bytes(accounts.total_bytes)} on disk"
    return f"{said}{f' ({beside} beside the models)' if beside else ''}; {format_bytes(accounts.disk_free)} free."


def edits(base: Sequence[HealthRow], rows: Sequence[HealthRow]) -> dict[str, HealthRow] | None:
    """The rows that differ from the base, by their place in it; None when the base has to be sent anew."""
    if len(base) != len(rows):
        return None
    found: dict[str, HealthRow] = {}
    for place, (old, new) in enumerate(zip(base, rows, strict=True)):
        if old.ref != new.ref:
            return None
        if old != new:
            found[str(place)] = new
    return found if len(found) <= max(1, _EDITED * len(base)) else None


def plain(rows: Iterable[HealthRow]) -> list[list[Any]]:
    """Rows as a trait has them."""
    return [list(row) for row in rows]


def told_lines(lines: Iterable[str]) -> list[str]:
    """Lines that came from elsewhere: none too long, none too many, nothing in them that moves or turns text."""
    kept = [told(line.strip())[:_LONGEST] for line in lines if line.strip()]
    more = len(kept) - _MOST_LINES
    return [*kept[:_MOST_LINES], f"… and {more:,} more"] if more > 0 else kept


def _row(row: StatusRow, backups: Sequence[Backup], unreachable: str) -> HealthRow:
    said = _said(row)
    acts = [["repair", ""]] if _state(row.status) == "failed" else []
    if said.refreshable:
        acts.append(["refresh", unreachable])
    if backups:
        usable = any(not each.problem for each in backups)
        acts.append(["rollback", "" if usable else told(backups[-1].problem)[:_LONGEST]])
    checked_at = round(row.checked_at, 1)
    told_ref = told(row.ref)[:_LONGEST]
    where = _state(row.status)
    lines = list(said.lines)
    lines += [f"Backup {told(str(each))[:_LONGEST]}" for each in backups[-_MOST_LINES:]]
    return HealthRow(
        told_ref, row.size_bytes, where, row.depth, checked_at, said.found, said.advice, acts, lines
    )


def _state(status: str) -> str:
    return status if status in STATES else "failed"  # of a later version: nothing good can be said of it


@lru_cache(maxsize=1 << 15)  # a thousand rows are made anew when one of them has changed
def _said(row: StatusRow) -> _Told:
    """What its report says, where there is one that says more than that all is well."""
    if not row.report and row.status == "healthy":
        return _Told()
    report = HealthSummary([row])[row.ref]
    advice = report.recommendations
    said = report.verdict.removeprefix(f"{report.model_id} ").removesuffix(advice.details).strip()
    said = said.removeprefix("is ").removeprefix("healthy.").removeprefix("healthy, and was ").strip()
    damaged = report.damaged
    return _Told(
        found=told(said[:1].upper() + said[1:])[:_LONGEST],
        advice=_advice(row, report),
        lines=tuple(told_lines([*map(str, report.findings), *report.notes])),
        refreshable=advice.action == "refresh" or report.checks.freshness.recommended_refresh,
        wrong_chunks=len({chunk for finding in damaged for chunk in finding.chunks}),
        wrong_files=len(damaged),
    )


def _advice(row: StatusRow, report: ValidationReport) -> str:
    details = report.recommendations.details
    match report.recommendations.action:
        case "rebuild":
            source = details.partition(": ")[2]
            return f"Repair it: {source}" if source else "Repair it."
        case "refresh":
            return "Refresh it."
        case "remove":
            return f"Removing it would free {format_bytes(row.size_bytes)}: `%xprim remove {told(row.ref)[:_LONGEST]}`."
        case _:
            return told(details)[:_LONGEST]


def _damage(failed: Sequence[StatusRow]) -> str:
    said = [_said(row) for row in failed]
    chunks, files = sum(each.wrong_chunks for each in said), sum(each.wrong_files for each in said)
    if chunks:
        what, count = format_count(chunks, "corrupt chunk"), chunks
    elif files:
        what, count = format_count(files, "damaged file"), files
    else:
        what, count = f"{len(failed):,} failed", len(failed)
    where = f" in {len(failed):,} models" if len(failed) > 1 and (chunks or files) else ""
    return f"{what}{where}: repair {_it(count)}"


def _it(count: int) -> str:
    return "it" if count == 1 else "them"
