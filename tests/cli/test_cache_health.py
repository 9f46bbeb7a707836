"""`xprim cache status | validate | scrub | repair`: what is found, told and mended, and how each ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from .conftest import Runner, damage, lines

_REF = "fast-whisper/tiny fp16"
_REPORT = {"model_id", "overall_status", "checks", "recommendations", "depth", "findings", "verdict"}

Cache = Callable[..., Result]
Told = Callable[..., dict[str, Any]]


@pytest.fixture
def weights(run: Runner, data_dir: Path) -> Path:
    """The weights of an installed model."""
    run("pull", _REF, "-q")
    return data_dir / "fast-whisper" / "tiny" / "fp16" / "model.safetensors"


def _tree(root: Path) -> dict[str, bytes]:
    """The bytes of every file of the user's; our own notes of when we looked may change."""
    found = (path for path in root.rglob("*") if path.is_file() and "state.sqlite" not in path.name)
    return {str(path.relative_to(root)): path.read_bytes() for path in found if path.suffix != ".lock"}


def test_status_of_an_empty_cache(cache: Cache) -> None:
    """Nothing installed is no failure, and said in a sentence."""
    for words in (("status",), ("validate",), ("repair", "--all")):
        result = cache(*words)
        assert (result.exit_code, lines(result)[0]) == (0, "Nothing is installed.")


def test_status_tells_each_model_and_its_verdict(cache: Cache, weights: Path) -> None:
    """A table with the age and depth of each verdict, then the sum, then how the registry can be reached."""
    told = lines(cache("status"))
    assert told[0].split() == ["MODEL", "VERSION", "SIZE", "HEALTH", "CHECKED"]
    assert told[1].split()[:5] == ["fast-whisper/tiny", "fp16", "9.8", "KB", "healthy"]
    assert told[1].endswith("ago (install)")
    assert told[3].startswith("1 model (9.8 KB), all healthy; ")
    assert "registry" in told[4]


def test_status_names_the_repair_after_damage_was_found(cache: Cache, told: Told, weights: Path) -> None:
    """What a check has found is remembered; the status names the command, in text and in JSON."""
    damage(weights)
    cache("validate", _REF, "--full")
    shown = lines(cache("status", "fast-whisper/tiny"))
    assert shown[1].split()[4] == "damaged"
    assert f"`xprim cache repair {_REF}`" in shown[3]
    document = told("status")["status"]
    assert set(document) >= {"total_models", "health_summary", "recommendations", "contact", "maintenance"}
    (model,) = document["models"]
    assert (model["ref"], model["status"], model["depth"]) == (_REF, "failed", "full")
    assert model["checked_at"].endswith("Z")
    assert set(document["health_summary"][_REF]) >= _REPORT


def test_status_of_what_is_not_installed(cache: Cache) -> None:
    """A model that is not here is the house's error with exit code 4."""
    result = cache("status", "no/model")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("error: model not installed: no/model\n")


def test_status_names_no_repair_for_what_is_whole(cache: Cache, run: Runner, registry: Any) -> None:
    """A model whose base model is missing is degraded: a repair would not help, and is not named."""
    entry = registry.entry(_REF)
    registry.put_entry(_REF, {**entry, "metadata": {"base_model": "llama/7b q4_v2"}})
    run("pull", _REF, "-q")
    cache("validate")
    shown = cache("status").stdout
    assert "1 degraded" in shown
    assert "cache repair" not in shown
    assert "`xprim models pull llama/7b q4_v2`" in shown


def test_validate_of_whole_models_exits_with_0(cache: Cache, told: Told, weights: Path) -> None:
    """Without a model, and with `--all`, every model is checked; the document has a report for each."""
    for words in ((), ("--all",), (_REF,), (_REF, "--full")):
        result = cache("validate", *words)
        assert (result.exit_code, result.stderr) == (0, "")
        assert lines(result)[0] == f"{_REF} is healthy."
    (report,) = told("validate", "--full")["validated"]
    assert set(report) >= _REPORT
    assert (report["depth"], report["bytes_hashed"] >= 10_000) == ("full", True)


def test_the_document_of_one_model_is_its_report(told: Told, weights: Path) -> None:
    """`validate REF --full --json` prints a ValidationReport, which the list beside it holds too."""
    found = told("validate", _REF, "--full")
    (report,) = found.pop("validated")
    assert {key: value for key, value in found.items() if key != "warnings"} == report
    assert (found["model_id"], found["overall_status"]) == (_REF, "healthy")
    assert "overall_status" not in told("validate", "--full")


def test_damage_exits_with_6_and_is_located(cache: Cache, told: Told, weights: Path) -> None:
    """A flipped bit is found by the full check, with its chunk, the command to run, and the exit code of damage."""
    damage(weights, 5_500)
    result = cache("validate", _REF, "--full")
    assert result.exit_code == 6
    assert "model.safetensors" in lines(result)[1]
    assert result.stderr.splitlines() == [
        f"error: {_REF} is damaged.",
        f"hint: Run `xprim cache repair {_REF}`.",
    ]
    document = told("validate", "--full")
    (report,) = document["validated"]
    (finding,) = report["findings"]
    assert (finding["path"], finding["status"], len(finding["chunks"])) == (
        "model.safetensors",
        "corrupted",
        1,
    )
    assert (document["error"]["exit_code"], document["error"]["subject"]) == (6, _REF)


def test_a_model_and_all_contradict_each_other(cache: Cache) -> None:
    """`validate REF --all`, and `repair` with both or neither, are usage errors."""
    for words in (("validate", _REF, "--all"), ("repair", _REF, "--all"), ("repair",)):
        result = cache(*words)
        assert (result.exit_code, result.stdout) == (2, "")


def test_scrub_tells_its_share_and_finds_damage(cache: Cache, told: Told, weights: Path) -> None:
    """A scrub says how much is verified lately; damage that it meets exits with 6."""
    result = cache("scrub", "--budget", "5")
    assert result.exit_code == 0
    assert "100 % verified within 30 days" in result.stdout
    damage(weights)
    assert cache("scrub", "--budget", "5").exit_code == 6
    document = told("scrub")
    assert set(document["scrubbed"]) >= {
        "chunks_checked",
        "bytes_hashed",
        "damaged",
        "recent_share",
        "verdict",
    }
    assert cache("scrub", "--budget", "-1").exit_code == 2


def test_dry_run_of_a_repair_changes_nothing(cache: Cache, told: Told, weights: Path, data_dir: Path) -> None:
    """The plan names file and bytes, in text and in JSON; every file is as it was."""
    damage(weights)
    before = _tree(data_dir)
    result = cache("repair", _REF, "--dry-run")
    assert result.exit_code == 0
    assert "1 of 10 chunks to be fetched" in result.stdout
    (plan,) = told("repair", _REF, "--dry-run")["plans"]
    assert (plan["model_id"], plan["chunks_network"], plan["repairable"]) == (_REF, 1, True)
    assert _tree(data_dir) == before


def test_repair_mends_one_chunk_and_says_so(cache: Cache, told: Told, weights: Path) -> None:
    """One chunk is fetched, the receipt counts it, and the model is whole; a second repair finds nothing to do."""
    right = weights.read_bytes()
    damage(weights, 3_000)
    (done,) = told("repair", _REF)["repaired"]
    assert (done["success"], done["chunks_network"], done["receipt"][:21]) == (
        True,
        1,
        "1 of 10 chunks fetche",
    )
    assert weights.read_bytes() == right
    assert lines(cache("repair", _REF)) == [f"{_REF} needed no repair."]


def test_repair_of_all_goes_on_after_a_failure(cache: Cache, told: Told, run: Runner, weights: Path) -> None:
    """What can be mended is; what cannot now is a sentence, and the command exits with 6."""
    run("pull", "llama/7b", "q4_v2", "-q")
    right = weights.read_bytes()
    damage(weights)
    other = weights.parents[3] / "llama" / "7b" / "q4_v2" / "model.bin"
    damage(other)
    document = told("repair", "--all", "--offline", "--registry", "https://models.example.org")
    assert document["error"]["exit_code"] == 6
    assert sorted(each["success"] for each in document["repaired"]) == [False, False]
    document = told("repair", "--all")
    assert [each["success"] for each in document["repaired"]] == [True, True]
    assert (document["failed"], weights.read_bytes()) == ([], right)


def test_repair_that_cannot_be_finished_exits_with_6(cache: Cache, weights: Path) -> None:
    """Offline and with nobody who has the bytes, the hint says how to go on."""
    damage(weights)
    result = cache("repair", _REF, "--offline", "--registry", "https://models.example.org")
    assert result.exit_code == 6
    assert f"`xprim cache repair {_REF}` again" in result.stderr
    assert "not mended: " in result.stdout


def test_an_edit_is_left_alone_unless_told(cache: Cache, told: Told, weights: Path) -> None:
    """A config that somebody edited is no damage; `--overwrite-modified` puts it back, and theirs aside."""
    config = weights.parent / "config.json"
    installed = config.read_bytes()
    config.write_bytes(b'{"mine": 1}')
    assert cache("validate", _REF).exit_code == 0
    assert told("repair", _REF)["repaired"][0]["left_alone"] == ["config.json"]
    assert config.read_bytes() == b'{"mine": 1}'
    (done,) = told("repair", _REF, "--overwrite-modified")["repaired"]
    assert config.read_bytes() == installed
    assert [path.read_bytes() for path in Path(done["kept"]).rglob("config.json")] == [b'{"mine": 1}']
