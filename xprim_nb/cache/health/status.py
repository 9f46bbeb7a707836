"""How everything here is, from `registry.json` and `state.sqlite` alone: no model file is touched, nobody is asked.

Rows are light; a whole report is built for the models that somebody looks up.

Source: spec 2 §Status; seeds/000 `get_cache_status`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from xprim_nb._memory import uncollected
from xprim_nb._text import STATUS_WORDS
from xprim_nb.cache.health.glance import Contact, Glance, StatusRow, read_verdicts, rows_of, summed_up
from xprim_nb.cache.health.report import Recommendation, ValidationReport
from xprim_nb.cache.state import State
from xprim_nb.cache.store import Store
from xprim_nb.errors import NotInstalledError
from xprim_nb.refs import ModelRef

__all__ = ["CacheStatus", "Contact", "HealthSummary", "StatusRow", "status_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_RECOMMENDATIONS = 20  # the rows have the rest
_DAMAGED = "registry.json is damaged; this was read from the models' directories."


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
class CacheStatus(Glance):
    """A glance, with a report behind each row."""

    @property
    def health_summary(self) -> HealthSummary:
        """A report for each model, built when it is looked up."""
        return HealthSummary(self.rows)

    @property
    def recommendations(self) -> tuple[str, ...]:
        """What to do next, the most urgent first, at most twenty; each names the command."""
        found = [report_of(row).verdict for row in self.concerns[:_MOST_RECOMMENDATIONS]]
        return (*self.notes, *found)

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


def status_of(store: Store, state: State, contact: Contact, ref: ModelRef | None = None) -> CacheStatus:
    """How everything here is, or one model.

    Raises:
        NotInstalledError: `ref` is given, and not listed.
        StorageError: `registry.json` cannot be read.
    """
    with uncollected():
        document, is_damaged = store.document()
        rows = rows_of(document, read_verdicts(state), ref)
        if ref is not None and not rows:
            raise NotInstalledError(f"{ref} is not installed.", subject=str(ref))
        said = (f"{_DAMAGED} Run `xprim cache repair {rows[0].ref}`.",) if rows and is_damaged else ()
        return CacheStatus(*summed_up(rows), contact=contact, notes=said)


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
    advice = Recommendation(action=row.action, priority=row.priority, details=repair)  # type: ignore[arg-type]  # as recorded
    return ValidationReport(
        model_id=row.ref,
        validation_timestamp=when,
        overall_status=row.status,  # type: ignore[arg-type]  # as it was recorded
        recommendations=advice,
        manifest_hash=row.manifest_hash,
        verdict=f"{row.ref} is {STATUS_WORDS.get(row.status, row.status)}. {repair}",
    )


def _iso(when: float | None) -> str | None:
    return None if when is None else datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")
