"""`pull`, `remove`, `update`, `prune`: the seed's transcripts, and what went wrong with the original.

Source: seeds/002 §CLI Command Interface; spec 1 §CLI.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry

from .conftest import Runner, lines

_BAR = "[====================] 100%"


def test_pull_is_the_seeds_transcript(run: Runner, data_dir: Path) -> None:
    """A first pull prints the seed's six lines, and nothing on stderr."""
    result = run("pull", "fast-whisper/tiny", "fp16")
    assert result.stdout == (
        "Fetching manifest... done\n"
        f"Downloading: 10/10 chunks {_BAR} 9.8 KB\n"
        "Extracting files... done\n"
        "\n"
        "Model installed: fast-whisper/tiny fp16 (9.8 KB)\n"
        f"Path: {data_dir}/fast-whisper/tiny/fp16\n"
    )
    assert (result.exit_code, result.stderr) == (0, "")


def test_pull_of_what_is_installed_is_the_seeds(run: Runner) -> None:
    """The second pull says so, in the seed's words, and is no failure."""
    run("pull", "fast-whisper/tiny", "fp16")
    result = run("pull", "fast-whisper/tiny", "fp16")
    assert lines(result) == [
        "Model already installed: fast-whisper/tiny fp16",
        "Use --force to re-download",
    ]
    assert result.exit_code == 0


def test_forced_pull_is_the_seeds(run: Runner) -> None:
    """A forced pull prints the seed's five lines; what it could reuse is a note on stderr."""
    run("pull", "fast-whisper/tiny", "fp16")
    result = run("pull", "fast-whisper/tiny", "fp16", "--force")
    assert result.stdout == (
        "Fetching manifest... done\n"
        f"Downloading: 10/10 chunks {_BAR} 9.8 KB\n"
        "Extracting files... done\n"
        "\n"
        "Model installed: fast-whisper/tiny fp16 (9.8 KB)\n"
    )
    assert result.stderr.startswith("reused 9.8 KB of 9.8 KB")


def test_quiet_pull_prints_the_result_alone(run: Runner, data_dir: Path) -> None:
    """`--quiet` leaves out the progress and the notes."""
    result = run("pull", "--quiet", "fast-whisper/tiny", "fp16")
    path = f"Path: {data_dir}/fast-whisper/tiny/fp16"
    assert lines(result) == ["Model installed: fast-whisper/tiny fp16 (9.8 KB)", path]
    assert result.stderr == ""


def test_pull_installs_what_the_registry_has(run: Runner, data_dir: Path) -> None:
    """The files are on disk after the command, whole."""
    run("pull", "fast-whisper/tiny", "fp16")
    folder = data_dir / "fast-whisper" / "tiny" / "fp16"
    assert (folder / "config.json").read_bytes() == b"{}" * 600
    assert (folder / "model.safetensors").stat().st_size == 8_000


def test_dry_run_tells_and_changes_nothing(run: Runner, data_dir: Path) -> None:
    """`--dry-run` shows what would come from where, and installs nothing."""
    run("pull", "llama/7b", "q4_v2")
    shown = lines(run("pull", "llama/7b", "q4_v3", "--dry-run"))
    assert shown[0] == "Would install: llama/7b q4_v3 (2.9 KB, 1 file)"
    assert shown[1].split() == ["To", "fetch:", "1000", "B", "1", "chunk"]
    assert shown[3].split()[:4] == ["This", "machine:", "2.0", "KB"]
    assert shown[3].endswith("2 chunks, from llama/7b q4_v2")
    assert not (data_dir / "llama" / "7b" / "q4_v3").exists()


@pytest.mark.parametrize("number", ["0", "17", "four"])
def test_concurrency_is_one_to_sixteen(run: Runner, number: str) -> None:
    """Another number is a usage error, before anything is asked."""
    result = run("pull", "fast-whisper/tiny", "fp16", "--concurrency", number)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--concurrency" in result.stderr


@pytest.mark.parametrize(
    ("ref", "exit_code"), [("no/model v1", 3), ("llama/7b v1", 3), ("llama/7b", 2), ("CON/x v1", 2)]
)
def test_pull_of_nothing_is_explained(run: Runner, ref: str, exit_code: int) -> None:
    """What the registry does not have exits with 3, what is no version with 2, both with a hint."""
    result = run("pull", ref)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")


def test_remove_is_the_seeds(run: Runner, data_dir: Path) -> None:
    """One version is removed with one line, and again with the seed's error."""
    run("pull", "fast-whisper/tiny", "fp16")
    assert lines(run("remove", "fast-whisper/tiny", "fp16")) == ["Removed: fast-whisper/tiny fp16"]
    assert not (data_dir / "fast-whisper" / "tiny" / "fp16").exists()
    again = run("remove", "fast-whisper/tiny", "fp16")
    assert again.exit_code == 4
    assert again.stderr.splitlines()[0] == "error: model not installed: fast-whisper/tiny fp16"


def test_remove_all_is_the_seeds(run: Runner) -> None:
    """`--all` removes every version, without asking where nobody could answer."""
    run("pull", "fast-whisper/tiny", "fp16")
    run("pull", "fast-whisper/tiny", "int8")
    assert lines(run("remove", "fast-whisper/tiny", "--all")) == [
        "Removed: fast-whisper/tiny fp16",
        "Removed: fast-whisper/tiny int8",
        "Removed 2 versions",
    ]
    assert run("remove", "fast-whisper/tiny", "--all").exit_code == 4


def test_remove_all_and_a_version_contradict_each_other(run: Runner) -> None:
    """Naming a version beside `--all` is a usage error, and removes nothing."""
    run("pull", "fast-whisper/tiny", "fp16")
    assert run("remove", "fast-whisper/tiny", "fp16", "--all").exit_code == 2
    assert run("path", "fast-whisper/tiny", "fp16").exit_code == 0


def test_files_of_yours_are_put_aside(run: Runner, data_dir: Path) -> None:
    """A file that somebody added is not deleted, and stderr says where it is now."""
    run("pull", "fast-whisper/tiny", "fp16")
    (data_dir / "fast-whisper" / "tiny" / "fp16" / "notes.txt").write_text("mine")
    result = run("remove", "fast-whisper/tiny", "fp16")
    kept = Path(result.stderr.strip().rpartition(" ")[2])
    assert "put aside" in result.stderr
    assert (kept / "notes.txt").read_text() == "mine"


def test_update_is_the_seeds(run: Runner, move_alias: Callable[[str], None]) -> None:
    """`update` prints the seed's lines: the model where one version of it is installed, the versions where two are."""
    run("pull", "llama/7b", "latest")
    run("pull", "fast-whisper/tiny", "fp16")
    run("pull", "fast-whisper/tiny", "int8")
    move_alias("q4_v3")
    result = run("update")
    assert result.stdout == (
        "Checking for updates...\n"
        "\n"
        "fast-whisper/tiny fp16: up to date\n"
        "fast-whisper/tiny int8: up to date\n"
        "llama/7b: update available (q4_v2 → q4_v3)\n"
    )
    assert result.exit_code == 0


def test_update_apply_is_the_seeds(run: Runner, move_alias: Callable[[str], None], data_dir: Path) -> None:
    """`update --apply` prints the seed's transcript and leaves the new bytes; the next one has nothing to do."""
    run("pull", "llama/7b", "latest")
    move_alias("q4_v3")
    assert run("update", "llama/7b", "--apply").stdout == (
        "Downloading update for llama/7b...\n"
        f"Downloading: 3/3 chunks {_BAR} 2.9 KB\n"
        "Extracting files... done\n"
        "\n"
        "Updated: llama/7b (2.9 KB)\n"
    )
    registered = json.loads((data_dir / "registry.json").read_text())["llama"]["7b"]["latest"]
    assert registered["resolved_version"] == "q4_v3"
    assert lines(run("update", "llama/7b", "--apply")) == ["llama/7b: up to date"]


def test_update_never_says_up_to_date_without_asking(run: Runner, registry: MadeRegistry) -> None:
    """An update that could not reach the registry exits with 5 and claims nothing."""
    run("pull", "llama/7b", "latest")
    with FaultyRegistry(registry.root) as server:
        there = ("--registry", server.url)
        assert run(*there, "update").exit_code == 0  # so that there is a list to answer from
        server.inject(Status(404), on="index", times=None)  # final: nobody tries again
        answers = [run(*there, "update"), run(*there, "--offline", "update", "--apply")]
    for result in answers:
        assert result.exit_code == 5
        assert "up to date" not in result.stdout + result.stderr
        assert "error: " in result.stderr


def test_update_of_what_is_not_installed(run: Runner) -> None:
    """Asking about a model that is not installed exits with 4."""
    assert run("update", "llama/7b").exit_code == 4
    assert run("update", "llama/7b latest").exit_code == 4


def test_update_goes_on_after_a_failure(
    run: Runner, registry: MadeRegistry, document: Callable[..., dict[str, Any]]
) -> None:
    """One model that cannot be updated does not keep the others back; its error decides the exit code."""
    run("pull", "llama/7b", "latest")
    run("pull", "fast-whisper/tiny", "int8")
    broken = registry.put_object(b"no manifest")
    registry.put_entry("fast-whisper/tiny int8", {"hash": broken})
    registry.put_entry("llama/7b latest", {**registry.entry("llama/7b q4_v3"), "alias": "q4_v3"})
    found = document("update", "--apply")
    assert [each["ref"] for each in found["updated"]] == ["llama/7b latest"]
    assert [each["ref"] for each in found["failed"]] == ["fast-whisper/tiny int8"]
    assert found["error"] == found["failed"][0]["error"]
    assert found["error"]["type"] == "RegistryError"


def test_rewritten_version_is_a_warning(
    run: Runner, registry: MadeRegistry, document: Callable[..., dict[str, Any]]
) -> None:
    """An immutable version with other bytes is told on stderr, and in the document's warnings."""
    run("pull", "llama/7b", "q4_v2")
    registry.put_entry("llama/7b q4_v2", registry.entry("llama/7b q4_v3"))
    result = run("update")
    assert "warning: llama/7b q4_v2 is an immutable version" in result.stderr
    assert result.stderr.count("warning: ") == 1
    assert "llama/7b q4_v2 is an immutable version" in document("update")["warnings"][0]


def test_prune_removes_leftovers(run: Runner, data_dir: Path) -> None:
    """`prune` says what it freed, or that there was nothing."""
    assert lines(run("prune")) == ["Nothing to prune"]
    loose = data_dir / "cache" / "chunks" / ("0" * 64)
    loose.parent.mkdir(parents=True)
    loose.write_bytes(bytes(2048))
    assert lines(run("prune")) == ["Removed leftovers (2.0 KB)"]
