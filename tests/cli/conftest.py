"""A small registry, a home for models, and the two ways to call a command: in this process, and as users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import click
import pytest
from click.testing import CliRunner, Result

from xprim_nb.cli.main import xprim
from xprim_nb.cli.models import xprim_models
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

from ..fake_engine import FakeEngine, engine_for_toolkits

ROOT = Path(__file__).resolve().parents[2]
# Loopback answers at once, and a process starts in a second; on a loaded machine in many. Most tests have a shorter
# limit of their own, which ends the process as well.
DEADLINE_S = 100


class Runner(Protocol):
    """Calls a command in this process."""

    def __call__(self, *args: str, command: click.Command = ..., input: str = ...) -> Result:
        """The result of the command with these arguments."""
        ...


@pytest.fixture
def registry(tmp_path: Path) -> MadeRegistry:
    """Two models: one in two versions, one in two versions with an alias to the older."""
    files = {
        "model.safetensors": random_bytes("weights", 8_000),
        "config.json": b"{}" * 600,
        "tokenizer.json": random_bytes("tokens", 800),
    }
    made = make_registry(
        tmp_path / "registry",
        {
            "fast-whisper/tiny fp16": files,
            "fast-whisper/tiny int8": {"model.bin": random_bytes("int8", 2_500)},
        },
        metadata={"framework": "onnx", "quantization": "fp16"},
    )
    shared = random_bytes("shared", 2_000)
    return make_registry(
        made.root,
        {
            "llama/7b q4_v2": {"model.bin": shared + random_bytes("v2", 1_000)},
            "llama/7b q4_v3": {"model.bin": shared + random_bytes("v3", 1_000)},
        },
        alias={"llama/7b latest": "q4_v2"},
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Where models are installed."""
    return tmp_path / "models"


@pytest.fixture
def run(registry: MadeRegistry, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """`xprim-models`, or another command, in this process, with the registry and the home of this test."""
    monkeypatch.setenv("XPRIM_MODELS_REGISTRY_URL", str(registry.root))
    monkeypatch.setenv("XPRIM_MODELS_DIR", str(data_dir))

    def run(*args: str, command: click.Command = xprim_models, input: str = "") -> Result:
        return CliRunner().invoke(command, args, input=input, prog_name=command.name)

    return run


@pytest.fixture
def cache(run: Runner) -> Callable[..., Result]:
    """`xprim cache …` in this process."""
    return lambda *args, **how: run("cache", *args, command=xprim, **how)


@pytest.fixture
def told(cache: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """`xprim cache … --json`: its one document, whatever the exit code."""

    def told(*args: str) -> dict[str, Any]:
        result = cache(*args, "--json")
        found: dict[str, Any] = json.loads(result.stdout)
        assert isinstance(found["warnings"], list)
        assert result.stderr == ""
        return found

    return told


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine with a script, which every command of this test runs on."""
    with engine_for_toolkits(monkeypatch, FakeEngine()) as engine:
        yield engine


@pytest.fixture
def ai(run: Runner, engine: FakeEngine) -> Callable[..., Result]:
    """`xprim ai …` in this process, on that engine."""
    return lambda *args, **how: run("ai", *args, command=xprim, **how)


@pytest.fixture
def environment(registry: MadeRegistry, data_dir: Path) -> dict[str, str]:
    """The environment of a process that a user starts with the registry and the home of this test."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XPRIM_MODELS_DIR": str(data_dir),
        "XPRIM_MODELS_REGISTRY_URL": str(registry.root),
    }


@pytest.fixture
def spawn(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m <module> <arguments>` in a process of its own."""

    def spawn(
        *args: str, module: str = "xprim_nb.cli.models", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *args],
            env={**environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=DEADLINE_S,
            check=False,
        )

    return spawn


@pytest.fixture
def document(run: Runner) -> Callable[..., dict[str, Any]]:
    """Calls a command with `--json` and returns its one document, whatever the exit code."""

    def document(*args: str) -> dict[str, Any]:
        result = run("--json", *args)
        found: dict[str, Any] = json.loads(result.stdout)
        assert isinstance(found["warnings"], list)
        assert result.stderr == ""
        return found

    return document


@pytest.fixture
def move_alias(registry: MadeRegistry) -> Callable[[str], None]:
    """Moves `llama/7b latest` to another version, as a publisher does."""

    def move(version: str) -> None:
        registry.put_entry("llama/7b latest", {**registry.entry(f"llama/7b {version}"), "alias": version})

    return move


def damage(path: Path, offset: int = 0) -> None:
    """Flip a bit as a failing disk does: size and time stay."""
    facts, data = path.stat(), bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def lines(result: Result) -> Sequence[str]:
    """What was printed on stdout, by line."""
    return result.stdout.splitlines()
