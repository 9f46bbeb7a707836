"""A process that is killed while it writes a bundle leaves every document old or new, and every edit in place."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..rooms import Room
from .conftest import request_for

_ROOT = Path(__file__).resolve().parents[3]
_NAMES = ("card.json", "docs/README.md", "docs/usage_guide.md", "ex/basic_usage.py", "papers/2307.09288")
_PATHS = {
    "card.json": "metadata/model_card.json",
    "docs/README.md": "documentation/README.md",
    "ex/basic_usage.py": "examples/basic_usage.py",
    "papers/2307.09288": "papers/2307.09288.pdf",
}
# What version `number` of a document says; long enough that a torn one would show.
_TEXT = """
def text(name, number):
    start = {"card.json": '{"title": "%d"}', "papers/2307.09288": "%%PDF-%d"}.get(name, "# %d") % number
    return start + " " * 2000
"""
# Publishes version after version of every document, and refreshes after each.
_WORKER = (
    """
import asyncio, os, sys
from pathlib import Path
from xprim_nb import Config, Manager
site, base, first, names = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
"""
    + _TEXT
    + """
def publish(number):
    for name in names:
        path = site / name
        path.with_suffix(".new").write_text(text(name, number))
        os.replace(path.with_suffix(".new"), path)
async def main():
    async with Manager(Config(data_dir=base)) as manager:
        for number in range(first, first + 100_000):
            publish(number)
            await manager.refresh_bundle("demo/tiny")
            print(number, flush=True)
asyncio.run(main())
"""
)
_defined: dict[str, Any] = {}
exec(_TEXT, _defined)
_text: Callable[[str, int], str] = _defined["text"]


def _number(text: str) -> int:
    """The version that a document is of."""
    found = re.search(r'(?:%PDF-|# |": ")(\d+)', text)
    assert found is not None
    return int(found[1])


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.slow)])
async def test_kills_while_refreshing(room: Room, tmp_path: Path, kills: int) -> None:
    """After each kill the next verb finds no damage and no edit but the real one, and goes on to the newest."""
    site = tmp_path / "site"
    for name in _NAMES:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(_text(name, 0))
    async with room.manager() as manager:
        assert (await manager.initialize(request_for(site.as_uri()))).success
        bundle = manager.bundle("demo/tiny")
    edited = bundle.path / "documentation" / "usage_guide.md"
    edited.write_text("Mine.\n")
    chance, first = random.Random(5), 1
    for _ in range(kills):
        command = [sys.executable, "-c", _WORKER, str(site), str(room.base), str(first), *_NAMES]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        worker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
        assert worker.stdout is not None
        try:
            assert await asyncio.to_thread(worker.stdout.readline), "it did not begin"
            await asyncio.sleep(chance.random() * 0.2)  # the instant of the kill
        finally:
            worker.send_signal(signal.SIGKILL)
            rest, _ = await asyncio.to_thread(worker.communicate)
        first = max([first, *map(int, rest.split())]) + 2
        async with room.manager(offline=True) as manager:
            report = await manager.validate_bundle("demo/tiny")
            assert report.is_healthy, report
            assert report.modified_files == ("documentation/usage_guide.md",), report
            for name, path in _PATHS.items():
                there = bundle.read(path)
                assert there == _text(name, _number(there)), f"{path} is torn"
            refreshed = await manager.refresh_bundle("demo/tiny")
            assert refreshed.problems == ()
        for name, path in _PATHS.items():
            assert bundle.read(path) == (site / name).read_text()
        assert edited.read_text() == "Mine.\n"
        done = await asyncio.to_thread(
            subprocess.run,
            ["sha256sum", "-c", "metadata/integrity.sha256"],
            cwd=bundle.path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.count(": OK") == 4
        assert "documentation/usage_guide.md: FAILED" in done.stdout
