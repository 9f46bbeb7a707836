"""`xprim-models`, and the same commands mounted in other tools: for real, under Click and under Typer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import click
import pytest
import typer
from click.testing import CliRunner

import xprim_nb
from xprim_nb.cli.models import models_group
from xprim_nb.config import Config
from xprim_nb.testing.registries import MadeRegistry

from .conftest import DEADLINE_S, ROOT, Runner

# What a `--help` may cost, process and all; the rest of a command is paid by those who run it.
_HELP_BUDGET_S = 0.25
# For tests that start several interpreters: each takes a second, and on a loaded machine many.
_several = pytest.mark.timeout(120)

_TYPER_TOOL = """
import typer
from xprim_nb.cli.models import models_group
from xprim_nb.config import Config

app = typer.Typer()

@app.callback()
def tool() -> None:
    "A tool."

@app.command()
def hello() -> None:
    print("hello")

command = typer.main.get_command(app)
command.add_command(models_group(Config(app_name="mytool")), "models")
command(prog_name="mytool")
"""
_CLICK_TOOL = """
import click
from xprim_nb.cli.models import models_group
from xprim_nb.config import Config

@click.group()
@click.pass_context
def tool(ctx) -> None:
    ctx.obj = {"the parent's": "own"}

@tool.command()
def hello() -> None:
    print("hello")

tool.add_command(models_group(Config(app_name="mytool")))
tool(prog_name="mytool")
"""


@pytest.fixture(params=[_CLICK_TOOL, _TYPER_TOOL], ids=["click", "typer"])
def mytool(
    request: pytest.FixtureRequest, registry: MadeRegistry, environment: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A tool of somebody else that has mounted the commands; called in a process of its own."""
    script = tmp_path / "mytool.py"
    script.write_text(request.param)
    env = {**environment, "MYTOOL_MODELS_DIR": str(tmp_path / "mytool-models")}

    def mytool(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script), *args],
            env=env,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=DEADLINE_S,
            check=False,
        )

    return mytool


@_several
def test_commands_work_in_another_tool(
    mytool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """`mytool models pull …` installs into mytool's own directory, beside mytool's own commands."""
    assert mytool("hello").stdout == "hello\n"
    assert "models" in mytool("--help").stdout
    pulled = mytool("models", "pull", "llama/7b", "latest")
    path = tmp_path / "mytool-models" / "llama" / "7b" / "latest"
    assert (pulled.returncode, pulled.stdout.splitlines()[-1]) == (0, f"Path: {path}")
    assert (path / ".mytool" / "manifest.json").is_file()
    assert [each["ref"] for each in json.loads(mytool("models", "list", "--json").stdout)["models"]] == [
        "llama/7b latest"
    ]


@_several
def test_failures_are_ours_in_another_tool(mytool: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Exit codes, sentences and documents are the same under any parent, and hints name the parent's command."""
    missing = mytool("models", "path", "llama/7b", "latest")
    assert (missing.returncode, missing.stdout) == (4, "")
    assert missing.stderr.startswith("error: model not installed: llama/7b latest\nhint: ")
    assert "`mytool models pull" in missing.stderr
    assert mytool("models", "pull", "no/model", "v1").returncode == 3
    for arguments in (("models", "--bogus"), ("models", "pull"), ("models",)):
        done = mytool(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        assert "Usage: mytool models" in done.stderr
    assert json.loads(mytool("models", "pull", "--json").stdout)["error"]["exit_code"] == 2
    help_ = mytool("models", "pull", "--help")
    assert (help_.returncode, help_.stderr) == (0, "")
    assert help_.stdout.startswith("Usage: mytool models pull")


def test_group_of_a_parent_has_the_parents_settings() -> None:
    """Mounted commands offer no `--registry`: that is the parent's to decide."""
    result = CliRunner().invoke(models_group(Config()), ["list", "--registry", "x"])
    assert result.exit_code == 2


def test_group_reports_to_a_parent_that_wants_no_exit(registry: MadeRegistry, tmp_path: Path) -> None:
    """Under `standalone_mode=False` the exit code is returned, as Click's own commands do."""
    group = models_group(Config(registry_url=str(registry.root), data_dir=tmp_path / "models"))
    assert group.main(["path", "llama/7b", "latest"], standalone_mode=False) == 4


def test_typer_is_the_real_one() -> None:
    """The Typer parent above is no Click group in disguise, or is one: both kinds are out there."""
    app = typer.Typer()
    app.callback()(lambda: None)
    assert callable(typer.main.get_command(app).add_command)  # type: ignore[attr-defined]  # of either kind
    assert isinstance(models_group(), click.Group)


def test_settings_win_over_the_environment(run: Runner, tmp_path: Path) -> None:
    """What is typed wins over what is set: `--registry` and `--offline`."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "models.json").write_text("{}")
    assert run("--registry", str(tmp_path / "empty"), "pull", "llama/7b", "latest").exit_code == 3
    assert run("--offline", "--registry", "http://127.0.0.1:9", "list", "--remote").exit_code == 5


def test_data_dir_wins_over_the_environment(run: Runner, tmp_path: Path) -> None:
    """`--data-dir` is where the model goes, whatever `XPRIM_MODELS_DIR` says."""
    assert run("--data-dir", str(tmp_path / "there"), "pull", "llama/7b", "latest").exit_code == 0
    assert (tmp_path / "there" / "llama" / "7b" / "latest").is_dir()


def test_bad_environment_is_explained(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that cannot work is an error that names it, not a traceback."""
    monkeypatch.setenv("XPRIM_OFFLINE", "maybe")
    result = run("list")
    assert result.exit_code == 2
    assert "XPRIM_OFFLINE" in result.stderr


def test_demo_registry_is_announced(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has configured no registry is told on stderr which one answers; not under `--quiet` or `--json`."""
    monkeypatch.delenv("XPRIM_MODELS_REGISTRY_URL")
    told = "using the embedded demo registry"
    assert told in run("info", "--remote", "no/model", "v1").stderr
    assert told not in run("info", "--remote", "no/model", "v1", "--quiet").stderr
    result = run("info", "--remote", "no/model", "v1", "--json")
    assert (result.stderr, told in result.stdout) == ("", False)
    assert told not in run("list").stderr


def test_module_can_be_run(spawn: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """`python -m xprim_nb.cli.models` is the command `xprim-models`."""
    done = spawn("--version")
    assert (done.returncode, done.stdout) == (0, f"xprim-models, version {xprim_nb.__version__}\n")
    assert spawn("--help").stdout.startswith("Usage: xprim-models")


@pytest.mark.alone
def test_help_is_fast(environment: dict[str, str]) -> None:
    """A `--help` takes less than 250 ms, and loads neither HTTP nor pydantic nor rich."""
    command = [sys.executable, "-X", "importtime", "-m", "xprim_nb.cli.models", "--help"]
    loaded = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    ).stderr
    names = {line.rpartition("|")[2].strip() for line in loaded.splitlines()}
    assert {"httpx2", "pydantic", "rich", "asyncio", "pandas", "orjson"} & names == set()
    seconds = []
    for _ in range(5):  # the least disturbed run counts
        start = perf_counter()
        subprocess.run(
            [sys.executable, "-m", "xprim_nb.cli.models", "--help"],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            timeout=DEADLINE_S,
            check=True,
        )
        seconds.append(perf_counter() - start)
    assert min(seconds) < _HELP_BUDGET_S
