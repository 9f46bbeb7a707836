"""Without a network: everything answerable here is answered, and no socket is opened for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from pytest_socket import SocketBlockedError, disable_socket, enable_socket
from safetensors.numpy import save

from xprim_nb.errors import ModelNotFoundError, NetworkError, NotInstalledError, OfflineError
from xprim_nb.manager import Manager
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room, blocks, listing, require_sound

_REF, _OTHER = "group/model v1", "group/other v1"
_FILES = {"w.bin": blocks(1, 2, 3), "m.safetensors": save({"t": np.zeros(9, dtype=np.float32)})}
# Nobody listens there, and nobody may find out.
_NOWHERE = "https://models.example.org"


@pytest.fixture
async def installed(room: Room) -> Room:
    """One model installed, another one known from the index; the registry is gone."""
    room.publish({_REF: _FILES, _OTHER: {"w.bin": blocks(2, 9)}}, alias={"group/model latest": "v1"})
    with FaultyRegistry(room.made.root) as server:
        room.url = server.url
        async with room.manager() as manager:
            await manager.pull(_REF)
    return room


_ANSWERED: dict[str, Callable[[Manager, Room], Awaitable[Any]]] = {
    "list": lambda manager, room: manager.list_installed(),
    "info": lambda manager, room: manager.get_installed(_REF),
    "files": lambda manager, room: manager.list_files(_REF),
    "path": lambda manager, room: manager.path(_REF),
    "pull": lambda manager, room: manager.pull(_REF),
    "force": lambda manager, room: manager.pull(_REF, force=True),
    "plan": lambda manager, room: manager.plan_pull(_REF),
    "export": lambda manager, room: manager.export(_REF, to=room.root / "out"),
    "peek": lambda manager, room: manager.peek(_REF),
    "list-remote": lambda manager, room: manager.list_remote(),
    "get-remote": lambda manager, room: manager.get_remote(_OTHER),
    "detail": lambda manager, room: manager.get_remote_detail(_REF),
    "prune": lambda manager, room: manager.prune(),
    "alias": lambda manager, room: manager.pull("group/model latest"),
    "remove": lambda manager, room: manager.remove(_REF),
}


# What the registry said is remembered in the cache, and nowhere else.
_FROM_CACHE = {"list-remote", "get-remote", "detail", "alias"}


@pytest.mark.parametrize(
    ("verb", "cache"),
    [(verb, "there") for verb in _ANSWERED]
    + [(verb, "emptied") for verb in _ANSWERED if verb not in _FROM_CACHE],
)
async def test_what_is_here_is_answered_without_a_socket(installed: Room, verb: str, cache: str) -> None:
    """In offline mode, with sockets made to fail, each of these succeeds; most of them with an empty cache too."""
    if cache == "emptied":
        shutil.rmtree(installed.base / "cache")
    disable_socket(allow_unix_socket=True)
    try:
        async with installed.manager(offline=True) as manager:
            await _ANSWERED[verb](manager, installed)
    finally:
        enable_socket()
    if verb != "remove":
        assert installed.files(_REF) == _FILES


_UNANSWERED: dict[str, Callable[[Manager, Room], Awaitable[Any]]] = {
    "pull": lambda manager, room: manager.pull(_OTHER),
    "plan": lambda manager, room: manager.plan_pull(_OTHER),
    "detail": lambda manager, room: manager.get_remote_detail(_OTHER),
    "peek": lambda manager, room: manager.peek(_OTHER),
    "check-update": lambda manager, room: manager.check_update(_REF),
    "check-updates": lambda manager, room: manager.check_updates(),
}


@pytest.mark.parametrize("verb", _UNANSWERED)
async def test_what_needs_the_network_says_what_is_missing(installed: Room, verb: str) -> None:
    """No socket is tried; the error is an OfflineError that names the object and the way out."""
    disable_socket(allow_unix_socket=True)
    try:
        async with installed.manager(offline=True) as manager:
            with pytest.raises(OfflineError, match=r"manifest|chunk|index") as caught:
                await _UNANSWERED[verb](manager, installed)
    finally:
        enable_socket()
    assert "XPRIM_OFFLINE" in caught.value.hint
    assert not installed.dir(_OTHER).exists()


async def test_a_first_run_offline_knows_nothing_and_says_so(room: Room) -> None:
    """Nothing cached, nothing installed: lists are empty, questions about the registry are OfflineErrors."""
    disable_socket(allow_unix_socket=True)
    try:
        async with room.manager(registry_url=_NOWHERE, offline=True) as manager:
            assert await manager.list_installed() == []
            assert await manager.cached_remote() is None
            with pytest.raises(OfflineError, match="index"):
                await manager.list_remote()
            with pytest.raises(OfflineError, match="index"):
                await manager.pull(_REF)
            with pytest.raises(NotInstalledError):
                await manager.path(_REF)
    finally:
        enable_socket()
    assert not room.base.exists() or listing(room.base) == {}


async def test_a_damaged_model_is_not_mended_offline_and_not_made_worse(installed: Room) -> None:
    """Force needs one chunk that is nowhere here: it says which, and what is installed stays as it was."""
    path = installed.dir(_REF) / "w.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    before = listing(installed.dir(_REF))
    async with installed.manager(offline=True) as manager:
        with pytest.raises(OfflineError, match=f"chunk {installed.made.chunks(_REF)[2][:12]}"):
            await manager.pull(_REF, force=True)
        assert listing(installed.dir(_REF)) == before
    async with installed.manager(registry_url=str(installed.made.root)) as manager:
        assert (await manager.pull(_REF, force=True)).receipt.chunks_network <= 1
    require_sound(installed.base, {_REF: _FILES})


async def test_all_chunks_here_are_enough_to_install_offline(installed: Room) -> None:
    """A model whose every chunk lies in installed ones is installed without the network, its manifest known."""
    installed.publish({"group/parts v1": {"again": blocks(3, 1), "b": blocks(2)}})
    async with installed.manager(registry_url=str(installed.made.root)) as manager:
        await manager.get_remote_detail("group/parts v1")
    config = installed.config(offline=True)
    async with Manager(config) as manager:
        with pytest.raises(ModelNotFoundError):  # this registry's cached index is older than that model
            await manager.pull("group/parts v1")
    async with installed.manager(registry_url=str(installed.made.root), offline=True) as manager:
        pulled = await manager.pull("group/parts v1")
    assert (pulled.receipt.chunks_network, pulled.receipt.chunks_local) == (0, 3)


@pytest.mark.parametrize("way", ["offline", "unreachable"])
async def test_an_installed_model_is_pulled_although_nobody_can_be_asked(installed: Room, way: str) -> None:
    """Already installed is the answer, marked as unchecked and with a sentence that says why."""
    async with installed.manager(offline=way == "offline") as manager:
        pulled = await manager.pull(_REF)
        assert (pulled.status, pulled.checked) == ("already_installed", False)
        assert pulled.warnings
        with pytest.raises(NetworkError):
            await manager.pull(_OTHER)


async def test_the_environment_switches_it_on(installed: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """`XPRIM_OFFLINE=1` is as good as the setting."""
    monkeypatch.setitem(os.environ, "XPRIM_OFFLINE", "1")
    disable_socket(allow_unix_socket=True)
    try:
        async with installed.manager(registry_url=_NOWHERE) as manager:
            assert (await manager.pull(_REF)).status == "already_installed"
            with pytest.raises(OfflineError):
                await manager.pull(_OTHER)
    finally:
        enable_socket()


async def test_the_guard_guards(installed: Room) -> None:
    """What the tests above rely on: without offline mode a socket would be tried, and fails here."""
    disable_socket(allow_unix_socket=True)
    try:
        async with installed.manager() as manager:
            with pytest.raises((SocketBlockedError, NetworkError, ExceptionGroup)):
                await manager.check_updates()
    finally:
        enable_socket()
