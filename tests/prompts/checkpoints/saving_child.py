"""A process that saves on one branch with others: `… ADDRESS WHO COUNT [PARENT]`; it begins at a line on stdin.

Without a parent it saves COUNT states after whatever is there, and prints their ids. With one it saves a single state
after it, and prints its id, or the error that it met.
"""

from __future__ import annotations

import asyncio
import sys

from xprim_nb.errors import ConfigError
from xprim_nb.prompts.checkpoints import CheckpointStore


async def main() -> None:
    """Save, and say what came of it."""
    address, who, count, *parent = sys.argv[1:]
    async with CheckpointStore.open(address) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(int(count)):
            state = {"who": who, "number": number, "text": f"{number} of all " * 20}
            try:
                kept = await store.save("s", state, parent=parent[0] if parent else None)
            except ConfigError as error:
                print(f"refused: {error}", flush=True)
            else:
                print(kept.id, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
