"""`xprim`: the whole toolkit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import xprim_nb
from xprim_nb.cli.main import xprim

from .conftest import Runner


def test_models_hang_below(run: Runner) -> None:
    """`xprim models …` are the commands of `xprim-models`, and hints name them so."""
    assert run("models", "pull", "llama/7b", "latest", command=xprim).exit_code == 0
    assert (
        json.loads(run("--json", "models", "list", command=xprim).stdout)["models"][0]["version"] == "latest"
    )
    missing = run("models", "path", "fast-whisper/tiny", "fp16", command=xprim)
    assert missing.exit_code == 4
    assert "`xprim models pull" in missing.stderr


def test_flags_reach_the_inner_group(run: Runner, tmp_path: Path) -> None:
    """A flag or setting may stand before `models`, between the two, or at the end."""
    (tmp_path / "models.json").write_text("{}")
    setting = ("--registry", str(tmp_path))
    for line in (
        (*setting, "models", "list", "--remote"),
        ("models", *setting, "list", "--remote"),
        ("models", "list", "--remote", *setting),
    ):
        assert run(*line, command=xprim).stdout == "GROUP          MODEL    VERSION    SIZE\n"


def test_config_shows_what_is_in_force(run: Runner, data_dir: Path) -> None:
    """`xprim config` shows every setting, with passwords masked."""
    url = "https://me:hunter2@models.example.org"
    shown = run("--registry", url, "config", command=xprim)
    facts = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert facts["registry_url:"] == "https://me:***@models.example.org"
    assert facts["data_dir:"] == str(data_dir)
    found = json.loads(run("--registry", url, "--json", "config", command=xprim).stdout)["config"]
    assert found["registry_url"] == "https://me:***@models.example.org"
    assert (found["concurrency"], found["offline"]) == (4, False)
    assert "hunter2" not in shown.output


def test_config_without_a_registry(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is configured a person reads which registry answers, and a program reads null."""
    monkeypatch.delenv("XPRIM_MODELS_REGISTRY_URL")
    assert "the embedded demo registry\n" in run("config", command=xprim).stdout
    assert json.loads(run("config", "--json", command=xprim).stdout)["config"]["registry_url"] is None


@pytest.mark.parametrize("command", ["pull", "remove", "info", "path", "update", "peek", "publish"])
def test_help_says_how_a_model_is_named(run: Runner, command: str) -> None:
    """Every command that takes a REF explains what one is."""
    assert "REF is group/model; the version may" in run("models", command, "--help", command=xprim).stdout


def test_list_of_commands_is_not_cut(run: Runner) -> None:
    """What each command does fits the line it has."""
    assert "..." not in run("models", "--help", command=xprim).stdout.partition("Commands:")[2]


def test_version(run: Runner) -> None:
    """`xprim --version` is the package's."""
    assert run("--version", command=xprim).stdout == f"xprim, version {xprim_nb.__version__}\n"
