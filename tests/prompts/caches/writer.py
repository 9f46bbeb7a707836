"""A process that keeps answers: `python -m tests.prompts.caches.writer FOLDER NAME COUNT`; a line for each that is kept."""

from __future__ import annotations

import sys
from pathlib import Path

from xprim_nb.prompts.answers import Answer
from xprim_nb.prompts.caches import Caches

from .helpers import keep, question


def main(folder: str, name: str, count: str) -> None:
    """Keep so many, look each up, and say so."""
    caches = Caches(Path(folder))
    for number in range(int(count)):
        request = keep(caches, question(prompt=f"{name} {number}"), Answer(f"{name} {number} " * 100))
        found = caches.look_up(request).answer
        assert found is not None
        print(request, flush=True)
    caches.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
