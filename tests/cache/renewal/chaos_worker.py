"""Edits, refreshes, rolls back, drops, pulls and removes at random on one base, until somebody kills it.

    python chaos_worker.py BASE REGISTRY JOURNAL

Each child of this nursery is ready when its manager is open. Every text that a user wrote is in the journal before it is
told as written; none of them may ever be lost. A child ends with an error when something fails that should not.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.cache.nursery import nurse, say_ready
from xprim_nb._files import PathLock
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.renewal.strategy import UpdatePolicy, UpdateStrategy
from xprim_nb.config import Config
from xprim_nb.errors import NotInstalledError
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef

REFS = ("group/model latest", "group/other latest")
PATHS = ("config.json", "notes/todo.md", "tokenizer.json")


def _write(base: Path, ref: str, journal: Path, chance: random.Random) -> None:
    """A user saves a file, as editors do: a copy under another name, then a rename; and never twice the same text.

    It is written while nobody moves the version about: what comes of writing into a directory that is being renamed is
    between the user and the system. A file that a user overwrites himself is nobody's loss.
    """
    layout, parsed = Layout(base, ".xprim"), ModelRef.parse(ref)
    lock = PathLock(layout.ref_lock(parsed))
    if not lock.try_acquire():
        return
    try:
        root = layout.model_dir(parsed)
        if list(layout.intents.glob("*.json")) or not (root / ".xprim" / "manifest.json").exists():
            return
        target = root / chance.choice(PATHS)
        text = f"user {chance.random()}"
        old = target.read_bytes().decode("ascii", "replace") if target.exists() else ""
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(f".{target.name}.swp")
        temporary.write_text(text)
        line = f"{text}\t{old if old.startswith('user ') else ''}\n".encode()
        # Both in the journal and then in place: a text that is only announced is not missed, see the test.
        with journal.open("ab", buffering=0) as file:
            file.write(b"?" + line)
            temporary.replace(target)
            file.write(b"!" + line)
    finally:
        lock.release()


async def _act(manager: Manager, base: Path, registry: Path, journal: Path, chance: random.Random) -> None:
    ref = chance.choice(REFS)
    deed = chance.choices(
        ("write", "publish", "refresh", "rollback", "drop", "pull", "remove"), (5, 4, 6, 4, 1, 2, 1)
    )[0]
    try:
        match deed:
            case "write":
                _write(base, ref, journal, chance)
            case "publish":
                index = registry / f"index-{chance.randint(1, 2)}.json"
                temporary = registry / f".{os.getpid()}.tmp"
                temporary.write_bytes(index.read_bytes())
                temporary.replace(registry / "models.json")
            case "refresh":
                policy = UpdatePolicy(
                    preserve_local_modifications=chance.random() < 0.8,
                    backup_before_update=chance.random() < 0.8,
                    incremental_updates=chance.random() < 0.9,
                )
                await manager.refresh(ref, UpdateStrategy(update_policy=policy))
            case "rollback":
                await manager.rollback(ref)
            case "drop":
                await manager.drop_backup(ref)
            case "pull":
                await manager.pull(ref, force=chance.random() < 0.2)
            case _:
                await manager.remove(ref)
    except NotInstalledError:
        return


async def work(seed: str) -> None:
    """See the module's docstring."""
    base, registry, journal = sys.argv[1:]
    chance = random.Random(seed)
    config = Config(registry_url=registry, data_dir=Path(base), backoff_s=0.0)
    async with Manager(config) as manager:
        say_ready()
        while True:
            await _act(manager, Path(base), Path(registry), Path(journal), chance)


if __name__ == "__main__":
    nurse(work)
