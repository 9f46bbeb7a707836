"""huggingface_hub at work, where it is installed: `snapshot CACHE`, `snapshot-durable CACHE` or `scan CACHE CALLS`.

Run it with `-I`: the modules beside it must not be importable in place of others of the same name.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Download the corpus from `HF_ENDPOINT`, or time `scan_cache_dir` and print the seconds of each call."""
    hub = importlib.import_module("huggingface_hub")
    verb, cache = sys.argv[1:3]
    if verb != "scan":
        hub.snapshot_download("bench/model", cache_dir=cache)
        if verb == "snapshot-durable":
            _make_durable(Path(cache))
        return
    seconds = []
    for _ in range(int(sys.argv[3])):
        started_s = time.perf_counter()
        found = hub.scan_cache_dir(cache)
        seconds.append(time.perf_counter() - started_s)
    print(json.dumps({"models": len(found.repos), "calls_s": seconds}))


def _make_durable(cache: Path) -> None:
    """What it leaves in the page cache, on the medium."""
    for path in cache.rglob("*"):
        if path.is_file() and not path.is_symlink():
            fd = os.open(path, os.O_RDWR)
            os.fsync(fd)
            os.close(fd)


if __name__ == "__main__":
    main()
