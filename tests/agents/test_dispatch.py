"""Operations on real models: every answer has the seed's shape, every failure is a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from xprim_nb import connect
from xprim_nb.agents import call_tool, manage_cache
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..cache.rooms import Room
from .conftest import bundle_payload

Fits = Callable[[str, Any], Any]


async def test_initialize(room: Room, site: FaultyRegistry, fits: Fits) -> None:
    """A bundle from URLs: the result, and the report beside it."""
    async with room.manager() as manager:
        payload = bundle_payload(site.url)
        answer = fits("manage_cache", await manage_cache(manager, {"type": "initialize", "payload": payload}))
        assert answer["result"]["success"]
        assert answer["result"]["cache_path"] == str(room.base / "info/demo/tiny")
        assert answer["result"]["manifest"]["validation_status"] == "valid"
        assert answer["validation_report"] == answer["result"]["validation_report"]
        fits("initialize_model_cache", await call_tool(manager, "initialize_model_cache", payload))
    assert json.loads(json.dumps(answer)) == answer, "plain JSON"


async def test_initialize_without_urls_derives(room: Room, fits: Fits) -> None:
    """Without URLs the bundle is made of the installed model."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        answer = fits(
            "initialize_model_cache",
            await call_tool(manager, "initialize_model_cache", {"model_id": "demo/tiny v1"}),
        )
        assert "documentation/technical_specs.md" in answer["manifest"]["file_checksums"]


async def test_validate_and_repair(room: Room, fits: Fits) -> None:
    """Damage is found, mended, and found no more."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        path = room.dir("demo/tiny v1") / "model.bin"
        path.unlink()
        call: dict[str, Any] = {
            "type": "validate",
            "payload": {"model_id": "demo/tiny v1", "depth": "full"},
        }
        broken = fits("manage_cache", await manage_cache(manager, call))
        assert broken["result"]["overall_status"] == "failed"
        assert broken["result"]["checks"]["file_integrity"]["missing_files"] == ["model.bin"]
        assert broken["validation_report"] == broken["result"]
        repair: dict[str, Any] = {"type": "repair", "payload": {"model_id": "demo/tiny v1"}}
        mended = fits("manage_cache", await manage_cache(manager, repair))
        assert (mended["result"]["success"], mended["result"]["remaining_issues"]) == (True, [])
        assert path.is_file()
        fits(
            "validate_cache_integrity", await call_tool(manager, "validate_cache_integrity", call["payload"])
        )
        fits("repair_corrupted_cache", await call_tool(manager, "repair_corrupted_cache", repair["payload"]))


async def test_refresh(room: Room, fits: Fits) -> None:
    """A model whose version names other bytes now is brought up to date, and can go back."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        room.publish({"demo/tiny v1": {"model.bin": b"new" * 500}})
        call = {"type": "refresh", "payload": {"model_id": "demo/tiny v1"}}
        answer = fits("manage_cache", await manage_cache(manager, call))
        assert (answer["result"]["success"], answer["result"]["rollback_available"]) == (True, True)
        assert answer["result"]["updated_files"] == ["model.bin"]
        quiet = {"model_id": "demo/tiny v1", "strategy": {"validation_after_update": False}}
        again = fits("refresh_model_cache", await call_tool(manager, "refresh_model_cache", quiet))
        assert again["validation_report"]["overall_status"] == "healthy"


async def test_cleanup(room: Room, fits: Fits) -> None:
    """A dry run says what would go; the run lets it go."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        policy = {"max_cache_size_gb": 0, "min_age_hours": 0, "partial_idle_hours": 0}
        payload = {"policy": policy, "dry_run": True}
        planned = fits("cleanup_cache_storage", await call_tool(manager, "cleanup_cache_storage", payload))
        assert planned["removed_models"] == ["demo/tiny v1"]
        assert room.dir("demo/tiny v1").is_dir()
        call = {"type": "cleanup", "payload": {"policy": policy}}
        answer = fits("manage_cache", await manage_cache(manager, call))
        assert answer["result"]["removed_models"] == ["demo/tiny v1"]
        assert answer["result"]["freed_space_gb"] > 0
        assert "validation_report" not in answer
        assert not room.dir("demo/tiny v1").exists()


async def test_status(room: Room, site: FaultyRegistry, fits: Fits) -> None:
    """All models, one model, and a bundle by name."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        await manager.pull("demo/other v1")
        answer = fits("manage_cache", await manage_cache(manager, {"type": "status"}))
        assert answer["result"]["total_models"] == 2
        assert set(answer["result"]["health_summary"]) == {"demo/tiny v1", "demo/other v1"}
        assert answer["result"]["recommendations"], "the line that says whether the registry was asked"
        one = fits(
            "get_cache_status", await call_tool(manager, "get_cache_status", {"model_id": "demo/other"})
        )
        assert list(one["health_summary"]) == ["demo/other v1"]
        await manage_cache(manager, {"type": "initialize", "payload": bundle_payload(site.url)})
        bundle = fits(
            "get_cache_status", await call_tool(manager, "get_cache_status", {"model_id": "demo/tiny"})
        )
        assert list(bundle["health_summary"]) == ["info/demo/tiny"]


async def test_which_thing_is_meant(room: Room, site: FaultyRegistry) -> None:
    """A name without a version means the bundle, else the only version; several versions are asked back."""
    async with room.manager() as manager:

        async def meant(model_id: str) -> str:
            answer = await call_tool(manager, "validate_cache_integrity", {"model_id": model_id})
            return str(answer["model_id"] if "error" not in answer else answer["error"]["type"])

        assert await meant("demo/tiny") == "NotInstalledError"
        await manager.pull("demo/tiny v1")
        assert await meant("demo/tiny") == "demo/tiny v1"
        await manager.pull("demo/tiny v2")
        assert await meant("demo/tiny") == "ConfigError"
        await manage_cache(manager, {"type": "initialize", "payload": bundle_payload(site.url)})
        assert await meant("demo/tiny") == "demo/tiny"
        assert await meant("demo/tiny v1") == "demo/tiny v1"
        await manager.remove("demo/tiny v1")
        assert await meant("demo/tiny v1") == "demo/tiny", "the bundle is about that version"
        assert await meant("info/demo/tiny") == "demo/tiny"
        assert await meant("info/demo/none") == "NotInstalledError"


async def test_a_bundle_is_repaired_and_refreshed(room: Room, site: FaultyRegistry, fits: Fits) -> None:
    """The same verbs work on a bundle."""
    async with room.manager() as manager:
        await manage_cache(manager, {"type": "initialize", "payload": bundle_payload(site.url)})
        (room.base / "info/demo/tiny/documentation/README.md").unlink()
        payload = {"model_id": "info/demo/tiny"}
        mended = fits("repair_corrupted_cache", await call_tool(manager, "repair_corrupted_cache", payload))
        assert mended["success"]
        fresh = fits("refresh_model_cache", await call_tool(manager, "refresh_model_cache", payload))
        assert (fresh["success"], fresh["rollback_available"]) == (True, False)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ({"type": "explode"}, "ConfigError"),
        ({}, "ConfigError"),
        ("status", "ConfigError"),
        ({"type": "validate"}, "ConfigError"),
        ({"type": "validate", "payload": {"model_id": 3}}, "ConfigError"),
        ({"type": "validate", "payload": {"model_id": "../../etc"}}, "InvalidRefError"),
        ({"type": "validate", "payload": {"model_id": "demo/none v1"}}, "NotInstalledError"),
        ({"type": "repair", "payload": {"model_id": "demo/none v1"}}, "NotInstalledError"),
        ({"type": "refresh", "payload": {"model_id": "demo/none v1"}}, "NotInstalledError"),
        ({"type": "refresh", "payload": {"model_id": "a/b v1", "strategy": {"trigger": "x"}}}, "ConfigError"),
        ({"type": "cleanup", "payload": {"policy": {"max_cache_size_gb": -1}}}, "ConfigError"),
        ({"type": "status", "payload": {"model_id": "demo/none v1"}}, "NotInstalledError"),
        ({"type": "initialize", "payload": {"model_id": "demo/none v1"}}, "NotInstalledError"),
    ],
)
async def test_failures_are_documents(room: Room, fits: Fits, operation: Any, kind: str) -> None:
    """Whatever is wrong with a call, the answer is an error with its hint, and nothing is done."""
    async with room.manager() as manager:
        answer = fits("manage_cache", await manage_cache(manager, operation))
    assert answer["error"]["type"] == kind
    assert answer["error"]["hint"]
    assert not (room.base / "info").exists()


async def test_an_unknown_tool_is_named(room: Room) -> None:
    """A tool that is not there is an error that lists those which are."""
    async with room.manager() as manager:
        answer = await call_tool(manager, "rm_rf", {})
    assert "get_cache_status" in answer["error"]["hint"]


async def test_reading_only(room: Room) -> None:
    """Where changes are not allowed, reading and planning still work, and the rest refuses with the way out."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
        ref = {"model_id": "demo/tiny v1"}
        for name, arguments, allowed in (
            ("get_cache_status", {}, True),
            ("validate_cache_integrity", ref, True),
            ("cleanup_cache_storage", {"dry_run": True}, True),
            ("manage_cache", {"type": "status"}, True),
            ("cleanup_cache_storage", {}, False),
            ("repair_corrupted_cache", ref, False),
            ("refresh_model_cache", ref, False),
            ("initialize_model_cache", ref, False),
            ("manage_cache", {"type": "repair", "payload": ref}, False),
        ):
            answer = await call_tool(manager, name, arguments, allow_changes=False)
            assert ("error" not in answer) == allowed, (name, answer)
            if not allowed:
                assert "only reads" in answer["error"]["message"]
                assert "--allow-changes" in answer["error"]["hint"]


def test_on_a_toolkit(room: Room) -> None:
    """On a toolkit the answer is a handle."""
    with connect(room.config()) as kit:
        handle = manage_cache(kit, {"type": "status"})
        assert handle.result(20)["result"]["total_models"] == 0
        assert "manage the cache" in repr(handle)


async def test_a_bug_is_no_document(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody raised on purpose is not dressed up as an answer."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with room.manager() as manager:
        monkeypatch.setattr(type(manager), "status", broken)
        with pytest.raises(ZeroDivisionError):
            await manage_cache(manager, {"type": "status"})
