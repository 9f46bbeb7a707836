"""A model is installed when it is first asked for, once, whoever asks."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.scheduling.fakes import FakeBackend, until
from xprim_nb.config.capabilities import AutoInstall
from xprim_nb.errors import NotInstalledError
from xprim_nb.scheduling.installing import Installations
from xprim_nb.workers.values import InstallProgress


async def test_many_who_ask_cause_one_installation() -> None:
    """Ten requests for a missing model install it once, and each hears how far it is."""
    backend, installations = FakeBackend(missing={"m"}), Installations("yes")
    backend.install_gate.clear()
    heard: list[int] = []

    def hear(who: int, _: InstallProgress) -> None:
        heard.append(who)

    asking = [asyncio.create_task(installations.ensure(backend, "m", partial(hear, i))) for i in range(10)]
    await until(lambda: len(heard) == 10)
    backend.install_gate.set()
    await asyncio.gather(*asking)
    assert [name for what, name in backend.calls if what == "install"] == ["m"]
    assert sorted(heard) == list(range(10))


async def test_who_leaves_does_not_stop_it() -> None:
    """The first caller's patience is not the installation's: it goes on for the next one."""
    backend, installations = FakeBackend(missing={"m"}), Installations("yes")
    backend.install_gate.clear()
    first = asyncio.create_task(installations.ensure(backend, "m", lambda _: None))
    await until(lambda: ("install", "m") in backend.calls)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    backend.install_gate.set()
    await installations.ensure(backend, "m", lambda _: None)
    assert backend.calls.count(("install", "m")) == 1


@pytest.mark.parametrize("policy", ["ask", "never"])
async def test_a_policy_may_forbid_it(policy: AutoInstall) -> None:
    """Unless it is set to yes a missing model is told, with the command that installs it; a call may allow it."""
    backend, installations = FakeBackend(missing={"m"}), Installations(policy)
    with pytest.raises(NotInstalledError, match="not installed") as refused:
        await installations.ensure(backend, "m", lambda _: None)
    assert "pull m" in refused.value.hint
    await installations.ensure(backend, "m", lambda _: None, allowed=True)
    assert ("install", "m") in backend.calls


async def test_what_is_there_is_not_installed() -> None:
    """An available model costs one question."""
    backend = FakeBackend()
    await Installations("never").ensure(backend, "m", lambda _: None)
    assert backend.calls == [("check", "m")]


async def test_closing_stops_what_runs() -> None:
    """After `aclose` no installation runs."""
    backend, installations = FakeBackend(missing={"m"}), Installations("yes")
    backend.install_gate.clear()
    asking = asyncio.create_task(installations.ensure(backend, "m", lambda _: None))
    await until(lambda: ("install", "m") in backend.calls)
    await installations.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asking
