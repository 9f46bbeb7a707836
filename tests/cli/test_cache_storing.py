"""`xprim cache archive | restore | archived | drop-archive | adopt | adopted | forget`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from .conftest import Runner, lines

_REF = "fast-whisper/tiny fp16"

Cache = Callable[..., Result]
Told = Callable[..., dict[str, Any]]


@pytest.fixture
def model(run: Runner, data_dir: Path) -> Path:
    """The directory of an installed model with a file that somebody added."""
    run("pull", _REF, "-q")
    folder = data_dir / "fast-whisper" / "tiny" / "fp16"
    (folder / "notes.txt").write_text("mine")
    return folder


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_archive_comes_back_byte_for_byte(cache: Cache, told: Told, model: Path) -> None:
    """The model goes and comes back as it was, with no network, the added file too; dry runs do neither."""
    before = _bytes(model)
    plan = told("archive", _REF, "--dry-run")["plan"]
    assert (plan["fits"], plan["local_files"], _bytes(model)) == (True, ["notes.txt"], before)
    archived = told("archive", _REF)["archived"]
    assert set(archived) >= {"ref", "model_bytes", "stored_bytes", "archived_at", "path"}
    assert not model.exists()
    assert lines(cache("archived"))[1].split()[:2] == ["fast-whisper/tiny", "fp16"]
    assert told("restore", _REF, "--dry-run")["plan"]["pull"]["bytes_network"] == 0
    assert not model.exists()
    restored = told("restore", _REF, "--offline", "--registry", "https://models.example.org")["restored"]
    assert (restored["receipt"]["bytes_network"], restored["local_files"]) == (0, ["notes.txt"])
    assert _bytes(model) == before
    assert told("archived")["archives"] == []


def test_text_of_archive_and_restore(cache: Cache, model: Path) -> None:
    """One line each, and where it lies; no line of a download."""
    assert lines(cache("archive", _REF))[0].startswith(f"Archived: {_REF}: 9.8 KB stored in ")
    assert lines(cache("restore", _REF)) == [f"Restored: {_REF} (9.8 KB)", f"Path: {model}"]


def test_drop_archive_puts_changed_files_aside(cache: Cache, told: Told, model: Path) -> None:
    """The archive goes, what somebody had added in it does not; a second time there is none."""
    cache("archive", _REF)
    kept = Path(told("drop-archive", _REF)["dropped"]["kept"])
    assert [path.read_text() for path in kept.rglob("notes.txt")] == ["mine"]
    result = cache("drop-archive", _REF)
    assert result.exit_code == 4
    assert result.stderr.startswith(f"error: {_REF} is not archived.\n")


def test_archive_without_its_extra(cache: Cache, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `archive` the hint says how to install it, and the model stays."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    result = cache("archive", _REF)
    assert (result.exit_code, model.exists()) == (1, True)
    assert "archive" in result.stderr.splitlines()[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody else's model."""
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "config.json").write_text("{}")
    (place / "weights.bin").write_bytes(b"weights" * 1000)
    return place


def test_adopt_lists_installs_and_forgets(cache: Cache, told: Told, run: Runner, folder: Path) -> None:
    """A dry run remembers nothing; adopting remembers the place; `--as` installs from it, and forgetting leaves it."""
    before = _bytes(folder)
    assert told("adopt", str(folder), "--dry-run")["plan"]["files"] == 2
    assert told("adopted")["adopted"] == []
    adopted = told("adopt", str(folder), "--as", "mine/theirs@v1")["adopted"]
    assert (adopted["place"]["kind"], adopted["model"]["ref"]) == ("folder", "mine/theirs v1")
    assert adopted["receipt"]["bytes_network"] == 0
    path = Path(run("path", "mine/theirs", "v1").stdout.strip())
    assert (path / "weights.bin").read_bytes() == before["weights.bin"]
    assert lines(cache("adopted"))[1].split()[:2] == [str(folder), "folder"]
    assert told("forget", str(folder))["forgotten"] == [str(folder)]
    assert told("forget", "--all")["forgotten"] == []
    assert _bytes(folder) == before
    assert cache("forget").exit_code == 2


def test_adopt_of_nothing_is_a_settings_error(cache: Cache, tmp_path: Path) -> None:
    """A directory that is none exits with 2, and so does a name without a version."""
    assert cache("adopt", str(tmp_path / "nowhere")).exit_code == 2
    assert cache("adopt", str(tmp_path), "--as", "mine/model").exit_code == 2
