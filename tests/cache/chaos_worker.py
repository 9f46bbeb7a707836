"""Pulls, updates, mends and removes at random on one base, until somebody kills it.

    python chaos_worker.py BASE REGISTRY

Each child of this nursery is ready when its manager is open; it ends with an error when something fails that should not.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.cache.nursery import nurse, say_ready
from xprim_nb.config import Config
from xprim_nb.errors import NotInstalledError
from xprim_nb.manager import Manager

REFS = ("group/model v1", "group/model v2", "group/model latest", "group/other v1", "third/model v1")


async def _act(manager: Manager, registry: Path, chance: random.Random) -> None:
    ref = chance.choice(REFS)
    match chance.choices(("pull", "force", "remove", "publish", "prune"), (6, 2, 4, 2, 1))[0]:
        case "pull":
            await manager.pull(ref, concurrency=chance.randint(1, 4))
        case "force":
            await manager.pull(ref, force=True)
        case "publish":  # the alias moves on: its next pull is an update
            index = registry / f"index-{chance.randint(1, 2)}.json"
            temporary = registry / f".{os.getpid()}.tmp"
            temporary.write_bytes(index.read_bytes())
            temporary.replace(registry / "models.json")
        case "prune":
            await manager.prune()
        case _:
            try:
                await manager.remove(ref)
            except NotInstalledError:
                return


async def work(seed: str) -> None:
    """See the module's docstring."""
    base, registry = sys.argv[1:]
    chance = random.Random(seed)
    async with Manager(Config(registry_url=registry, data_dir=Path(base), backoff_s=0.0)) as manager:
        say_ready()
        while True:
            await _act(manager, Path(registry), chance)


if __name__ == "__main__":
    nurse(work)
