"""`Manager` on its own loop, on others' loops, and where it cannot be opened."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_socket
import trustme

from xprim_nb import Config, Manager
from xprim_nb.errors import ConfigError, ModelNotFoundError, NetworkError, NotInstalledError, OfflineError
from xprim_nb.testing.faults import Stall
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

_REF = "group/model v1"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks through the proxy of whoever runs it."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with a model of four chunks."""
    return make_registry(
        tmp_path / "registry", {_REF: {"a.bin": random_bytes(1, 200_000)}}, chunk_size=50_000
    )


@pytest.fixture
def server(made: MadeRegistry) -> Iterator[FaultyRegistry]:
    """The registry, served."""
    with FaultyRegistry(made.root) as server:
        yield server


@pytest.fixture
def config(server: FaultyRegistry, tmp_path: Path) -> Config:
    """Settings for it."""
    return Config(registry_url=server.url, data_dir=tmp_path / "models", backoff_s=0.0)


async def test_other_loops_may_use_it(config: Config, server: FaultyRegistry) -> None:
    """Threads with loops of their own list and pull through a manager whose loop is elsewhere, once for all."""
    async with Manager(config) as manager:

        def elsewhere() -> str:
            return asyncio.run(manager.pull(_REF)).status

        async def pulled_here() -> str:
            return (await manager.pull(_REF)).status

        statuses = await asyncio.gather(*(asyncio.to_thread(elsewhere) for _ in range(3)), pulled_here())
        assert set(statuses) <= {"installed", "already_installed"}
        assert server.count("chunk") == 4
        assert len(await asyncio.to_thread(lambda: asyncio.run(manager.list_installed()))) == 1
        with pytest.raises(NotInstalledError):
            await asyncio.to_thread(lambda: asyncio.run(manager.path("group/other v1")))


async def test_a_caller_elsewhere_may_be_cancelled(config: Config, server: FaultyRegistry) -> None:
    """Cancelling on another loop cancels the work at home; the server sees it, and the manager goes on."""
    server.inject(Stall(1_000), on="chunk", times=None)
    async with Manager(config) as manager:

        def elsewhere() -> None:
            async def impatient() -> None:
                task = asyncio.ensure_future(manager.pull(_REF))
                await asyncio.to_thread(server.wait_for, 4, "chunk")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            asyncio.run(impatient())

        await asyncio.to_thread(elsewhere)
        await asyncio.to_thread(server.wait_for, 4, "chunk", done=True)
        server.heal()
        assert (await manager.pull(_REF)).status == "installed"


async def test_a_cancelled_pull_is_over_at_once(config: Config, server: FaultyRegistry) -> None:
    """A pull of a server that has gone silent is cancelled within a second, and can be taken up again."""
    server.inject(Stall(1_000), on="chunk", times=None)
    async with Manager(config) as manager:
        pulling = asyncio.ensure_future(manager.pull(_REF))
        await asyncio.to_thread(server.wait_for, 4, "chunk")
        began = asyncio.get_running_loop().time()
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        assert asyncio.get_running_loop().time() - began < 1.0
        await asyncio.to_thread(server.wait_for, 4, "chunk", done=True)
        server.heal()
        assert (await manager.pull(_REF)).status == "installed"
    for thread in [thread for thread in threading.enumerate() if thread.name == "xprim-fetch"]:
        thread.join(5)
        assert not thread.is_alive()


async def test_a_closed_manager_says_how_to_open_it(config: Config) -> None:
    """Before and after its block every verb is an error that says what to write; inside it may be opened again."""
    manager = Manager(config)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="async with Manager"):
            await manager.list_installed()
        with pytest.raises(RuntimeError, match="async with Manager"):
            await manager.pull(_REF)
        async with manager:
            assert len(await manager.list_remote()) == 1


async def test_the_versions_of_one_model_are_listed(config: Config, made: MadeRegistry) -> None:
    """A model's versions are its own, with what is known of them; an unknown model is an error."""
    make_registry(
        made.root,
        {"group/model v2": {"a": b"x"}, "group/models v9": {"a": b"y"}},
        metadata={"format": "onnx"},
    )
    async with Manager(config) as manager:
        listing = await manager.list_remote_versions("group", "model")
        assert [model.ref.version for model in listing] == ["v1", "v2"]
        assert listing[1].metadata == {"format": "onnx"}
        assert not listing.stale
        with pytest.raises(ModelNotFoundError):
            await manager.list_remote_versions("group", "mode")


class Recorder:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def debug(self, msg: str, **fields: object) -> None:
        """Take a record."""
        self.told.append(f"{msg} {fields}")

    info = warning = error = debug


@pytest.mark.parametrize("url", ["ftp://example.org", "http://", "http://host:port"])
async def test_what_cannot_be_opened_leaves_nothing_open(tmp_path: Path, url: str) -> None:
    """When opening fails the injected logger is let go, and the manager is as closed as before."""
    logger, root = Recorder(), logging.getLogger("xprim_nb")
    before = (root.level, root.propagate, list(root.handlers))
    manager = Manager(Config(registry_url=url, data_dir=tmp_path), logger=logger)
    for _ in range(2):
        with pytest.raises(ConfigError):
            await manager.__aenter__()
        assert (root.level, root.propagate, list(root.handlers)) == before
        with pytest.raises(RuntimeError, match="not open"):
            await manager.list_installed()


async def test_a_disk_that_refuses_leaves_nothing_open(tmp_path: Path, server: FaultyRegistry) -> None:
    """The same when the directory cannot be had, which is found out last."""
    (tmp_path / "file").write_text("in the way")
    root = logging.getLogger("xprim_nb")
    before = (root.level, root.propagate, list(root.handlers))
    manager = Manager(Config(registry_url=server.url, data_dir=tmp_path / "file"), logger=Recorder())
    try:
        async with manager:
            await manager.list_installed()
    except OSError:
        pass
    assert (root.level, root.propagate, list(root.handlers)) == before


async def test_two_loggers_do_not_disturb_each_other(
    config: Config, server: FaultyRegistry, tmp_path: Path
) -> None:
    """Managers with a logger each, closed in the order they were opened, both hear of a failure while open."""
    loggers = [Recorder(), Recorder()]
    first = await Manager(config, logger=loggers[0]).__aenter__()
    second = await Manager(config, logger=loggers[1]).__aenter__()
    server.close()
    await first.__aexit__(None, None, None)
    with pytest.raises(NetworkError):
        await second.list_remote()
    await second.__aexit__(None, None, None)
    assert any("a try failed" in told for told in loggers[1].told)
    assert not any("a try failed" in told for told in loggers[0].told)


async def test_offline_everything_known_is_answered(
    config: Config, server: FaultyRegistry, made: MadeRegistry
) -> None:
    """Offline, with every socket forbidden: what is installed is used, what is listed is shown, the rest is refused."""
    make_registry(made.root, {"group/other v1": {"b": b"y"}})
    async with Manager(config) as manager:
        await manager.pull(_REF)
        await manager.list_remote()
    server.forget_requests()
    async with Manager(replace(config, offline=True)) as manager:
        pytest_socket.disable_socket(allow_unix_socket=True)
        assert (await manager.pull(_REF)).status == "already_installed"
        assert len(await manager.list_installed()) == 1
        listing = await manager.list_remote()
        assert (len(listing), listing.stale, listing.why_stale) == (2, True, "offline mode is on")
        for refused in (manager.pull("group/other v1"), manager.check_update(_REF), manager.check_updates()):
            with pytest.raises(OfflineError):
                await refused
    assert server.requests == []


async def test_a_private_authority_is_a_setting(made: MadeRegistry, tmp_path: Path) -> None:
    """A registry behind TLS of a private authority is pulled from with `Config(verify=…)`, and refused without."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FaultyRegistry(made.root, tls=context, require_header=("x-token", "secret")) as server:
        config = Config(registry_url=server.url, data_dir=tmp_path / "models", headers={"X-Token": "secret"})
        async with Manager(config) as manager:
            with pytest.raises(NetworkError, match="certificate") as caught:
                await manager.pull(_REF)
            assert "verify" in caught.value.hint
        async with Manager(replace(config, verify=str(tmp_path / "ca.pem"))) as manager:
            assert (await manager.pull(_REF)).status == "installed"
        assert server.count("chunk") == 4
