"""Two processes at work on one base are killed at random instants, again and again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from xprim_nb.testing.registries import make_registry

from .chaos_worker import REFS
from .nursery import Nursery
from .rooms import Room, blocks, require_sound

_WORKER = Path(__file__).with_name("chaos_worker.py")
_SEED = 20240115
# An operation takes some ten milliseconds.
_LONGEST_S = 0.15

_OLD = {"w.bin": blocks(*range(12))[:11_300], "config.json": b"{}", "deep/empty": b""}
_NEW = {"w.bin": blocks(*range(5), "new", *range(6, 14)), "config.json": b"{2}"}
_FILES = {
    "group/model v1": _OLD,
    "group/model v2": _NEW,
    "group/other v1": {"x/w.bin": blocks(3, 4, 3, "o"), "y": b"y" * 1234},
    "third/model v1": {"z.bin": blocks("z")},
}


def _publish(room: Room) -> None:
    for number in (1, 2):
        make_registry(room.made.root, _FILES, chunk_size=1000, alias={"group/model latest": f"v{number}"})
        (room.made.root / f"index-{number}.json").write_bytes((room.made.root / "models.json").read_bytes())


async def _require_whole(room: Room) -> None:
    async with room.manager():
        require_sound(room.base)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [21, pytest.param(240, marks=pytest.mark.slow)])
async def test_killed_at_random_what_is_listed_is_whole(room: Room, kills: int) -> None:
    """After every three kills each listed model is whole and nothing is half done; at the end everything is pulled."""
    _publish(room)
    seed = f"{_SEED}-{kills}"
    chance = random.Random(seed)
    try:
        with Nursery(_WORKER, room.base, room.made.root) as nursery:
            for _ in range(kills // 3):
                nursery.kill_three(chance, _LONGEST_S)
                await _require_whole(room)
        async with room.manager() as manager:
            for ref in REFS:
                await manager.pull(ref, force=chance.random() < 0.5)
            latest = (await manager.get_remote("group/model latest")).alias_of
        require_sound(room.base, _FILES | {"group/model latest": _FILES[f"group/model {latest}"]})
    except BaseException:
        print(f"the seed was {seed!r}")
        raise
