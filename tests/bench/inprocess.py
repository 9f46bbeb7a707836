"""A pull as a notebook kernel does it: everything imported before, only the pull measured.

`python -m tests.bench.inprocess URL DATA_DIR CONCURRENCY` writes a `Sample` as JSON to `$XPRIM_BENCH_SAMPLE`.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path

import xprim_nb.registry.sources.http  # noqa: F401  # as in a kernel that has asked a registry before
from xprim_nb import Config, Manager

from .corpus import REPOSITORY, VERSION
from .launcher import written_bytes


def _cpu_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


async def _pull(url: str, data_dir: str, concurrency: int) -> None:
    async with Manager(Config(app_name="xprim", registry_url=url, data_dir=Path(data_dir))) as manager:
        await manager.pull(f"{REPOSITORY} {VERSION}", concurrency=concurrency)


def main() -> None:
    """Pull once and write the cost of the span from opening the manager to closing it."""
    url, data_dir, concurrency = sys.argv[1:4]
    cpu_s, written, started_s = _cpu_s(), written_bytes(), time.perf_counter()
    asyncio.run(_pull(url, data_dir, int(concurrency)))
    wall_s = time.perf_counter() - started_s
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    sample = {
        "wall_s": wall_s,
        "cpu_s": _cpu_s() - cpu_s,
        "peak_rss_bytes": max(peaks) * 1024,
        "written_bytes": written_bytes() - written,
    }
    Path(os.environ["XPRIM_BENCH_SAMPLE"]).write_text(json.dumps(sample))


if __name__ == "__main__":
    main()
