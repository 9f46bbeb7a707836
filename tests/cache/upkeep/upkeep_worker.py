"""Archives, restores, cleans up, shares and edits at random on one base, until somebody kills it.

    python upkeep_worker.py BASE REGISTRY

For each seed that it reads, a child does the work: a fork of this process, which has imported everything. Prints the
child's number; the child says `ready` when its manager is open. When it is gone, its exit status is printed. Forking is
safe here: this process has no threads.

Each note that a child has added to a model is named in `BASE/../mine` afterwards.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.config import Config
from xprim_nb.errors import NotInstalledError
from xprim_nb.manager import Manager

REFS = ("group/model v1", "group/model v2", "group/other v1")
_ALL = CleanupPolicy(max_cache_size_gb=0, min_age_hours=0, partial_idle_hours=0)


async def _edit(manager: Manager, ref: str, mine: Path) -> None:
    """Add a note to a model, as a user would who keeps a list of what is precious."""
    note = secrets.token_hex(8)
    with await manager.lease(ref):  # nothing is archived under the user's hands: see `_act`
        path = (await manager.path(ref)) / f"note-{note}.txt"
        temporary = mine.parent / f"{note}.tmp"
        temporary.write_text(note)
        if path.parent.is_dir():
            temporary.rename(path)
            with mine.open("a") as file:
                file.write(f"{note}\n")


async def _act(manager: Manager, chance: random.Random, mine: Path) -> None:
    ref = chance.choice(REFS)
    verbs = ("pull", "archive", "restore", "edit", "cleanup", "dedupe", "remove", "drop")
    match chance.choices(verbs, (4, 5, 5, 2, 2, 2, 1, 1))[0]:
        case "pull":
            await manager.pull(ref)
        case "archive":
            await manager.archive(ref)
        case "restore":
            await manager.restore(ref)
        case "edit":
            await _edit(manager, ref, mine)
        case "cleanup":
            await manager.cleanup(_ALL)
        case "dedupe":
            await manager.dedupe(hard_links=True)
        case "drop":
            await manager.remove_archive(ref)
        case _:
            await manager.remove(ref)


async def _work(base: Path, registry: str, seed: str) -> None:
    chance = random.Random(seed)
    async with Manager(Config(registry_url=registry, data_dir=base, backoff_s=0.0)) as manager:
        print("ready", flush=True)
        while True:
            try:
                await _act(manager, chance, base.parent / "mine")
            except NotInstalledError:
                continue


def main() -> None:
    """See the module's docstring."""
    base, registry = sys.argv[1:]
    while seed := sys.stdin.readline().strip():
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                asyncio.run(_work(Path(base), registry, seed))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
