"""`publish`, `serve`, `export`: what one person publishes, another pulls."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xprim_nb.cli.main import xprim

from .conftest import DEADLINE_S, Runner, lines


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with a small model."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 8)
    return folder


def test_published_model_can_be_pulled(run: Runner, model: Path, tmp_path: Path) -> None:
    """`xprim publish` makes a registry with the version, its alias and its metadata; `pull` installs from it."""
    to = tmp_path / "out"
    arguments = ("my/model", "v1", "--to", str(to), "--alias", "latest", "--metadata", "licence=MIT")
    result = run("publish", str(model), *arguments, command=xprim)
    assert lines(result) == [
        f"Published: my/model v1 (2.0 KB, 2 files, {result.stdout.split('files, ')[1].split(',')[0]}, 2.0 KB new)",
        "Alias: my/model latest → v1",
        f"Registry: {to}",
    ]
    assert run("--registry", str(to), "pull", "my/model", "latest").exit_code == 0
    detail = run("--registry", str(to), "info", "--remote", "my/model@latest").stdout
    assert "Alias of:     v1\n" in detail
    assert "  licence: MIT\n" in detail


def test_publishing_again_writes_nothing(run: Runner, model: Path, tmp_path: Path) -> None:
    """The same bytes under the same version are no error and no work; other bytes are refused, with the way out."""
    arguments = ("publish", str(model), "my/model@v1", "--to", str(tmp_path / "out"))
    run(*arguments)
    assert lines(run(*arguments))[0].endswith("0 B new)")
    (model / "config.json").write_text('{"changed": true}')
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "--replace" in refused.stderr
    assert run(*arguments, "--replace").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("my/model", "v1", "--metadata", "licence"), "'licence' is not KEY=VALUE"),
        (("my/model",), "names no version"),
        (("my/model", "v1", "--chunk-size", "0"), "--chunk-size"),
        (("my/model", "v1", "--alias", "../x"), "../x"),
    ],
)
def test_bad_publications_are_usage_errors(
    run: Runner, model: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """What cannot be published is said before anything is written."""
    result = run("publish", str(model), *arguments, "--to", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_exported_models_can_be_pulled(run: Runner, tmp_path: Path) -> None:
    """`export` takes whole models and single versions, and its directory is a registry."""
    for ref in ("llama/7b q4_v2", "llama/7b q4_v3", "fast-whisper/tiny fp16", "fast-whisper/tiny int8"):
        run("pull", ref)
    to = tmp_path / "stick"
    *exported, registry = lines(run("export", "llama/7b", "fast-whisper/tiny", "int8", "--to", str(to)))
    assert sorted(exported) == [
        "Exported: fast-whisper/tiny int8",
        "Exported: llama/7b q4_v2",
        "Exported: llama/7b q4_v3",
    ]
    assert registry.startswith(f"Registry: {to} (")
    run("remove", "llama/7b", "--all")
    assert run("--registry", str(to), "pull", "llama/7b", "q4_v3").exit_code == 0


def test_export_of_what_is_not_installed(run: Runner, tmp_path: Path) -> None:
    """Exporting a model that is not here exits with 4."""
    assert run("export", "llama/7b", "--to", str(tmp_path / "x")).exit_code == 4
    assert run("export", "latest", "--to", str(tmp_path / "x")).exit_code == 2


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_served_registry_can_be_pulled_from(
    run: Runner, model: Path, tmp_path: Path, environment: dict[str, str], flags: tuple[str, ...]
) -> None:
    """`xprim serve` says where it listens, serves until Ctrl-C, and then ends well."""
    run("publish", str(model), "my/model", "v1", "--to", str(tmp_path / "out"))
    command = [
        sys.executable,
        "-m",
        "xprim_nb.cli.main",
        "serve",
        str(tmp_path / "out"),
        "--port",
        "0",
        *flags,
    ]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            if flags:
                text = ""
                while not text.endswith("}\n"):
                    text += server.stdout.readline()
                url = json.loads(text)["serving"]["url"]
            else:
                url = server.stdout.readline().split()[-1]
            assert run("--registry", url, "pull", "my/model", "v1").exit_code == 0
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=DEADLINE_S)
        finally:
            server.kill()
    assert server.returncode == 0
    assert err == ("" if flags else "Ctrl-C ends it\nstopped\n")


def test_serving_what_is_no_registry(run: Runner, tmp_path: Path) -> None:
    """A directory that is no registry is refused with a sentence."""
    result = run("serve", str(tmp_path), "--port", "0")
    assert result.exit_code == 2
    assert "is no registry" in result.stderr
