"""`RegistryClient` on real servers: manifests and chunks, verified, from the first mirror that has them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from xprim_nb.errors import HashMismatchError, NetworkError, RegistryError, StalledError
from xprim_nb.events import Event, FetchRetried
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.sources import SourceError
from xprim_nb.registry.sources.http import HttpSource
from xprim_nb.registry.sources.stopping import StoppedError, StopToken
from xprim_nb.testing.faults import (
    Corrupt,
    Drop,
    Fault,
    IgnoreRange,
    OtherObject,
    Replace,
    ShiftedRange,
    Stall,
    Status,
    Truncate,
    WrongLength,
)
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

_REF = "group/model v1"
_SIZE = 400_000

ClientFor = Callable[..., RegistryClient]
Serve = Callable[..., FaultyRegistry]


class Sink(MemorySink):
    """A sink that can say whether its bytes are the chunk."""

    def verify(self) -> None:
        """Compare the digests."""
        if not self.complete:
            raise HashMismatchError(f"Chunk {self.digest} arrived as something else.", subject=self.digest)


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with one model of two chunks."""
    return make_registry(tmp_path / "registry", {_REF: {"a": random_bytes(1, 2 * _SIZE)}}, chunk_size=_SIZE)


@pytest.fixture
def server(made: MadeRegistry, serve: Serve) -> FaultyRegistry:
    """The registry, served."""
    return serve(made.root)


@pytest.fixture
def sink(made: MadeRegistry) -> Sink:
    """An empty sink for the first chunk."""
    return Sink(made.chunks(_REF)[0], _SIZE)


async def test_a_manifest_is_kept_for_ever_as_it_came(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor, tmp_path: Path
) -> None:
    """A manifest is asked for once, kept as raw bytes under its digest, and read from there after a restart."""
    digest = made.manifest_hash(_REF)
    for _ in range(3):
        found = await client_for(server.url).manifest(digest)
        assert found.raw == made.object_path(digest).read_bytes()
        assert found.digest == digest
    assert server.count("manifest") == 1
    assert (tmp_path / "cache" / "manifests" / digest).read_bytes() == found.raw


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b'{"total_size": 0, "chunk_size": 1, "chunks": [], "files": []}']
)
async def test_a_cached_manifest_is_verified_on_every_read(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, damage: bytes,
) -> None:  # fmt: skip
    """A manifest altered on disk, well-formed or not, is logged, fetched again and mended."""
    digest = made.manifest_hash(_REF)
    client = client_for(server.url)
    await client.manifest(digest)
    path = tmp_path / "cache" / "manifests" / digest
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert (await client.manifest(digest)).manifest.total_size == 2 * _SIZE
    assert "damaged" in caplog.text
    assert path.read_bytes() == made.object_path(digest).read_bytes()
    assert server.count("manifest") == 2


@pytest.mark.parametrize("fault", [Corrupt(5), Replace(b"<html>"), Truncate(20, declared=False)], ids=str)
async def test_an_altered_manifest_is_never_accepted(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor, tmp_path: Path, fault: Fault
) -> None:
    """Other bytes under a manifest's name are tried again, and in the end a HashMismatchError; nothing is cached."""
    digest = made.manifest_hash(_REF)
    server.inject(fault, on="manifest", times=None)
    with pytest.raises(HashMismatchError):
        await client_for(server.url).manifest(digest)
    assert server.count("manifest") == 3
    assert not (tmp_path / "cache" / "manifests" / digest).exists()
    server.heal()
    server.inject(fault, on="manifest")
    assert (await client_for(server.url).manifest(digest)).digest == digest


async def test_another_models_manifest_is_not_this_ones(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor
) -> None:
    """A perfectly good manifest under the wrong name is refused: the hash is checked, not the form."""
    make_registry(made.root, {"group/other v1": {"b": b"malware"}})
    server.inject(OtherObject(made.manifest_hash("group/other v1")), on="manifest", times=None)
    with pytest.raises(HashMismatchError):
        await client_for(server.url).manifest(made.manifest_hash(_REF))


async def test_a_manifest_that_breaks_the_format_is_final(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor, waits: list[float]
) -> None:
    """Right bytes that break the format are a RegistryError after one request: they will not change."""
    files = [{"path": "../escape", "size": 1}]
    manifest = {"total_size": 1, "chunk_size": 1, "chunks": ["0" * 64], "files": files}
    digest = made.put_manifest("group/bad v1", json.dumps(manifest).encode())
    with pytest.raises(RegistryError, match="escape"):
        await client_for(server.url).manifest(digest)
    assert (server.count("manifest"), waits) == (1, [])


@pytest.mark.parametrize("name", ["", "../models.json", "A" * 64, "a" * 63, "a" * 64 + "\n", "x" * 10_000])
async def test_a_name_that_is_no_digest_is_asked_of_nobody(
    server: FaultyRegistry, client_for: ClientFor, name: str
) -> None:
    """Only a digest becomes a path or a URL; the complaint about anything else is short."""
    client = client_for(server.url)
    for asked in (client.manifest(name), client.chunk(name, Sink(name, 5))):
        with pytest.raises(RegistryError) as caught:
            await asked
        assert len(str(caught.value)) < 300
    assert server.requests == []


async def test_a_disk_that_refuses_costs_only_the_cache(
    server: FaultyRegistry,
    made: MadeRegistry,
    client_for: ClientFor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the cache cannot be written, index and manifest are answered all the same, with a warning."""
    (tmp_path / "cache").write_text("in the way")
    client = client_for(server.url)
    with caplog.at_level(logging.WARNING):
        assert not (await client.index()).stale
        assert (await client.manifest(made.manifest_hash(_REF))).manifest.total_size == 2 * _SIZE
    assert [record.levelname for record in caplog.records] == ["WARNING"] * len(caplog.records)
    assert "could not be cached" in caplog.text


async def test_a_broken_chunk_is_resumed_in_the_next_try(
    server: FaultyRegistry, client_for: ClientFor, sink: Sink, heard: list[Event]
) -> None:
    """A chunk that breaks twice arrives in three tries, and no byte of it is sent twice."""
    server.inject(Drop(100_000), on="chunk")
    server.inject(Truncate(150_000), on="chunk")
    assert await client_for(server.url).chunk(sink.digest, sink) == 2
    assert sink.complete
    assert [request.headers.get("range") for request in server.requests] == [
        None,
        "bytes=100000-",
        "bytes=250000-",
    ]
    await asyncio.to_thread(server.wait_for, 3, "chunk", done=True)
    assert server.bytes_sent("chunk") == _SIZE
    assert [event.attempt for event in heard if isinstance(event, FetchRetried)] == [2, 3]


async def test_an_altered_chunk_begins_anew(
    server: FaultyRegistry, client_for: ClientFor, sink: Sink
) -> None:
    """Altered bytes are thrown away whole: nobody knows which of them was wrong."""
    server.inject(Corrupt(77), on="chunk", times=2)
    assert await client_for(server.url).chunk(sink.digest, sink) == 2
    assert sink.complete
    assert sink.restarts == 2
    assert not any("range" in request.headers for request in server.requests)


@pytest.mark.parametrize("fault", [Corrupt(-1), WrongLength(3), Replace(b"<html>")], ids=str)
async def test_a_chunk_that_stays_wrong_is_a_mismatch(
    server: FaultyRegistry, client_for: ClientFor, sink: Sink, fault: Fault
) -> None:
    """Each wrong answer is a try, the last one is a HashMismatchError, and the sink is empty again."""
    server.inject(fault, on="chunk", times=None)
    with pytest.raises(HashMismatchError):
        await client_for(server.url).chunk(sink.digest, sink)
    assert (server.count("chunk"), sink.received) == (3, 0)


@pytest.mark.parametrize(
    "fault", [ShiftedRange(9), ShiftedRange(9, told=False), IgnoreRange(), Status(416)], ids=str
)
async def test_a_server_that_cannot_resume_does_no_harm(
    server: FaultyRegistry, client_for: ClientFor, sink: Sink, fault: Fault
) -> None:
    """Whatever a server answers to a range, told or not, the chunk is right in the end."""
    server.inject(Drop(100_000), on="chunk")
    server.inject(fault, on=lambda request: "range" in request.headers, times=None)
    await client_for(server.url).chunk(sink.digest, sink)
    assert sink.complete


async def test_a_server_that_stays_silent_is_given_up_on(
    server: FaultyRegistry, client_for: ClientFor, sink: Sink
) -> None:
    """Three silences are a StalledError that says so, and what came between them is kept."""
    server.inject(Stall(50_000), on="chunk", times=None)
    with pytest.raises(StalledError):
        await client_for(server.url, stall_timeout_s=0.5).chunk(sink.digest, sink)
    assert server.count("chunk") == 3
    assert sink.received == 150_000


async def test_a_thread_may_try_once_by_itself(
    server: FaultyRegistry, client_for: ClientFor, sink: Sink, waits: list[float]
) -> None:
    """`read_chunk` is the first try of a chunk; what went wrong is handed on and counted, not tried over."""
    client = client_for(server.url)
    assert await asyncio.to_thread(client.read_chunk, sink.digest, sink, StopToken())
    assert sink.complete
    other = Sink(sink.digest, _SIZE)
    server.inject(Corrupt(7), on="chunk", times=None)
    server.forget_requests()
    with pytest.raises(HashMismatchError) as caught:
        await asyncio.to_thread(client.read_chunk, other.digest, other, StopToken())
    assert (other.received, other.restarts) == (0, 1)
    with pytest.raises(HashMismatchError):
        await client.chunk(other.digest, other, failed=caught.value)
    assert (server.count("chunk"), len(waits)) == (3, 2)
    server.heal()
    assert await client.chunk(other.digest, other, failed=SourceError("gone.")) == 1
    assert other.complete


async def test_a_thread_that_is_stopped_writes_no_more(
    server: FaultyRegistry, client_for: ClientFor, sink: Sink
) -> None:
    """A stopped `read_chunk` leaves the sink as it was."""
    stop = StopToken()
    stop.stop()
    with pytest.raises(StoppedError):
        await asyncio.to_thread(client_for(server.url).read_chunk, sink.digest, sink, stop)
    assert (sink.received, server.requests) == (0, [])


async def test_a_thread_cannot_read_what_needs_the_loop(
    server: FaultyRegistry, sink: Sink, tmp_path: Path
) -> None:
    """Through an injected client, or offline, `read_chunk` tries nothing and says so."""
    async with httpx2.AsyncClient() as injected:
        for sources, offline in (
            ([HttpSource(server.url, client=injected)], False),
            ([HttpSource(server.url)], True),
        ):
            client = RegistryClient(
                sources, cache_dir=tmp_path / "cache", metadata_dir=".xprim", offline=offline
            )
            assert not await asyncio.to_thread(client.read_chunk, sink.digest, sink, StopToken())
            await client.aclose()
    assert server.connections == 0


async def test_mirrors_are_asked_in_order_for_each_object(
    server: FaultyRegistry, made: MadeRegistry, serve: Serve, client_for: ClientFor, waits: list[float]
) -> None:
    """Behind a dead registry and a mirror that alters everything, the third one's bytes arrive, with no wait at all."""
    dead, lying = serve(made.root), serve(made.root)
    dead.close()
    lying.inject(Corrupt(7), on="object", times=None)
    client = client_for(dead.url, lying.url, server.url)
    answer = await client.index()
    assert (answer.source, answer.stale) == (lying.url, False)
    await client.manifest(made.manifest_hash(_REF))
    for digest in made.chunks(_REF):
        sink = Sink(digest, _SIZE)
        assert await client.chunk(digest, sink) == 2
        assert sink.complete
    assert [lying.count(kind) for kind in ("index", "manifest", "chunk")] == [1, 1, 2]
    assert [server.count(kind) for kind in ("index", "manifest", "chunk")] == [0, 1, 2]
    assert waits == []


async def test_a_mirror_goes_on_where_the_registry_broke_off(
    server: FaultyRegistry, made: MadeRegistry, serve: Serve, client_for: ClientFor, sink: Sink
) -> None:
    """A chunk is the same everywhere: the mirror is asked for the rest alone."""
    mirror = serve(made.root)
    server.inject(Drop(300_000), on="chunk")
    await client_for(server.url, mirror.url).chunk(sink.digest, sink)
    assert sink.complete
    assert mirror.requests[0].headers["range"] == "bytes=300000-"
    await asyncio.to_thread(mirror.wait_for, 1, done=True)
    assert mirror.bytes_sent() == _SIZE - 300_000


async def test_who_failed_for_good_is_not_asked_again(
    server: FaultyRegistry, made: MadeRegistry, serve: Serve, client_for: ClientFor, sink: Sink
) -> None:
    """A mirror without the object is asked once, the one in trouble three times; the error names both."""
    mirror = serve(made.root)
    server.inject(Status(404), on="chunk", times=None)
    mirror.inject(Status(503), on="chunk", times=None)
    with pytest.raises(NetworkError) as caught:
        await client_for(server.url, mirror.url.replace("//", "//ann:s3cret@")).chunk(sink.digest, sink)
    assert (server.count("chunk"), mirror.count("chunk")) == (1, 3)
    for told in (sink.digest[:12], server.url, str(mirror.port), "404", "503"):
        assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_login_page_makes_room_for_the_mirror(
    server: FaultyRegistry, made: MadeRegistry, serve: Serve, client_for: ClientFor
) -> None:
    """An answer that is no index sends us to the mirror."""
    mirror = serve(made.root)
    server.inject(Replace(b"<html>Please log in</html>"), times=None)
    answer = await client_for(server.url, mirror.url).index()
    assert (answer.source, answer.stale) == (mirror.url, False)


async def test_validators_stay_with_the_server_that_gave_them(
    server: FaultyRegistry, made: MadeRegistry, serve: Serve, client_for: ClientFor
) -> None:
    """A mirror's ETag is not shown to the registry when that is back, nor the other way round."""
    mirror = serve(made.root)
    client = client_for(server.url, mirror.url)
    await client.index()
    server.inject(Status(404), on="index")
    await client.index()
    await client.index()
    assert [request.headers.get("if-none-match") is None for request in server.requests] == [
        True,
        False,
        True,
    ]
    assert [request.headers.get("if-none-match") for request in mirror.requests] == [None]


async def test_a_chunk_can_be_cancelled_and_taken_up_again(
    server: FaultyRegistry, client_for: ClientFor, sink: Sink
) -> None:
    """A cancelled chunk keeps what came, and a later call asks for the rest alone."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()

    def note(_: int) -> None:
        loop.call_soon_threadsafe(arrived.set)

    sink = Sink(sink.digest, _SIZE, on_write=note)
    server.inject(Stall(200_000), on="chunk")
    client = client_for(server.url)
    fetching = asyncio.ensure_future(client.chunk(sink.digest, sink))
    await arrived.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    received = sink.received
    assert 0 < received <= 200_000
    assert await client.chunk(sink.digest, sink) == 0
    assert sink.complete
    assert server.requests[1].headers["range"] == f"bytes={received}-"
