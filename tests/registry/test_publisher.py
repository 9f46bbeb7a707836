"""`xprim_nb.registry.publisher`: a registry that any client can install from, whatever interrupts its making."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from xprim_nb._hashing import canonical_json
from xprim_nb.errors import (
    ConfigError,
    InvalidRefError,
    RegistryError,
    StorageError,
    VersionExistsError,
    XprimError,
)
from xprim_nb.registry.chunking import DEFAULT_CHUNK_BYTES
from xprim_nb.registry.index import parse_index
from xprim_nb.registry.manifest import Manifest, parse_manifest
from xprim_nb.registry.publisher import PublishError, PublishProgress, publish, set_alias
from xprim_nb.testing.registries import MadeRegistry, random_bytes

CHUNK = 4096

Files = dict[str, bytes]
Install = Callable[[Path, str], Files]


def weights(**changed: int) -> bytes:
    """A safetensors file of large and small tensors; `changed` gives some another number of elements."""
    sizes = {
        f"layers.{index:02}.{part}": n for index in range(12) for part, n in (("mlp", 3000), ("norm", 40))
    }
    sizes |= changed
    return bytes(
        save({name: np.frombuffer(random_bytes(name, 2 * size), np.float16) for name, size in sizes.items()})
    )


def model_files() -> Files:
    return {
        "config.json": b'{"hidden_size": 12}',
        "model.safetensors": weights(),
        "tokenizer/merges.txt": random_bytes("merges", 3 * CHUNK),
        "tokenizer/vocab.txt": random_bytes("vocab", CHUNK) * 3,
        "empty.txt": b"",
        "copy.json": b'{"hidden_size": 12}',
    }


def write(root: Path, files: Files) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", model_files())


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def manifest_of(to: Path, ref: str) -> Manifest:
    """The manifest that a client of ours would find, verified against its name."""
    digest = MadeRegistry(to).manifest_hash(ref)
    return parse_manifest((to / "data" / digest).read_bytes(), ".xprim", expected=digest).manifest


def snapshot(to: Path) -> dict[str, tuple[int, int, int]]:
    """What every file of a directory is; another value means it was written."""
    return {
        str(path.relative_to(to)): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
        for path in to.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.mark.parametrize("mode", ["aligned", "fixed"])
def test_the_original_client_installs_what_was_published(
    mode: Any, source: Path, to: Path, original_install: Install
) -> None:
    """Its algorithm gives back every file, also empty ones and ones with repeated chunks."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, mode=mode)
    assert original_install(to, "demo/tiny v1") == model_files()


def test_what_publishing_reports(source: Path, to: Path) -> None:
    """The result counts files, chunks and bytes as they lie in the registry afterwards."""
    (source / ".git").mkdir()
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, alias=["latest"])
    manifest = manifest_of(to, "demo/tiny v1")
    chunks = [path for path in (to / "data").iterdir() if path.name != done.manifest_hash]
    assert (str(done.ref), done.files, done.skipped) == ("demo/tiny v1", 6, (".git/",))
    assert (done.total_size, done.chunks_total) == (manifest.total_size, len(manifest.chunks))
    assert done.chunks_new == len(chunks) == len(set(manifest.chunks)) < done.chunks_total
    assert done.bytes_new == sum(path.stat().st_size for path in chunks)
    assert (done.updated, done.aliases) == (True, ("latest",))


def test_the_manifest(source: Path, to: Path) -> None:
    """It is canonical JSON, has the digest of every file, and puts weights first and small files last."""
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    raw = (to / "data" / done.manifest_hash).read_bytes()
    assert raw == canonical_json(json.loads(raw))
    manifest = manifest_of(to, "demo/tiny v1")
    assert {file.path: file.sha256 for file in manifest.files} == {
        path: hashlib.sha256(data).hexdigest() for path, data in model_files().items()
    }
    assert manifest.files[0].path == "model.safetensors"
    assert manifest.chunk_sizes is not None
    assert max(manifest.chunk_sizes) <= manifest.chunk_size == CHUNK


def test_chunk_sizes_are_listed_only_when_they_vary(source: Path, to: Path) -> None:
    """A fixed layout, and a single file that needs no other, have the original's manifest."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, mode="fixed")
    publish(
        write(source.parent / "one", {"a.bin": bytes(5 * CHUNK + 1)}), "demo/one v1", to=to, chunk_size=CHUNK
    )
    for ref in ("demo/tiny v1", "demo/one v1"):
        manifest = manifest_of(to, ref)
        assert manifest.chunk_sizes is None
        assert set(manifest.sizes[:-1]) == {CHUNK}


def test_the_default_chunk(source: Path, to: Path) -> None:
    """Without a word about it, chunks are of 10 MiB and aligned."""
    publish(source, "demo/tiny v1", to=to)
    assert manifest_of(to, "demo/tiny v1").chunk_size == DEFAULT_CHUNK_BYTES
    assert manifest_of(to, "demo/tiny v1").chunk_sizes is not None


def test_publishing_again_touches_nothing(source: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is written, not even under a temporary name, and nothing is new."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, alias=["latest"], metadata={"license": "MIT"})
    before = snapshot(to)
    monkeypatch.setattr(secrets, "token_hex", lambda size: pytest.fail("a temporary name was asked for"))
    done = publish(
        source, "demo/tiny v1", to=to, chunk_size=CHUNK, alias="latest", metadata={"license": "MIT"}
    )
    assert (done.updated, done.chunks_new, done.bytes_new) == (False, 0, 0)
    assert snapshot(to) == before


def test_a_second_version_shares_what_did_not_change(
    source: Path, to: Path, original_install: Install
) -> None:
    """A longer config and one resized tensor cost their own chunks and the header, and nothing else."""
    first = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    before = snapshot(to)
    write(
        source,
        {
            "config.json": b'{"hidden_size": 12, "more": true}',
            "model.safetensors": weights(**{"layers.05.mlp": 2900}),
        },
    )
    second = publish(source, "demo/tiny v2", to=to, chunk_size=CHUNK)
    assert original_install(to, "demo/tiny v2")["model.safetensors"] == weights(**{"layers.05.mlp": 2900})
    # The header, config.json, and the tensor's second chunk: its first 4,096 bytes are the same.
    assert second.chunks_new == 3
    assert second.bytes_new < first.bytes_new / 5
    after = snapshot(to)
    assert {path: after[path] for path in before if path != "models.json"} == {
        path: facts for path, facts in before.items() if path != "models.json"
    }


def test_aliases_are_published_with_the_version(source: Path, to: Path) -> None:
    """An alias leads to the version for clients that know aliases, and to its manifest for those that do not."""
    done = publish(source, "demo/tiny v1", to=to, alias=["latest", "stable"], metadata={"tags": ["a", "b"]})
    set_alias(to, "demo/tiny v1", "edge")
    index = parse_index((to / "models.json").read_bytes())
    assert not index.problems
    assert {model.ref.version: model.alias_of for model in index} == {
        "edge": "v1", "latest": "v1", "stable": "v1", "v1": None,
    }  # fmt: skip
    assert {model.manifest_hash for model in index} == {done.manifest_hash}
    assert {model.total_size for model in index} == {done.total_size}
    assert all(model.metadata == {"tags": ["a", "b"]} for model in index)


def test_a_published_version_does_not_change(source: Path, to: Path) -> None:
    """Other bytes under the same version are refused before anything is written."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    before = snapshot(to)
    write(source, {"config.json": b"{}"})
    with pytest.raises(VersionExistsError, match="demo/tiny v1"):
        publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    with pytest.raises(VersionExistsError):
        publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, mode="fixed")
    assert snapshot(to) == before


def test_fewer_bytes_are_other_bytes(source: Path, to: Path) -> None:
    """A version that lost a file is refused although all its chunks are known."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    before = snapshot(to)
    (source / "empty.txt").unlink()
    with pytest.raises(VersionExistsError):
        publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert snapshot(to) == before


def test_replace_changes_a_version_and_its_aliases(source: Path, to: Path, original_install: Install) -> None:
    """With `replace` the version, and every alias of it, name the new bytes."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, alias=["latest"])
    write(source, {"config.json": b"{}"})
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, replace=True)
    assert done.updated
    for version in ("v1", "latest"):
        assert original_install(to, f"demo/tiny {version}")["config.json"] == b"{}"


def test_an_alias_that_is_a_version_is_refused_at_once(source: Path, to: Path) -> None:
    """The conflict is told before the files are read, and nothing is written."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    before = snapshot(to)
    seen: list[PublishProgress] = []
    with pytest.raises(VersionExistsError, match="version of its own"):
        publish(source, "demo/tiny v2", to=to, alias=["v1"], chunk_size=100, progress=seen.append)
    assert (snapshot(to), seen) == (before, [])


def test_a_lost_manifest_is_written_again(source: Path, to: Path, original_install: Install) -> None:
    """Without the old manifest the new one's digest decides, and it is put back."""
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    (to / "data" / done.manifest_hash).unlink()
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert original_install(to, "demo/tiny v1") == model_files()


def test_progress(source: Path, to: Path) -> None:
    """It begins at nothing, grows by one chunk at a time, and ends at everything."""
    seen: list[PublishProgress] = []
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, progress=seen.append)
    assert [each.chunks_completed for each in seen] == list(range(done.chunks_total + 1))
    assert [each.bytes_completed for each in seen] == sorted(each.bytes_completed for each in seen)
    assert {(each.chunks_total, each.bytes_total) for each in seen} == {(done.chunks_total, done.total_size)}
    assert (seen[-1].bytes_completed, seen[-1].bytes_new) == (done.total_size, done.bytes_new)
    assert seen[0].current_file == ""
    assert {each.current_file for each in seen[1:]} <= set(model_files())


def rewrite(path: Path) -> None:
    """Other bytes, the same length."""
    path.write_bytes(bytes(path.stat().st_size))


CHANGES: dict[str, Callable[[Path], object]] = {
    "the file being read": lambda source: rewrite(source / "model.safetensors"),
    "it shrinks": lambda source: os.truncate(source / "model.safetensors", 3 * CHUNK),
    "it grows": lambda source: write(source, {"model.safetensors": weights() + b"more"}),
    "a file not read yet": lambda source: rewrite(source / "config.json"),
    "a file is added": lambda source: write(source, {"new.json": b"{}"}),
    "a file is removed": lambda source: (source / "empty.txt").unlink(),
}


@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("case", CHANGES)
def test_a_directory_that_changes_meanwhile_is_refused(case: str, at: int, source: Path, to: Path) -> None:
    """Whatever is written to while it is published, no version comes to name a mixture."""

    def change(progress: PublishProgress) -> None:
        if progress.chunks_completed == at:
            CHANGES[case](source)

    with pytest.raises(XprimError) as caught:
        publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, progress=change)
    assert isinstance(caught.value, PublishError | StorageError)
    assert not (to / "models.json").exists()


def test_a_file_that_changes_while_it_is_read_stops_at_its_end(source: Path, to: Path) -> None:
    """Nobody waits for the rest of a model that cannot be published any more."""
    seen: list[PublishProgress] = []

    def change(progress: PublishProgress) -> None:
        if not seen:
            rewrite(source / "model.safetensors")
        seen.append(progress)

    with pytest.raises(PublishError, match=r"model\.safetensors changed"):
        publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, progress=change)
    assert {each.current_file for each in seen} <= {"", "model.safetensors"}


def test_a_file_that_changed_after_it_was_read_is_noticed(source: Path, to: Path) -> None:
    """The first file is rewritten while the last is read; the version would be consistent, but of no moment."""

    def change(progress: PublishProgress) -> None:
        if progress.chunks_completed == progress.chunks_total:
            rewrite(source / "model.safetensors")

    with pytest.raises(PublishError, match=r"model\.safetensors changed"):
        publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, progress=change)
    assert not (to / "models.json").exists()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"ref": "demo/tiny"}, InvalidRefError),
        ({"ref": "../.. v1"}, InvalidRefError),
        ({"alias": ["../x"]}, InvalidRefError),
        ({"alias": ["v1"]}, ConfigError),
        ({"chunk_size": 0}, ConfigError),
        ({"chunk_size": (1 << 30) + 1}, ConfigError),
        ({"mode": "random"}, ConfigError),
        ({"metadata": {"size": float("nan")}}, ConfigError),
        ({"metadata": {"id": 1 << 60}}, ConfigError),
        ({"metadata": {"path": Path()}}, ConfigError),
        ({"metadata": {"text": "\ud800"}}, ConfigError),
        ({"metadata": ["a"]}, ConfigError),
        ({"source": Path("nowhere")}, PublishError),
    ],
)
def test_settings_that_cannot_work(
    settings: dict[str, Any], error: type[Exception], source: Path, to: Path
) -> None:
    """They are refused before anything is created."""
    arguments = {"source": source, "ref": "demo/tiny v1", "to": to, **settings}
    with pytest.raises(error):
        publish(arguments.pop("source"), arguments.pop("ref"), **arguments)
    assert not to.exists()


@pytest.mark.parametrize("inside", [".", "registry", ".hidden/registry"])
def test_a_registry_inside_the_model_is_refused(inside: str, source: Path) -> None:
    """It would be part of the next version, and the next version part of it."""
    with pytest.raises(PublishError, match="inside"):
        publish(source, "demo/tiny v1", to=source / inside)
    assert not (source / "data").exists()


def test_a_broken_index_stops_before_anything_is_written(source: Path, to: Path) -> None:
    """What cannot be read is not overwritten."""
    write(to, {"models.json": b"{"})
    with pytest.raises(RegistryError):
        publish(source, "demo/tiny v1", to=to)
    assert snapshot(to).keys() == {"models.json"}


def test_a_file_that_is_no_safetensors_is_published_all_the_same(
    source: Path, to: Path, caplog: pytest.LogCaptureFixture, original_install: Install
) -> None:
    """A broken header costs the alignment, and a warning names the file."""
    write(source, {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\n" * 200})
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert len(original_install(to, "demo/tiny v1")["model.safetensors"]) == 43 * 200
    assert "model.safetensors" in caplog.text
    assert "Git LFS" in caplog.text
