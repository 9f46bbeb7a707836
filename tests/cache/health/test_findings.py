"""Damage or somebody's work: one rule after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.cache.health.findings import chunks_of, is_tensor_file, look_at

from ..rooms import Room, blocks
from .damage import REF, flip, flip_silently

_FILES = {
    "w.gguf": blocks(1, 2, 3),
    "one.pt": blocks(4),
    "a.json": b'{"a": 1}' * 60,
    "b.json": b'{"b": 2}' * 70,
}
_CASES: dict[str, tuple[Callable[[Path], object], dict[str, tuple[str, bool]]]] = {
    # 1: size and time of modification are as they were
    "silent": (lambda root: flip_silently(root / "a.json", 3), {"a.json": ("corrupted", True)}),
    # 2: the bytes, or the facts, of another file
    "copied-over": (
        lambda root: (root / "a.json").write_bytes(_FILES["b.json"]),
        {"a.json": ("corrupted", True)},
    ),
    "moved-over": (
        lambda root: (root / "one.pt").replace(root / "a.json"),
        {"a.json": ("corrupted", True), "one.pt": ("missing", True)},
    ),
    # 3: nothing in it
    "emptied": (lambda root: os.truncate(root / "a.json", 0), {"a.json": ("corrupted", True)}),
    "zeroed": (lambda root: (root / "a.json").write_bytes(bytes(480)), {"a.json": ("corrupted", True)}),
    # 4: containers of tensors, likely but not certain
    "short": (lambda root: os.truncate(root / "w.gguf", 2500), {"w.gguf": ("corrupted", False)}),
    "short-one": (lambda root: os.truncate(root / "one.pt", 500), {"one.pt": ("corrupted", False)}),
    "a-range": (lambda root: flip(root / "w.gguf", 1500), {"w.gguf": ("corrupted", False)}),
    # 5: somebody's work
    "no-right-chunk": (
        lambda root: (root / "w.gguf").write_bytes(blocks(7, 8, 9)),
        {"w.gguf": ("modified", True)},
    ),
    "one-chunk": (lambda root: flip(root / "one.pt", 5), {"one.pt": ("modified", True)}),
    "longer": (
        lambda root: (root / "w.gguf").write_bytes(blocks(1, 2, 3, 4)),
        {"w.gguf": ("modified", True)},
    ),
    "edited": (lambda root: flip(root / "a.json", 5), {"a.json": ("modified", True)}),
    "cut-by-hand": (lambda root: os.truncate(root / "a.json", 8), {"a.json": ("modified", True)}),
    # and what is no change at all
    "touched": (lambda root: (root / "a.json").touch(), {}),
}


@pytest.mark.parametrize("hashes", [False, True])
@pytest.mark.parametrize("case", _CASES)
async def test_each_rule_decides_as_it_says(room: Room, case: str, hashes: bool) -> None:
    """The same verdict whether the publisher gave each file a digest or not."""
    change, expected = _CASES[case]
    room.publish({REF: _FILES}, file_hashes=hashes)
    async with room.manager() as manager:
        await manager.pull(REF)
        change(room.dir(REF))
        report = await manager.validate(REF, "full")
    assert {each.path: (each.status, each.certain) for each in report.findings} == expected


async def test_a_likely_damage_is_put_aside_when_it_is_mended(room: Room) -> None:
    """What could have been somebody's work is kept; what nobody wrote is not."""
    room.publish({REF: _FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        flip(room.dir(REF) / "w.gguf", 1500)
        changed = (room.dir(REF) / "w.gguf").read_bytes()
        repaired = await manager.repair(REF)
        assert repaired.kept is not None
        assert (Path(repaired.kept) / "w.gguf").read_bytes() == changed
        flip_silently(room.dir(REF) / "w.gguf", 1500)
        assert (await manager.repair(REF)).kept is None


def test_chunks_of_a_file(room: Room) -> None:
    """A file has the chunks in which bytes of it are, an empty one none."""
    room.publish({REF: {"a": blocks(1, 2)[:1500], "empty": b"", "b": blocks(3)[:700], "c": blocks(4)}})
    manifest = room.manifest(REF)
    assert [list(chunks_of(manifest, number)) for number in range(4)] == [[0, 1], [], [1, 2], [2, 3]]


def test_what_lies_there_is_told_without_reading_it(tmp_path: Path) -> None:
    """A pipe is not waited for, a link not followed, a path below a file not an error."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    kinds = {
        path: look_at(tmp_path, path, {}) for path in ("pipe", "file", "link", "file/below", "none", "no/ne")
    }
    assert {path: look.kind for path, look in kinds.items()} == {
        "pipe": "replaced",
        "file": "file",
        "link": "replaced",
        "file/below": "replaced",
        "none": "missing",
        "no/ne": "missing",
    }
    assert kinds["file"].size_bytes == 1
    assert is_tensor_file("a/B.SAFETENSORS")
    assert not is_tensor_file("a/bin")
