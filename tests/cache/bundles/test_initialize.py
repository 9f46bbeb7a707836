"""Bundles from URLs: whole, partial, resumed, conditional, refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from xprim_nb.cache.bundles.fetch import Fetcher
from xprim_nb.errors import ConfigError, InvalidRefError, StorageError
from xprim_nb.testing.faults import Replace, Status, Truncate
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room
from .conftest import README, Pages, request_for


async def test_a_bundle_is_made(room: Room, site: FaultyRegistry, pages: Pages) -> None:
    """Every document lies in its place, the manifest lists them, and the bundle is valid."""
    async with room.manager() as manager:
        made = await manager.initialize(request_for(site.url))
        bundle = manager.bundle("demo/tiny")
        assert (made.success, made.manifest.validation_status) == (True, "valid")
        assert made.cache_path == str(room.base / "info" / "demo" / "tiny")
        assert bundle.documents() == (
            "documentation/README.md",
            "documentation/usage_guide.md",
            "examples/basic_usage.py",
            "metadata/model_card.json",
            "papers/2307.09288.pdf",
        )
        assert bundle.read("documentation/README.md") == "# Tiny\n"
        assert bundle.read_bytes("papers/2307.09288.pdf") == pages["papers/2307.09288"]
    manifest = made.manifest
    assert (manifest.model_id, manifest.version) == ("demo/tiny", "v1")
    assert set(manifest.file_checksums) == set(bundle.documents())
    assert manifest.size_bytes == sum(map(len, pages.values()))
    assert set(manifest.source_urls) == {f"{site.url}/{path}" for path in pages}
    assert manifest.expiry_date is not None
    assert (manifest.expiry_date - manifest.last_updated).days == 60
    assert sorted(path.name for path in Path(made.cache_path).iterdir()) == [
        "benchmarks", "documentation", "examples", "metadata", "papers",
    ]  # fmt: skip


async def test_sha256sum_agrees(room: Room, site: FaultyRegistry) -> None:
    """The system's own `sha256sum -c` passes from the bundle's directory, and fails when a byte is changed."""
    async with room.manager() as manager:
        made = await manager.initialize(request_for(site.url))
    command = ["sha256sum", "--check", "--strict", "metadata/integrity.sha256"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=made.cache_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 5
    Path(made.cache_path, "documentation", "README.md").write_text("# tiny\n")
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=made.cache_path, capture_output=True, check=False
    )
    assert done.returncode == 1


async def test_what_is_missing_is_said_and_the_rest_kept(
    room: Room, site: FaultyRegistry, pages: Pages
) -> None:
    """A required document that is not there makes the bundle incomplete, with the reason; the others are kept."""
    script = pages.pop("ex/basic_usage.py")
    async with room.manager() as manager:
        made = await manager.initialize(request_for(site.url))
        assert (made.success, made.manifest.validation_status) == (False, "incomplete")
        completeness = made.validation_report.checks.completeness
        assert (completeness.status, completeness.missing_components) == ("partial", ("basic_usage.py",))
        assert made.validation_report.overall_status == "degraded"
        assert "answered 404" in made.validation_report.recommendations.details
        assert len(manager.bundle("demo/tiny").documents()) == 4
        pages["ex/basic_usage.py"] = script
        again = await manager.initialize(request_for(site.url))
    assert again.success
    assert again.updated == ("examples/basic_usage.py",)


async def test_the_second_time_nothing_is_sent(room: Room, site: FaultyRegistry, pages: Pages) -> None:
    """The same request again asks with validators, and gets no byte; what changed upstream is fetched alone."""
    async with room.manager() as manager:
        await manager.initialize(request_for(site.url))
        first = len(site.requests)
        again = await manager.initialize(request_for(site.url))
        assert [each.status for each in site.requests[first:]] == [304] * 5
        assert (again.success, again.updated) == (True, ())
        pages["docs/README.md"] = b"# Tiny 2\n"
        changed = await manager.initialize(request_for(site.url))
        assert changed.updated == ("documentation/README.md",)
        assert manager.bundle("demo/tiny").read("documentation/README.md") == "# Tiny 2\n"


async def test_a_bad_line_is_tried_again(room: Room, site: FaultyRegistry) -> None:
    """A server that fails once, or breaks off once, costs a second try and no document."""
    site.inject(Status(503), on="other")
    site.inject(Truncate(3), on="other")
    async with room.manager() as manager:
        assert (await manager.initialize(request_for(site.url))).success


async def test_a_killed_round_is_resumed(room: Room, site: FaultyRegistry) -> None:
    """What was fetched before the process ended is not fetched again: records are written before documents."""
    async with room.manager() as manager:
        keeper = manager._bundles
        site.inject(Status(404), on="other", times=2, skip=3)
        await manager.initialize(request_for(site.url))
        bundle = manager.bundle("demo/tiny")
        kept = bundle.documents()
        assert len(kept) == 3
        # As a kill before the manifest was written leaves it.
        bundle.manifest_file.unlink()
        bundle.integrity_file.unlink()
        before = len(site.requests)
        made = await keeper.initialize(request_for(site.url))
    assert made.success
    assert sorted(each.status for each in site.requests[before:]) == [200, 200, 304, 304, 304]
    assert len(made.updated) == 2


async def test_offline_fetches_files_and_says_the_rest(
    room: Room, site: FaultyRegistry, tmp_path: Path
) -> None:
    """Offline, `file://` documents come, `http` ones are named as missing, and no request is sent."""
    (tmp_path / "README.md").write_text("# From disk\n")
    request = request_for(site.url)
    urls = request.source_urls.model_copy(update={"documentation": ((tmp_path / "README.md").as_uri(),)})
    async with room.manager(offline=True) as manager:
        plan = await manager.plan_initialize(request.model_copy(update={"source_urls": urls}))
        assert "offline" in str(plan)
        made = await manager.initialize(request.model_copy(update={"source_urls": urls}))
        assert manager.bundle("demo/tiny").read("documentation/README.md") == "# From disk\n"
    assert made.manifest.validation_status == "incomplete"
    assert any("Offline" in problem for problem in made.problems)
    assert site.requests == []


async def test_the_plan_touches_nothing(room: Room, site: FaultyRegistry) -> None:
    """Planning asks nobody and writes nothing."""
    async with room.manager() as manager:
        plan = await manager.plan_initialize(request_for(site.url))
        assert [step.action for step in plan.steps] == ["fetch"] * 5
        assert not (room.base / "info").exists()
        assert site.requests == []
        await manager.initialize(request_for(site.url))
        (room.base / "info/demo/tiny/documentation/README.md").write_text("mine")
        plan = await manager.plan_initialize(request_for(site.url))
    assert {step.path: step.action for step in plan.steps} == {
        "metadata/model_card.json": "check",
        "documentation/README.md": "keep",
        "documentation/usage_guide.md": "check",
        "examples/basic_usage.py": "check",
        "papers/2307.09288.pdf": "check",
    }


async def test_a_readme_can_be_the_card(room: Room, site: FaultyRegistry, pages: Pages) -> None:
    """A model card that is a README becomes JSON, and what it does not say is listed as unknown."""
    pages["card.json"] = README
    async with room.manager() as manager:
        await manager.initialize(request_for(site.url))
        card = json.loads(manager.bundle("demo/tiny").read("metadata/model_card.json"))
    assert (card["title"], card["license"]) == ("Tiny", "apache-2.0")
    assert card["papers"] == ["2307.09288"]
    assert "datasets" in card["unknown"]


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("papers/2307.09288", b"<!DOCTYPE html><p>Sign in", "neither a PDF nor Markdown"),
        ("card.json", b"\xff\xfe\x00", "no model card"),
        ("docs/README.md", bytes(17 << 20), "is larger than"),
    ],
)
async def test_what_is_no_document_is_not_kept(
    room: Room, site: FaultyRegistry, pages: Pages, path: str, body: bytes, why: str
) -> None:
    """A login page for a paper, bytes for a card and an endless text are refused with the reason."""
    pages[path] = body
    async with room.manager() as manager:
        made = await manager.initialize(request_for(site.url))
        assert len(manager.bundle("demo/tiny").documents()) == 4
    assert any(why in problem for problem in made.problems)


async def test_a_special_file_is_no_document(tmp_path: Path, room: Room) -> None:
    """A `file://` URL of a device or a directory is refused instead of read."""
    fetcher = Fetcher(room.config())
    for path in (Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"not a plain file|cannot be read"):
            await fetcher.fetch(path.as_uri(), limit_bytes=100)


async def test_credentials_stay_with_the_registry(room: Room, site: FaultyRegistry) -> None:
    """The registry's headers are not sent to a server of documents that is another one."""
    room.url = "https://registry.invalid/models"
    async with room.manager(headers={"Authorization": "Bearer secret"}) as manager:
        await manager.initialize(request_for(site.url))
    assert len(site.requests) == 5
    assert all("authorization" not in each.headers for each in site.requests)


async def test_an_unusable_request_touches_nothing(room: Room) -> None:
    """A wrong model name or URL fails before a directory is made."""
    async with room.manager() as manager:
        for request, error in (
            (request_for("ftp://a.org"), ConfigError),
            (request_for("https://a.org").model_copy(update={"model_id": "../x"}), InvalidRefError),
        ):
            with pytest.raises(error):
                await manager.initialize(request)
    assert not (room.base / "info").exists()


async def test_a_mangled_document_is_checked_before_it_is_named(room: Room, site: FaultyRegistry) -> None:
    """JSON that does not parse is not put in the place of an example or a card."""
    site.inject(Replace(b"{ torn"), on="other", times=None)
    request = request_for(site.url)
    urls = request.source_urls.model_copy(update={"examples": (f"{site.url}/api_reference.json",)})
    async with room.manager() as manager:
        made = await manager.initialize(request.model_copy(update={"source_urls": urls}))
        assert "examples/api_reference.json" not in manager.bundle("demo/tiny").documents()
    assert not made.success


async def test_a_disk_that_refuses_is_named(room: Room, site: FaultyRegistry) -> None:
    """A file where a folder should be ends the call with its own error; what was written before is known."""
    (room.base / "info/demo/tiny").mkdir(parents=True)
    in_the_way = room.base / "info/demo/tiny/documentation"
    in_the_way.write_text("mine")
    async with room.manager() as manager:
        with pytest.raises(StorageError, match="a file lies where a directory should be"):
            await manager.initialize(request_for(site.url))
        assert in_the_way.read_text() == "mine"
        in_the_way.unlink()
        assert (await manager.initialize(request_for(site.url))).success


async def test_two_at_once_take_turns(room: Room, site: FaultyRegistry) -> None:
    """Two managers that make the same bundle at once end with one whole bundle, each document fetched once."""
    async with room.manager() as one, room.manager() as other:
        first, second = await asyncio.gather(
            one.initialize(request_for(site.url)), other.initialize(request_for(site.url))
        )
    assert (first.success, second.success) == (True, True)
    assert sorted(each.status for each in site.requests) == [200] * 5 + [304] * 5


async def test_a_cancelled_round_is_resumed(room: Room, site: FaultyRegistry) -> None:
    """A cancelled call leaves no task behind and keeps what came; the next one fetches the rest."""
    hold = site.hold(on=lambda request: request.path == "/ex/basic_usage.py")
    async with room.manager() as manager:
        running = asyncio.create_task(manager.initialize(request_for(site.url)))
        await asyncio.to_thread(hold.wait_reached)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        hold.release()
        made = await manager.initialize(request_for(site.url))
    assert made.success
