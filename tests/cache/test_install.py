"""Swapping a version in and taking one away: whole or not at all, wherever the process dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache import install, intents, kept
from xprim_nb.cache.store import Store
from xprim_nb.errors import StorageError
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room, blocks, listing, require_sound

_REF = "group/model v1"
_OLD = {"a.bin": blocks(1, 2, 3), "notes": b"old", "gone/x": b"x"}
_NEW = {"a.bin": blocks(1, 4, 3, 5), "notes": b"new"}
_WORKER = Path(__file__).with_name("crash_worker.py")


class Killed(BaseException):
    """Raised where a process is to die: no `except` of ours may catch it."""


def _crash_everywhere(root: Path, scenario: str, exchange: str, first: int, stride: int) -> int:
    arguments = [sys.executable, str(_WORKER), str(root), scenario, exchange, str(first), str(stride)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


_SCENARIOS = [
    (scenario, exchange)
    for scenario in ("install", "resume", "update", "force", "remove")
    for exchange in ("yes", "no")
    if exchange == "yes" or scenario in ("update", "force")  # nothing is exchanged there
]


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("scenario", "exchange"), _SCENARIOS)
def test_killed_before_any_change_the_next_one_makes_it_good(
    tmp_path: Path, scenario: str, exchange: str
) -> None:
    """Killed before every sixth change on disk: old or new version whole, nothing lost, the next pull completes."""
    assert _crash_everywhere(tmp_path, scenario, exchange, 1 + len(scenario + exchange) % 6, 6) >= 3


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("scenario", "exchange"), _SCENARIOS)
def test_killed_before_every_change(tmp_path: Path, scenario: str, exchange: str) -> None:
    """The long form: every single change."""
    assert _crash_everywhere(tmp_path, scenario, exchange, 1, 1) >= 18


def _dies(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> None:
    real = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(owner, name, dying)


_STEPS: list[tuple[Any, str]] = [
    (install, "facts_of"),
    (install, "write_atomic"),
    (install, "exchange_dirs"),
    (install, "move_dir"),
    (install, "retire"),
    (kept, "remove_tree"),
    (Store, "record"),
    (intents, "write_atomic"),
    (intents.Intents, "forget"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize(("owner", "step"), _STEPS)
async def test_each_step_of_an_update_may_be_the_last(
    room: Room, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, exchange: bool, after: bool
) -> None:
    """Dead before or after a named step, with and without an atomic exchange: a new manager finds one version whole."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: _NEW})
        if not exchange:
            monkeypatch.setattr(install, "exchange_dirs", lambda one, other: False)
        with monkeypatch.context() as patch:
            _dies(patch, owner, step, after=after)
            with pytest.raises(Killed):
                await manager.pull(_REF)
    async with room.manager() as manager:
        (model,) = await manager.list_installed()
        assert room.files(_REF) == (_NEW if model.manifest_hash == room.made.manifest_hash(_REF) else _OLD)
        await manager.pull(_REF)
    require_sound(room.base, {_REF: _NEW})
    assert not (room.base / "cache" / "kept").exists()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (intents, "write_atomic"),
        (intents.Intents, "forget"),
        (install, "move_dir"),
        (install, "retire"),
        (Store, "forget"),
        (kept, "remove_tree"),
    ],
)
async def test_each_step_of_a_removal_may_be_the_last(
    room: Room, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: bool
) -> None:
    """Dead before or after a named step: a new manager finds the model whole, or gone with its name."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        with monkeypatch.context() as patch:
            _dies(patch, owner, step, after=after)
            with pytest.raises(Killed):
                await manager.remove(_REF)
    async with room.manager() as manager:
        installed = await manager.list_installed()
    require_sound(room.base, {_REF: _OLD} if installed else {})
    assert not (room.base / "cache" / "kept").exists()


async def test_the_base_may_be_moved_between_crash_and_recovery(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process left half done is finished under the base's new path."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: _NEW})
        with monkeypatch.context() as patch:
            _dies(patch, Store, "record", after=False)
            with pytest.raises(Killed):
                await manager.pull(_REF)
    room.base = room.base.rename(room.root / "elsewhere")
    async with room.manager() as manager:
        assert len(await manager.list_installed()) == 1
    require_sound(room.base, {_REF: _NEW})


async def _killed_after(
    room: Room, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, ref: str = _REF
) -> None:
    async with room.manager() as manager:
        with monkeypatch.context() as patch:
            _dies(patch, owner, step, after=True)
            with pytest.raises(Killed):
                await manager.pull(ref)


async def test_a_pull_under_another_name_spares_an_interrupted_swap(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names for one manifest: what a user wrote in the old version outlives a crash in the first's swap and a
    pull of the second by somebody who was there all along.
    """
    latest = "group/model latest"
    room.publish({latest: _OLD})
    async with room.manager() as witness:
        await witness.pull(latest)
        (room.dir(latest) / "a.bin").write_bytes(b"mine")
        (room.dir(latest) / "notes").unlink()
        (room.dir(latest) / "notes").symlink_to(room.root / "outside")
        (room.root / "outside").write_bytes(b"not yours")
        room.publish({"group/model v2": _NEW}, alias={latest: "v2"})
        await _killed_after(room, monkeypatch, install, "exchange_dirs", latest)
        await witness.pull("group/model v2")
    assert (room.root / "outside").read_bytes() == b"not yours"
    async with room.manager() as manager:
        await manager.pull(latest)
    require_sound(room.base, {latest: _NEW, "group/model v2": _NEW})
    (found,) = (room.base / "cache" / "kept").rglob("a.bin")
    assert found.read_bytes() == b"mine"


async def test_a_swap_that_the_disk_refuses_leaves_the_old_version(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange fails: an error says so, the old version is in place, and nothing waits to be finished."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: _NEW})

        def refuse(one: Path, other: Path) -> bool:
            raise OSError(5, "Input/output error", str(one))

        with monkeypatch.context() as patch:
            patch.setattr(install, "exchange_dirs", refuse)
            with pytest.raises(StorageError, match="Input/output error"):
                await manager.pull(_REF)
        assert room.files(_REF) == _OLD
        assert list(room.layout.intents.iterdir()) == []
        await manager.pull(_REF)
    require_sound(room.base, {_REF: _NEW})


async def test_a_swap_that_fails_half_way_is_taken_back(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an exchange, the old one out and the new one not in: the old one comes back at once."""
    room.publish({_REF: _OLD})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: _NEW})
        real = install.move_dir

        def refusing(source: Path, target: Path) -> None:
            if target == room.dir(_REF) and "trash" not in source.parts[-2:-1]:
                raise OSError(5, "Input/output error", str(target))
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(install, "exchange_dirs", lambda one, other: False)
            patch.setattr(install, "move_dir", _second_move_fails(real, room.dir(_REF)))
            with pytest.raises(StorageError):
                await manager.pull(_REF)
        assert room.files(_REF) == _OLD
        assert (await manager.path(_REF)) == room.dir(_REF)
        await manager.pull(_REF)
    require_sound(room.base, {_REF: _NEW})


def _second_move_fails(real: Callable[[Path, Path], None], final: Path) -> Callable[[Path, Path], None]:
    failed: list[Path] = []

    def moving(source: Path, target: Path) -> None:
        if target == final and not failed:
            failed.append(target)
            raise OSError(5, "Input/output error", str(target))
        real(source, target)

    return moving


@pytest.mark.parametrize("blocked", ["group", "group/model", "group/model/v1"])
async def test_a_file_in_the_way_is_named_before_anything_is_fetched(
    room: Room, server: FaultyRegistry, blocked: str
) -> None:
    """A file where a directory should be is an error that names it; nothing was fetched, and the manager still opens."""
    room.publish({_REF: _NEW, "other/model v1": _NEW})
    path = room.base / blocked
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a user's file")
    async with room.manager() as manager:
        with pytest.raises(StorageError, match=blocked):
            await manager.pull(_REF)
    assert path.read_bytes() == b"a user's file"
    assert server.count("chunk") == 0
    async with room.manager() as manager:
        assert await manager.list_installed() == []
        path.unlink()
        await manager.pull(_REF)
    require_sound(room.base, {_REF: _NEW})


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("deed", ["update", "force", "remove"])
@pytest.mark.parametrize("dangling", [False, True])
async def test_a_model_that_is_a_link_keeps_its_target(
    room: Room, monkeypatch: pytest.MonkeyPatch, deed: str, dangling: bool, exchange: bool
) -> None:
    """A user keeps the model elsewhere and links to it: the link goes, what it leads to is not touched."""
    room.publish({_REF: _OLD})
    elsewhere = room.root / "big disk" / "model"
    if not exchange:
        monkeypatch.setattr(install, "exchange_dirs", lambda one, other: False)
    async with room.manager() as manager:
        await manager.pull(_REF)
        elsewhere.parent.mkdir()
        room.dir(_REF).rename(elsewhere)
        room.dir(_REF).symlink_to(elsewhere)
        assert dangling or (await manager.path(_REF)) == room.dir(_REF)
        (elsewhere / "notes").write_bytes(b"mine")
        if dangling:
            elsewhere.rename(elsewhere.with_name("unplugged"))
        before = listing(elsewhere.parent)
        room.publish({_REF: _NEW if deed == "update" else _OLD})
        if deed == "remove":
            assert (await manager.remove(_REF)).kept is None
        else:
            await manager.pull(_REF, force=deed == "force")
    assert listing(elsewhere.parent) == before
    require_sound(room.base, {} if deed == "remove" else {_REF: _NEW if deed == "update" else _OLD})


async def test_an_intent_that_cannot_be_finished_does_not_close_the_door(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk refuses to finish what another process began: everything else works, and a pull of that version says why."""
    room.publish({_REF: _OLD, "other/model v1": _NEW})
    async with room.manager() as manager:
        await manager.pull(_REF)
        room.publish({_REF: _NEW})
    await _killed_after(room, monkeypatch, install, "exchange_dirs")

    def refuse(*args: object) -> None:
        raise StorageError("retiring failed, the file system is read-only", subject="x")

    with monkeypatch.context() as patch:
        patch.setattr(install, "retire", refuse)
        async with room.manager() as manager:
            assert "read-only" in caplog.text
            assert [str(model.ref) for model in await manager.list_installed()] == [_REF]
            await manager.prune()
            with pytest.raises(StorageError, match="read-only"):
                await manager.pull(_REF, force=True)
    async with room.manager() as manager:
        await manager.pull("other/model v1")
    require_sound(room.base, {_REF: _NEW, "other/model v1": _NEW})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"kind": "install"}',
        b'{"ref": "../.. x"}',
        b'{"kind":"x","ref":"a/b c","from":1}',
    ],
)
async def test_an_intent_nobody_understands_is_left_alone(room: Room, raw: bytes) -> None:
    """Torn, foreign or of a newer version: it is neither followed nor deleted, and stops nothing."""
    room.publish({_REF: _NEW})
    room.layout.intents.mkdir(parents=True)
    path = room.layout.intents / "strange.json"
    path.write_bytes(raw)
    async with room.manager() as manager:
        await manager.pull(_REF)
        await manager.remove(_REF)
        await manager.prune()
    assert path.read_bytes() == raw


async def test_an_intent_cannot_lead_out_of_the_base(room: Room) -> None:
    """Paths of an intent that leave the base are not followed."""
    room.publish({_REF: _NEW})
    outside = room.root / "outside"
    (outside / "x").mkdir(parents=True)
    room.layout.intents.mkdir(parents=True)
    intent = (
        '{"kind":"%s","ref":"group/model v1","token":"","tree":"../outside","out":"../outside","extra":{}}'
    )
    for kind in ("install", "remove"):
        (room.layout.intents / f"{kind}.json").write_text(intent % kind)
    before = listing(outside)
    async with room.manager() as manager:
        await manager.pull(_REF)
    assert listing(outside) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
async def test_two_versions_never_share_a_directory(room: Room) -> None:
    """Where two names are one directory (no case, or a link) the second is refused, and the first keeps its bytes."""
    other = "Group/model v1"
    room.publish({_REF: _OLD, other: _NEW})
    (room.base / "group").mkdir(parents=True)
    if not (room.base / "Group").exists():
        (room.base / "Group").symlink_to("group")
    async with room.manager() as manager:
        await manager.pull(_REF)
        for force in (False, True):
            with pytest.raises(StorageError, match="directory of group/model v1") as caught:
                await manager.pull(other, force=force)
            assert "Remove group/model v1" in caught.value.hint
        assert room.files(_REF) == _OLD
        await manager.remove(_REF)
        (room.base / "group").mkdir(exist_ok=True)  # it went with its last model, and the link led nowhere
        await manager.pull(other)
        assert room.files(other) == _NEW
        assert [str(model.ref) for model in await manager.list_installed()] == [other]
