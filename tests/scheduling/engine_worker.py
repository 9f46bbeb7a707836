"""A kernel of its own for tests: opens an engine over a shared ledger and answers what its stdin asks, line by line.

load NAME BYTES · generate NAME BYTES · evict NAME · quit
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from xprim_nb.config import Config
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import XprimError
from xprim_nb.manager import Manager
from xprim_nb.manager.engines import open_engine
from xprim_nb.scheduling.devices import SimulatedDevice


async def main(folder: Path, total_bytes: int) -> None:
    """Serve until stdin ends."""
    settings = AICapabilities(ledger_dir=folder / "ledger", queue_timeout_s=20.0)
    device = SimulatedDevice("sim:shared", total_bytes=total_bytes)
    async with (
        Manager(Config(data_dir=folder / "models", ai=settings)) as manager,
        open_engine(manager, devices=[device], label=f"kernel {os.getpid()}") as engine,
    ):
        print(json.dumps({"ready": os.getpid()}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            verb, name, size = line.rstrip("\n").split("\t")
            try:
                if verb == "load":
                    view = await engine.load(name, footprint_bytes=int(size))
                    answer: dict[str, object] = {"worker": view.worker_pid, "status": view.status}
                else:
                    reply = await engine.generate(name, "Once", max_tokens=8, footprint_bytes=int(size))
                    answer = {"text": reply.text, "worker": reply.worker_pid}
            except XprimError as error:
                answer = {"error": type(error).__name__, "message": error.message}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
