"""What the tests of several modules of this room look at registries with."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from xprim_nb.config import Config
from xprim_nb.events import Event, EventHub
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.opening import open_sources
from xprim_nb.registry.retry import RetryPolicy
from xprim_nb.registry.sources.http import HttpOptions, HttpSource
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry

# What every request of an injected client carries, and no other.
INJECTED = ("x-injected", "by a test")


@pytest.fixture
def original_install() -> Callable[[Path, str], dict[str, bytes]]:
    """The original client's algorithm, which knows neither `chunk_sizes` nor aliases.

    A function of the registry's directory and a ref that concatenates the chunks and cuts the files by their size.
    """

    def install(to: Path, ref: str) -> dict[str, bytes]:
        registry, stream = MadeRegistry(to), b""
        for chunk in registry.chunks(ref):
            data = registry.object_path(chunk).read_bytes()
            assert hashlib.sha256(data).hexdigest() == chunk
            stream += data
        assert len(stream) == registry.manifest(ref)["total_size"]
        files = {}
        for file in registry.manifest(ref)["files"]:
            files[file["path"]], stream = stream[: file["size"]], stream[file["size"] :]
        assert not stream
        return files

    return install


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks through the proxy of whoever runs it."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultyRegistry]]:
    """A function that serves a registry like `FaultyRegistry`, until the test ends."""
    with contextlib.ExitStack() as stack:

        def served(content: Path, **settings: Any) -> FaultyRegistry:
            return stack.enter_context(FaultyRegistry(content, **settings))

        yield served


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """A function that returns once a condition holds that another thread brings about and nobody tells of."""

    async def holds(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  # the test's own time limit ends it
            await asyncio.sleep(0.001)

    return holds


@pytest.fixture(params=["wire", "client"])
def plane(request: pytest.FixtureRequest) -> str:
    """The two ways of a chunk: the lean path, and an injected client."""
    return str(request.param)


@pytest.fixture
async def open_http(plane: str) -> AsyncIterator[Callable[..., HttpSource]]:
    """A function from a URL and the fields of `HttpOptions` to a source on that plane, until the test ends.

    The injected client is told nothing about time: to notice silence is the source's task.
    """
    async with contextlib.AsyncExitStack() as stack:

        def opened(url: str, **options: Any) -> HttpSource:
            client = None
            if plane == "client":
                its = {key: value for key, value in options.items() if key in ("verify", "proxy")}
                client = httpx2.AsyncClient(headers=[INJECTED], timeout=None, **its)
                stack.push_async_callback(client.aclose)
            patient = {"connect_timeout_s": 20.0, "stall_timeout_s": 20.0, **options}
            source = HttpSource(url, HttpOptions(**patient), client)
            stack.push_async_callback(source.aclose)
            return source

        yield opened


@pytest.fixture
def heard() -> list[Event]:
    """Every event that a client of `client_for` published."""
    return []


@pytest.fixture
def waits() -> list[float]:
    """Seconds that a client of `client_for` would have waited between its tries; none of them has passed."""
    return []


@pytest.fixture
async def client_for(
    tmp_path: Path, heard: list[Event], waits: list[float]
) -> AsyncIterator[Callable[..., RegistryClient]]:
    """A function from base URLs to a client of them, until the test ends; all clients share one cache directory."""

    async def note(delay_s: float) -> None:
        waits.append(delay_s)

    async with contextlib.AsyncExitStack() as stack:

        def built(*urls: str, offline: bool = False, tries: int = 3, **settings: Any) -> RegistryClient:
            hub = EventHub()
            hub.subscribe(heard.append)
            sleep = settings.pop("sleep", note)
            config = Config(registry_url=urls[0], mirrors=urls[1:], **settings)
            client = RegistryClient(
                open_sources(config, "/unused"),
                cache_dir=tmp_path / "cache",
                metadata_dir=".xprim",
                policy=RetryPolicy(tries),
                offline=offline,
                events=hub,
                sleep=sleep,
            )
            stack.push_async_callback(client.aclose)
            return client

        yield built
