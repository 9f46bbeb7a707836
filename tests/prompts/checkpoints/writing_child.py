"""A process that keeps checkpoints until it is told to stop, or is killed: `… ADDRESS THREAD COUNT [together]`.

It prints the number of each checkpoint once it is kept, and `together` waits for a line on stdin before the first.
"""

from __future__ import annotations

import sys

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint

from xprim_nb.prompts.checkpoints import PostgresSaver, SqliteSaver


def main() -> None:
    """Write, and say what was written."""
    address, thread, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    saver = PostgresSaver.open(address) if address.startswith("postgresql:") else SqliteSaver.open(address)
    config: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    if "together" in sys.argv:
        print("ready", flush=True)
        sys.stdin.readline()
    for number in range(count):
        checkpoint: Checkpoint = {
            **empty_checkpoint(),
            # Values that every process has, and values of its own.
            "channel_values": {
                "items": [f"{each % 50} " * 40 for each in range(number % 60)],
                "own": f"{thread} {number} " * 20,
            },
            "channel_versions": {"items": number + 1, "own": number + 1},
        }
        config = saver.put(config, checkpoint, {"step": number}, {"items": number + 1, "own": number + 1})
        saver.put_writes(config, [("own", f"{thread} {number} write " * 20)], "task")
        print(number, flush=True)
    saver.close()


if __name__ == "__main__":
    main()
