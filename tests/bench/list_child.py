"""Time `Manager.list_installed()`: `python -m tests.bench.list_child BASE CALLS` prints their seconds."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from xprim_nb import Config, Manager


async def _list(base: Path, calls: int) -> dict[str, object]:
    seconds = []
    async with Manager(Config(app_name="xprim", data_dir=base, offline=True)) as manager:
        for _ in range(calls):
            started_s = time.perf_counter()
            found = await manager.list_installed()
            seconds.append(time.perf_counter() - started_s)
    return {"models": len(found), "calls_s": seconds}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_list(Path(sys.argv[1]), int(sys.argv[2])))))
