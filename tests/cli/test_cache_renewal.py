"""`xprim cache refresh | rollback | backups | drop-backup`: nothing of a user's is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from .conftest import Runner, lines

_REF = "llama/7b latest"

Cache = Callable[..., Result]
Told = Callable[..., dict[str, Any]]


@pytest.fixture
def moved(run: Runner, move_alias: Callable[[str], None], data_dir: Path) -> Path:
    """The directory of an installed version, of which the registry has a newer one."""
    run("pull", _REF, "-q")
    move_alias("q4_v3")
    return data_dir / "llama" / "7b" / "latest"


def test_dry_run_of_a_refresh_changes_nothing(cache: Cache, told: Told, moved: Path) -> None:
    """The plan says what would become of each file, and the version stays as it is."""
    before = (moved / "model.bin").read_bytes()
    result = cache("refresh", _REF, "--dry-run")
    assert result.exit_code == 0
    assert "The old version stays as a backup." in result.stdout
    plan = told("refresh", _REF, "--dry-run")["plan"]
    assert (plan["status"], [each["action"] for each in plan["files"]]) == ("refresh", ["updated"])
    assert (moved / "model.bin").read_bytes() == before
    assert told("backups")["backups"] == []


def test_an_edit_survives_a_refresh_and_a_rollback(cache: Cache, told: Told, moved: Path) -> None:
    """A file that somebody added stays, the old version is a backup, and comes back whole."""
    old = (moved / "model.bin").read_bytes()
    (moved / "notes.txt").write_text("mine")
    done = told("refresh", _REF)["refreshed"]
    assert (done["status"], done["success"], done["kept"]) == ("refreshed", True, ["notes.txt"])
    assert (moved / "notes.txt").read_text() == "mine"
    assert (moved / "model.bin").read_bytes() != old
    (backup,) = told("backups", _REF)["backups"]
    assert {"id", "manifest_hash", "made_at", "size_bytes", "path", "problem"} <= set(backup)
    assert lines(cache("backups"))[1].split()[2] == backup["id"]
    plan = told("rollback", _REF, "--dry-run")["plan"]
    assert plan["backup"]["id"] == backup["id"]
    assert (moved / "model.bin").read_bytes() != old
    assert told("rollback", _REF, "--to", backup["id"])["rolled_back"]["restored_from"]["id"] == backup["id"]
    assert (moved / "model.bin").read_bytes() == old
    assert (moved / "notes.txt").read_text() == "mine"


def test_discarded_changes_lie_in_the_backup(cache: Cache, told: Told, moved: Path) -> None:
    """`--discard-changes` gives the version as it was published; the backup has the rest."""
    (moved / "notes.txt").write_text("mine")
    done = told("refresh", _REF, "--discard-changes")["refreshed"]
    assert not (moved / "notes.txt").exists()
    assert (Path(done["backup"]["path"]) / "tree" / "notes.txt").read_text() == "mine"


def test_refresh_of_what_is_current(cache: Cache, run: Runner) -> None:
    """A version that is current is no failure, and needs no new backup."""
    run("pull", _REF, "-q")
    result = cache("refresh", _REF)
    assert (result.exit_code, lines(result)) == (0, [f"{_REF} is current."])


def test_refresh_tells_its_channels(cache: Cache, moved: Path, tmp_path: Path) -> None:
    """`--notify file:PATH` gets a line of JSON; a channel that cannot work is a setting's error."""
    assert cache("refresh", _REF, "--notify", f"file:{tmp_path / 'news.jsonl'}").exit_code == 0
    assert '"refreshed"' in (tmp_path / "news.jsonl").read_text()
    assert cache("refresh", _REF, "--notify", "pigeon").exit_code == 2


def test_rollback_without_a_backup(cache: Cache, run: Runner) -> None:
    """It says that a backup is missing, and not that the model is."""
    run("pull", _REF, "-q")
    result = cache("rollback", _REF)
    assert result.exit_code == 4
    assert result.stderr.startswith(f"error: {_REF} has no backup.\nhint: ")


def test_refresh_of_what_is_not_installed(cache: Cache) -> None:
    """The house's words, and its exit code."""
    result = cache("refresh", _REF)
    assert (result.exit_code, result.stderr.splitlines()[-2]) == (4, f"error: model not installed: {_REF}")


def test_drop_backup_keeps_the_newest(
    cache: Cache, told: Told, moved: Path, move_alias: Callable[[str], None]
) -> None:
    """Without `--which` all but the newest go; the dry run lets none go; with it, that one goes."""
    cache("refresh", _REF)
    move_alias("q4_v2")
    cache("refresh", _REF)
    first, second = (each["id"] for each in told("backups")["backups"])
    assert [each["id"] for each in told("drop-backup", _REF, "--dry-run")["plan"]["backups"]] == [first]
    assert len(told("backups")["backups"]) == 2
    assert [each["id"] for each in told("drop-backup", _REF)["dropped"]] == [first]
    assert told("drop-backup", _REF)["dropped"] == []
    result = cache("drop-backup", _REF, "--which", second, "-y")
    assert lines(result) == [f"Dropped: {_REF} {second}"]
    assert told("backups")["backups"] == []
