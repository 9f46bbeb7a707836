"""A real server for whoever talks to one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb.config import Config
from xprim_nb.manager import Manager

# Importing torch and transformers takes ten seconds on an idle machine, and this one may be busy.
_START_S = 90.0


@pytest.fixture(scope="session")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a real `transformers serve` with the demo model from disk, and the model's name there."""
    base = tmp_path_factory.mktemp("transformers-serve")

    async def install() -> None:
        async with Manager(Config(data_dir=base / "data")) as manager:
            await manager.pull("demo/tiny-llama v2")

    asyncio.run(install())
    # The server samples only where the model's own settings say so.
    model = shutil.copytree(base / "data" / "demo" / "tiny-llama" / "v2", base / "tiny-llama")
    settings = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**settings, "do_sample": True}))
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--device", "cpu"]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(base / "hf"), "OMP_NUM_THREADS": "1"}
    with (base / "log").open("w") as log, socket.socket() as held:
        # Bound while the server starts, which takes long: nobody else is given the port, and the server may listen on it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log, env=environ
        )
        try:
            _wait_healthy(f"http://127.0.0.1:{port}/health", server, base / "log")
            yield f"http://127.0.0.1:{port}", str(model)
        finally:
            server.terminate()
            server.wait(30)


def _wait_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
