"""Bundles over time: validated, damaged, edited, aged, repaired, refreshed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache.bundles.store import Bundle
from xprim_nb.errors import ConfigError, NotInstalledError, StorageError
from xprim_nb.manager import Manager
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room
from .conftest import Pages, request_for

_DAY_S = 86_400.0


async def _made(manager: Manager, site: FaultyRegistry, **rules: Any) -> Bundle:
    assert (await manager.initialize(request_for(site.url, **rules))).success
    return manager.bundle("demo/tiny")


def _damage(path: Path) -> bytes:
    """Flip a bit as a dying disk does: size and time stay."""
    facts, raw = path.stat(), bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return bytes(raw)


async def test_a_fetched_document_is_mended(room: Room, site: FaultyRegistry) -> None:
    """Silent damage is found, and only that document is fetched again; its bytes are put aside."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        torn = _damage(bundle.path / "documentation/README.md")
        report = await manager.validate_bundle("demo/tiny")
        assert report.checks.file_integrity.corrupted_files == ("documentation/README.md",)
        assert (report.overall_status, report.recommendations.action) == ("failed", "rebuild")
        assert report.recommendations.priority == "critical"
        assert bundle.manifest().validation_status == "corrupted"
        asked = len(site.requests)
        plan = await manager.plan_repair_bundle("demo/tiny")
        assert [step.path for step in plan.steps] == ["documentation/README.md"]
        repaired = await manager.repair_bundle("demo/tiny")
        assert (repaired.success, repaired.repairable, repaired.remaining_issues) == (True, True, ())
        assert [each.path for each in site.requests[asked:]] == ["/docs/README.md"]
        assert bundle.read("documentation/README.md") == "# Tiny\n"
        assert bundle.manifest().validation_status == "valid"
        assert Path(repaired.kept, "documentation/README.md").read_bytes() == torn


async def test_a_derived_document_is_mended_offline(room: Room) -> None:
    """What was derived is derived again with no network, and such damage is less urgent."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        await manager.derive("demo/tiny v1")
    async with room.manager(offline=True) as manager:
        bundle = manager.bundle("demo/tiny")
        before = bundle.read_bytes("metadata/model_card.json")
        _damage(bundle.path / "metadata/model_card.json")
        (bundle.path / "documentation/usage_guide.md").unlink()
        report = await manager.validate_bundle("demo/tiny")
        assert report.recommendations.priority == "high"
        assert report.checks.file_integrity.missing_files == ("documentation/usage_guide.md",)
        repaired = await manager.repair_bundle("demo/tiny")
        assert repaired.success, repaired
        assert bundle.read_bytes("metadata/model_card.json") == before


async def test_offline_the_rest_is_listed(room: Room, site: FaultyRegistry) -> None:
    """A fetched document cannot be mended offline: nothing is lost, and what remains is said."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
    torn = _damage(bundle.path / "documentation/README.md")
    async with room.manager(offline=True) as manager:
        repaired = await manager.repair_bundle("demo/tiny")
    assert (repaired.success, repaired.repairable) == (False, True)
    assert "Offline" in " ".join(repaired.remaining_issues)
    assert (bundle.path / "documentation/README.md").read_bytes() == torn


async def test_an_edit_is_no_damage(room: Room, site: FaultyRegistry, pages: Pages) -> None:
    """A document that somebody edited is reported, never overwritten; upstream's is written beside it."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        (bundle.path / "documentation/README.md").write_text("# Mine\n")
        (bundle.path / "documentation/notes.md").write_text("Mine too.\n")
        report = await manager.validate_bundle("demo/tiny")
        assert report.is_healthy
        assert (report.modified_files, report.extra_files) == (
            ("documentation/README.md",),
            ("documentation/notes.md",),
        )
        assert (await manager.repair_bundle("demo/tiny")).repair_actions == ()
        unchanged = await manager.refresh_bundle("demo/tiny")
        assert unchanged.conflicts == ()
        pages["docs/README.md"], pages["docs/usage_guide.md"] = b"# Theirs\n", b"Use it so.\n"
        refreshed = await manager.refresh_bundle("demo/tiny")
        assert refreshed.conflicts == ("documentation/README.md",)
        assert refreshed.updated == ("documentation/usage_guide.md",)
        assert bundle.read("documentation/README.md") == "# Mine\n"
        assert bundle.read("documentation/README.md.upstream") == "# Theirs\n"
        assert bundle.read("documentation/notes.md") == "Mine too.\n"
        assert "documentation/README.md.upstream" not in bundle.documents()
        assert "edited here and changed upstream" in " ".join(refreshed.validation_report.notes)


@pytest.mark.parametrize(
    ("path", "spoil", "status"),
    [
        ("documentation/README.md", lambda path: path.write_bytes(b""), "corrupted"),
        ("metadata/model_card.json", lambda path: path.write_bytes(b'{"ti'), "corrupted"),
        ("papers/2307.09288.pdf", lambda path: path.write_bytes(b"<html>"), "corrupted"),
        ("documentation/README.md", lambda path: path.unlink(), "missing"),
        ("documentation/README.md", lambda path: (path.unlink(), path.mkdir()), "replaced"),
        ("documentation/README.md", lambda path: (path.unlink(), path.symlink_to("/etc/hosts")), "replaced"),
        ("documentation/README.md", lambda path: path.chmod(0), "unreadable"),
    ],
)
async def test_each_damage_has_its_word_and_its_way_back(
    room: Room, site: FaultyRegistry, path: str, spoil: Any, status: str
) -> None:
    """Truncation, loss, something else in its place and closed permissions are told apart, and mended."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        right = bundle.read_bytes(path)
        spoil(bundle.path / path)
        report = await manager.validate_bundle("demo/tiny")
        assert [(each.path, each.status) for each in report.damaged] == [(path, status)]
        assert (await manager.repair_bundle("demo/tiny")).success
        assert bundle.read_bytes(path) == right
        assert (await manager.validate_bundle("demo/tiny")).is_healthy


async def test_age_follows_the_request(room: Room, site: FaultyRegistry) -> None:
    """Fresh, stale above `max_age_days`, expired at twice that; a refresh that upstream confirms makes it fresh."""
    async with room.manager() as manager:
        await _made(manager, site, max_age_days=10)
        keeper = manager._bundles
        found, made_at = {}, time.time()
        for days in (9, 11, 21):
            # A clock that stands still: a second more would be another age.
            object.__setattr__(keeper, "clock", lambda days=days: made_at + days * _DAY_S)
            report = await manager.validate_bundle("demo/tiny")
            found[days] = (
                report.checks.freshness.status,
                report.overall_status,
                report.recommendations.action,
                report.recommendations.priority,
            )
        assert found == {
            9: ("fresh", "healthy", "none", "low"),
            11: ("stale", "degraded", "refresh", "medium"),
            21: ("expired", "degraded", "refresh", "high"),
        }
        assert manager.bundle("demo/tiny").manifest().validation_status == "stale"
        refreshed = await manager.refresh_bundle("demo/tiny")
        assert (refreshed.success, refreshed.updated) == (True, ())
        assert refreshed.validation_report.checks.freshness.age_days == 0


async def test_age_goes_on_when_upstream_does_not_answer(room: Room, site: FaultyRegistry) -> None:
    """A refresh that could not ask does not make the bundle young."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        before = bundle.manifest().last_updated
    async with room.manager(offline=True) as manager:
        refreshed = await manager.refresh_bundle("demo/tiny")
    assert refreshed.manifest.last_updated == before
    assert len(refreshed.problems) == 5


async def test_damaged_records_are_made_again(room: Room, site: FaultyRegistry) -> None:
    """Each of our own records can be lost or torn: the documents stay, and the records come back."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        checksums = bundle.manifest().file_checksums
        bundle.manifest_file.write_bytes(b"{ torn")
        with pytest.raises(StorageError, match="is damaged"):
            bundle.manifest()
        report = await manager.validate_bundle("demo/tiny")
        assert "put aside" in " ".join(report.notes)
        assert bundle.manifest().file_checksums == checksums
        bundle.integrity_file.unlink()
        bundle.sources_file.write_bytes(b"")
        report = await manager.validate_bundle("demo/tiny")
        assert report.is_healthy
        assert bundle.integrity_file.is_file()
        assert bundle.manifest().file_checksums == checksums
        assert len(list((bundle.path / "metadata").glob("*.damaged-*"))) == 2
        made = await manager.initialize(request_for(site.url))
        assert (made.success, made.conflicts) == (True, ())


@pytest.mark.parametrize("name", ["cache_manifest.json", "sources.json"])
async def test_records_of_a_newer_version_are_left_alone(room: Room, site: FaultyRegistry, name: str) -> None:
    """No verb touches a bundle that a newer program wrote."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        path = bundle.path / "metadata" / name
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema_version": 9}))
        before = {each: each.read_bytes() for each in bundle.path.rglob("*") if each.is_file()}
        for verb in (
            manager.validate_bundle("demo/tiny"),
            manager.repair_bundle("demo/tiny"),
            manager.refresh_bundle("demo/tiny"),
            manager.initialize(request_for(site.url)),
        ):
            with pytest.raises(ConfigError, match="schema version 9"):
                await verb
        assert before == {each: each.read_bytes() for each in bundle.path.rglob("*") if each.is_file()}


async def test_an_announced_document_that_never_came_is_settled(room: Room, site: FaultyRegistry) -> None:
    """Killed after the record and before the document: the old document is still ours, and its validators go."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        sources = json.loads(bundle.sources_file.read_bytes())
        sources["documents"]["documentation/README.md"].update(sha256="f" * 64, etag='"new"', mtime_ns=None)
        bundle.sources_file.write_text(json.dumps(sources))
        report = await manager.validate_bundle("demo/tiny")
        assert (report.is_healthy, report.modified_files) == (True, ())
        assert (
            json.loads(bundle.sources_file.read_bytes())["documents"]["documentation/README.md"].get("etag")
            == ""
        )


async def test_a_written_document_that_nobody_listed_is_settled(room: Room, site: FaultyRegistry) -> None:
    """Killed after the document and before the manifest: the manifest follows, and it is no edit."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        listed = bundle.manifest()
        stale = {**listed.file_checksums, "documentation/README.md": "0" * 64}
        raw = json.loads(bundle.manifest_file.read_bytes())
        bundle.manifest_file.write_text(json.dumps({**raw, "file_checksums": stale}))
        report = await manager.validate_bundle("demo/tiny")
        assert (report.is_healthy, report.modified_files) == (True, ())
        assert bundle.manifest().file_checksums == listed.file_checksums


async def test_checksums_can_be_left_alone(room: Room, site: FaultyRegistry) -> None:
    """A quick validation honours a request that wants no checksums; a full one reads all the same."""
    async with room.manager() as manager:
        bundle = await _made(manager, site, checksum_validation=False)
        _damage(bundle.path / "documentation/README.md")
        assert (await manager.validate_bundle("demo/tiny", "quick")).is_healthy
        assert not (await manager.validate_bundle("demo/tiny", "full")).is_healthy


async def test_documents_load_lazily(
    room: Room, site: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing opens nothing: it works when no file can be opened, and reading then fails."""
    async with room.manager() as manager:
        await _made(manager, site)

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a document was opened")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", refuse)
            patched.setattr(Path, "read_bytes", refuse)
            patched.setattr(os, "open", refuse)
            bundles = await manager.list_bundles()
            assert [str(each.ref) for each in bundles] == ["demo/tiny"]
            assert len(bundles[0].documents()) == 5
            with pytest.raises(AssertionError):
                bundles[0].read("documentation/README.md")


@pytest.mark.parametrize(
    "path", ["../../../registry.json", "/etc/hosts", "documentation/none.md", "documentation", ""]
)
async def test_reading_stays_inside(room: Room, site: FaultyRegistry, path: str) -> None:
    """No path leads out of the bundle, a link neither; what is not there is named."""
    async with room.manager() as manager:
        bundle = await _made(manager, site)
        (bundle.path / "documentation/link.md").symlink_to("/etc/hosts")
        for each in (path, "documentation/link.md"):
            with pytest.raises(NotInstalledError, match="has no document"):
                bundle.read(each)


async def test_an_unknown_bundle_is_named(room: Room) -> None:
    """Verbs on a bundle that is not there say so, and leave nothing behind."""
    async with room.manager() as manager:
        for verb in (manager.validate_bundle, manager.repair_bundle, manager.refresh_bundle):
            with pytest.raises(NotInstalledError, match="no information bundle"):
                await verb("demo/none")
    assert not (room.base / "info").exists()
    assert not list((room.base / "cache").glob("locks/info-*"))
