"""`xprim_nb.registry.publisher`: a registry that any client can install from, whatever interrupts its making."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
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

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 4096
unix_only = pytest.mark.skipif(os.name == "nt", reason="needs Unix permissions or signals")

Files = dict[str, bytes]


def noise(seed: str, size: int) -> bytes:
    """Bytes that nothing else has."""
    return hashlib.shake_256(seed.encode()).digest(size)


def weights(**changed: int) -> bytes:
    """A safetensors file of large and small tensors; `changed` gives some another number of elements."""
    sizes = {
        f"layers.{index:02}.{part}": n for index in range(12) for part, n in (("mlp", 3000), ("norm", 40))
    }
    sizes |= changed
    return bytes(
        save({name: np.frombuffer(noise(name, 2 * size), np.float16) for name, size in sizes.items()})
    )


def model_files() -> Files:
    return {
        "config.json": b'{"hidden_size": 12}',
        "model.safetensors": weights(),
        "tokenizer/merges.txt": noise("merges", 3 * CHUNK),
        "tokenizer/vocab.txt": noise("vocab", CHUNK) * 3,
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
    name, version = ref.split()
    group, model = name.split("/")
    digest = json.loads((to / "models.json").read_bytes())[group][model][version]["hash"]
    return parse_manifest((to / "data" / digest).read_bytes(), ".xprim", expected=digest).manifest


def original_install(to: Path, ref: str) -> Files:
    """The original client's algorithm: concatenate the chunks, cut the files by their size. It knows no more."""
    name, version = ref.split()
    group, model = name.split("/")
    digest = json.loads((to / "models.json").read_bytes())[group][model][version]["hash"]
    manifest: dict[str, Any] = json.loads((to / "data" / digest).read_bytes())
    stream = b""
    for chunk in manifest["chunks"]:
        data = (to / "data" / chunk).read_bytes()
        assert hashlib.sha256(data).hexdigest() == chunk
        stream += data
    assert len(stream) == manifest["total_size"]
    files = {}
    for file in manifest["files"]:
        files[file["path"]], stream = stream[: file["size"]], stream[file["size"] :]
    assert not stream
    return files


def snapshot(to: Path) -> dict[str, tuple[int, int, int]]:
    """What every file of a directory is; another value means it was written."""
    return {
        str(path.relative_to(to)): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
        for path in to.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.mark.parametrize("mode", ["aligned", "fixed"])
def test_the_original_client_installs_what_was_published(mode: Any, source: Path, to: Path) -> None:
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
    assert [file.path for file in manifest.files][0] == "model.safetensors"
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


def test_publishing_again_touches_nothing(source: Path, to: Path) -> None:
    """The second time nothing is written and nothing is new."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK, alias=["latest"], metadata={"license": "MIT"})
    before = snapshot(to)
    done = publish(
        source, "demo/tiny v1", to=to, chunk_size=CHUNK, alias="latest", metadata={"license": "MIT"}
    )
    assert (done.updated, done.chunks_new, done.bytes_new) == (False, 0, 0)
    assert snapshot(to) == before


def test_a_second_version_shares_what_did_not_change(source: Path, to: Path) -> None:
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
    # The header, the tensor's two chunks, config.json; its old bytes are still those of copy.json.
    assert second.chunks_new == 4
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


def test_replace_changes_a_version_and_its_aliases(source: Path, to: Path) -> None:
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


def test_a_damaged_chunk_is_replaced_and_a_whole_one_is_not_touched(source: Path, to: Path) -> None:
    """An object of the wrong length is written anew, a missing one too; one of the right length is left alone."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    manifest = manifest_of(to, "demo/tiny v1")
    short, missing, other = (to / "data" / digest for digest in manifest.chunks[:3])
    short.write_bytes(b"cut")
    missing.unlink()
    other.write_bytes(bytes(manifest.sizes[2]))
    before = snapshot(to)
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert (done.chunks_new, done.updated) == (2, False)
    after = snapshot(to)
    assert {path for path in after if after[path] != before.get(path)} == {
        f"data/{short.name}",
        f"data/{missing.name}",
    }
    assert hashlib.sha256(short.read_bytes()).hexdigest() == short.name


def test_a_lost_manifest_is_written_again(source: Path, to: Path) -> None:
    """Without the old manifest the new one's digest decides, and it is put back."""
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    (to / "data" / done.manifest_hash).unlink()
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert original_install(to, "demo/tiny v1") == model_files()


@unix_only
def test_a_web_server_of_another_user_can_read_everything(source: Path, to: Path) -> None:
    """Objects and index have the mode that the umask leaves, not that of a private temporary file."""
    umask = os.umask(0o022)
    try:
        publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    finally:
        os.umask(umask)
    modes = {
        path.stat().st_mode & 0o777 for path in to.rglob("*") if path.is_file() and path.suffix != ".lock"
    }
    assert modes == {0o644}


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


def test_memory_stays_under_four_chunks(tmp_path: Path, to: Path) -> None:
    """A file of 24 chunks goes through three buffers."""
    chunk = 1 << 20
    source = tmp_path / "large"
    source.mkdir()
    with (source / "model.bin").open("wb") as file:
        for index in range(24):
            file.write(noise(str(index), 1 << 10) * 1024)
    tracemalloc.start()
    publish(source, "demo/large v1", to=to, chunk_size=chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest_of(to, "demo/large v1").distinct) == 24
    assert 3 * chunk < peak < 4 * chunk


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
    source: Path, to: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken header costs the alignment, and a warning names the file."""
    write(source, {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\n" * 200})
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert len(original_install(to, "demo/tiny v1")["model.safetensors"]) == 43 * 200
    assert "model.safetensors" in caplog.text
    assert "Git LFS" in caplog.text


def test_a_disk_that_refuses_is_a_storage_error(source: Path, to: Path) -> None:
    """An object that cannot be replaced stops the publication, and no temporary file is left."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    digest = manifest_of(to, "demo/tiny v1").chunks[0]
    (to / "data" / digest).unlink()
    (to / "data" / digest).mkdir()
    with pytest.raises(StorageError, match=digest):
        publish(source, "demo/tiny v2", to=to, chunk_size=CHUNK)
    assert not list((to / "data").glob(".*"))
    write(to.parent / "file", {"data": b""})
    with pytest.raises(StorageError):
        publish(source, "demo/tiny v1", to=to.parent / "file")


def test_leavings_of_a_killed_publisher_are_swept(source: Path, to: Path) -> None:
    """Temporary files older than a day are removed, younger ones may be another publisher's."""
    old, young = (to / "data" / f".{name}.tmp" for name in ("old", "young"))
    write(to, {"data/.old.tmp": b"x", "data/.young.tmp": b"x"})
    os.utime(old, (1, 1))
    publish(source, "demo/tiny v1", to=to)
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("at", range(12))
def test_stopped_at_any_rename_the_registry_serves_and_a_second_try_completes(
    at: int, source: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the n-th object gets its name everything stops: the old model is whole, and the new one follows."""
    old = write(source.parent / "old", {"a.bin": noise("old", 3 * CHUNK)})
    publish(old, "demo/old v1", to=to, chunk_size=CHUNK)
    files = {f"{name}.bin": noise(name, 2 * CHUNK) for name in "abcd"}
    new = write(source.parent / "new", files)
    replace, calls = os.replace, iter(range(100))

    def stopping(one: str | Path, other: str | Path) -> None:
        if next(calls) == at:
            raise KeyboardInterrupt
        replace(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping)
        try:
            publish(new, "demo/new v1", to=to, chunk_size=CHUNK, alias=["latest"])
        except KeyboardInterrupt:
            assert "new" not in json.loads((to / "models.json").read_bytes())["demo"]
        else:
            assert at >= 10  # eight chunks, the manifest and the index have their names by then
    assert original_install(to, "demo/old v1") == {"a.bin": noise("old", 3 * CHUNK)}
    assert not [path for path in to.rglob(".*") if path.suffix == ".tmp"]
    done = publish(new, "demo/new v1", to=to, chunk_size=CHUNK, alias=["latest"])
    assert done.chunks_new <= 8 - min(at, 8) + 8 * (at < 8)
    assert original_install(to, "demo/new latest") == files


# Publishes, and stops after two chunks until a line arrives.
SCRIPT = """
import sys
from pathlib import Path
from xprim_nb.registry.publisher import publish

def pause(progress):
    if progress.chunks_completed == 2:
        print("two chunks", flush=True)
        sys.stdin.readline()

publish(Path(sys.argv[1]), sys.argv[2], to=Path(sys.argv[3]), chunk_size=4096, alias=["latest"], progress=pause)
print("done", flush=True)
"""


def started(source: Path, ref: str, to: Path) -> subprocess.Popen[str]:
    """A publisher in a process of its own, stopped after two chunks."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(source), ref, str(to)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "two chunks\n"
    return process


def test_two_publishers_at_once(source: Path, tmp_path: Path, to: Path) -> None:
    """Two processes that publish different models at the same time are both in the index afterwards."""
    other = write(tmp_path / "other", {**model_files(), "config.json": b"other"})
    processes = [started(source, "demo/one v1", to), started(other, "demo/two v1", to)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=20)[0] == "done\n"
        assert process.returncode == 0
    assert original_install(to, "demo/one latest") == model_files()
    assert original_install(to, "demo/two latest")["config.json"] == b"other"


@unix_only
def test_killed_in_the_middle(source: Path, tmp_path: Path, to: Path) -> None:
    """After SIGKILL the registry serves what it served; publishing again goes on from the chunks that are there."""
    old = write(tmp_path / "old", {"a.bin": noise("old", 3 * CHUNK)})
    publish(old, "demo/old v1", to=to, chunk_size=CHUNK)
    with started(source, "demo/tiny v1", to) as process:
        process.kill()
    assert [str(model.ref) for model in parse_index((to / "models.json").read_bytes())] == ["demo/old v1"]
    assert original_install(to, "demo/old v1") == {"a.bin": noise("old", 3 * CHUNK)}
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert done.chunks_new <= len(manifest_of(to, "demo/tiny v1").distinct) - 2
    assert original_install(to, "demo/tiny v1") == model_files()
