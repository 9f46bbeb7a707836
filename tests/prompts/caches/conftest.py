"""One base with its caches, a clock that stands still unless moved, and who asks through them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from xprim_nb.prompts.asking import Asker
from xprim_nb.prompts.caches import Caches


class Clock:
    """Seconds since 1970, moved by the test."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """The time of the caches."""
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`<base>/prompts`, which does not exist yet."""
    return tmp_path / "base" / "prompts"


@pytest.fixture
def caches(folder: Path, clock: Clock) -> Iterator[Caches]:
    """The caches of one base."""
    caches = Caches(folder, now=clock)
    yield caches
    caches.close()


@pytest.fixture
async def asker(caches: Caches) -> AsyncIterator[Asker]:
    """Who asks through them, with the real renderers."""
    async with Asker(caches) as asker:
        yield asker
