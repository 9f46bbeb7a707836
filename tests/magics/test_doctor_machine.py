"""What the doctor says of disks, locks and unfinished pulls."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb import Config, ModelRef, Toolkit, connect
from xprim_nb._files import PathLock
from xprim_nb.cache.layout import Layout
from xprim_nb.magics import doctor_machine
from xprim_nb.manager.probing import Said

_REF = ModelRef("demo", "big", "v1")
_HOLD = "import filelock, sys\nlock = filelock.FileLock(sys.argv[1])\nlock.acquire()\nprint('held', flush=True)\ninput()"


@pytest.fixture
def kit(data_dir: Path) -> Iterator[Toolkit]:
    """A toolkit with a home of its own."""
    with connect(Config(data_dir=data_dir)) as made:
        yield made


def _said(kit: Toolkit, part: str) -> Said:
    return doctor_machine.probes(kit)[part]()


def test_processor_and_memory(kit: Toolkit) -> None:
    """Cores and free memory are told."""
    assert " RAM free" in _said(kit, "processor")[1]
    assert "core" in _said(kit, "processor")[1]


def test_disk_that_can_be_used(kit: Toolkit, data_dir: Path) -> None:
    """Directory, file system, free bytes and reflinks are told; trying them leaves nothing behind."""
    verdict, told, _ = _said(kit, "disk")
    assert verdict == "ok"
    assert told.startswith(f"{data_dir} on ")
    kit.list_installed().result()
    (data_dir / "cache").mkdir(parents=True, exist_ok=True)
    assert "share their blocks (reflink)" in _said(kit, "disk")[1]
    assert list((data_dir / "cache" / "trash").iterdir()) == []


def test_disk_that_cannot_be_used(kit: Toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is worth a look, one that cannot be written to is broken; both say what to do."""
    monkeypatch.setattr(doctor_machine, "free_bytes", lambda path: 1024)
    assert _said(kit, "disk")[0] == "look at this"
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
    verdict, _, advice = _said(kit, "disk")
    assert verdict == "broken"
    assert "data_dir" in advice


def test_locks_say_who_holds_them(kit: Toolkit) -> None:
    """A lock of this kernel is fine; one of another process is told with its number, and waits for nobody."""
    assert _said(kit, "locks") == ("ok", "nobody holds one", "")
    path = Layout.of(kit.config).ref_lock(_REF)
    lock = PathLock(path)
    assert lock.try_acquire()
    verdict, told, _ = _said(kit, "locks")
    assert (verdict, told.startswith("held by this kernel: demo/big v1")) == ("ok", True)
    lock.release()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        verdict, told, advice = _said(kit, "locks")
        other.communicate("\n")
    assert verdict == "look at this"
    assert "demo/big v1" in told
    if sys.platform == "linux":
        assert f"process {other.pid}" in told
    assert "waits for them" in advice


def test_unfinished_pulls_are_counted_in_bytes(kit: Toolkit) -> None:
    """What lies there of pulls that were stopped is told with its true size."""
    assert _said(kit, "unfinished pulls") == ("ok", "none", "")
    tree = Layout.of(kit.config).partials / ("a" * 64) / "tree"
    tree.mkdir(parents=True)
    (tree / "model.bin").write_bytes(os.urandom(1 << 20))
    _, told, advice = _said(kit, "unfinished pulls")
    assert told.startswith("1 pull, 1.0 MB on the disk: aaaaaaaaaaaa 1.0 MB")
    assert "goes on there" in advice
