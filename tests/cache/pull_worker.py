"""One manager in a process of its own, for tests that kill it or set several against each other.

    python pull_worker.py BASE URL CONCURRENCY VERB REF [VERB REF …]

Verbs: `pull`, `force`, `remove`, `wait` (for a line on standard input; REF is echoed first). Prints one JSON document
for each verb.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from xprim_nb.config import Config
from xprim_nb.errors import XprimError
from xprim_nb.manager import Manager


async def _do(manager: Manager, verb: str, ref: str) -> dict[str, Any]:
    if verb == "wait":
        print(json.dumps({"waiting": ref}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        return {"went on": ref}
    try:
        if verb == "remove":
            return {"removed": str((await manager.remove(ref)).ref)}
        pulled = await manager.pull(ref, force=verb == "force")
    except XprimError as error:
        return {"error": type(error).__name__, "message": error.message}
    receipt = pulled.receipt
    return {
        "status": pulled.status,
        "network": receipt.chunks_network,
        "present": receipt.chunks_present,
        "local": receipt.chunks_local,
    }


async def main() -> None:
    """See the module's docstring."""
    base, url, concurrency, *orders = sys.argv[1:]
    config = Config(
        registry_url=url, data_dir=Path(base), concurrency=int(concurrency), tries=2, backoff_s=0.0
    )
    async with Manager(config) as manager:
        for verb, ref in zip(orders[::2], orders[1::2], strict=True):
            print(json.dumps(await _do(manager, verb, ref)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
