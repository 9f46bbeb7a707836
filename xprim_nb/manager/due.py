"""When maintenance is due, decided purely, and the document that remembers when it last ran.

    1. No schedule: never.
    2. A run began less than an hour ago and has not ended: it runs, or was killed; not yet.
    3. It never ended well: now.
    4. The last one ended in the future: the clock was put back; now.
    5. A day, a week or a month after the last one began, less an hour: a job that is started every night at three
       begins a minute sooner or later, and must not skip a night for it.

Source: spec 2 §Maintenance; seeds/000 §Daily Maintenance Routine.
"""

from __future__ import annotations

import calendar
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError

from xprim_nb._files import read_plain, storage_errors, write_atomic
from xprim_nb.errors import ConfigError

__all__ = ["MaintenanceRecord", "Schedule", "next_due", "read_record", "write_record"]

_log = logging.getLogger("xprim_nb.manager")

Schedule: TypeAlias = Literal["daily", "weekly", "monthly"]
_Moment = Annotated[AwareDatetime, AfterValidator(lambda when: when.astimezone(UTC))]

_SLACK = timedelta(hours=1)
_LONGEST_RUN = timedelta(hours=1)
_SCHEMA_VERSION: Literal[1] = 1


class MaintenanceRecord(BaseModel):
    """`cache/maintenance.json`.

    Attributes:
        schema_version: Of this document.
        schedule: `daily`, `weekly` or `monthly`; None for never by itself.
        begun_at: When the latest run began; None before the first.
        last_begun_at: When the latest run that ended had begun.
        ended_at: When it ended.
        outcome: What it found, in one sentence.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    schema_version: Literal[1] = _SCHEMA_VERSION
    schedule: Schedule | None = None
    begun_at: _Moment | None = None
    last_begun_at: _Moment | None = None
    ended_at: _Moment | None = None
    outcome: str = ""

    def __str__(self) -> str:
        when = f"last run {self.ended_at:%Y-%m-%d %H:%M} UTC" if self.ended_at else "never run"
        return f"maintenance: {self.schedule or 'no schedule'}, {when}. {self.outcome}".rstrip()


def next_due(record: MaintenanceRecord, now: datetime, schedule: Schedule | None = None) -> datetime | None:
    """When the next run is due: `now` or earlier when it is; None for never. See the module's decision tree.

    Args:
        record: What is remembered.
        now: The time, with its zone.
        schedule: Instead of the record's.
    """
    schedule = schedule or record.schedule
    if schedule is None:  # 1
        return None
    if record.begun_at is not None and record.begun_at != record.last_begun_at:  # 2
        running_until = record.begun_at + _LONGEST_RUN
        if record.begun_at <= now < running_until:
            return running_until
    if record.last_begun_at is None or record.ended_at is None:  # 3
        return now
    if record.ended_at > now + _SLACK:  # 4
        return now
    return _one_later(record.last_begun_at, schedule) - _SLACK  # 5


def _one_later(when: datetime, schedule: Schedule) -> datetime:
    """A period later.

    >>> _one_later(datetime(2026, 1, 31, tzinfo=UTC), "monthly").isoformat()
    '2026-02-28T00:00:00+00:00'
    """
    if schedule == "daily":
        return when + timedelta(days=1)
    if schedule == "weekly":
        return when + timedelta(weeks=1)
    year, month = (when.year, when.month + 1) if when.month < 12 else (when.year + 1, 1)
    return when.replace(year=year, month=month, day=min(when.day, calendar.monthrange(year, month)[1]))


def read_record(path: Path) -> MaintenanceRecord:
    """What is remembered; an empty record when nothing is, or when the file is damaged.

    Raises:
        ConfigError: It was written by a newer version of this program; it is left alone.
        StorageError: The disk refused.
    """
    with storage_errors(path, "reading"):
        try:
            raw = read_plain(path)
        except FileNotFoundError:
            return MaintenanceRecord()
    try:
        found: Any = orjson.loads(raw)
        version = found.get("schema_version", 0) if isinstance(found, dict) else 0
        if isinstance(version, int) and version > _SCHEMA_VERSION:
            raise ConfigError(
                f"{path} has schema version {version}; this program reads up to {_SCHEMA_VERSION}.",
                subject=str(path),
                hint="Upgrade xprim-nb; the file was left as it is.",
            )
        return MaintenanceRecord.model_validate({**found, "schema_version": _SCHEMA_VERSION})
    except ConfigError:
        raise
    except (ValueError, TypeError, ValidationError) as error:
        # A run too many costs minutes; the schedule is the one thing that is lost, and is said.
        _log.warning(
            "maintenance.json is damaged, the schedule has to be set again",
            extra={"path": str(path), "why": str(error).partition("\n")[0]},
        )
        return MaintenanceRecord()


def write_record(path: Path, record: MaintenanceRecord) -> None:
    """Remember it, durably.

    Raises:
        StorageError: The disk refused.
    """
    raw = record.model_dump(mode="json")
    write_atomic(path, orjson.dumps(raw, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
