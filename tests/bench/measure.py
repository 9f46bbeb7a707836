"""What one run of a command costs: a command goes in, a `Sample` comes out.

Bytes written are `write_bytes` of `/proc/<pid>/io`, summed over the process tree. The kernel counts there
when a page in the page cache becomes dirty, so buffered writes are charged to the process that made them,
whenever they reach the disk; socket and pipe traffic (`wchar`) is not in it, nor `fallocate` and
`ftruncate`, nor the file system's journal. A page that was written back and made dirty again counts twice, as
it does on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .corpus import Corpus

LAUNCHER = Path(__file__).with_name("launcher.py")
TAIL_CHARACTERS = 2_000  # of a failed command's output: the last error and its surroundings


class CaseFailedError(RuntimeError):
    """A case did not install the model: it exited with an error, took too long, or left other bytes."""


@dataclass(frozen=True, slots=True)
class Command:
    """One program to run: `env` is added to the benchmark's environment."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """The cost of one run; CPU is user and system time of the whole tree, RSS that of its largest process."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    written_bytes: int


def run(command: Command, work: Path, *, timeout_s: float, self_measured: bool = False) -> Sample:
    """Run a command and return its cost.

    Args:
        command: what to run.
        work: a directory for the result and the log, outside the target.
        timeout_s: the whole process group is killed after this many seconds.
        self_measured: the command writes its own `Sample` to the path in `XPRIM_BENCH_SAMPLE`; that counts.

    Raises:
        CaseFailedError: exit status other than 0, or no end within `timeout_s`.
    """
    result, own, log = work / "result.json", work / "own.json", work / "log.txt"
    own.unlink(missing_ok=True)
    argv = [sys.executable, "-I", "-S", str(LAUNCHER), str(result), *command.argv]
    # Without bytecode each start would compile our own modules again, and not those that a package manager compiled.
    ours = ("XPRIM_", "HF_", "PYTHONDONTWRITEBYTECODE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    env |= {**command.env, "XPRIM_BENCH_SAMPLE": str(own)}
    with (
        log.open("wb") as out,
        subprocess.Popen(
            argv,
            cwd=command.cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait(timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CaseFailedError(f"no end after {timeout_s:.0f} s") from error
            raise
    if code != 0:
        tail = log.read_text(errors="replace").strip()[-TAIL_CHARACTERS:]
        raise CaseFailedError(f"exit status {code}: {tail}")
    return Sample(**json.loads((own if self_measured else result).read_text()))


def check(installed: Path, corpus: Corpus, *, digests: bool) -> None:
    """Compare the installed files with the corpus: always their sizes, with `digests` their SHA-256 too.

    Raises:
        CaseFailedError: a file is missing or differs.
    """
    for file in corpus.files:
        path = installed / file.name
        size_bytes = path.stat().st_size if path.exists() else -1
        if size_bytes != file.size_bytes:
            raise CaseFailedError(f"{file.name} has {size_bytes} bytes instead of {file.size_bytes}")
        if digests:
            with path.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                    raise CaseFailedError(f"{file.name} has the right size and the wrong bytes")


def settle(target: Path, corpus: Corpus) -> None:
    """Make the next run start as the first did: no target, no dirty pages, the corpus in the page cache.

    Deleting the target drops its pages from the cache, so no privilege is needed to make it cold. The corpus
    is read on purpose: what is compared is the clients, not the server's disk.
    """
    shutil.rmtree(target, ignore_errors=True)
    os.sync()
    buffer = bytearray(1 << 20)
    for path in corpus.www.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
    target.mkdir(parents=True)
