"""The pull benchmark: cases in turn, A B C A B C, each into a fresh target on the same real disk."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .cases import Case, Setting, build
from .corpus import Corpus, ensure
from .measure import CaseFailedError, Sample, check, run, settle
from .scripts import MissingToolError
from .servers import serve

MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs", "devtmpfs"}
SECONDS_PER_GIB = 120.0  # a run slower than 9 MB/s on loopback hangs


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What the command line asked for."""

    size_gib: float
    rounds: int
    cases: tuple[str, ...]
    tls: bool
    server: str
    python: str
    hf_python: str
    concurrency: int
    sync_peers: bool


@dataclass(slots=True)
class PullResult:
    """All samples of one run, by case in the order they ran, and why other cases did not."""

    facts: dict[str, str]
    total_bytes: int
    cases: dict[str, Case] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def default_root() -> Path:
    """A directory in the system's temp directory, or in /var/tmp where that one is held in memory."""
    here = Path(tempfile.gettempdir())
    return (Path("/var/tmp") if file_system(here) in MEMORY_FILE_SYSTEMS else here) / "xprim-bench"


def file_system(path: Path) -> str:
    """The type of the file system that holds a path, such as `ext4`; `unknown` where it cannot be told."""
    path = path.resolve()
    mounts = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    return next((mounts[folder] for folder in (path, *path.parents) if folder in mounts), "unknown")


def run_pull(options: PullOptions, root: Path) -> PullResult:
    """Run the whole benchmark under `root`.

    Raises:
        OSError: `root` is in memory, or has no room.
        RuntimeError: the server did not start.
    """
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    kind = file_system(root)
    if kind in MEMORY_FILE_SYSTEMS:
        raise OSError(f"{root} is {kind}, held in memory: name a directory on a real disk with --root")
    say(f"corpus of {options.size_gib} GiB in {root} ({kind})")
    corpus = ensure(root, round(options.size_gib * 2**30))
    with (
        tempfile.TemporaryDirectory(prefix="work-", dir=root) as name,
        serve(corpus, Path(name), tls=options.tls, kind=options.server) as server,
    ):
        work = Path(name)
        result = PullResult(_facts(kind, server.description, options, corpus), corpus.total_bytes)
        setting = Setting(
            corpus, server, work, options.python, options.hf_python, options.concurrency, options.sync_peers
        )
        for case_name in options.cases:
            try:
                result.cases[case_name] = build(case_name, setting)
            except MissingToolError as error:
                result.skipped[case_name] = str(error)
                say(f"skipped {case_name}: {error}")
        _rounds(result, corpus, work, options.rounds)
    return result


def _rounds(result: PullResult, corpus: Corpus, work: Path, rounds: int) -> None:
    target = work / "target"
    for number in range(1, rounds + 1):
        for name, case in result.cases.items():
            if name in result.failed:
                continue
            settle(target, corpus)
            limit_s = 30 + SECONDS_PER_GIB * corpus.total_bytes / 2**30
            try:
                sample = run(case.command(target), work, timeout_s=limit_s, self_measured=case.self_measured)
                check(case.installed(target), corpus, digests=number == 1)
            except CaseFailedError as error:
                result.failed[name] = str(error)
                result.samples.pop(name, None)
                say(f"round {number}/{rounds} {name} FAILED: {error}")
                continue
            result.samples.setdefault(name, []).append(sample)
            say(f"round {number}/{rounds} {name:16} {sample.wall_s:7.2f} s")
        shutil.rmtree(target, ignore_errors=True)


def _facts(kind: str, server: str, options: PullOptions, corpus: Corpus) -> dict[str, str]:
    durable = (
        "counted for all but hf" if options.sync_peers else "counted for xprim, c-loop and hf-durable only"
    )
    size_gib = corpus.total_bytes / 2**30
    return {
        "corpus": f"{size_gib:.2f} GiB, {len(corpus.chunks)} chunks, {len(corpus.files)} files",
        "file system": kind,
        "server": server,
        "machine": f"{os.cpu_count()} cores, {os.uname().machine}, Linux {os.uname().release.split('-')[0]}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "concurrency": str(options.concurrency),
        "fsync": durable,
    }


def say(line: str) -> None:
    """Tell progress on stderr: stdout is for the table or the JSON document."""
    print(line, file=sys.stderr, flush=True)
