"""The models of one directory, as backends ask for them: what a backend is tested over, with no engine around it.

Source: `xprim_nb.workers.contract.Library`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from xprim_nb.config import Config
from xprim_nb.errors import NotInstalledError
from xprim_nb.events import PullProgress
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.workers.contract import OnInstall
from xprim_nb.workers.values import InstallProgress, LocalModel, Recommended

__all__ = ["StaticLibrary"]


class StaticLibrary:
    """A `Library` over a data directory and the embedded registry. What is not installed through it is not there.

    Args:
        root: Where models are installed, as a manager does it; may be empty, or not there.

    Attributes:
        holds: How often each model is held now, by the name it was held by.
        installs: Every installation that was asked for, in order.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.holds: Counter[str] = Counter()
        self.installs: list[str] = []

    async def find(self, name: str) -> LocalModel | None:
        """The installed model, or the directory that an absolute path names; None when it is not there."""
        if Path(name).is_absolute():
            return LocalModel(name, Path(name)) if Path(name).is_dir() else None
        ref = ModelRef.parse(name).require_version()
        async with self._manager() as manager:
            try:
                found = await manager.get_installed(ref)
            except NotInstalledError:
                return None
        return LocalModel(str(ref), found.path, found.manifest_hash, found.total_size)

    async def install(self, name: str, progress: OnInstall) -> LocalModel:
        """Pull it from the embedded registry; found at once when it is there."""
        self.installs.append(name)
        found = await self.find(name)
        if found is not None:
            return found

        def tell(at: PullProgress) -> None:
            progress(InstallProgress(name, at.bytes_completed, at.bytes_total, str(at)))

        async with self._manager() as manager:
            pulled = await manager.pull(name, progress=tell)
            size_bytes = pulled.model.total_size
            progress(InstallProgress(name, size_bytes, size_bytes, "installed"))
            return LocalModel(str(pulled.model.ref), pulled.path, pulled.model.manifest_hash, size_bytes)

    async def recommended(self) -> list[Recommended]:
        """The models of the embedded registry, LoRA layers left out."""
        async with self._manager() as manager:
            listing = await manager.list_remote()
        return [
            Recommended(str(each.ref), "a model of the embedded registry", each.total_size or 0)
            for each in listing
            if each.alias_of is None and each.metadata.get("kind") == "model"
        ]

    async def hold(self, name: str) -> Callable[[], None]:
        """Count it as held until the result is called, once or more often."""
        self.holds[name] += 1
        held = [name]

        def release() -> None:
            while held:
                self.holds[held.pop()] -= 1

        return release

    def _manager(self) -> Manager:
        return Manager(Config(data_dir=self._root))
