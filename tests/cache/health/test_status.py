"""A status answers from two files, says how old its words are, and how the registry can be reached."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest
from pytest_socket import disable_socket, enable_socket

from xprim_nb.cache.health.glance import glance
from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.cache.health.status import CacheStatus, Contact
from xprim_nb.cache.store import Store
from xprim_nb.errors import StorageError
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room, blocks
from .damage import FILES, REF, flip_silently

_OTHER = "group/other v1"


async def test_an_empty_cache_has_a_status(room: Room) -> None:
    """Nothing installed is no error."""
    async with room.manager() as manager:
        status = await manager.status()
    assert (status.total_models, status.total_size_gb, dict(status.health_summary)) == (0, 0.0, {})
    assert (status.verdict, status.recommendations, status.oldest_verdict_s) == (
        "Nothing is installed.",
        (),
        None,
    )


async def test_no_model_file_is_touched(room: Room) -> None:
    """With the model directories gone the answer is the same."""
    room.publish({REF: FILES, _OTHER: {"x": blocks(1)}})
    async with room.manager() as manager:
        await manager.pull(REF)
        await manager.pull(_OTHER)
        flip_silently(room.dir(REF) / "w.bin", 1)
        await manager.validate_all("full")
        before = await manager.status()
        shutil.rmtree(room.base / "group")
        after = await manager.status()
    assert after.rows == before.rows
    assert before.counts == {"failed": 1, "healthy": 1}
    assert before.total_bytes == sum(map(len, FILES.values())) + 1000
    assert before.verdict.endswith(f"Run `xprim cache repair {REF}`.")
    assert [row.ref for row in before.concerns] == [REF]
    assert f"`xprim cache repair {REF}`" in before.recommendations[0]


async def test_the_seeds_shape_with_whole_reports(room: Room) -> None:
    """Every model has a report that can be read back; the JSON has the four keys of the seed."""
    room.publish({REF: FILES, _OTHER: {"x": blocks(1)}})
    async with room.manager() as manager:
        await manager.pull(REF)
        await manager.pull(_OTHER)
        status = await manager.status()
    document = status.to_json()
    assert {"total_models", "total_size_gb", "health_summary", "recommendations"} <= set(document)
    for name, report in document["health_summary"].items():
        read = ValidationReport.model_validate(report)
        assert (read.model_id, read.overall_status) == (name, "healthy")
        assert read.notes == ("Every byte was verified when it was installed.",)


async def test_one_model_or_all_its_versions(room: Room) -> None:
    """A ref with a version is one row, one without is every version, and no other model that begins alike."""
    room.publish({f"group/model {each}": {"x": blocks(each)} for each in ("v1", "v2")})
    room.publish({"group/model-b v1": {"x": blocks("b")}})
    async with room.manager() as manager:
        for ref in ("group/model v1", "group/model v2", "group/model-b v1"):
            await manager.pull(ref)
        assert [row.ref for row in (await manager.status("group/model v1")).rows] == ["group/model v1"]
        assert [row.ref for row in (await manager.status("group/model")).rows] == [
            "group/model v1",
            "group/model v2",
        ]


async def test_ages_are_told(room: Room) -> None:
    """The age of each verdict counts from the validation, or from the installation."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        (row,) = (await manager.status()).rows
        assert row.depth == "install"
        assert row.age_s(row.checked_at + 60) == 60
        await manager.validate(REF)
        status = await manager.status()
        assert status.rows[0].depth == "quick"
        assert status.oldest_verdict_s is not None
        assert 0 <= status.oldest_verdict_s < 30


async def test_the_registry_is_not_asked_and_that_is_said(room: Room, server: FaultyRegistry) -> None:
    """Online, offline, never asked, a directory: each is said in a sentence; no socket is opened for it."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        assert "never answered from here" in (await manager.status()).contact_line
        await manager.pull(REF)
        server.forget_requests()
        online = await manager.status()
        assert server.count() == 0
    assert "Online mode" in online.contact_line
    assert "ago" in online.contact_line
    assert online.contact.last_contact_at is not None
    assert abs(online.contact.last_contact_at - time.time()) < 60
    disable_socket(allow_unix_socket=True)
    try:
        async with room.manager(offline=True) as manager:
            offline = await manager.status()
    finally:
        enable_socket()
    assert offline.contact.offline
    assert offline.contact_line.startswith("Offline mode is on; ")
    async with room.manager(registry_url=str(room.made.root)) as manager:
        assert "lies on this machine" in (await manager.status()).contact_line


def test_a_password_is_not_told() -> None:
    """The contact line shows what it was given; the manager masks it."""
    status = CacheStatus((), 10.0, {}, 0, Contact("https://ann:***@example.org", False, True, 4.0))
    assert status.contact_line == (
        "Online mode; https://ann:***@example.org last answered 6.0 s ago. It was not asked now."
    )


@pytest.mark.parametrize("raw", [b"", b"null", b"{}", b"[]", b"{]"])
def test_damage_of_the_list_is_told_apart_from_emptiness(room: Room, raw: bytes) -> None:
    """An empty list is no damage; what is no object is."""
    room.base.mkdir(parents=True)
    (room.base / "registry.json").write_bytes(raw)
    assert Store(room.layout).document() == ({}, raw in (b"[]", b"{]"))


async def test_thousands_are_quick(room: Room) -> None:
    """Two thousand models take a fraction of a second, also on a loaded machine."""
    from tests.bench.listing import ensure_base

    base = ensure_base(room.root, 2000)
    async with room.manager(data_dir=base) as manager:
        await manager.status()
        began = time.process_time()
        status = await manager.status()
        assert time.process_time() - began < 0.5
    assert status.total_models == 2000


_GLANCE = """
import json, sys
from pathlib import Path
from xprim_nb.cache.health.glance import glance
from xprim_nb.config import Config
found = glance(Config(registry_url=sys.argv[2], data_dir=Path(sys.argv[1])))
print(json.dumps([found and [list(row) for row in found.rows], found and str(found), sorted(sys.modules)]))
"""


def _glance(room: Room) -> tuple[list[list[object]] | None, str, set[str]]:
    arguments = [sys.executable, "-c", _GLANCE, str(room.base), room.url]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=25)
    rows, text, modules = json.loads(done.stdout)
    return rows, text, set(modules)


async def test_a_glance_says_the_same_and_loads_next_to_nothing(room: Room, server: FaultyRegistry) -> None:
    """A fresh process tells the rows of the manager's status without pydantic, httpx2, asyncio or filelock."""
    room.publish({REF: FILES, _OTHER: {"x": blocks(1)}})
    async with room.manager() as manager:
        await manager.pull(REF)
        await manager.pull(_OTHER)
        flip_silently(room.dir(REF) / "w.bin", 1)
        await manager.validate(REF, "full")
        status = await manager.status()
    server.forget_requests()
    rows, text, modules = _glance(room)
    assert rows == [list(row) for row in status.rows]
    assert status.verdict.split(";")[0] in text
    assert "last answered" in text
    assert server.count() == 0
    assert modules.isdisjoint({"pydantic", "httpx2", "asyncio", "filelock", "pandas", "ssl"})
    assert "orjson" in modules


def test_a_glance_at_nothing_or_at_damage(room: Room) -> None:
    """No base is an empty cache, and is not created; a damaged list needs the whole room, and gets None."""
    found = glance(room.config())
    assert found is not None
    assert (found.total_models, found.verdict) == (0, "Nothing is installed.")
    assert not room.base.exists()
    room.base.mkdir()
    (room.base / "registry.json").mkdir()
    with pytest.raises(StorageError, match="no plain file") as caught:
        glance(room.config())
    assert "away" in caught.value.hint
    (room.base / "registry.json").rmdir()
    for raw in (b"{", b"[1]"):
        (room.base / "registry.json").write_bytes(raw)
        assert glance(room.config()) is None
