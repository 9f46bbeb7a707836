"""What `du` says, and a cache whose clock can be turned back."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from ..rooms import Room

__all__ = ["age", "disk_usage", "edit", "set_used"]

_DAY_S = 86_400.0


def disk_usage(base: Path) -> int:
    """Bytes on disk below a directory by `du`; databases and locks, which every verb touches, left out."""
    excluded = ["state.sqlite*", "registry.json*", "locks", "leases", "intents"]
    arguments = ["du", "-s", "--block-size=1", *(f"--exclude={name}" for name in excluded), str(base)]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()[0])


def age(room: Room, ref: str, days: float) -> None:
    """Let an installed version have been put there so many days ago."""
    group, model, version = ref.replace("/", " ").split()
    path = room.base / "registry.json"
    document = json.loads(path.read_bytes())
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * _DAY_S))
    document[group][model][version]["installed_at"] = when
    path.write_text(json.dumps(document))


def set_used(path: Path, days: float) -> None:
    """Let a file or directory, and what a pull looks at in it, have been touched so many days ago."""
    when = time.time() - days * _DAY_S
    for each in (path, path / "verified", path / "tree", path / "chunks"):
        if each.exists():
            os.utime(each, (when, when))


def edit(path: Path, data: bytes) -> bytes:
    """Write a file as an editor does: a new one, renamed over the old; the bytes."""
    temporary = path.with_name(f"{path.name}~")
    temporary.write_bytes(data)
    temporary.replace(path)
    return data
