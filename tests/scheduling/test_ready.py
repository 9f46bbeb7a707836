"""A model is known as it is on disk now: what was looked up before its latest load may be old."""

from __future__ import annotations

from dataclasses import replace

from tests.scheduling.fakes import FakeBackend
from xprim_nb.scheduling.engine import Engine

_GB = 1 << 30


async def test_a_model_that_was_updated_while_it_was_away_is_looked_at_again(
    engine: Engine, backend: FakeBackend
) -> None:
    """A new version of another size is planned, charged and loaded as what it is."""
    await engine.generate("fake:a", "hello")
    assert engine.view("fake:a").size_bytes == 3 * _GB
    await engine.evict("fake:a")
    backend.sizes["a"] = 5 * _GB
    planned = await engine.plan("fake:a")
    assert [each.needed_bytes for each in planned.rooms if each.device == "sim:8gb"] == [5 * _GB]
    await engine.generate("fake:a", "hello")
    assert engine.view("fake:a").size_bytes == 5 * _GB
    assert engine.snapshot().devices[0].charged_bytes == 5 * _GB


async def test_what_is_loaded_is_not_looked_at_again(engine: Engine, backend: FakeBackend) -> None:
    """It is what it was when it was loaded, and a request for it costs no look at the disk."""
    await engine.generate("fake:a", "hello")
    before = [what for what, _ in backend.calls]
    backend.sizes["a"] = 5 * _GB
    await engine.generate("fake:a", "hello")
    assert [what for what, _ in backend.calls] == before
    assert engine.view("fake:a").size_bytes == 3 * _GB


async def test_settings_outlive_a_look_at_the_disk(engine: Engine, backend: FakeBackend) -> None:
    """What it was asked to be loaded with stays, also where the next request says nothing of it."""
    await engine.generate("fake:a", "hello", dtype="float32", footprint_bytes=2 * _GB)
    await engine.evict("fake:a")
    await engine.generate("fake:a", "hello")
    assert [each.options.settings for each in backend.runners] == [{"dtype": "float32"}] * 2
    assert engine.view("fake:a").size_bytes == 2 * _GB


async def test_a_plan_leaves_nothing_behind(engine: Engine, backend: FakeBackend) -> None:
    """Whoever asks what a model would take with a size of its own has not said that it is to be loaded so."""
    planned = await engine.plan("fake:a", dtype="float32", footprint_bytes=2 * _GB)
    assert [each.needed_bytes for each in planned.rooms if each.device == "sim:8gb"] == [2 * _GB]
    assert engine.scheduler.held == {}
    assert engine.scheduler.state.models == {}
    await engine.generate("fake:a", "hello")
    assert [each.options.settings for each in backend.runners] == [{}]
    assert engine.view("fake:a").size_bytes == 3 * _GB


async def test_a_plan_of_what_is_known_changes_nothing_either(engine: Engine, backend: FakeBackend) -> None:
    """Neither while it is loaded nor when it has left."""
    await engine.generate("fake:a", "hello", dtype="float32")
    held = engine.scheduler.held["fake:a"]
    loaded = replace(held)
    await engine.plan("fake:a")
    await engine.plan("fake:a", dtype="float16", context_tokens=64)
    assert held == loaded
    await engine.evict("fake:a")
    gone = replace(held)
    await engine.plan("fake:a", context_tokens=64)
    assert held == gone
