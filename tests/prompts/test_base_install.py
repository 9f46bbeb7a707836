"""What of prompts runs on the base install, without any extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CODE = """
import asyncio, sys
for name in ("langgraph", "ormsgpack", "zstandard", "genai_prices", "psycopg", "splintr", "opentelemetry"):
    sys.modules[name] = None
from pathlib import Path
from xprim_nb.errors import MissingExtraError
from xprim_nb.prompts.answers import Answer
from xprim_nb.prompts.desk import Prompts

async def say(asked, rendered, on_text=None):
    return Answer("yes")

async def main():
    async with Prompts(Path(sys.argv[1]), generate=say) as prompts:
        first = await prompts.ask("Well?", provider="openai", model="gpt-5.6")
        again = await prompts.ask("Well?", provider="openai", model="gpt-5.6")
        print(first.source, again.source)
        try:
            await prompts.saved()
        except MissingExtraError as error:
            print(error.hint)

asyncio.run(main())
"""


def test_questions_need_no_extra_and_checkpoints_name_theirs(tmp_path: Path) -> None:
    """Asked, answered from the cache, and told what to install for states."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["generated cache", 'pip install "xprim-nb[prompts]"']
