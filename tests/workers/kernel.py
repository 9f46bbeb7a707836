"""Stands for a kernel that is about to be killed: starts a worker, has it busy with a wish, says its pids, and waits.

Run as `python kernel.py ENGINE WISH`; a wish of `load …` keeps it loading.
"""

from __future__ import annotations

import asyncio
import json
import sys

import psutil

from xprim_nb.workers.process import start_runner
from xprim_nb.workers.values import GenerateRequest, LoadOptions


async def main(engine: str, wish: str) -> None:
    """See the module."""
    loading = [wish[5:]] if wish.startswith("load ") else []
    task = asyncio.ensure_future(
        start_runner(
            model="m", engine=engine, spec={"wishes": loading}, options=LoadOptions(), progress=_tell
        )
    )
    if not loading:
        runner = await task
        if wish:
            await anext(runner.generate(GenerateRequest(prompt=wish)))
        _tell()
    await asyncio.sleep(600)


def _tell(*_: object) -> None:
    print(json.dumps([each.pid for each in psutil.Process().children(recursive=True)]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
