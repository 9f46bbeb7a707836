"""What is worth trying: everybody is asked at once, and nobody holds the others up."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

from xprim_nb.errors import EngineError
from xprim_nb.manager.recommended import Offer, recommended
from xprim_nb.scheduling.engine import Engine
from xprim_nb.workers.values import Recommended

from ..fake_engine import FakeEngine


class _Backend:
    def __init__(self, name: str, *models: Recommended, is_remote: bool = True, hangs: bool = False) -> None:
        self.name, self._models, self._hangs = name, models, hangs
        self.capabilities = SimpleNamespace(is_remote=is_remote)
        self.cancelled = False

    async def get_recommended_models(self) -> list[Recommended]:
        """What it was made with."""
        try:
            if self._hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return list(self._models)


def _engine(*backends: _Backend, **others: Any) -> Engine:
    return cast("Engine", FakeEngine(offered={**{each.name: each for each in backends}, **others}))


async def test_the_registry_comes_first_and_once() -> None:
    """Two backends that run the registry's models recommend them as one; a server's have its name before them."""
    mine = Recommended("demo/tiny v1", "small", 10)
    found = await recommended(
        _engine(
            _Backend("numpy", mine, is_remote=False),
            _Backend("transformers", mine, Recommended("big/model v1", "large", 99), is_remote=False),
            _Backend("mine", Recommended("b", "here", 5), Recommended("a", "here", 1)),
        )
    )
    assert found == [
        Offer("demo/tiny v1", "registry", "small", 10),
        Offer("big/model v1", "registry", "large", 99),
        Offer("mine:a", "mine", "here", 1),
        Offer("mine:b", "mine", "here", 5),
    ]


async def test_who_is_silent_or_absent_is_left_out() -> None:
    """A server that does not answer is left behind in time, and stopped; one that cannot be loaded is no error."""
    silent = _Backend("silent", hangs=True)
    begun = time.monotonic()
    found = await recommended(
        _engine(
            silent, _Backend("mine", Recommended("a", "here")), openai=EngineError("It cannot be loaded.")
        ),
        patience_s=0.1,
    )
    assert time.monotonic() - begun < 5
    assert [each.name for each in found] == ["mine:a"]
    assert silent.cancelled
    assert await recommended(_engine()) == []
