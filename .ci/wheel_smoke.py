"""Does the installed wheel work on its own? Pulls every demo model, checks it, and lets one speak, with no torch."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path

from xprim_nb import Config, Manager, connect


async def pull_everything(data_dir: Path) -> int:
    """Install each model of the embedded registry into `data_dir`; returns how many there are."""
    async with Manager(Config(data_dir=data_dir)) as manager:
        remote = await manager.list_remote()
        for model in remote:
            pulled = await manager.pull(model.ref)
            detail = await manager.get_remote_detail(model.ref)
            for file in detail.files:
                content = (Path(pulled.path) / file.path).read_bytes()
                assert len(content) == file.size, file.path
                if file.sha256:
                    assert hashlib.sha256(content).hexdigest() == file.sha256, file.path
            assert (await manager.pull(model.ref)).status == "already_installed"
        assert len(await manager.list_installed()) == len(remote)
    return len(remote)


def speak(data_dir: Path) -> str:
    """What a model says that is installed on first use; the same seed says the same."""
    assert importlib.util.find_spec("torch") is None, "this environment shall have no torch"
    options = {"max_tokens": 40, "temperature": 0.8, "seed": 7}
    with connect(Config(data_dir=data_dir)) as kit:
        first = kit.generate("demo/tiny-llama v2", "Once upon a time", **options).result()
        again = kit.generate("demo/tiny-llama v2", "Once upon a time", **options).result()
    assert first.text == again.text, (first.text, again.text)
    assert first.worker_pid not in (None, os.getpid())
    return first.text


def main() -> None:
    """Pull, check, speak, and say how many."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"a model on first use: {speak(Path(folder) / 'first')!r}")
        count = asyncio.run(pull_everything(Path(folder) / "all"))
    assert count > 0, "the embedded registry is empty"
    print(f"{count} demo models installed and verified")


if __name__ == "__main__":
    main()
