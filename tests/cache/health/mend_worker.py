"""Damages, repairs and checks one model, until somebody kills it; or repairs it once.

    python mend_worker.py BASE REGISTRY SEED|once

Says `ready` when its manager is open, then, with `once`, prints the receipt as JSON.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from xprim_nb.config import Config
from xprim_nb.manager import Manager

REF = "group/model v1"
MINE = b"my own words"


def _flip(path: Path, at: int) -> None:
    """Overwrite one byte in place, as a bad disk does: nothing else of the file is touched."""
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 1]))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _damage(root: Path, chance: random.Random) -> None:
    """Damage what nobody else repairs: the caller is the only one who damages."""
    path = root / "w.bin"
    match chance.choice(("flip", "flip", "truncate", "remove", "directory", "manifest", "none")):
        case "flip" if path.is_file() and path.stat().st_size:
            _flip(path, chance.randrange(path.stat().st_size))
        case "truncate" if path.is_file():
            os.truncate(path, chance.randrange(9_000))
        case "remove" if path.is_file():
            path.unlink()
        case "directory" if path.is_file():
            path.unlink()
            path.mkdir()
            (path / "mine.txt").write_bytes(MINE)
        case "manifest":
            (root / ".xprim" / "manifest.json").write_bytes(b"{")
        case _:
            return


async def main() -> None:
    """See the module's docstring."""
    base, registry, order = sys.argv[1:]
    async with Manager(Config(registry_url=registry, data_dir=Path(base), backoff_s=0.0)) as manager:
        print("ready", flush=True)
        if order == "once":
            sys.stdin.readline()
            print((await manager.repair(REF)).model_dump_json(), flush=True)
            return
        chance = random.Random(order)
        while True:
            _damage(Path(base) / "group" / "model" / "v1", chance)
            await manager.repair(REF)


if __name__ == "__main__":
    asyncio.run(main())
