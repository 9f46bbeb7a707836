"""Processes that refresh, roll back and edit on one base are killed at random instants, again and again."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from xprim_nb.cache.kept import local_files
from xprim_nb.testing.registries import make_registry

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


class _Victim:
    """A worker that is killed some time after it said `ready`. A worker that ends by itself has found a fault."""

    def __init__(self, room: Room, journal: Path, chance: random.Random) -> None:
        arguments = [str(room.base), str(room.made.root), str(chance.random()), str(journal)]
        self.process = subprocess.Popen(
            [sys.executable, str(_WORKER), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._lives_s = chance.random() * _LONGEST_S

    def kill(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.readline()
        threading.Event().wait(self._lives_s)  # not to synchronise: the instant is the random thing
        ended = self.process.poll()
        self.process.kill()
        errors = self.process.communicate()[1]
        assert ended is None, errors


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
        for _ in range(kills // 3):
            first, second = _Victim(room, journal, chance), _Victim(room, journal, chance)
            first.kill()
            third = _Victim(room, journal, chance)
            second.kill()
            third.kill()
            await _require_sound(room, journal)
        assert _written(journal), "no user wrote anything"
    except BaseException:
        print(f"the seed was {seed!r}")
        raise
