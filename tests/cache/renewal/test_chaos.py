"""Processes that refresh, roll back and edit on one base are killed at random instants, again and again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from xprim_nb.cache.kept import local_files
from xprim_nb.testing.registries import make_registry

from ..nursery import Nursery
from ..rooms import Room, blocks, listing
from .chaos_worker import REFS

_WORKER = Path(__file__).with_name("chaos_worker.py")
_SEED = 20240115
# An operation takes some ten milliseconds.
_LONGEST_S = 0.15

_V1 = {
    "w.bin": blocks(*range(8)),
    "config.json": blocks("c1"),
    "tokenizer.json": blocks("t"),
    "only/one": b"1",
}
_V2 = {
    "w.bin": blocks(*range(4), "new", *range(5, 9)),
    "config.json": blocks("c2"),
    "tokenizer.json": blocks("t"),
}


def _publish(room: Room) -> None:
    models = {f"group/{name} {version}": files for name in ("model", "other") for version, files in
              (("v1", _V1), ("v2", _V2))}  # fmt: skip
    for number in (1, 2):
        aliases = dict.fromkeys(REFS, f"v{number}")
        make_registry(room.made.root, models, chunk_size=1000, alias=aliases)
        (room.made.root / f"index-{number}.json").write_bytes((room.made.root / "models.json").read_bytes())


def _written(journal: Path) -> set[bytes]:
    """Every text that a user had saved and has not overwritten since."""
    saved: set[str] = set()
    overwritten: set[str] = set()
    for line in journal.read_text().split("\n")[:-1]:
        mark, (text, old) = line[0], line[1:].split("\t")
        overwritten.add(old)  # also when only announced: then either of the two is there
        if mark == "!":
            saved.add(text)
    return {text.encode() for text in saved - overwritten}


async def _require_sound(room: Room, journal: Path) -> None:
    async with room.manager() as manager:
        models = await manager.list_installed()
        backups = await manager.backups()
        assert [each.problem for each in backups] == [""] * len(backups)
    for model in models:
        local = local_files(room.layout, model.path)
        for path, data in room.files(str(model.ref)).items():
            ours = data in (_V1.get(path), _V2.get(path)) or local.get(path, {}).get("kind") == "upstream"
            assert ours or data.startswith(b"user "), f"{model.ref}: {path} is neither ours nor the user's"
        same = room.files(str(model.ref)).get("w.bin")
        digest = room.made.manifest_hash("group/model v1")
        assert same == (_V1 if model.manifest_hash == digest else _V2)["w.bin"]
    assert list(room.layout.intents.glob("*.json")) == [], "an operation is left half done"
    assert list(room.layout.trash.glob("*")) == [], "a tree is left on its way out"
    held = {data for data in listing(room.base).values() if isinstance(data, bytes)}
    assert _written(journal) <= held, f"lost: {_written(journal) - held}"


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [21, pytest.param(240, marks=pytest.mark.slow)])
async def test_killed_at_random_no_text_of_a_user_is_lost(room: Room, tmp_path: Path, kills: int) -> None:
    """After every three kills each version is whole, old or new, and every text that a user saved is still there."""
    _publish(room)
    journal = tmp_path / "journal"
    journal.touch()
    seed = f"{_SEED}-{kills}"
    chance = random.Random(seed)
    async with room.manager() as manager:
        for ref in REFS:
            await manager.pull(ref)
    try:
        with Nursery(_WORKER, room.base, room.made.root, journal) as nursery:
            for _ in range(kills // 3):
                nursery.kill_three(chance, _LONGEST_S)
                await _require_sound(room, journal)
        assert _written(journal), "no user wrote anything"
    except BaseException:
        print(f"the seed was {seed!r}")
        raise
