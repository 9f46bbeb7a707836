"""Time `Manager.status()`: `python -m tests.bench.status_child BASE CALLS` prints their seconds.

With `fill` in place of CALLS every model is validated first, so that a later status has a verdict on each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from xprim_nb import Config, Manager


async def _status(base: Path, calls: int) -> dict[str, object]:
    seconds, models = [], 0
    async with Manager(Config(app_name="xprim", data_dir=base, offline=True)) as manager:
        for _ in range(calls):
            started_s = time.perf_counter()
            models = (await manager.status()).total_models
            seconds.append(time.perf_counter() - started_s)
    return {"models": models, "calls_s": seconds}


async def _fill(base: Path) -> dict[str, object]:
    async with Manager(Config(app_name="xprim", data_dir=base, offline=True)) as manager:
        return {"models": len(await manager.validate_all())}


if __name__ == "__main__":
    order = sys.argv[2]
    work = _fill(Path(sys.argv[1])) if order == "fill" else _status(Path(sys.argv[1]), int(order))
    print(json.dumps(asyncio.run(work)))
