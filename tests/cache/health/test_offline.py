"""With sockets blocked: what is here is judged and mended, what is not is listed, and nothing is guessed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket, enable_socket

from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room, blocks, require_sound
from .damage import FILES, REF, flip_silently

_OTHER = "group/other v1"


@pytest.fixture
async def installed(room: Room) -> Room:
    """Two models that share a chunk; their registry is gone."""
    room.publish({REF: FILES, _OTHER: {"x.bin": blocks(7, 70)}})
    with FaultyRegistry(room.made.root) as server:
        room.url = server.url
        async with room.manager() as manager:
            await manager.pull(REF)
            await manager.pull(_OTHER)
    room.settings["offline"] = True
    return room


@pytest.fixture(autouse=True)
def _no_sockets(installed: Room) -> Iterator[None]:
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


async def test_every_verb_answers(installed: Room) -> None:
    """Validate, scrub, plan, repair and status of a whole model need nobody."""
    async with installed.manager() as manager:
        assert (await manager.validate(REF, "full")).is_healthy
        assert [report.is_healthy for report in await manager.validate_all()] == [True, True]
        assert (await manager.scrub(5)).damaged == ()
        assert (await manager.plan_repair(REF)).actions == ()
        assert (await manager.repair(REF)).success
        assert (await manager.status()).contact.offline


async def test_what_local_sources_hold_is_mended_and_the_rest_is_listed(installed: Room) -> None:
    """Of two damaged files one is mended from another model; the other is named with the way out, and unharmed."""
    flip_silently(installed.dir(REF) / "w.bin", 7_700)
    flip_silently(installed.dir(REF) / "deep/er/v.safetensors", 1_700)
    damaged = (installed.dir(REF) / "deep/er/v.safetensors").read_bytes()
    async with installed.manager() as manager:
        report = await manager.validate(REF, "full")
        assert report.recommendations.priority == "critical"
        plan = await manager.plan_repair(REF)
        assert (plan.repairable, plan.chunks_local, plan.chunks_network) == (False, 1, 0)
        assert [action.path for action in plan.actions] == ["w.bin"]
        repaired = await manager.repair(REF)
        assert (repaired.success, repaired.repairable) == (False, False)
        (issue,) = repaired.remaining_issues
        assert issue.startswith("deep/er/v.safetensors: 1 chunk ")
        assert "ffline" in issue
        assert dict(repaired.local_sources) == {_OTHER: 1}
        assert installed.files(REF) == FILES | {"deep/er/v.safetensors": damaged}
        assert (await manager.validate(REF)).damaged[0].path == "deep/er/v.safetensors"
    enable_socket()
    async with installed.manager(offline=False, registry_url=str(installed.made.root)) as manager:
        repaired = await manager.repair(REF)
    assert (repaired.success, repaired.chunks_network) == (True, 1)
    require_sound(installed.base)


async def test_without_a_copy_of_its_manifest_a_model_cannot_be_judged(installed: Room) -> None:
    """That is said, nothing is touched, and the way back is open."""
    shutil.rmtree(installed.layout.manifests)
    (installed.dir(REF) / ".xprim" / "manifest.json").write_bytes(b"?")
    async with installed.manager() as manager:
        report = await manager.validate(REF)
        assert (report.overall_status, report.recommendations.priority) == ("failed", "critical")
        assert "cannot be judged" in report.verdict
        plan = await manager.plan_repair(REF)
        assert (plan.repairable, plan.actions) == (False, ())
        repaired = await manager.repair(REF)
        assert (repaired.success, len(repaired.remaining_issues)) == (False, 1)
    assert installed.files(REF) == FILES
