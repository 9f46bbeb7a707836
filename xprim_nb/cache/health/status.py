"""How everything here is, from `registry.json` and `state.sqlite` alone: no model file is touched, nobody is asked.

Rows are light; a whole report is built for the models that somebody looks up.

Source: spec 2 §Status; seeds/000 `get_cache_status`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from xprim_nb._text import format_bytes, format_seconds
from xprim_nb.cache.health.report import Recommendation, ValidationReport
from xprim_nb.cache.health.verdicts import Verdicts
from xprim_nb.cache.store import Store
from xprim_nb.errors import NotInstalledError
from xprim_nb.refs import ModelRef

__all__ = ["CacheStatus", "Contact", "HealthSummary", "StatusRow", "status_of"]

_GB = 1024**3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Recommendations in the order in which somebody should act.
_ORDER = {"critical": 0, "high": 1, "medium": 2, "low": 3}
_MOST_RECOMMENDATIONS = 20  # the rows have the rest
_DAMAGED = "registry.json is damaged; this was read from the models' directories."


class StatusRow(NamedTuple):
    """One model.

    Attributes:
        ref: `group/model version`.
        size_bytes: Of its files.
        status: `healthy`, `degraded` or `failed`, as of `checked_at`.
        depth: `quick`, `full`, or `install`: every byte was verified when it was installed, and nothing since.
        checked: When the verdict was reached: in seconds since the epoch, or as `registry.json` gives it.
        action: What was recommended.
        priority: How soon.
        manifest_hash: Which manifest is installed.
        report: The recorded report as JSON; empty where it says nothing but that all is well.
    """

    ref: str
    size_bytes: int
    status: str
    depth: str
    checked: float | str
    action: str
    priority: str
    manifest_hash: str
    report: str = ""

    @property
    def checked_at(self) -> float:
        """When the verdict was reached, in seconds since the epoch."""
        return self.checked if isinstance(self.checked, int | float) else _seconds(self.checked)

    def age_s(self, now: float | None = None) -> float:
        """Seconds since the verdict."""
        return max(0.0, (time.time() if now is None else now) - self.checked_at)


@dataclass(frozen=True, slots=True)
class Contact:
    """How the registry can be reached.

    Attributes:
        registry: Its URL or directory, passwords masked.
        offline: True in offline mode.
        needs_network: False when it lies on this machine.
        last_contact_at: When it last answered, in seconds since the epoch; None when it never did.
    """

    registry: str
    offline: bool
    needs_network: bool
    last_contact_at: float | None

    def sentence(self, now: float) -> str:
        """What is known, in a sentence. Nobody was asked for it."""
        if not self.needs_network:
            return f"The registry lies on this machine: {self.registry}."
        when = (
            f"{self.registry} never answered from here."
            if self.last_contact_at is None
            else f"{self.registry} last answered {format_seconds(max(0.0, now - self.last_contact_at))} ago."
        )
        return f"Offline mode is on; {when}" if self.offline else f"Online mode; {when} It was not asked now."


class HealthSummary(Mapping[str, ValidationReport]):
    """A report for each model, by name; built when it is looked up."""

    def __init__(self, rows: Sequence[StatusRow]) -> None:
        self._rows = rows
        self._by_name: dict[str, StatusRow] = {}

    def __getitem__(self, name: str) -> ValidationReport:
        if len(self._by_name) != len(self._rows):
            self._by_name = {row.ref: row for row in self._rows}
        return report_of(self._by_name[name])

    def __iter__(self) -> Iterator[str]:
        return (row.ref for row in self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """How everything here is.

    Attributes:
        rows: One for each installed model, in the order of `registry.json`.
        checked_at: When this was put together, in seconds since the epoch.
        contact: How the registry can be reached.
        notes: Sentences about the cache itself (a damaged `registry.json`, say).
        counts: Models by status.
        total_bytes: Of all models.
    """

    rows: tuple[StatusRow, ...]
    checked_at: float
    contact: Contact
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    total_bytes: int = 0

    @property
    def total_models(self) -> int:
        """How many models are installed."""
        return len(self.rows)

    @property
    def total_size_gb(self) -> float:
        """Their size, in units of 1024³ bytes."""
        return self.total_bytes / _GB

    @property
    def health_summary(self) -> HealthSummary:
        """A report for each model, built when it is looked up."""
        return HealthSummary(self.rows)

    @property
    def concerns(self) -> list[StatusRow]:
        """The models for which something is to be done, the most urgent first."""
        rows = [row for row in self.rows if row.status != "healthy" or row.action != "none"]
        return sorted(rows, key=lambda row: (_ORDER.get(row.priority, 9), row.ref))

    @property
    def recommendations(self) -> tuple[str, ...]:
        """What to do next, the most urgent first, at most twenty; each names the command."""
        found = [report_of(row).verdict for row in self.concerns[:_MOST_RECOMMENDATIONS]]
        return (*self.notes, *found)

    @property
    def oldest_verdict_s(self) -> float | None:
        """Age of the oldest verdict, in seconds; None when nothing is installed."""
        return max((row.age_s(self.checked_at) for row in self.rows), default=None)

    @property
    def contact_line(self) -> str:
        """Offline or online, and when the registry last answered."""
        return self.contact.sentence(self.checked_at)

    @property
    def verdict(self) -> str:
        """Everything in one sentence."""
        if not self.rows:
            return "Nothing is installed."
        models = (
            f"{len(self.rows)} model{'s' if len(self.rows) != 1 else ''} ({format_bytes(self.total_bytes)})"
        )
        bad = [f"{self.counts[each]} {each}" for each in ("failed", "degraded") if self.counts.get(each)]
        oldest = f"the oldest verdict is {format_seconds(self.oldest_verdict_s or 0.0)} old"
        if not bad:
            return f"{models}, all healthy; {oldest}."
        return f"{models}: {', '.join(bad)}; {oldest}. Run `xprim cache repair {self.concerns[0].ref}`."

    def to_json(self) -> dict[str, Any]:
        """The seed's shape, with whole reports."""
        return {
            "schema_version": 1,
            "total_models": self.total_models,
            "total_size_gb": self.total_size_gb,
            "health_summary": {
                name: report.model_dump(mode="json") for name, report in self.health_summary.items()
            },
            "recommendations": list(self.recommendations),
            "offline": self.contact.offline,
            "last_contact_at": _iso(self.contact.last_contact_at),
            "contact": self.contact_line,
            "checked_at": _iso(self.checked_at),
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        return "\n".join([self.verdict, *self.recommendations, self.contact_line])


def status_of(store: Store, verdicts: Verdicts, contact: Contact, ref: ModelRef | None = None) -> CacheStatus:
    """How everything here is, or one model.

    Raises:
        NotInstalledError: `ref` is given, and not listed.
        StorageError: `registry.json` cannot be read.
    """
    known, rows = verdicts.all(), list[StatusRow]()
    document, is_damaged = store.document()
    for group, models in document.items():
        if not isinstance(models, dict) or (ref is not None and group != ref.group):
            continue
        for model, versions in models.items():
            if not isinstance(versions, dict) or (ref is not None and model != ref.model):
                continue
            for version, entry in versions.items():
                name = f"{group}/{model} {version}"
                if ref is None or not ref.version or version == ref.version:
                    rows.append(_row(name, entry, known.get(name)))
    if ref is not None and not rows:
        raise NotInstalledError(f"{ref} is not installed.", subject=str(ref))
    said = [f"{_DAMAGED} Run `xprim cache repair {rows[0].ref}`."] if rows and is_damaged else []
    counts = Counter(row[2] for row in rows)
    return CacheStatus(
        tuple(rows), time.time(), contact, tuple(said), dict(counts), sum(row[1] for row in rows)
    )


def _row(name: str, entry: Any, verdict: Sequence[Any] | None) -> StatusRow:  # noqa: ANN401  # as it was stored
    try:
        digest, size, installed = entry["manifest_hash"], entry["total_size"], entry["installed_at"]
        if verdict is None or verdict[1] != digest or verdict[4] < _seconds(installed):
            return StatusRow(name, size, "healthy", "install", installed, "none", "low", digest)
    except (KeyError, TypeError, ValueError):
        size = entry.get("total_size") if isinstance(entry, dict) else None
        return StatusRow(
            name, size if isinstance(size, int) else 0, "failed", "install", 0.0, "rebuild", "high", ""
        )
    _, _, status, depth, checked_at, action, priority, report = verdict
    return StatusRow(name, size, status, depth, checked_at, action, priority, digest, report)


@lru_cache(maxsize=1 << 15)  # thousands of times, the same ones in every call
def _seconds(text: str) -> float:
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def report_of(row: StatusRow) -> ValidationReport:
    """The report behind a row: the recorded one, or what the row itself says."""
    if row.report:
        try:
            return ValidationReport.model_validate_json(row.report)
        except ValidationError:  # of a later version: the row is what can be told
            pass
    when = _EPOCH if not row.checked_at else datetime.fromtimestamp(row.checked_at, UTC)
    if row.status == "healthy":
        return ValidationReport(
            model_id=row.ref,
            validation_timestamp=when,
            depth="full" if row.depth == "install" else row.depth,  # type: ignore[arg-type]  # as it was recorded
            manifest_hash=row.manifest_hash,
            notes=("Every byte was verified when it was installed.",) if row.depth == "install" else (),
            verdict=f"{row.ref} is healthy.",
        )
    repair = f"Run `xprim cache repair {row.ref}`."
    advice = Recommendation(action=row.action, priority=row.priority, details=repair)  # type: ignore[arg-type]
    return ValidationReport(
        model_id=row.ref,
        validation_timestamp=when,
        overall_status=row.status,  # type: ignore[arg-type]  # as it was recorded
        recommendations=advice,
        manifest_hash=row.manifest_hash,
        verdict=f"{row.ref} is {row.status}. {repair}",
    )


def _iso(when: float | None) -> str | None:
    return None if when is None else datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")
