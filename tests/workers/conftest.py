"""Workers for tests, which are gone when the test is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from xprim_nb.workers.process import ProcessRunner

from .working import children, start_echo, until


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[ProcessRunner]]]:
    """`start_echo` whose runners are closed at the end, whereupon no process of this test is left."""
    before = set(children())
    runners: list[ProcessRunner] = []

    async def run(*wishes: str, **more: Any) -> ProcessRunner:
        runners.append(await start_echo(*wishes, **more))
        return runners[-1]

    yield run
    for runner in runners:
        await runner.close()
    await until(lambda: set(children()) <= before)
