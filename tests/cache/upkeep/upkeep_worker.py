"""Archives, restores, cleans up, shares and edits at random on one base, until somebody kills it.

    python upkeep_worker.py BASE REGISTRY SEED

What it adds to a model it has named in `BASE/../mine` before: `<ref>\t<text>` for each note, written and synced first.
Says `ready` when its manager is open; ends with an error when something fails that should not.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.config import Config
from xprim_nb.errors import NotInstalledError, StorageError
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


async def main() -> None:
    """See the module's docstring."""
    base, registry, seed = sys.argv[1:]
    chance = random.Random(seed)
    async with Manager(Config(registry_url=registry, data_dir=Path(base), backoff_s=0.0)) as manager:
        print("ready", flush=True)
        while True:
            try:
                await _act(manager, chance, Path(base).parent / "mine")
            except NotInstalledError:
                continue
            except StorageError as error:
                if "already" in error.message or "locked" in error.message:
                    continue
                raise


if __name__ == "__main__":
    asyncio.run(main())
