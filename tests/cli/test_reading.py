"""`list`, `info`, `path`, `peek`: the seed's transcripts, to the letter.

Source: seeds/002 §CLI Command Interface.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

from .conftest import Runner, lines

_HASHES = {name: f"{number:064x}" for number, name in enumerate(("fp16", "int8", "large", "q4", "7b"))}
_SIZES = {"fp16": 79167488, "int8": 41104384, "large": 1610612736, "q4": 23173530, "7b": 4080218931}


def _installed(version: str, moment: str) -> dict[str, object]:
    return {
        "manifest_hash": _HASHES[version],
        "total_size": _SIZES[version],
        "file_count": 3,
        "installed_at": moment,
    }


@pytest.fixture
def seed_registry(registry: MadeRegistry) -> MadeRegistry:
    """The seed's registry, sizes included; there are no chunks, because nothing here may need them."""
    (registry.root / "models.json").unlink()
    files = [("model.safetensors", 77803290), ("config.json", 1229), ("tokenizer.json", 1362969)]
    manifest = {
        "total_size": 79167488,
        "chunk_size": 10 << 20,
        "chunks": [f"{number:064x}" for number in range(8)],
        "files": [{"path": path, "size": size} for path, size in files],
    }
    digest = registry.put_object(json.dumps(manifest).encode())
    metadata = {"framework": "onnx", "quantization": "fp16"}
    registry.put_entry(
        "fast-whisper/tiny fp16", {"hash": digest, "total_size": 79167488, "metadata": metadata}
    )
    for ref, name in (
        ("fast-whisper/tiny int8", "int8"),
        ("fast-whisper/tiny q4", "q4"),
        ("fast-whisper/large fp16", "large"),
        ("llama/7b q4", "7b"),
    ):
        registry.put_entry(ref, {"hash": _HASHES[name], "total_size": _SIZES[name]})
    return registry


def test_list_is_the_seeds_table(run: Runner, data_dir: Path) -> None:
    """Installed models are listed in the seed's columns, sorted."""
    data_dir.mkdir()
    (data_dir / "registry.json").write_text(
        json.dumps(
            {
                "fast-whisper": {
                    "tiny": {
                        "fp16": _installed("fp16", "2024-01-15T10:30:00Z"),
                        "int8": _installed("int8", "2024-01-14T14:00:00Z"),
                    },
                    "large": {"fp16": _installed("large", "2024-01-10T00:00:00Z")},
                }
            }
        )
    )
    result = run("list")
    assert result.stdout == (
        "GROUP          MODEL    VERSION    SIZE       INSTALLED\n"
        "fast-whisper   large    fp16       1.5 GB     2024-01-10\n"
        "fast-whisper   tiny     fp16       75.5 MB    2024-01-15\n"
        "fast-whisper   tiny     int8       39.2 MB    2024-01-14\n"
    )
    assert (result.exit_code, result.stderr) == (0, "")


def test_empty_list_says_what_to_do(run: Runner) -> None:
    """With nothing installed the table is empty, and stderr says how to see what there is."""
    result = run("list")
    assert lines(result) == ["GROUP          MODEL    VERSION    SIZE       INSTALLED"]
    assert "`xprim-models list --remote`" in result.stderr
    assert run("list", "--quiet").stderr == ""


def test_remote_list_is_the_seeds_table(run: Runner, seed_registry: MadeRegistry) -> None:
    """A registry without aliases is listed in the seed's four columns."""
    assert run("list", "--remote").stdout == (
        "GROUP          MODEL    VERSION    SIZE\n"
        "fast-whisper   large    fp16       1.5 GB\n"
        "fast-whisper   tiny     fp16       75.5 MB\n"
        "fast-whisper   tiny     int8       39.2 MB\n"
        "fast-whisper   tiny     q4         22.1 MB\n"
        "llama          7b       q4         3.8 GB\n"
    )


def test_remote_list_names_what_an_alias_means(run: Runner) -> None:
    """With aliases there is a fifth column, filled for them alone."""
    shown = lines(run("list", "--remote"))
    assert shown[0] == "GROUP          MODEL    VERSION    SIZE       ALIAS OF"
    assert shown[3] == "llama          7b       latest     2.9 KB     q4_v2"
    assert shown[4] == "llama          7b       q4_v2      2.9 KB"


def test_empty_registry_is_told(run: Runner, registry: MadeRegistry) -> None:
    """A registry that lists nothing shows the headings, and says on stderr that this is all."""
    (registry.root / "models.json").write_text("{}")
    result = run("list", "--remote")
    assert lines(result) == ["GROUP          MODEL    VERSION    SIZE"]
    assert result.stderr == f"{registry.root} lists no models\n"
    assert run("list", "--remote", "--quiet").stderr == ""


def test_metadata_cannot_pass_for_our_words(run: Runner, registry: MadeRegistry) -> None:
    """A value of several lines stays under its key, so that it cannot fake a line of ours."""
    entry = registry.entry("fast-whisper/tiny fp16")
    registry.put_entry(
        "fast-whisper/tiny fp16", {**entry, "metadata": {"note": "one\nStatus:       Verified"}}
    )
    shown = run("info", "fast-whisper/tiny", "fp16", "--remote").stdout
    assert shown.endswith("Metadata:\n  note: one\n    Status:       Verified\n")


def test_unknown_size_is_a_dash(run: Runner, registry: MadeRegistry) -> None:
    """An index that does not tell a size is no error."""
    registry.put_entry("fast-whisper/tiny fp16", {"hash": "0" * 64})
    assert "fast-whisper   tiny     fp16       -" in lines(run("list", "--remote"))


def test_info_is_the_seeds(run: Runner, data_dir: Path) -> None:
    """An installed version is shown in the seed's layout, files in the manifest's order."""
    run("pull", "fast-whisper/tiny", "fp16")
    registered = json.loads((data_dir / "registry.json").read_text())
    moment = registered["fast-whisper"]["tiny"]["fp16"]["installed_at"]
    assert run("info", "fast-whisper/tiny", "fp16").stdout == (
        "Model:        fast-whisper/tiny fp16\n"
        "Status:       Installed\n"
        "Size:         9.8 KB\n"
        "Files:        3\n"
        f"Installed:    {moment[:10]} {moment[11:19]}\n"
        f"Path:         {data_dir}/fast-whisper/tiny/fp16\n"
        "\n"
        "Files:\n"
        "  model.safetensors    7.8 KB\n"
        "  config.json          1.2 KB\n"
        "  tokenizer.json       800 B\n"
    )


def test_remote_info_is_the_seeds(run: Runner, seed_registry: MadeRegistry) -> None:
    """A version of the registry is shown in the seed's layout, to the letter."""
    assert run("info", "fast-whisper/tiny", "fp16", "--remote").stdout == (
        "Model:        fast-whisper/tiny fp16\n"
        "Status:       Available (not installed)\n"
        "Size:         75.5 MB\n"
        "Chunks:       8 × 10 MB\n"
        "Files:        3\n"
        "\n"
        "Files:\n"
        "  model.safetensors    74.2 MB\n"
        "  config.json          1.2 KB\n"
        "  tokenizer.json       1.3 MB\n"
        "\n"
        "Metadata:\n"
        "  framework: onnx\n"
        "  quantization: fp16\n"
    )


def test_remote_info_knows_what_is_installed(
    run: Runner, move_alias: Callable[[str], None], document: Callable[..., dict[str, Any]]
) -> None:
    """The status tells an installed version from one with an update, for people and for programs."""
    run("pull", "llama/7b", "latest")
    shown = lines(run("info", "--remote", "llama/7b", "latest"))
    assert shown[1:3] == ["Status:       Installed", "Alias of:     q4_v2"]
    move_alias("q4_v3")
    assert "Status:       Installed (update available)" in lines(run("info", "--remote", "llama/7b@latest"))
    assert document("info", "llama/7b latest", "--remote")["model"]["status"] == "update_available"


def test_path_is_one_line_for_scripts(run: Runner, data_dir: Path) -> None:
    """`path` prints the directory and nothing else."""
    run("pull", "llama/7b", "latest")
    result = run("path", "llama/7b", "latest")
    assert (result.stdout, result.stderr) == (f"{data_dir}/llama/7b/latest\n", "")


def test_path_of_what_is_not_installed_is_the_seeds_error(run: Runner) -> None:
    """The error has the seed's words, goes to stderr alone, and exits with 4."""
    result = run("path", "fast-whisper/tiny", "fp16")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.splitlines()[0] == "error: model not installed: fast-whisper/tiny fp16"
    assert result.stderr.splitlines()[1].startswith("hint: ")


def test_peek_judges_by_headers(
    run: Runner, registry: MadeRegistry, data_dir: Path, document: Callable[..., dict[str, Any]]
) -> None:
    """`peek` tells parameters and tensors of a model that is not installed, and installs nothing."""
    header = json.dumps({"w": {"dtype": "F16", "shape": [20, 50], "data_offsets": [0, 2000]}}).encode()
    file = struct.pack("<Q", len(header)) + header + random_bytes("w", 2000)
    make_registry(registry.root, {"demo/one v1": {"model.safetensors": file}})
    shown = run("peek", "demo/one", "v1", "--tensors").stdout
    assert "Parameters:   1,000\n" in shown
    assert "  w        F16     20×50   2.0 KB\n" in shown
    peeked = document("peek", "demo/one", "v1")["peeked"]
    assert (peeked["parameters"], peeked["dtypes"]) == (1000, {"F16": 2000})
    assert not (data_dir / "demo").exists()


@pytest.mark.parametrize("ref", [("llama/7b", "latest"), ("llama/7b latest",), ("llama/7b@latest",)])
def test_ref_may_carry_the_version(run: Runner, data_dir: Path, ref: tuple[str, ...]) -> None:
    """A version is one word, part of a quoted ref, or behind an `@`."""
    run("pull", *ref)
    assert run("path", *ref).stdout == f"{data_dir}/llama/7b/latest\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("llama/7b",), "error: llama/7b names no version."),
        (("llama",), "error: 'llama' is not a model reference."),
        (("../..", "x"), "error: The group '..' in '../..' is not a name."),
        (("llama/7b@a", "b"), "Error: 'llama/7b@a' names a version, and so does 'b'."),
    ],
)
def test_bad_refs_are_usage_errors(run: Runner, arguments: tuple[str, ...], said: str) -> None:
    """A reference that names no version, or two, exits with 2 and says what is wrong."""
    result = run("info", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
