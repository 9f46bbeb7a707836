"""What the cache's commands of `%xprim` return, and how it looks in a cell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.cache.adopt.installing import Adopted
from xprim_nb.cache.health.repaired import Repaired, RepairPlan
from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.cache.health.status import CacheStatus
from xprim_nb.cache.renewal.values import Refreshed, RefreshPlan, RollbackPlan
from xprim_nb.cache.renewal.values import Restored as RolledBack
from xprim_nb.cache.upkeep.archive import ArchivePlan
from xprim_nb.cache.upkeep.archived import Archived
from xprim_nb.cache.upkeep.cleanup import CleanupPlan
from xprim_nb.cache.upkeep.execute import CleanupResult
from xprim_nb.cache.upkeep.pins import Pin
from xprim_nb.cache.upkeep.restoring import Restored, RestorePlan
from xprim_nb.cache.upkeep.why import Why
from xprim_nb.errors import ConfigError, NotInstalledError
from xprim_nb.magics.tables import Rows
from xprim_nb.manager.due import MaintenanceRecord
from xprim_nb.manager.steward import MaintenancePlan, MaintenanceReport
from xprim_nb.reports import HealthReport
from xprim_nb.testing.registries import MadeRegistry

from .conftest import value_of

_REF = "demo/tiny-llama latest"


@pytest.fixture
def model(shell: InteractiveShell, data_dir: Path) -> Path:
    """The directory of an installed model."""
    value_of(shell.run_cell(f"pulled = %xprim pull {_REF} --wait"))
    return data_dir / "demo" / "tiny-llama" / "latest"


def _run(shell: InteractiveShell, line: str) -> Any:
    return value_of(shell.run_cell(f"%xprim {line}"))


def _shown(shell: InteractiveShell, value: object) -> tuple[str, str]:
    assert shell.display_formatter is not None
    data, _ = shell.display_formatter.format(value)
    return data["text/plain"], data["text/html"]


def _damage(path: Path) -> None:
    facts, data = path.stat(), bytearray(path.read_bytes())
    data[1500] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_status_and_health_ask_what_is_recorded(shell: InteractiveShell, model: Path) -> None:
    """Both say what was found last; only `--quick` and `--full` look again, and a report has a frame and a chart."""
    status = _run(shell, "status")
    assert isinstance(status, CacheStatus)
    assert f"{_REF}  healthy" in _shown(shell, status)[0]
    (model / "model.bin").unlink()
    assert _run(shell, "health").is_healthy
    report = _run(shell, "health --quick")
    assert isinstance(report, HealthReport)
    assert report.verdict == f"{_REF} is damaged: run `%xprim repair {_REF}`."
    assert list(report.frame["missing"]) == [1]
    assert report.chart.bars[0].group == "damaged"
    assert not _run(shell, f"health {_REF}").is_healthy
    assert "damaged" in _shown(shell, _run(shell, "status demo/tiny-llama"))[0]
    with pytest.raises(UsageError, match="not both"):
        _run(shell, "health --quick --full")
    with pytest.raises(NotInstalledError):
        _run(shell, "health no/model")


def test_validate_and_repair(shell: InteractiveShell, model: Path) -> None:
    """Damage is located; the plan changes nothing; the repair fetches one chunk and says so."""
    right = (model / "model.bin").read_bytes()
    _damage(model / "model.bin")
    report = _run(shell, f"validate {_REF} --full")
    assert isinstance(report, ValidationReport)
    text, html = _shown(shell, report)
    assert "Status:   damaged" in text.splitlines()
    assert f"`%xprim repair {_REF}`" in text
    assert "xprim cache" not in text + html
    rows = _run(shell, "validate")
    assert isinstance(rows, Rows)
    assert repr(rows).splitlines()[1].split()[:3] == ["demo/tiny-llama", "latest", "damaged"]
    plan = _run(shell, f"repair {_REF} --dry-run")
    assert isinstance(plan, RepairPlan)
    assert "in 1 chunk" in _shown(shell, plan)[0]
    assert (model / "model.bin").read_bytes() != right
    done = _run(shell, f"repair {_REF}")
    assert isinstance(done, Repaired)
    assert "1 of 5 chunks fetched" in _shown(shell, done)[0]
    assert (model / "model.bin").read_bytes() == right


def test_refresh_rollback_and_backups(shell: InteractiveShell, model: Path, registry: MadeRegistry) -> None:
    """An edit survives both ways; the plans change nothing; backups are a table."""
    assert "no backups" in repr(_run(shell, "backups"))
    old = (model / "model.bin").read_bytes()
    (model / "notes.txt").write_text("mine")
    registry.put_entry(_REF, {**registry.entry("demo/tiny-llama v2"), "alias": "v2"})
    plan = _run(shell, f"refresh {_REF} --dry-run")
    assert isinstance(plan, RefreshPlan)
    assert "updated" in _shown(shell, plan)[0]
    assert (model / "model.bin").read_bytes() == old
    done = _run(shell, f"refresh {_REF}")
    assert isinstance(done, Refreshed)
    assert "Kept:" in _shown(shell, done)[0]
    assert (model / "model.bin").read_bytes() != old
    assert len(_run(shell, f"backups {_REF}")) == 1
    assert isinstance(_run(shell, f"rollback {_REF} --dry-run"), RollbackPlan)
    back = _run(shell, f"rollback {_REF}")
    assert isinstance(back, RolledBack)
    assert "rolled back" in _shown(shell, back)[0]
    assert (model / "model.bin").read_bytes() == old
    assert (model / "notes.txt").read_text() == "mine"


def test_cleanup_is_a_plan_until_applied(shell: InteractiveShell, model: Path) -> None:
    """`cleanup` shows what would go, `--apply` does it; `free` does it, `--dry-run` shows it; a pin stops both."""
    options = "--max-size 0 --min-age-hours 0"
    plan = _run(shell, f"cleanup {options}")
    assert isinstance(plan, CleanupPlan)
    assert f"remove model {_REF}" in _shown(shell, plan)[0]
    assert model.exists()
    with pytest.raises(UsageError, match="--dry-run changes nothing"):
        _run(shell, "cleanup --apply --dry-run")
    pin = _run(shell, f"pin {_REF} --reason 'for the thesis'")
    assert isinstance(pin, Pin)
    assert "for the thesis" in repr(_run(shell, "pin"))
    assert _run(shell, f"cleanup {options} --apply").done == ()
    assert _run(shell, f"unpin {_REF}") is True
    assert isinstance(_run(shell, "free 1KB --min-age-hours 0 --dry-run"), CleanupPlan)
    assert model.exists()
    freed = _run(shell, "free 1KB --min-age-hours 0")
    assert isinstance(freed, CleanupResult)
    assert freed.removed_models == (_REF,)
    assert not model.exists()
    with pytest.raises(ConfigError):
        _run(shell, "free much")


def test_why_archive_and_restore(shell: InteractiveShell, model: Path) -> None:
    """A file's model and reasons; an archive and back, with plans; lists where no model is named."""
    why = _run(shell, f"why {model / 'config.json'}")
    assert isinstance(why, Why)
    assert f"Model:         {_REF}" in _shown(shell, why)[0].splitlines()
    before = (model / "model.bin").read_bytes()
    assert isinstance(_run(shell, f"archive {_REF} --dry-run"), ArchivePlan)
    assert model.exists()
    archived = _run(shell, f"archive {_REF}")
    assert isinstance(archived, Archived)
    assert f"`%xprim restore {_REF}`" in _shown(shell, archived)[0]
    assert not model.exists()
    assert len(_run(shell, "archive")) == 1
    assert isinstance(_run(shell, f"restore {_REF} --dry-run"), RestorePlan)
    assert isinstance(_run(shell, f"restore {_REF}"), Restored)
    assert (model / "model.bin").read_bytes() == before


def test_adopt(shell: InteractiveShell, tmp_path: Path) -> None:
    """A folder is scanned, adopted, listed, and a model installed from it under a name of one's own."""
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "weights.bin").write_bytes(b"w" * 5000)
    assert _run(shell, f"adopt {place} --dry-run").size_bytes == 5000
    assert "Nothing is adopted" in repr(_run(shell, "adopt"))
    adopted = _run(shell, f"adopt {place} --as mine/theirs@v1")
    assert isinstance(adopted, Adopted)
    assert "mine/theirs v1, 4.9 KB" in _shown(shell, adopted)[0]
    assert len(_run(shell, "adopt")) == 1


def test_maintain(shell: InteractiveShell, model: Path) -> None:
    """A plan, a run, a schedule that is remembered and forgotten."""
    assert isinstance(_run(shell, "maintain --dry-run"), MaintenancePlan)
    report = _run(shell, "maintain --scrub 0 --schedule weekly")
    assert isinstance(report, MaintenanceReport)
    assert "1 checked; 0 B freed." in _shown(shell, report)[0]
    assert _run(shell, "maintain --if-due").ran is False
    record = _run(shell, "maintain --schedule never")
    assert isinstance(record, MaintenanceRecord)
    assert "Schedule:  none" in _shown(shell, record)[0].splitlines()


def test_offline_everything_here_answers(shell: InteractiveShell, model: Path) -> None:
    """With a registry that may not be asked, each of these works."""
    value_of(shell.run_cell("config = %xprim config registry_url=https://models.example.org offline=1"))
    for line in (
        "status",
        "health --full",
        f"validate {_REF}",
        f"repair {_REF}",
        f"refresh {_REF}",
        "cleanup",
        f"archive {_REF}",
        f"restore {_REF}",
        "maintain --scrub 0",
    ):
        _run(shell, line)
    assert "Offline mode is on" in _shown(shell, _run(shell, "status"))[0]
