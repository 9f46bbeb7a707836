"""`RegistryClient` on real servers: the index and its age, trust, and what is said aloud."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_socket

from xprim_nb.errors import HashMismatchError, NetworkError, OfflineError, RegistryError
from xprim_nb.events import Event, FetchRetried, IndexStale, TrustNotice
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.testing.faults import Drop, Replace, Stall, Status, StrangeETag, WrongLength, rate_limited
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

_REF, _LATEST = ModelRef("group", "model", "v1"), ModelRef("group", "model", "latest")

ClientFor = Callable[..., RegistryClient]


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with two versions and an alias to the first."""
    return make_registry(
        tmp_path / "registry",
        {f"group/model v{n}": {"a": random_bytes(n, 3_000)} for n in (1, 2)},
        alias={"group/model latest": "v1"},
    )


@pytest.fixture
def server(made: MadeRegistry, serve: Callable[..., FaultyRegistry]) -> FaultyRegistry:
    """The registry, served."""
    return serve(made.root)


async def test_an_unchanged_index_costs_one_small_request(
    server: FaultyRegistry, client_for: ClientFor
) -> None:
    """The second answer is as fresh as the first and comes from the cache, also after a restart."""
    first = await client_for(server.url).index()
    again = client_for(server.url)
    for answer in (first, await again.index(), await again.index()):
        assert [str(model.ref) for model in answer.index] == [
            "group/model latest",
            "group/model v1",
            "group/model v2",
        ]
        assert (answer.stale, answer.age_s, answer.source) == (False, 0.0, server.url)
    await asyncio.to_thread(server.wait_for, 3, done=True)
    assert [(request.status, request.bytes_sent > 0) for request in server.requests] == [
        (200, True),
        (304, False),
        (304, False),
    ]
    assert server.requests[1].headers["if-none-match"]


async def test_a_changed_index_is_noticed(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor
) -> None:
    """A new version is there with the next answer, whatever the server thinks of validators."""
    client = client_for(server.url)
    await client.index()
    made.put_entry("group/model v3", made.entry("group/model v1"))
    assert ModelRef("group", "model", "v3") in (await client.index()).index.models
    server.inject(StrangeETag(), on="index", times=None)
    made.put_entry("group/model v4", made.entry("group/model v1"))
    assert ModelRef("group", "model", "v4") in (await client.index()).index.models


@pytest.mark.parametrize("fault", [Drop(), Status(503), Status(404), Stall(None)], ids=str)
async def test_a_registry_that_is_down_is_answered_for(
    server: FaultyRegistry, client_for: ClientFor, heard: list[Event], fault: Drop | Status | Stall
) -> None:
    """The last answer comes with its age, marked stale and told; whoever wants a fresh one gets the error."""
    client = client_for(server.url, stall_timeout_s=1.0, connect_timeout_s=1.0, tries=1)
    await client.index()
    server.inject(fault, on="index", times=None)
    answer = await client.index()
    assert answer.stale
    assert 0 < answer.age_s < 20
    assert server.url in answer.why_stale
    assert _REF in answer.index.models
    assert [type(event) for event in heard] == [IndexStale]
    with pytest.raises(NetworkError):
        await client.index(fresh=True)
    server.heal()
    assert not (await client.index()).stale


async def test_without_a_cache_a_dead_registry_is_an_error(
    server: FaultyRegistry, client_for: ClientFor, tmp_path: Path
) -> None:
    """Nothing cached, nobody there: a NetworkError, and no file is made of it."""
    server.close()
    client = client_for(server.url)
    with pytest.raises(NetworkError, match="could not be fetched"):
        await client.index()
    assert await client.cached_index() is None
    assert not list(tmp_path.glob("cache/**/*.json"))


async def test_offline_opens_no_socket(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor, heard: list[Event]
) -> None:
    """Offline everything is answered from disk or refused by name, with every socket forbidden."""
    digest = made.manifest_hash("group/model v1")
    online = client_for(server.url)
    await online.index()
    await online.manifest(digest)
    server.forget_requests()
    offline, empty = client_for(server.url, offline=True), client_for("http://elsewhere:1", offline=True)
    pytest_socket.disable_socket(allow_unix_socket=True)
    answer = await offline.index()
    assert (answer.stale, answer.why_stale) == (True, "offline mode is on")
    assert answer.index.get(_REF).manifest_hash == digest
    assert (await offline.manifest(digest)).manifest.total_size == 3_000
    for missing, name in (
        (offline.index(fresh=True), "the index"),
        (empty.index(), "the index"),
        (offline.manifest(made.manifest_hash("group/model v2")), made.manifest_hash("group/model v2")[:12]),
        (offline.chunk("0" * 64, Sink("0" * 64, 5)), "0" * 12),
    ):
        with pytest.raises(OfflineError, match=name) as caught:
            await missing
        assert "XPRIM_OFFLINE" in caught.value.hint
    assert server.requests == []
    assert [type(event) for event in heard] == [IndexStale]


async def test_a_directory_answers_offline(made: MadeRegistry, client_for: ClientFor) -> None:
    """A directory registry needs no network, and behind a server it is the mirror that still answers offline."""
    for urls in ((str(made.root),), ("http://elsewhere:1", str(made.root))):
        client = client_for(*urls, offline=True)
        pytest_socket.disable_socket(allow_unix_socket=True)
        answer = await client.index(fresh=True)
        assert (answer.stale, answer.source) == (False, str(made.root))
        digest = made.chunks("group/model v1")[0]
        await client.chunk(digest, Sink(digest, 1_000))


async def test_a_damaged_cache_is_fetched_anew(
    server: FaultyRegistry, client_for: ClientFor, tmp_path: Path
) -> None:
    """A cached index that was altered on disk is not confirmed by its ETag for ever after."""
    client = client_for(server.url)
    await client.index()
    (path,) = tmp_path.glob("cache/index/*.json")
    path.write_text(path.read_text().replace("group", "gr0up"))
    assert [str(model.ref.group) for model in (await client.index()).index] == ["group"] * 3
    assert "if-none-match" not in server.requests[1].headers


@pytest.mark.parametrize(
    "body", [b"<html>Please log in</html>", b"[]", b"", b"\xff", b"[" * 10_000], ids=repr
)
async def test_an_answer_that_is_no_index_is_no_index(
    server: FaultyRegistry, client_for: ClientFor, body: bytes
) -> None:
    """A login page is a RegistryError after one request, and does not displace what is cached."""
    client = client_for(server.url)
    await client.index()
    server.inject(Replace(body), on="index", times=None)
    with pytest.raises(RegistryError):
        await client.index()
    assert server.count("index") == 2
    server.heal()
    assert _REF in (await client.index()).index.models
    assert server.requests[-1].status == 304


async def test_entries_that_break_the_format_block_only_themselves(
    made: MadeRegistry, client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    """What has no usable name is logged, so is what a listing leaves out, and the rest of the index is there."""
    index = json.loads((made.root / "models.json").read_bytes())
    index["../.."] = {"x": {"y": {"hash": "0" * 64}}}
    index["group"]["model"]["broken"] = {"hash": "no digest"}
    (made.root / "models.json").write_text(json.dumps(index))
    with caplog.at_level(logging.WARNING):
        assert len(list((await client_for(str(made.root)).index()).index)) == 3
    assert "'../..'" in caplog.text
    assert "models.json: group/model broken is left out: hash is 'no digest'" in caplog.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_what_is_final_is_asked_once(
    server: FaultyRegistry, client_for: ClientFor, waits: list[float], status: int
) -> None:
    """A 4xx is one request and no wait, for every kind of object."""
    server.inject(Status(status), times=None)
    client = client_for(server.url)
    for asked in (client.index(), client.manifest("0" * 64), client.chunk("1" * 64, Sink("1" * 64, 5))):
        with pytest.raises(NetworkError, match=str(status)):
            await asked
    assert (len(server.requests), waits) == (3, [])


async def test_a_server_in_trouble_is_given_time(
    server: FaultyRegistry, client_for: ClientFor, waits: list[float], heard: list[Event]
) -> None:
    """Two failures, then the answer: three requests, waits of about 1 and 2 s, and two events that say why."""
    server.inject(Status(503), on="index")
    server.inject(Drop(), on="index")
    assert not (await client_for(server.url).index()).stale
    assert server.count("index") == 3
    assert [round(wait_s) for wait_s in waits] == [1, 2]
    retried = [event for event in heard if isinstance(event, FetchRetried)]
    assert [(event.what, event.source, event.attempt) for event in retried] == [
        ("the index", server.url, 2),
        ("the index", server.url, 3),
    ]
    assert "503" in retried[0].reason
    assert [event.delay_s for event in retried] == waits


async def test_a_server_that_asks_for_time_gets_it(
    server: FaultyRegistry, client_for: ClientFor, waits: list[float]
) -> None:
    """Retry-After lengthens the wait."""
    server.inject(rate_limited(7), on="index")
    await client_for(server.url).index()
    assert waits == [7.0]


async def test_tries_come_to_an_end(
    server: FaultyRegistry, client_for: ClientFor, waits: list[float]
) -> None:
    """After the last try the error is raised, without one more wait."""
    server.inject(Status(500), on="index", times=None)
    with pytest.raises(NetworkError, match="500"):
        await client_for(server.url).index()
    assert (server.count("index"), len(waits)) == (3, 2)
    with pytest.raises(NetworkError):
        await client_for(server.url, tries=1).index()
    assert (server.count("index"), len(waits)) == (4, 2)


async def test_waiting_can_be_cancelled(server: FaultyRegistry, client_for: ClientFor) -> None:
    """A wait between two tries ends with its task."""
    reached = asyncio.Event()

    async def sleep(_: float) -> None:
        reached.set()
        await asyncio.Event().wait()

    server.inject(Status(503), on="index", times=None)
    asking = asyncio.ensure_future(client_for(server.url, sleep=sleep).index())
    await reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert server.count("index") == 1


async def test_a_rewritten_version_is_told(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor, heard: list[Event],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """An immutable version that names another manifest is an event, a log line and a standing notice."""
    await client_for(server.url).index()
    made.put_entry("group/model v1", {**made.entry("group/model v2")})
    made.put_entry("group/model latest", {**made.entry("group/model v2"), "alias": "v2"})
    with caplog.at_level(logging.WARNING):
        answer = await client_for(server.url).index()
    assert [(notice.kind, notice.ref) for notice in answer.notices] == [("rewritten", _REF)]
    assert [event for event in heard if isinstance(event, TrustNotice)] == list(answer.notices)
    assert [vars(record)["kind"] for record in caplog.records] == ["rewritten"]
    assert answer.notice_for(_LATEST) is None

    later = client_for(server.url)  # another day: not news, and still so
    for stale in (False, True):
        answer = await later.index()
        assert (answer.stale, answer.notices) == (stale, ())
        notice = answer.notice_for(_REF)
        assert notice is not None
        assert notice.offered_hash == made.manifest_hash("group/model v2")
        server.close()
    assert len([event for event in heard if isinstance(event, TrustNotice)]) == 1


async def test_a_rollback_is_told(
    server: FaultyRegistry, made: MadeRegistry, client_for: ClientFor, heard: list[Event]
) -> None:
    """An alias that goes back to a superseded version is told; when it moves on, nothing stands against it."""
    client = client_for(server.url)
    for target, kinds in (
        ("v1", []),
        ("v2", []),
        ("v1", ["rollback"]),
        ("v1", ["rollback"]),
        ("v2", ["rollback"] * 2),
    ):
        made.put_entry("group/model latest", {**made.entry(f"group/model {target}"), "alias": target})
        answer = await client.index()
        assert [event.kind for event in heard if isinstance(event, TrustNotice)] == kinds
    made.put_entry("group/model v3", {**made.entry("group/model v1"), "hash": "c" * 64})
    made.put_entry("group/model latest", {**made.entry("group/model v3"), "alias": "v3"})
    answer = await client.index()
    assert answer.notice_for(_LATEST) is None


async def test_many_may_ask_at_once(server: FaultyRegistry, client_for: ClientFor) -> None:
    """Twenty tasks that ask for the index all get it, and the cache is whole afterwards."""
    client = client_for(server.url)
    answers = await asyncio.gather(*(client.index() for _ in range(20)))
    assert not any(answer.stale or answer.notices for answer in answers)
    cached = await client.cached_index()
    assert cached is not None
    assert _REF in cached.index.models


async def test_secrets_are_told_to_nobody_but_the_registry(
    server: FaultyRegistry,
    client_for: ClientFor,
    heard: list[Event],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """Password and token reach the server, and no message, event, log record, repr or file of ours."""
    url = server.url.replace("//", "//ann:s3cret@")
    client = client_for(
        url, headers={"X-Token": "s3cret-too"}, tries=2, stall_timeout_s=0.5, connect_timeout_s=0.5
    )
    said: list[object] = [client, client.url]
    with caplog.at_level(logging.DEBUG):
        said.append(await client.index())
        for fault in (Status(503), Drop(), Status(404), WrongLength(5), Stall(None)):
            server.inject(fault, times=None)
            said.append(await client.index())
            for asked in (client.manifest("0" * 64), client.chunk("1" * 64, Sink("1" * 64, 5))):
                with pytest.raises((NetworkError, HashMismatchError)) as caught:
                    await asked
                said += [caught.value, caught.value.to_dict(), *caught.value.args]
            server.heal()
    said += [heard, *(vars(record) for record in caplog.records)]
    said += [path.read_text() for path in tmp_path.glob("cache/**/*.json")]
    for secret in ("s3cret", "YW5uOnMzY3JldA"):  # and the pair as Basic auth spells it
        assert secret not in repr(said)
    assert {request.headers["authorization"] for request in server.requests} == {"Basic YW5uOnMzY3JldA=="}
    assert {request.headers["x-token"] for request in server.requests} == {"s3cret-too"}


class Sink(MemorySink):
    """A sink that can say whether its bytes are the chunk."""

    def verify(self) -> None:
        """Compare the digests."""
        if not self.complete:
            raise HashMismatchError(f"Chunk {self.digest} arrived as something else.", subject=self.digest)
