"""Looking at what is awake changes nothing, and tells what is true at that moment."""

from __future__ import annotations

import pytest

from tests.scheduling.fakes import FakeBackend
from xprim_nb.scheduling.engine import Engine

_GB = 1 << 30


async def test_a_plan_with_other_settings_leaves_the_model_as_it_is(
    engine: Engine, backend: FakeBackend
) -> None:
    """Whoever only looks unloads nothing, and the next request has the model with the settings of before."""
    await engine.generate("fake:a", "hello", dtype="float32")
    await engine.plan("fake:a", dtype="bfloat16")
    assert engine.view("fake:a").status == "resident"
    await engine.generate("fake:a", "hello")
    await engine.evict("fake:a")
    await engine.plan("fake:a", dtype="bfloat16")
    await engine.generate("fake:a", "hello")
    assert [each.options.settings for each in backend.runners] == [{"dtype": "float32"}] * 2


async def test_why_counts_to_the_moment_of_asking(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour after the latest event, an eviction is an hour ago."""
    await engine.load("fake:a")
    await engine.evict("fake:a")
    later = engine.scheduler.now() + 3600.0
    monkeypatch.setattr(engine.scheduler, "now", lambda: later)
    assert "(1 h 0 min ago)" in await engine.why("fake:a")
