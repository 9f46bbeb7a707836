"""The group `xprim cache`: offline, mounted elsewhere, helpful, light."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from pytest_socket import disable_socket, enable_socket

from xprim_nb.cli.cache import cache_group
from xprim_nb.cli.main import xprim
from xprim_nb.cli.models import models_group
from xprim_nb.config import Config
from xprim_nb.testing.registries import MadeRegistry

from .conftest import DEADLINE_S, ROOT, Runner, damage

_REF = "fast-whisper/tiny fp16"
_GROUP = cache_group()
_COMMANDS = sorted(_GROUP.commands)
# Nobody listens there, and nobody may find out.
_NOWHERE = ("--offline", "--registry", "https://models.example.org")

Cache = Callable[..., Result]


@pytest.fixture
def cut_off(run: Runner, registry: MadeRegistry, data_dir: Path) -> Iterator[Path]:
    """Two models that share all their bytes, one of them damaged; sockets are made to fail."""
    registry.put_entry("fast-whisper/twin v1", registry.entry(_REF))
    for ref in (_REF, "fast-whisper/twin v1"):
        run("pull", ref, "-q")
    damage(data_dir / "fast-whisper" / "tiny" / "fp16" / "model.safetensors", 4_000)
    disable_socket(allow_unix_socket=True)
    yield data_dir
    enable_socket()


def test_everything_works_without_a_socket(cache: Cache, cut_off: Path, tmp_path: Path) -> None:
    """Check, repair from a twin, refresh, pin, why, plan, archive, restore, adopt, bundle: offline, sockets blocked."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.bin").write_bytes(b"a" * 5000)
    weights = cut_off / "fast-whisper" / "tiny" / "fp16" / "model.safetensors"
    for words, exit_code in (
        (("validate", _REF, "--full"), 6),
        (("status",), 0),
        (("repair", _REF, "--dry-run"), 0),
        (("repair", _REF), 0),
        (("validate", "--all", "--full"), 0),
        (("scrub", "--budget", "1"), 0),
        (("refresh", _REF), 0),
        (("backups",), 0),
        (("rollback", _REF), 4),
        (("pin", _REF), 0),
        (("pins",), 0),
        (("unpin", _REF), 0),
        (("why", str(weights)), 0),
        (("cleanup", "--dry-run"), 0),
        (("cleanup",), 0),
        (("free", "0"), 0),
        (("dedupe",), 0),
        (("archive", _REF), 0),
        (("archived",), 0),
        (("restore", _REF), 0),
        (("adopt", str(tmp_path / "theirs")), 0),
        (("adopted",), 0),
        (("forget", "--all"), 0),
        (("bundle", "derive", "fast-whisper/tiny"), 0),
        (("bundle", "validate", "fast-whisper/tiny"), 0),
        (("maintain", "--scrub", "0"), 0),
    ):
        result = cache(*words, *_NOWHERE)
        assert (words, result.exit_code, result.exception) == (
            words,
            exit_code,
            result.exception if exit_code else None,
        ), result.output


def test_mounted_elsewhere_it_speaks_of_itself(run: Runner, data_dir: Path) -> None:
    """Under another tool hints and verdicts name that tool's commands, and its directory is used."""
    tool = click.Group("mytool")
    tool.add_command(cache_group(Config(app_name="mytool")), "store")
    tool.add_command(models_group(Config(app_name="mytool")), "models")

    def call(*words: str) -> Result:
        return CliRunner().invoke(tool, words, prog_name="mytool", env={"MYTOOL_MODELS_DIR": str(data_dir)})

    call("models", "pull", _REF, "-q")
    damage(data_dir / "fast-whisper" / "tiny" / "fp16" / "model.safetensors")
    result = call("store", "validate", _REF, "--full")
    assert result.exit_code == 6
    assert f"`mytool store repair {_REF}`" in result.stdout
    assert result.stderr.splitlines()[-1] == f"hint: Run `mytool store repair {_REF}`."
    assert "xprim" not in result.output
    assert call("store", "repair", _REF).exit_code == 0


@pytest.mark.parametrize("command", _COMMANDS)
def test_each_command_has_help(command: str) -> None:
    """`--help` of each says what it does in a sentence, and takes the global flags."""
    result = CliRunner().invoke(xprim, ["cache", command, "--help"], prog_name="xprim")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: xprim cache {command} ")
    assert "--json" in result.stdout


@pytest.mark.parametrize("command", _COMMANDS)
def test_failures_are_documents_too(run: Runner, command: str) -> None:
    """An option that does not exist is one document with `error`, under every command."""
    result = run("--json", "cache", command, "--no-such-option", command=xprim)
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["type"] == "UsageError"


def test_the_commands_load_nothing_of_the_cache() -> None:
    """Importing the door, and asking for help, loads no pydantic, no manager and no room of the cache."""
    code = (
        "import json, sys, xprim_nb.cli.main; print(json.dumps([name for name in sys.modules "
        "if name.startswith(('pydantic', 'xprim_nb.cache', 'xprim_nb.manager', 'sqlite3', 'pandas'))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert json.loads(done.stdout) == []


def test_help_of_a_group_is_a_map() -> None:
    """`xprim cache` alone lists its commands, and exits as any usage error."""
    result = CliRunner().invoke(xprim, ["cache"], prog_name="xprim")
    assert result.exit_code == 2
    assert all(command in result.output for command in _COMMANDS)
