"""Several kernels over one file: none is told that it is locked, none loses what another kept, any may be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from xprim_nb._hashing import Digest, is_digest
from xprim_nb.prompts.caches import Caches

from .helpers import keep, question

_ROOT = Path(__file__).parents[3]


def _writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.prompts.caches.writer", str(folder), name, str(count)],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(180)
def test_eight_processes_keep_two_hundred_each(folder: Path) -> None:
    """All at once on one new file: nobody is told `database is locked`, and all 1,600 are there."""
    processes = [_writer(folder, f"writer {number}", 200) for number in range(8)]
    kept: list[Digest] = []
    told: list[tuple[int, str]] = []
    for process in processes:
        out, err = process.communicate(timeout=170)
        kept += map(Digest, out.split())
        told.append((process.returncode, err))
    assert told == [(0, "")] * 8
    caches = Caches(folder)
    assert (len(set(kept)), caches.stats().answers, caches.stats().scaffolds) == (1600, 1600, 1600)
    for request in kept:
        assert caches.look_up(request).answer is not None
    assert {entry.uses for entry in caches.entries()} == {2}
    caches.close()


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_kernel_loses_nothing_that_was_kept(folder: Path) -> None:
    """Killed in the midst of writing, again and again: each answer that was said to be kept is, and the file is whole."""
    kept: list[Digest] = []
    for number in range(6):
        process = _writer(folder, f"victim {number}", 10_000)
        assert process.stdout is not None
        for _ in range(7 * number + 3):
            kept.append(Digest(process.stdout.readline().strip()))
        os.kill(process.pid, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        kept += [Digest(line) for line in out.split() if is_digest(line)]
        assert err == ""
    with contextlib.closing(sqlite3.connect(folder / "cache.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    caches = Caches(folder)
    assert len(kept) > 100
    assert all(caches.look_up(request).answer is not None for request in kept)
    assert caches.stats().damaged == 0
    caches.close()


def test_another_kernel_follows_to_the_new_file(folder: Path) -> None:
    """One finds the file damaged and moves it aside; the other, which has it open, writes to the new one."""
    here, there = Caches(folder), Caches(folder)
    keep(here, question(prompt="before"))
    keep(there, question(prompt="before"))
    moved = folder / "cache.sqlite.away"
    os.replace(folder / "cache.sqlite", moved)  # noqa: PTH105
    request = keep(there, question(prompt="after"))
    keep(here, question(prompt="after too"))
    assert here.look_up(request).answer is not None
    assert (here.stats().answers, there.stats().answers) == (2, 2)
    here.close()
    there.close()
