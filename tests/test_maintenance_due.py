"""When maintenance is due, and the document that remembers it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from xprim_nb.errors import ConfigError
from xprim_nb.manager.due import MaintenanceRecord, Schedule, next_due, read_record

_T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "last", "due"),
    [
        ("daily", datetime(2026, 2, 28, 3, tzinfo=UTC), datetime(2026, 3, 1, 2, tzinfo=UTC)),
        ("weekly", datetime(2026, 2, 28, 3, tzinfo=UTC), datetime(2026, 3, 7, 2, tzinfo=UTC)),
        ("monthly", datetime(2026, 1, 31, 3, tzinfo=UTC), datetime(2026, 2, 28, 2, tzinfo=UTC)),
        ("monthly", datetime(2025, 12, 31, 3, tzinfo=UTC), datetime(2026, 1, 31, 2, tzinfo=UTC)),
        ("daily", datetime(2031, 1, 1, tzinfo=UTC), _T0),  # the clock was put back
    ],
)
def test_due_times(schedule: Schedule, last: datetime, due: datetime) -> None:
    """A day, a week and a month after the last run, an hour early; at once when that lies in the future."""
    record = MaintenanceRecord(schedule=schedule, begun_at=last, last_begun_at=last, ended_at=last)
    assert next_due(record, _T0) == due


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    """A torn record costs a run too many, nothing else; one of a newer program is left alone."""
    path = tmp_path / "maintenance.json"
    assert read_record(path) == MaintenanceRecord()
    for raw in (b"", b"{", b"[]", b'{"schedule": "hourly"}'):
        path.write_bytes(raw)
        assert read_record(path) == MaintenanceRecord()
    path.write_text(json.dumps({"schedule": "daily"}))
    assert read_record(path).schedule == "daily"
    path.write_text(json.dumps({"schema_version": 2}))
    with pytest.raises(ConfigError, match="schema version 2"):
        read_record(path)
