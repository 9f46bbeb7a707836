"""A status in a process that asks for nothing else: `python -m tests.bench.glance_child BASE 1` prints its seconds."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from xprim_nb.cache.health.glance import glance
from xprim_nb.config import Config

if __name__ == "__main__":
    started_s = time.perf_counter()
    found = glance(Config(app_name="xprim", data_dir=Path(sys.argv[1]), offline=True))
    seconds = time.perf_counter() - started_s
    models = 0 if found is None else found.total_models
    # Not through `json`, which a process that asks for nothing else would not load.
    print(f'{{"models": {models}, "calls_s": [{seconds!r}]}}')
