"""A kernel that asks one question: `python -m tests.prompts.caches.asking_child FOLDER CACHE ENDING WAIT_S`.

It says `asked` when it is asked for an answer, `waits …` when it is told that it waits, and at the end a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from xprim_nb.prompts.answers import Answer, OnText, Usage
from xprim_nb.prompts.desk import Prompts
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.values import ResolveInput

from .helpers import question


async def main(folder: str, cache: str, ending: str, wait_s: str) -> None:
    """Ask once; the answer comes when the file `go` is there, or after so many seconds."""

    async def answer(asked: ResolveInput, rendered: Rendered, on_text: OnText | None = None, /) -> Answer:
        print("asked", flush=True)
        for _ in range(int(float(wait_s) * 20)):
            if (Path(folder) / "go").exists():
                break
            await asyncio.sleep(0.05)
        if ending == "error":
            raise RuntimeError("the server is down")
        return Answer(f"answer of {os.getpid()}", "length" if ending == "length" else "stop", Usage(120, 30))

    def waits(reason: str) -> None:
        print(f"waits {reason}", flush=True)

    heard: list[str] = []
    async with Prompts(Path(folder), generate=answer) as prompts:
        try:
            done = await prompts.ask(question(cache=cache), on_text=heard.append, on_wait=waits)
            told = {"source": done.source, "text": done.answer.text, "waited": done.waited, "heard": heard}
            told |= {"cost": str(done.cost.amount) if done.cost else "", "not_kept": done.not_kept}
        except RuntimeError as error:
            told = {"source": "error", "text": str(error)}
        records = [[each.is_sent, each.in_response.reason] for each in prompts.telemetry.records()]
    print(json.dumps({**told, "records": records}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
