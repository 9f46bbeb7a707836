"""`xprim_nb.registry.objects`: what is written to `data/`, and what is left of it when something interrupts."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.errors import StorageError
from xprim_nb.registry.index import parse_index
from xprim_nb.registry.publisher import publish
from xprim_nb.testing.registries import MadeRegistry, random_bytes

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 4096
unix_only = pytest.mark.skipif(os.name == "nt", reason="needs Unix permissions or signals")

Files = dict[str, bytes]
Install = Callable[[Path, str], Files]

MODEL: Files = {"model.bin": random_bytes("model", 20 * CHUNK), "config.json": b"{}"}
OLD: Files = {"a.bin": random_bytes("old", 3 * CHUNK)}


def write(root: Path, files: Files) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", MODEL)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def snapshot(to: Path) -> dict[str, tuple[int, int, int]]:
    """What every file of a directory is; another value means it was written."""
    return {
        str(path.relative_to(to)): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
        for path in to.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_a_damaged_chunk_is_replaced_and_a_whole_one_is_not_touched(source: Path, to: Path) -> None:
    """An object of the wrong length is written anew, a missing one too; one of the right length is left alone."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    short, missing, other = (to / "data" / digest for digest in MadeRegistry(to).chunks("demo/tiny v1")[:3])
    short.write_bytes(b"cut")
    missing.unlink()
    other.write_bytes(bytes(CHUNK))
    before = snapshot(to)
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert (done.chunks_new, done.updated) == (2, False)
    after = snapshot(to)
    assert {path for path in after if after[path] != before.get(path)} == {
        f"data/{short.name}",
        f"data/{missing.name}",
    }
    assert hashlib.sha256(short.read_bytes()).hexdigest() == short.name


def test_a_repeated_chunk_is_written_once(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty times the same chunk ask for one temporary file; the others are the manifest's and the index's."""
    asked, token_hex = [], secrets.token_hex

    def counting(size: int) -> str:
        asked.append(token_hex(size))
        return asked[-1]

    monkeypatch.setattr(secrets, "token_hex", counting)
    done = publish(
        write(tmp_path / "zeros", {"a.bin": bytes(50 * CHUNK)}), "demo/z v1", to=to, chunk_size=CHUNK
    )
    assert (done.chunks_total, done.chunks_new, len(asked)) == (50, 1, 3)


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


def test_memory_stays_under_four_chunks(tmp_path: Path, to: Path) -> None:
    """A file of 24 chunks goes through three buffers."""
    chunk = 1 << 20
    source = tmp_path / "large"
    source.mkdir()
    with (source / "model.bin").open("wb") as file:
        for index in range(24):
            file.write(random_bytes(str(index), 1 << 10) * 1024)
    tracemalloc.start()
    publish(source, "demo/large v1", to=to, chunk_size=chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(MadeRegistry(to).chunks("demo/large v1"))) == 24
    assert 3 * chunk < peak < 4 * chunk


def test_a_disk_that_refuses_is_a_storage_error(source: Path, to: Path) -> None:
    """An object that cannot be replaced stops the publication, and no temporary file is left."""
    publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    digest = MadeRegistry(to).chunks("demo/tiny v1")[0]
    (to / "data" / digest).unlink()
    (to / "data" / digest).mkdir()
    with pytest.raises(StorageError, match=digest[:16]):
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
    at: int, tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch, original_install: Install
) -> None:
    """Before the n-th object gets its name everything stops: the old model is whole, and the new one follows."""
    publish(write(tmp_path / "old", OLD), "demo/old v1", to=to, chunk_size=CHUNK)
    files = {f"{name}.bin": random_bytes(name, 2 * CHUNK) for name in "abcd"}
    new = write(tmp_path / "new", files)
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
            assert "new" not in MadeRegistry(to).index["demo"]
        else:
            assert at >= 10  # eight chunks, the manifest and the index have their names by then
    assert original_install(to, "demo/old v1") == OLD
    assert not [path for path in to.rglob(".*") if path.suffix == ".tmp"]
    done = publish(new, "demo/new v1", to=to, chunk_size=CHUNK, alias=["latest"])
    assert at < 8 or done.chunks_new == 0
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


def test_two_publishers_at_once(source: Path, tmp_path: Path, to: Path, original_install: Install) -> None:
    """Two processes that publish different models at the same time are both in the index afterwards."""
    other = write(tmp_path / "other", {**MODEL, "config.json": b"other"})
    processes = [started(source, "demo/one v1", to), started(other, "demo/two v1", to)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=20)[0] == "done\n"
        assert process.returncode == 0
    assert original_install(to, "demo/one latest") == MODEL
    assert original_install(to, "demo/two latest")["config.json"] == b"other"


@unix_only
def test_killed_in_the_middle(source: Path, tmp_path: Path, to: Path, original_install: Install) -> None:
    """After SIGKILL the registry serves what it served; publishing again goes on from the chunks that are there."""
    publish(write(tmp_path / "old", OLD), "demo/old v1", to=to, chunk_size=CHUNK)
    with started(source, "demo/tiny v1", to) as process:
        process.kill()
    assert [str(model.ref) for model in parse_index((to / "models.json").read_bytes())] == ["demo/old v1"]
    assert original_install(to, "demo/old v1") == OLD
    done = publish(source, "demo/tiny v1", to=to, chunk_size=CHUNK)
    assert done.chunks_new <= 21 - 2
    assert original_install(to, "demo/tiny v1") == MODEL
