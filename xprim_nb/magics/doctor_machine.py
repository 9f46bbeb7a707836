"""What `%xprim doctor` finds out about this machine: processors, memory, disk, locks, unfinished pulls.

Source: spec 3 §Magics; spec 4 for devices.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from xprim_nb._files import clone_file, free_bytes, make_dirs
from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.upkeep.facts import inodes_of, is_locked
from xprim_nb.manager.gpus import gpus
from xprim_nb.manager.probing import Probe, Said

if TYPE_CHECKING:
    from xprim_nb.toolkit import Toolkit

__all__ = ["probes"]


# A small model needs a gigabyte, and a system that has less left behaves badly.
_LITTLE_BYTES = 1 << 30
# Enough for every file system to have blocks to share.
_PROBE_BYTES = 1 << 16
_MOST_NAMED = 5


def probes(kit: Toolkit) -> Mapping[str, Probe]:
    """One for each part."""
    layout = Layout.of(kit.config)
    return {
        "processor": _processor,
        "GPU": gpus,
        "disk": partial(_disk, layout),
        "locks": partial(_locks, kit, layout),
        "unfinished pulls": partial(_unfinished, layout),
    }


def _processor() -> Said:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    told = f"{format_count(cores, 'core')}, {format_bytes(memory.available)} of {format_bytes(memory.total)} RAM free"
    if memory.available < _LITTLE_BYTES:
        return "look at this", told, "Close what you do not need before you load a model."
    return "ok", told, ""


def _disk(layout: Layout) -> Said:
    base = layout.base
    free = free_bytes(base)
    told = f"{base} on {_file_system(base)}, {format_bytes(free)} free"
    present = base
    while not present.exists():
        present = present.parent
    if not os.access(present, os.W_OK | os.X_OK):
        return (
            "broken",
            f"{told}; it cannot be written to",
            "`%xprim config data_dir=…` names another directory.",
        )
    if not layout.cache.exists():
        told += "; nothing was pulled yet"
    else:
        told += f"; equal files {'can' if _shares(layout) else 'cannot'} share their blocks (reflink)"
    if free < _LITTLE_BYTES:
        return "look at this", told, "`%xprim cleanup` shows what could go; `%xprim free 5GB` lets it go."
    return "ok", told, ""


def _file_system(path: Path) -> str:
    holding = [each for each in psutil.disk_partitions(all=True) if path.is_relative_to(each.mountpoint)]
    nearest = max(holding, key=lambda each: len(each.mountpoint), default=None)
    return nearest.fstype if nearest is not None and nearest.fstype else "an unknown file system"


def _shares(layout: Layout) -> bool:
    """Tried with two small files, where the next clean-up finds what a kill would leave of them.

    Raises:
        OSError, StorageError: The disk refused to write them.
    """
    make_dirs(layout.trash)
    with tempfile.TemporaryDirectory(dir=layout.trash) as folder:
        one, other = Path(folder) / "one", Path(folder) / "other"
        one.write_bytes(bytes(_PROBE_BYTES))
        other.touch()
        with one.open("rb") as source, other.open("r+b") as target:
            return clone_file(source.fileno(), target.fileno())


def _locks(kit: Toolkit, layout: Layout) -> Said:
    held = [path for path in _lock_files(layout) if is_locked(path)]
    if not held:
        return "ok", "nobody holds one", ""
    owners = _owners(held)
    ours: list[str] = []
    theirs: list[str] = []
    for path in held:
        pid = owners.get(path)
        (ours if pid == os.getpid() else theirs).append(f"{_lock_name(path)}{_who(pid)}")
    told = "; ".join([*theirs, *ours][:_MOST_NAMED])
    more = len(held) - _MOST_NAMED
    told += f"; and {more:,} more" if more > 0 else ""
    if not theirs or (not owners and kit.pulls()):
        return "ok", f"held by this kernel: {told}", ""
    return (
        "look at this",
        f"held: {told}",
        "Somebody works on these; a pull of the same waits for them, or joins.",
    )


def _lock_files(layout: Layout) -> Iterator[Path]:
    yield layout.registry_lock
    with contextlib.suppress(OSError):  # nothing was pulled yet
        for entry in os.scandir(layout.cache / "locks"):
            # Claims of single chunks come and go; the pull that makes them holds a lock of its own.
            if entry.name.endswith(".lock") and not entry.name.startswith("chunk-"):
                yield Path(entry.path)


def _lock_name(path: Path) -> str:
    name = path.name.removesuffix(".lock")
    if name.startswith("ref-"):
        return " ".join(["/".join(name[4:].split("~")[:2]), *name[4:].split("~")[2:3]])
    return f"{name[:20]}…" if len(name) > 20 else name


def _who(pid: int | None) -> str:
    if pid is None:
        return ""
    try:
        return f" (process {pid}, {psutil.Process(pid).name()})"
    except psutil.Error:
        return f" (process {pid})"


def _owners(held: list[Path]) -> dict[Path, int]:
    """The process that holds each lock, where the system tells: Linux does, in /proc/locks."""
    wanted = {}
    for path in held:
        with contextlib.suppress(OSError):
            wanted[path.stat().st_ino] = path
    owners: dict[Path, int] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 1234 fd:00:5678 0 EOF
            inode, pid = int(words[5].rpartition(":")[2]), int(words[4])
            if inode in wanted and pid > 0:
                owners[wanted[inode]] = pid
    return owners


def _unfinished(layout: Layout) -> Said:
    sizes = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(layout.partials):
            sizes[entry.name] = sum(each.disk_bytes for each in inodes_of(Path(entry.path)))
    if not sizes:
        return "ok", "none", ""
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_MOST_NAMED]
    told = ", ".join(f"{name[:12]} {format_bytes(sizes[name])}" for name in largest)
    return (
        "ok",
        f"{format_count(len(sizes), 'pull')}, {format_bytes(sum(sizes.values()))} on the disk: {told}",
        "Pulling the same again goes on there; `%xprim cleanup --apply` takes away what is old.",
    )
