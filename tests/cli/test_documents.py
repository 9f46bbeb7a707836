"""The keys of every `--json` document, pinned: scripts rely on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from xprim_nb.testing.registries import MadeRegistry

from .conftest import Runner

_REF = {"ref", "group", "model", "version"}
_MODEL = _REF | {"manifest_hash", "total_size"}
_INSTALLED = _MODEL | {"file_count", "installed_at", "path"}
_BYTES = {"bytes_network", "bytes_present", "bytes_local"}
_CHUNKS = {"chunks_network", "chunks_present", "chunks_local"}
_RECEIPT = (
    _BYTES | _CHUNKS | {"bytes_reflinked", "bytes_written", "local_models", "seconds", "retries", "kept"}
)
_CHECK = {"installed_hash", "remote_hash", "installed_version", "remote_version", "notice", "available"}

Document = Callable[..., dict[str, Any]]


def test_list(document: Document, run: Runner, data_dir: Path) -> None:
    """`list` has the models as the seed's `InstalledModel` has them."""
    run("pull", "llama/7b", "latest")
    found = document("list")
    assert set(found) == {"models", "warnings"}
    (model,) = found["models"]
    assert set(model) == _INSTALLED
    assert (model["ref"], model["group"], model["model"], model["version"]) == (
        "llama/7b latest",
        "llama",
        "7b",
        "latest",
    )
    assert (model["total_size"], model["file_count"]) == (3000, 1)
    assert model["path"] == str(data_dir / "llama" / "7b" / "latest")
    assert model["installed_at"].endswith("Z")


def test_remote_list(document: Document, registry: MadeRegistry) -> None:
    """`list --remote` has the models, and how far they can be relied on."""
    found = document("list", "--remote")
    assert set(found) == {"models", "source", "age_s", "stale", "warnings"}
    assert all(set(model) == _MODEL | {"alias_of", "metadata"} for model in found["models"])
    by_ref = {model["ref"]: model for model in found["models"]}
    assert by_ref["llama/7b latest"]["alias_of"] == "q4_v2"
    assert by_ref["fast-whisper/tiny fp16"]["metadata"] == {"framework": "onnx", "quantization": "fp16"}
    assert (found["source"], found["stale"]) == (str(registry.root), False)


def test_info(document: Document, run: Runner) -> None:
    """`info` has the model with its files; `--remote` what the manifest says."""
    run("pull", "fast-whisper/tiny", "fp16")
    here = document("info", "fast-whisper/tiny", "fp16")["model"]
    assert set(here) == _INSTALLED | {"status", "files"}
    assert here["files"][1] == {"path": "config.json", "size": 1200}
    there = document("info", "fast-whisper/tiny", "fp16", "--remote")["model"]
    extra = {"status", "files", "alias_of", "metadata", "chunk_size", "chunk_count"}
    assert set(there) == _MODEL | extra
    assert (here["status"], there["status"], there["chunk_count"]) == ("installed", "installed", 10)


def test_pull(document: Document) -> None:
    """`pull` has the model, the status and the receipt, also when there was nothing to do."""
    found = document("pull", "llama/7b", "latest")
    assert set(found) == {"pulled", "warnings"}
    assert set(found["pulled"]) == _INSTALLED | {"status", "checked", "receipt"}
    assert set(found["pulled"]["receipt"]) == _RECEIPT
    assert (found["pulled"]["status"], found["pulled"]["checked"]) == ("installed", True)
    assert document("pull", "llama/7b", "latest")["pulled"]["status"] == "already_installed"


def test_plan(document: Document) -> None:
    """`pull --dry-run` has the plan with its sums."""
    plan = document("pull", "llama/7b", "latest", "--dry-run")["plan"]
    promised = {"status", "installed_hash", "files", "local_models", "disk_needed", "disk_free", "fits"}
    assert set(plan) >= _MODEL | _BYTES | _CHUNKS | promised
    assert (plan["status"], plan["bytes_network"], plan["fits"]) == ("install", 3000, True)


def test_remove(document: Document, run: Runner) -> None:
    """`remove` has a list, with or without `--all`."""
    run("pull", "llama/7b", "latest")
    (removed,) = document("remove", "llama/7b", "latest")["removed"]
    assert set(removed) == _REF | {"bytes_freed", "kept"}
    run("pull", "llama/7b", "latest")
    assert len(document("remove", "llama/7b", "--all")["removed"]) == 1


def test_path(document: Document, run: Runner, data_dir: Path) -> None:
    """`path` has the directory beside the reference."""
    run("pull", "llama/7b", "latest")
    found = document("path", "llama/7b", "latest")
    assert set(found) == _REF | {"path", "warnings"}
    assert found["path"] == str(data_dir / "llama" / "7b" / "latest")


def test_update(document: Document, run: Runner, move_alias: Callable[[str], None]) -> None:
    """`update` has a check for each installed version; `--apply` also what was pulled and what failed."""
    run("pull", "llama/7b", "latest")
    (check,) = document("update")["checks"]
    assert set(check) == _REF | _CHECK
    assert check["available"] is False
    move_alias("q4_v3")
    found = document("update", "--apply")
    assert set(found) == {"checks", "updated", "failed", "warnings"}
    assert found["checks"][0]["available"] is True
    assert (found["updated"][0]["status"], found["failed"]) == ("updated", [])


def test_prune(document: Document) -> None:
    """`prune` has what was freed."""
    assert document("prune")["pruned"] == {"partials": [], "bytes_freed": 0, "in_use": []}


def test_peek(document: Document) -> None:
    """`peek` has the sums and every tensor."""
    peeked = document("peek", "llama/7b", "latest")["peeked"]
    assert set(peeked) == _MODEL | {"bytes_read", "parameters", "dtypes", "tensor_files"}


def test_publish_and_export(document: Document, run: Runner, tmp_path: Path) -> None:
    """`publish` and `export` have what was written."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.bin").write_bytes(b"abc")
    published = document("publish", str(tmp_path / "made"), "my/model", "v1", "--to", str(tmp_path / "out"))
    counts = {"files", "chunks_total", "chunks_new", "bytes_new", "aliases", "updated", "skipped"}
    assert set(published["published"]) == _MODEL | counts
    run("pull", "llama/7b", "latest")
    exported = document("export", "llama/7b", "--to", str(tmp_path / "exported"))["exported"]
    assert set(exported) == {"to", "refs", "chunks_written", "bytes_written", "notes"}
    assert exported["refs"] == ["llama/7b latest"]
