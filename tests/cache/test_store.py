"""`registry.json`: read by anybody, written whole, and never trusted blindly."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store, read_manifest
from xprim_nb.errors import InvalidRefError, NotInstalledError, StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import parse_manifest

from .rooms import Room, blocks, listing, require_sound

_REF = "group/model v1"
_HASH = "a" * 64


def _entry(**changes: Any) -> dict[str, Any]:
    known = {"manifest_hash": _HASH, "total_size": 3, "file_count": 1, "installed_at": "2024-01-15T10:30:00Z"}
    return {**known, **changes}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A base that exists and is empty."""
    (tmp_path / "base").mkdir()
    return Layout(tmp_path / "base", ".xprim")


def _written(layout: Layout, document: Any) -> Store:
    layout.registry_file.write_text(document if isinstance(document, str) else json.dumps(document))
    return Store(layout)


def _verified(files: str = "a") -> Any:
    document = {"total_size": 0, "chunk_size": 1, "chunks": [], "files": [{"path": files, "size": 0}]}
    return parse_manifest(json.dumps(document).encode(), ".xprim")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-15T10:30:00Z", datetime(2024, 1, 15, 10, 30, tzinfo=UTC)),
        ("2024-01-15T12:30:00.123456789+02:00", datetime(2024, 1, 15, 10, 30, 0, 123456, tzinfo=UTC)),
        ("2024-01-15T10:30:00.5Z", datetime(2024, 1, 15, 10, 30, 0, 500000, tzinfo=UTC)),
        ("2024-01-15T05:00:00.000000001-05:30", datetime(2024, 1, 15, 10, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_as_the_original_writes_them(layout: Layout, text: str, expected: datetime) -> None:
    """Nanoseconds and any offset are read, and told in UTC."""
    (model,) = _written(layout, {"group": {"model": {"v1": _entry(installed_at=text)}}}).list()
    assert model.installed_at == expected
    assert model.installed_at.utcoffset() == UTC.utcoffset(None)


@pytest.mark.parametrize("document", ["", " \n", "null", "{}"])
def test_an_empty_registry_has_four_spellings(layout: Layout, document: str) -> None:
    """Where no model lies: no bytes, white space, `null` (as the original writes it) and `{}` are the same."""
    store = _written(layout, document)
    assert store.list() == []
    store.record(ModelRef.parse(_REF), _verified(), {})
    assert [str(model.ref) for model in Store(layout).list()] == [_REF]
    assert [path.name for path in layout.base.iterdir() if "damaged" in path.name] == []


_HOSTILE: list[Any] = [
    None,
    [],
    7,
    "text",
    {},
    _entry(manifest_hash=None),
    _entry(total_size="many"),
    _entry(total_size=[1]),
    _entry(file_count=None),
    _entry(installed_at=None),
    _entry(installed_at=5),
    _entry(installed_at="yesterday"),
    _entry(installed_at="0001-01-01T00:00:00+01:00"),
    _entry(installed_at="9999-12-31T23:59:59-01:00"),
]


@pytest.mark.parametrize("entry", _HOSTILE)
def test_a_damaged_entry_hides_nothing_but_itself(
    layout: Layout, caplog: pytest.LogCaptureFixture, entry: Any
) -> None:
    """Skipped with a word in the log when listing; a pull or removal of the others keeps it; a pull of it replaces it."""
    store = _written(layout, {"group": {"model": {"v1": entry, "v2": _entry()}}})
    assert [model.ref.version for model in store.list()] == ["v2"]
    assert "v1" in caplog.text
    with pytest.raises(NotInstalledError):
        store.get(ModelRef.parse(_REF))
    store.forget(ModelRef.parse("group/model v2"))
    assert json.loads(layout.registry_file.read_bytes()) == {"group": {"model": {"v1": entry}}}
    store.record(ModelRef.parse(_REF), _verified(), {"registry": "x"})
    (model,) = Store(layout).list()
    assert (model.manifest_hash, dict(model.extra)["registry"]) == (_verified().digest, "x")


@pytest.mark.parametrize(
    "document",
    [
        {"group": None},
        {"group": []},
        {"group": "text"},
        {"group": {"model": None}},
        {"group": {"model": ["v1"]}},
        {"group": {"model": {"v1": {"deep": json.loads("[" * 300 + "]" * 300)}}}},
    ],
)
async def test_a_group_that_is_no_object_does_not_stop_its_models(room: Room, document: Any) -> None:
    """Something else where versions should be is read as nothing, and replaced by a pull; removal finds nothing there."""
    room.publish({_REF: {"a": b"1"}})
    room.base.mkdir()
    (room.base / "registry.json").write_text(json.dumps(document))
    async with room.manager() as manager:
        assert await manager.list_installed() == []
        with pytest.raises(NotInstalledError):
            await manager.remove(_REF)
        assert (await manager.pull(_REF)).status == "installed"
        assert [str(model.ref) for model in await manager.list_installed()] == [_REF]
        await manager.remove(_REF)
    require_sound(room.base, {})


async def test_unknown_keys_are_kept(room: Room) -> None:
    """What other programs write into the document, a model or an entry survives a pull, an update and a removal."""
    room.publish({_REF: {"a": b"1"}, "group/model v2": {"a": b"2"}})
    room.base.mkdir()
    foreign = {
        "schema": 3,
        "huge": 2**63,
        "beyond": [10**30 + 1],
        "x/y": {"a": [1, None]},
        "group": {"model": {"v1": {"stars": 5}, "note": "n"}},
    }
    (room.base / "registry.json").write_text(json.dumps(foreign))
    async with room.manager() as manager:
        for version in ("v1", "v2"):
            await manager.pull(f"group/model {version}")
        room.publish({_REF: {"a": b"3"}})
        await manager.pull(_REF)
        assert (await manager.get_installed(_REF)).extra["stars"] == 5
        await manager.remove("group/model v2")
        found = room.registry_json
        assert found["group"]["model"].pop("v1")["stars"] == 5
        assert found == {**foreign, "group": {"model": {"note": "n"}}}


async def test_hostile_names_are_not_listed_and_lead_nowhere(room: Room) -> None:
    """Entries whose names are paths are skipped, kept as they are, and cannot be asked for."""
    room.publish({_REF: {"a": b"1"}})
    outside = room.root / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"not ours")
    hostile = {
        "..": {"..": {"outside": _entry()}},
        "a": {"../..": {"x": _entry()}},
        "cache": {"x": {"y": _entry()}},
    }
    room.base.mkdir()
    (room.base / "registry.json").write_text(json.dumps(hostile))
    async with room.manager() as manager:
        assert await manager.list_installed() == []
        for ref in ("../.. outside", "a/../.. x", "cache/x y"):
            with pytest.raises(InvalidRefError):
                await manager.remove(ref)
        await manager.pull(_REF)
        await manager.remove(_REF)
    assert room.registry_json == hostile
    assert listing(outside) == {"file": b"not ours"}


@pytest.mark.parametrize(
    "raw",
    [b"", b" \n", b"{", b'{"group": {"model"', b"\xff\xfe", b"[1]", b'"x"', b"\0" * 100, b"[" * 100_000],
)
async def test_a_damaged_file_is_set_aside_and_rebuilt(
    room: Room, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    """The models are found again in their own directories; the damaged file is kept beside the new one."""
    files = {"group/model v1": {"a": b"1"}, "other/model v2": {"b": blocks(1)}}
    room.publish({**files, "third/model v3": {"c": b"3"}})
    async with room.manager() as manager:
        for ref in files:
            await manager.pull(ref)
        before = await manager.list_installed()
        (room.base / "registry.json").write_bytes(raw)
        after = await manager.list_installed()
        assert [(model.ref, model.manifest_hash, model.total_size, model.file_count) for model in after] == [
            (model.ref, model.manifest_hash, model.total_size, model.file_count) for model in before
        ]
        assert "damaged" in caplog.text
        assert (room.base / "registry.json").read_bytes() == raw, "reading must not write"
        await manager.pull("third/model v3")
        await manager.remove("third/model v3")
    (aside,) = room.base.glob("registry.json.damaged-*")
    assert aside.read_bytes() == raw
    require_sound(room.base, files)


def test_a_directory_in_its_place_is_a_storage_error(layout: Layout) -> None:
    """`registry.json` is a directory: an error that names it, for readers and writers."""
    layout.registry_file.mkdir()
    store = Store(layout)
    for work in (store.list, lambda: store.record(ModelRef.parse(_REF), _verified(), {})):
        with pytest.raises(StorageError, match=r"registry\.json"):
            work()


def test_what_is_missing_is_told_apart(layout: Layout) -> None:
    """Not listed, listed without its directory, and listed in other versions are three different messages."""
    store = _written(layout, {"group": {"model": {"v1": _entry(), "v3": _entry()}}})
    with pytest.raises(NotInstalledError, match="its directory is gone"):
        store.get(ModelRef.parse(_REF))
    with pytest.raises(NotInstalledError) as caught:
        store.get(ModelRef.parse("group/model v2"))
    assert caught.value.hint == "Installed versions: v1, v3."
    with pytest.raises(NotInstalledError) as caught:
        store.get(ModelRef.parse("other/model v2"))
    assert "pull other/model v2" in caught.value.hint


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"files": []}'])
def test_a_damaged_manifest_is_a_storage_error(layout: Layout, raw: bytes) -> None:
    """The manifest inside a model cannot be read: the error names the file and the way out."""
    path = layout.manifest_file(layout.base)
    path.parent.mkdir()
    path.write_bytes(raw)
    with pytest.raises(StorageError, match="damaged") as caught:
        read_manifest(layout, layout.base)
    assert "force" in caught.value.hint


def _from_threads(works: list[Callable[[], object]]) -> None:
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        start.wait()
        work()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_update_is_lost_between_threads(layout: Layout) -> None:
    """Sixteen threads name a model each, with stores of their own, at the same moment: all are there."""
    verified = _verified()
    refs = [ModelRef("group", "model", f"v{number}") for number in range(16)]

    def named(ref: ModelRef) -> Callable[[], object]:
        return lambda: Store(layout).record(ref, verified, {})

    _from_threads([named(ref) for ref in refs])
    assert {model.ref for model in Store(layout).list()} == set(refs)
    _from_threads([functools.partial(Store(layout).forget, ref) for ref in refs[1:]])
    assert [model.ref for model in Store(layout).list()] == refs[:1]


def test_readers_never_see_half_a_file(layout: Layout) -> None:
    """While one thread writes, another reads: each time a whole document."""
    store, verified = Store(layout), _verified()
    store.record(ModelRef("group", "model", "v0"), verified, {})
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set() or not seen:
            seen.append(len(store.list()))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 40):
        store.record(ModelRef("group", "model", f"v{number}"), verified, {})
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert seen[0] >= 1


@pytest.mark.alone
def test_ten_thousand_models_are_listed_sorted_and_at_once(layout: Layout) -> None:
    """A list of 10,000 takes less than 100 ms on a quiet machine, and three times that here; names are in order."""
    document: dict[str, Any] = {}
    for number in range(10_000):
        model = document.setdefault(f"g{number % 97}", {}).setdefault(f"m{number % 13}", {})
        model[f"v{number}"] = _entry(registry="https://models.example.org", resolved_version=f"v{number}")
    store = _written(layout, document)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        models = store.list()
        seconds.append(time.perf_counter() - start)
    assert len(models) == 10_000
    assert [model.ref for model in models] == sorted(model.ref for model in models)
    assert min(seconds) < 0.3


async def test_an_installation_in_one_loop_is_seen_in_another(room: Room) -> None:
    """A manager answers to other threads with loops of their own."""
    room.publish({_REF: {"a": b"1"}})
    async with room.manager() as manager:
        elsewhere = await asyncio.to_thread(lambda: asyncio.run(manager.pull(_REF)))
        assert elsewhere.status == "installed"
        assert [model.ref for model in await manager.list_installed()] == [elsewhere.ref]
