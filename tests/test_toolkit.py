"""The notebook's side: verbs that return handles at once, joined where they are equal, and ended together."""

from __future__ import annotations

import concurrent.futures
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from xprim_nb import Config, Handle, Toolkit, connect
from xprim_nb._hashing import Digest, sha256_hex
from xprim_nb.errors import ConfigError, InvalidRefError, NetworkError, NotInstalledError
from xprim_nb.events import Event, ModelInstalled, PullProgress
from xprim_nb.registry import objects
from xprim_nb.testing.faults import Drop
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

_REF = "group/model v1"
_CHUNK_BYTES = 50_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks through the proxy of whoever runs it."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with a model of four chunks and a small one."""
    return make_registry(
        tmp_path / "registry",
        {_REF: {"a.bin": random_bytes(1, 4 * _CHUNK_BYTES)}, "group/small v1": {"b.bin": b"small"}},
        chunk_size=_CHUNK_BYTES,
    )


@pytest.fixture
def server(made: MadeRegistry) -> Iterator[FaultyRegistry]:
    """The registry, served."""
    with FaultyRegistry(made.root) as server:
        yield server


@pytest.fixture
def kit_for(tmp_path: Path) -> Iterator[Callable[..., Toolkit]]:
    """A function from a URL and settings to a toolkit, until the test ends."""
    kits: list[Toolkit] = []

    def made_kit(url: str, *, client: Any = None, logger: Any = None, **settings: Any) -> Toolkit:
        config = Config(registry_url=url, data_dir=tmp_path / "models", **{"backoff_s": 0.0, **settings})
        kits.append(connect(config, client=client, logger=logger))
        return kits[-1]

    yield made_kit
    for kit in kits:
        kit.close()


KitFor = Callable[..., Toolkit]


def test_connecting_touches_nothing(server: FaultyRegistry, kit_for: KitFor, tmp_path: Path) -> None:
    """Before the first verb there is no request, no directory and no thread of ours; closing changes nothing."""
    before = {thread.name for thread in threading.enumerate()}
    kit = kit_for(server.url.replace("//", "//ann:s3cret@"))
    assert (server.connections, (tmp_path / "models").exists()) == (0, False)
    assert {thread.name for thread in threading.enumerate()} <= before | {"xprim-loop"}
    assert "s3cret" not in kit.registry_url + repr(kit.config)
    assert not kit.uses_demo_registry
    kit.close()
    assert not (tmp_path / "models").exists()


def test_every_verb_returns_a_handle(made: MadeRegistry, kit_for: KitFor, tmp_path: Path) -> None:
    """From an empty machine through install, look, export and removal: each verb's handle has its result."""
    kit = kit_for(str(made.root))
    assert kit.list_installed().result(20) == []
    assert [str(model.ref) for model in kit.list_remote().result(20)] == [_REF, "group/small v1"]
    assert len(kit.list_remote_group("group").result(20)) == 2
    assert len(kit.list_remote_versions("group", "model").result(20)) == 1
    assert kit.get_remote(_REF).result(20).total_size == 4 * _CHUNK_BYTES
    assert kit.get_remote_detail(_REF).result(20).chunk_count == 4
    remembered = kit.cached_remote().result(20)
    assert remembered is not None
    assert remembered.stale
    assert kit.plan_pull(_REF).result(20).bytes_network == 4 * _CHUNK_BYTES
    assert kit.pull(_REF).result(20).status == "installed"
    assert kit.path(_REF).result(20) == tmp_path / "models" / "group" / "model" / "v1"
    assert [file.path for file in kit.list_files(_REF).result(20)] == ["a.bin"]
    assert kit.get_installed(_REF).result(20).total_size == 4 * _CHUNK_BYTES
    assert not kit.check_update(_REF).result(20).available
    assert len(kit.check_updates().result(20)) == 1
    exported = kit.export(_REF, to=tmp_path / "exported").result(20)
    assert (exported.to / "models.json").exists()
    published = kit.publish(
        tmp_path / "models/group/model/v1", "group/again v1", to=tmp_path / "exported"
    ).result(20)
    assert published.ref.model == "again"
    assert kit.remove(_REF).result(20).ref.version == "v1"
    with pytest.raises(NotInstalledError):
        kit.get_installed(_REF).result(20)
    kit.pull("group/small v1").result(20)
    assert len(kit.remove_all("group", "small").result(20)) == 1
    assert kit.prune().result(20).partials == ()


def test_publish_knows_the_home_directory(
    kit_for: KitFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook has no shell that replaces `~`: source and registry are found in the home directory all the same."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    kit_for(str(tmp_path)).publish("~/model", _REF, to="~/published").result(20)
    assert (tmp_path / "published" / "models.json").exists()
    assert not (tmp_path / "~").exists()


def test_a_cancelled_publication_ends_at_its_next_chunk(
    kit_for: KitFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not go on behind the user's back: no name is given, and the chunks stay for the next try."""
    begun, go_on = threading.Event(), threading.Event()

    def held(data: memoryview) -> Digest:
        begun.set()
        assert go_on.wait(10)
        return sha256_hex(data)

    source, to = tmp_path / "model", tmp_path / "published"
    source.mkdir()
    (source / "a.bin").write_bytes(random_bytes("a", 20_000))
    kit = kit_for(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(objects, "sha256_hex", held)
        handle = kit.publish(source, _REF, to=to, chunk_size=1000)
        assert begun.wait(10)
        handle.cancel()
        go_on.set()
        with pytest.raises(concurrent.futures.CancelledError):
            handle.result(20)
    assert not (to / "models.json").exists()
    assert kit.publish(source, _REF, to=to, chunk_size=1000).result(20).updated


def test_equal_pulls_are_one(server: FaultyRegistry, kit_for: KitFor) -> None:
    """A pull that is under way is joined, however it is spelled; another is not, nor one that has ended."""
    kit = kit_for(server.url)
    with server.hold("chunk") as hold:
        first = kit.pull(_REF)
        hold.wait_reached()
        assert kit.pull("group/model@v1") is first
        assert kit.pull(_REF, force=True) is not first
        assert kit.pull("group/small v1") is not first
        assert first in kit.pulls()
    assert first.result(20).status == "installed"
    again = kit.pull(_REF)
    assert again is not first
    assert again.result(20).status == "already_installed"
    wait_for(lambda: not kit.pulls())
    assert server.count("chunk") == 5


def test_a_bad_reference_is_refused_at_once(server: FaultyRegistry, kit_for: KitFor) -> None:
    """A pull of nothing sensible raises before there is a handle, and asks nobody."""
    kit = kit_for(server.url)
    for ref in ("../..", "group/model", "", "group/model v1 extra"):
        with pytest.raises(InvalidRefError):
            kit.pull(ref)
    assert server.connections == 0


def test_a_cancelled_pull_is_not_joined(server: FaultyRegistry, kit_for: KitFor) -> None:
    """Cancel and pull at once: the second is a pull of its own, and arrives."""
    kit = kit_for(server.url)
    with server.hold("chunk") as hold:
        first = kit.pull(_REF)
        hold.wait_reached()
        first.cancel()
        second = kit.pull(_REF)
        assert second is not first
    with pytest.raises(concurrent.futures.CancelledError):
        first.result(20)
    assert second.result(20).status == "installed"
    assert not second.cancelling


def test_progress_is_told_in_three_ways(server: FaultyRegistry, kit_for: KitFor) -> None:
    """A pull's progress is its snapshot, an event, and an argument to a callback; the end is told as well."""
    kit = kit_for(server.url)
    heard, called = list[Event](), list[PullProgress]()
    kit.events.subscribe(heard.append)
    with server.hold("chunk", after_bytes=10) as hold:
        handle = kit.pull(_REF, progress=called.append, concurrency=1)
        hold.wait_reached()
        wait_for(lambda: handle.snapshot() is not None and handle.snapshot().bytes_total > 0)
        assert handle.snapshot().chunks_total == 4
        assert "group/model v1" in repr(handle)
    handle.result(20)
    assert handle.snapshot().bytes_completed == 4 * _CHUNK_BYTES
    assert [event.status for event in heard if isinstance(event, ModelInstalled)] == ["installed"]
    assert called[-1].fraction == 1.0


def test_closing_ends_everything(server: FaultyRegistry, kit_for: KitFor) -> None:
    """`close` cancels pulls and every other verb under way, waits for them, and closes the connections."""
    kit = kit_for(server.url)
    kit.list_remote().result(20)
    with server.hold("chunk"), server.hold("index", times=1) as index:
        listing = kit.list_remote()
        index.wait_reached()
        pulling = kit.pull(_REF)
        server.wait_for(1, "chunk")
        kit.close()
        assert listing.done
        assert pulling.done
    for handle in (listing, pulling):
        with pytest.raises(concurrent.futures.CancelledError):
            handle.result(0)
    wait_for(lambda: server.open_connections == 0)
    kit.close()
    with pytest.raises(ConfigError, match="closed") as caught:
        kit.list_installed().result(20)
    assert "connect()" in caught.value.hint


def test_leaving_the_block_closes(made: MadeRegistry, tmp_path: Path) -> None:
    """A toolkit is a context manager; what was pulled stays."""
    with connect(Config(registry_url=str(made.root), data_dir=tmp_path / "models")) as kit:
        kit.pull(_REF).result(20)
    with connect(Config(registry_url=str(made.root), data_dir=tmp_path / "models")) as kit:
        assert len(kit.list_installed().result(20)) == 1


def test_a_setting_that_cannot_work_is_told_by_every_verb(kit_for: KitFor) -> None:
    """A toolkit that cannot open says why, each time, and closes all the same."""
    kit = kit_for("ftp://ann:s3cret@example.org")
    for _ in range(2):
        with pytest.raises(ConfigError, match="scheme") as caught:
            kit.list_installed().result(20)
        assert "s3cret" not in str(caught.value)
    kit.close()


def test_a_failed_verb_leaves_the_others_alone(server: FaultyRegistry, kit_for: KitFor) -> None:
    """After an error the same toolkit goes on working."""
    kit = kit_for(server.url)
    server.inject(Drop(), times=None)
    with pytest.raises(NetworkError):
        kit.list_remote().result(20)
    server.heal()
    assert kit.pull(_REF).result(20).status == "installed"


def test_many_threads_may_use_one(server: FaultyRegistry, kit_for: KitFor) -> None:
    """Eight threads that pull the same model at once install it once."""
    kit = kit_for(server.url)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pulled = list(pool.map(lambda _: kit.pull(_REF).result(20), range(8)))
    assert {each.status for each in pulled} <= {"installed", "already_installed"}
    assert server.count("chunk") == 4


def test_an_injected_client_carries_everything(server: FaultyRegistry, kit_for: KitFor) -> None:
    """A client that the user brings carries index, manifest and chunks, and stays open."""
    client = httpx2.AsyncClient(headers={"X-Mine": "yes"})
    kit = kit_for(server.url, client=client)
    kit.pull(_REF).result(20)
    assert {request.headers.get("x-mine") for request in server.requests} == {"yes"}
    kit.close()
    assert not client.is_closed
    Handle(client.aclose(), "close the client").result(20)


class Recorder:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def debug(self, msg: str, **fields: object) -> None:
        """Take a record."""
        self.told.append((msg, fields))

    info = warning = error = debug


def test_an_injected_logger_hears_with_fields_and_without_secrets(
    server: FaultyRegistry, kit_for: KitFor, caplog: pytest.LogCaptureFixture
) -> None:
    """Retries come to the injected logger with their fields, not to the standard one, and no secret with them."""
    logger = Recorder()
    kit = kit_for(server.url.replace("//", "//ann:s3cret@"), logger=logger, headers={"X-Token": "t0ken"})
    server.inject(Drop(), on="index")
    server.inject(Drop(1000), on="chunk")
    with caplog.at_level(logging.DEBUG, "xprim_nb"):
        kit.pull(_REF).result(20)
        kit.close()
    tries = [fields for msg, fields in logger.told if msg == "a try failed"]
    assert [str(fields["what"]).split()[0] for fields in tries] == ["the", "chunk"]
    assert all(str(server.port) in str(fields["source"]) and fields["why"] for fields in tries)
    assert "s3cret" not in repr(logger.told)
    assert "t0ken" not in repr(logger.told)
    assert not [record for record in caplog.records if record.name.startswith("xprim_nb")]


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once a condition holds that another thread brings about; the test's own time limit ends the wait."""
    while not condition():
        time.sleep(0.001)
