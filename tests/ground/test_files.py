"""Durable writes are whole or absent, whatever fails; what the disk refuses is explained."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from xprim_nb._files import (
    durable,
    free_bytes,
    make_dirs,
    remove_tree,
    storage_errors,
    sync_dir,
    sync_file,
    write_atomic,
)
from xprim_nb.errors import HashMismatchError, InsufficientSpaceError, StorageError

_NOBODY = 65534
_posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions, links and signals")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[Path]:
    """A directory in which permissions count, as they do not for root."""
    if os.geteuid() != 0:
        yield tmp_path
        return
    # Not below tmp_path: its parents are closed to everybody else.
    folder = Path(tempfile.mkdtemp(prefix="xprim-"))
    os.chown(folder, _NOBODY, _NOBODY)
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield folder
    finally:
        os.seteuid(0)
        os.setegid(0)
        shutil.rmtree(folder)


# A tmpfs of 1 MB and a read-only mount, in a mount namespace that ends with the process.
_MOUNTS = """
import json, os, subprocess, sys
from pathlib import Path
from xprim_nb._files import preallocate, write_atomic
from xprim_nb.errors import StorageError

base = Path(sys.argv[1])
small, sealed = base / "small", base / "sealed"
small.mkdir(); sealed.mkdir(); (sealed / "file").write_bytes(b"old")
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
subprocess.run(["mount", "--bind", sealed, sealed], check=True)
subprocess.run(["mount", "-o", "remount,ro,bind", sealed], check=True)
print("mounted", flush=True)

def outcome(work):
    try:
        work()
    except OSError as error:
        return {"kind": type(error).__name__, "text": str(error), "errno": error.errno,
                "hint": getattr(error, "hint", ""), "subject": getattr(error, "subject", "")}
    return None

write_atomic(small / "file", b"old")
found = {
    "full": outcome(lambda: write_atomic(small / "file", bytes(2 << 20))),
    "left in full": {path.name: path.read_bytes().decode() for path in small.iterdir()},
    "read-only": outcome(lambda: write_atomic(sealed / "file", b"new")),
    "left in read-only": {path.name: path.read_bytes().decode() for path in sealed.iterdir()},
}
with (small / "big").open("wb") as file:
    found["preallocated"] = outcome(lambda: preallocate(file.fileno(), 2 << 20))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def full_and_sealed() -> dict[str, Any]:
    """What happens on a full and on a read-only file system, both real."""
    if shutil.which("unshare") is None:
        pytest.skip("needs mount namespaces (util-linux's unshare)")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", sys.executable, "-c", _MOUNTS, folder],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    if "mounted" not in done.stdout:
        pytest.skip(f"may not mount here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_write_creates_and_replaces(tmp_path: Path) -> None:
    """The bytes are under the name, the directories were made, and nothing else is left."""
    path = tmp_path / "a" / "b" / "file"
    for data in (b"old", b"", memoryview(b"new")):
        write_atomic(path, data)
        assert path.read_bytes() == data
        assert _names(path.parent) == {"file"}


def test_a_durable_write_goes_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, then the name, then the directory: the order that survives a power cut, which no test can make."""
    steps: list[str] = []

    def noted(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object) -> None:
            steps.append(name)
            real(*arguments)

        return step

    monkeypatch.setattr(durable, "sync_file", noted("sync file", sync_file))
    monkeypatch.setattr(durable, "sync_dir", noted("sync directory", sync_dir))
    monkeypatch.setattr(os, "replace", noted("replace", os.replace))
    write_atomic(tmp_path / "file", b"x")
    assert steps == ["sync file", "replace", "sync directory"]
    steps.clear()
    write_atomic(tmp_path / "file", b"x", durable=False)
    assert steps == ["replace"]
    steps.clear()
    write_atomic(tmp_path / "new" / "file", b"x")
    assert steps == ["sync directory", "sync file", "replace", "sync directory"]


@pytest.mark.parametrize(
    "failure", [OSError(errno.EIO, "bad medium"), KeyboardInterrupt(), MemoryError()], ids=repr
)
@pytest.mark.parametrize("step", ["sync_file", "replace"])
def test_a_failed_write_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    """Whatever fails, and however, the old file is whole and no temporary one is left."""

    def fail(*_: object) -> None:  # a medium that fails on command is not at hand
        raise failure

    write_atomic(tmp_path / "file", b"old")
    monkeypatch.setattr(durable if step == "sync_file" else os, step, fail)
    expected = StorageError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        write_atomic(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_a_full_disk_changes_nothing(full_and_sealed: dict[str, Any]) -> None:
    """On a file system without room the old file is whole, nothing is left, and the error says what to do."""
    error = full_and_sealed["full"]
    assert error["kind"] == "InsufficientSpaceError"
    assert "the disk is full" in error["text"]
    assert "prune" in error["hint"]
    assert full_and_sealed["left in full"] == {"file": "old"}


def test_a_read_only_disk_changes_nothing(full_and_sealed: dict[str, Any]) -> None:
    """On a read-only file system the error says so and names the setting that helps."""
    error = full_and_sealed["read-only"]
    assert error["kind"] == "StorageError"
    assert "read-only" in error["text"]
    assert "MODELS_DIR" in error["hint"]
    assert full_and_sealed["left in read-only"] == {"file": "old"}


def test_preallocation_knows_a_full_disk(full_and_sealed: dict[str, Any]) -> None:
    """What will not fit is refused before it is fetched."""
    assert full_and_sealed["preallocated"]["errno"] == errno.ENOSPC


@_posix
def test_a_forbidden_directory_is_explained(unprivileged: Path) -> None:
    """Without permission nothing changes, and the error names the path."""
    write_atomic(unprivileged / "file", b"old")
    unprivileged.chmod(0o555)
    with pytest.raises(StorageError, match="permission denied") as caught:
        write_atomic(unprivileged / "file", b"new")
    assert caught.value.subject.startswith(str(unprivileged))
    unprivileged.chmod(0o755)
    assert {path.name: path.read_bytes() for path in unprivileged.iterdir()} == {"file": b"old"}


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    """A name that fills the file system's limit leaves room for the temporary one."""
    for name in ("a" * 255, "語" * 85, "🙂" * 63):
        write_atomic(tmp_path / name, b"x")
    assert len(_names(tmp_path)) == 3
    with pytest.raises(StorageError, match="too long"):
        write_atomic(tmp_path / ("a" * 256), b"x")


@pytest.mark.parametrize(("inside", "reason"), [(False, "directory lies"), (True, "file lies")])
def test_the_wrong_kind_of_entry_is_explained(tmp_path: Path, inside: bool, reason: str) -> None:
    """A directory in the file's place, and a file in the directory's, are told apart and left alone."""
    if inside:
        (tmp_path / "x").write_bytes(b"in the way")
    else:
        (tmp_path / "x").mkdir()
    with pytest.raises(StorageError, match=reason):
        write_atomic(tmp_path / "x" / "file" if inside else tmp_path / "x", b"new")
    assert _names(tmp_path) == {"x"}


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    """While one thread replaces the file, another reads only whole versions."""
    path, versions = tmp_path / "file", [bytes([n]) * 50_000 for n in range(2)]
    write_atomic(path, versions[0])
    done, seen = threading.Event(), set[bytes]()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for number in range(300):
            write_atomic(path, versions[number % 2], durable=False)
        done.set()
        reading.result(20)
    assert seen <= set(versions)


_WRITER = """
import sys
from pathlib import Path
from xprim_nb._files import write_atomic
print("ready", flush=True)
number = 0
while True:
    number += 1
    write_atomic(Path(sys.argv[1]), bytes([number % 250]) * 3_000_000, durable=False)
    print(number, flush=True)
"""


@_posix
@pytest.mark.chaos
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """SIGKILL at arbitrary instants leaves one whole version under the name."""
    path = tmp_path / "file"
    for kills in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(3 + kills):
                child.stdout.readline()
            child.send_signal(signal.SIGKILL)
        data = path.read_bytes()
        assert len(data) == 3_000_000
        assert len(set(data)) == 1


def test_directories_are_made_together(tmp_path: Path) -> None:
    """Sixteen threads that make the same directories all succeed, and again when they are there."""
    path = tmp_path.joinpath(*"abcdefgh")
    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(make_dirs, path) for _ in range(64)]:
            done.result(20)
    assert path.is_dir()


@_posix
def test_a_link_to_nowhere_is_no_directory(tmp_path: Path) -> None:
    """A broken link in a directory's place is an error, not an endless attempt."""
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(NotADirectoryError):
        make_dirs(tmp_path / "link" / "x")
    with pytest.raises(StorageError, match="the link leads nowhere") as caught:
        write_atomic(tmp_path / "link" / "x", b"")
    assert "disk connected" in caught.value.hint


def test_a_tree_is_removed_and_may_be_missing(tmp_path: Path) -> None:
    """A tree is deleted with all it holds; one that is not there is fine."""
    make_dirs(tmp_path / "tree" / "a" / "b")
    (tmp_path / "tree" / "a" / "file").write_bytes(b"x")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert _names(tmp_path) == set()


@_posix
def test_read_only_entries_are_removed(unprivileged: Path) -> None:
    """Files and directories without write permission do not stop their owner."""
    folder = unprivileged / "tree" / "inside"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x")
    (folder / "file").chmod(0o400)
    folder.chmod(0o500)
    (unprivileged / "tree").chmod(0o500)
    remove_tree(unprivileged / "tree")
    assert _names(unprivileged) == set()


@_posix
def test_what_cannot_be_removed_is_an_error(unprivileged: Path) -> None:
    """A tree in somebody else's directory stays, and the error says why."""
    (unprivileged / "closed" / "tree").mkdir(parents=True)
    (unprivileged / "closed").chmod(0o500)
    with pytest.raises(StorageError, match="permission denied"):
        remove_tree(unprivileged / "closed" / "tree")
    assert (unprivileged / "closed" / "tree").is_dir()


@_posix
def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link inside a tree goes, what it points to stays; a tree that is a link is refused."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "mine")
    remove_tree(tmp_path / "tree")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(StorageError):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "mine" / "file").read_bytes() == b"x"


def test_two_that_remove_one_tree_both_succeed(tmp_path: Path) -> None:
    """When several delete the same tree, it is gone for each of them when it returns."""
    for number in range(10):
        tree = tmp_path / str(number)
        for folder in range(10):
            (tree / str(folder)).mkdir(parents=True)
            for file in range(10):
                (tree / str(folder) / str(file)).touch()

        def remove(start: threading.Barrier, tree: Path = tree) -> bool:
            start.wait(20)
            remove_tree(tree)
            return tree.exists()

        with ThreadPoolExecutor(4) as pool:
            start = threading.Barrier(4)
            assert [each.result(20) for each in [pool.submit(remove, start) for _ in range(4)]] == [False] * 4


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.ENOSPC, InsufficientSpaceError, "the disk is full"),
        (errno.EDQUOT, InsufficientSpaceError, "quota"),
        (errno.EROFS, StorageError, "read-only"),
        (errno.EACCES, StorageError, "permission denied"),
        (errno.ENAMETOOLONG, StorageError, "too long"),
        (errno.EMFILE, StorageError, "too many open files"),
        (errno.EIO, StorageError, os.strerror(errno.EIO)),
    ],
)
def test_system_errors_are_explained(number: int, kind: type[StorageError], reason: str) -> None:
    """Each error of the disk becomes a StorageError with a reason, a hint, the path and its cause."""
    with pytest.raises(StorageError, match=reason) as caught, storage_errors("/the/path", "testing"):
        raise OSError(number, os.strerror(number), "/the/file")
    assert type(caught.value) is kind
    assert str(caught.value).startswith("testing failed, ")
    assert caught.value.subject == "/the/file"
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


def test_own_errors_pass_as_they_are() -> None:
    """What is explained already is not explained again, and what is no error of the disk is left alone."""
    for error in (HashMismatchError("bad bytes."), InsufficientSpaceError("full."), ValueError("no OSError")):
        with pytest.raises(type(error)) as caught, storage_errors("/the/path", "testing"):
            raise error
        assert caught.value is error
    with pytest.raises(StorageError, match="odd") as told, storage_errors("/the/path", "testing"):
        raise OSError("odd")
    assert told.value.subject == "/the/path"


def test_free_space_is_asked_where_the_path_will_be(tmp_path: Path) -> None:
    """The space of a path that does not exist yet is that of the file system it will be on."""
    found = free_bytes(tmp_path / "not" / "yet" / "there")
    assert found == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
