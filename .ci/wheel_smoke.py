"""Does the installed wheel work on its own? Pulls every demo model and checks it against its manifest."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path

from xprim_nb import Config, Manager


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


def main() -> None:
    """Pull, check, and say how many."""
    with tempfile.TemporaryDirectory() as folder:
        count = asyncio.run(pull_everything(Path(folder)))
    assert count > 0, "the embedded registry is empty"
    print(f"{count} demo models installed and verified")


if __name__ == "__main__":
    main()
