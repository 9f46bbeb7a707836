"""`xprim cache bundle …`: documents derived, fetched, checked and mended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from .conftest import Runner, damage, lines

_NAME = "fast-whisper/tiny"

Cache = Callable[..., Result]
Told = Callable[..., dict[str, Any]]


@pytest.fixture
def derived(cache: Cache, run: Runner, data_dir: Path) -> Path:
    """The directory of a bundle that was derived from an installed model."""
    run("pull", _NAME, "fp16", "-q")
    assert cache("bundle", "derive", _NAME).exit_code == 0
    return data_dir / "info" / "fast-whisper" / "tiny"


def test_a_derived_bundle_is_shown_and_checked_by_sha256sum(cache: Cache, told: Told, derived: Path) -> None:
    """It is listed, its documents can be printed, and a user can check it without us."""
    assert lines(cache("bundle", "list"))[1].split()[0] == _NAME
    shown = told("bundle", "show", _NAME)["bundle"]
    assert "documentation/README.md" in shown["documents"]
    text = (derived / "documentation" / "README.md").read_text()
    assert cache("bundle", "show", _NAME, "documentation/README.md").stdout.strip() == text.strip()
    assert cache("bundle", "validate", _NAME).exit_code == 0
    checked = subprocess.run(["sha256sum", "-c", "metadata/integrity.sha256"], cwd=derived, check=False)
    assert checked.returncode == 0


def test_a_damaged_document_exits_with_6_and_is_mended(cache: Cache, told: Told, derived: Path) -> None:
    """Validation names the document; the dry run of a repair changes nothing, the repair mends it."""
    path = derived / "metadata" / "model_card.json"
    right = path.read_bytes()
    damage(path, 5)
    assert cache("bundle", "validate", _NAME).exit_code == 6
    (report,) = told("bundle", "validate", _NAME)["validated"]
    assert [each["path"] for each in report["findings"]] == ["metadata/model_card.json"]
    assert cache("bundle", "repair", _NAME, "--dry-run").exit_code == 0
    assert path.read_bytes() != right
    assert told("bundle", "repair", _NAME)["repaired"]["success"] is True
    assert cache("bundle", "validate", _NAME).exit_code == 0


def test_init_takes_a_request_from_a_file(cache: Cache, told: Told, tmp_path: Path) -> None:
    """Documents come from its URLs, here of files; what is missing is told with exit code 1 and can be had later."""
    (tmp_path / "card.json").write_text('{"name": "mine"}')
    request = {
        "model_id": "mine/model",
        "source_urls": {
            "model_card": (tmp_path / "card.json").as_uri(),
            "documentation": [(tmp_path / "README.md").as_uri()],
            "examples": [],
        },
        "validation_rules": {
            "required_files": ["README.md"],
            "max_age_days": 30,
            "checksum_validation": True,
        },
    }
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    assert len(told("bundle", "init", str(file), "--dry-run")["plan"]["steps"]) == 2
    assert cache("bundle", "list").stdout.count("mine/model") == 0
    first = told("bundle", "init", str(file))
    assert (first["bundle"]["success"], first["error"]["exit_code"] in (1, 6)) == (False, True)
    (tmp_path / "README.md").write_text("# Mine")
    assert told("bundle", "init", str(file))["bundle"]["manifest"]["validation_status"] == "valid"
    assert cache("bundle", "refresh", "mine/model").exit_code == 0


def test_a_request_that_is_none_is_explained(cache: Cache, tmp_path: Path) -> None:
    """A key that is missing is named, in one sentence, with exit code 2."""
    file = tmp_path / "request.json"
    file.write_text('{"model_id": "mine/model"}')
    result = cache("bundle", "init", str(file))
    assert result.exit_code == 2
    assert "source_urls: field required" in result.stderr
    file.write_text("nonsense")
    assert cache("bundle", "init", str(file)).exit_code == 2


def test_a_model_without_a_bundle(cache: Cache) -> None:
    """The hint names the command that makes one."""
    result = cache("bundle", "show", "no/model")
    assert result.exit_code == 4
    assert "`xprim cache bundle derive no/model`" in result.stderr
