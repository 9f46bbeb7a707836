"""Time `Manager.validate(ref, "full")`: `python -m tests.bench.verify_child BASE REF CALLS` prints their seconds."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from xprim_nb import Config, Manager


async def _verify(base: Path, ref: str, calls: int) -> dict[str, object]:
    seconds, size_bytes = [], 0
    async with Manager(Config(app_name="xprim", data_dir=base, offline=True)) as manager:
        for _ in range(calls):
            started_s = time.perf_counter()
            report = await manager.validate(ref, "full")
            seconds.append(time.perf_counter() - started_s)
            if not report.is_healthy:
                raise SystemExit(report.verdict)
            size_bytes = report.bytes_hashed
    return {"bytes_hashed": size_bytes, "calls_s": seconds}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_verify(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))))
