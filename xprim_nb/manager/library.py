"""The models on this machine and in the registry, as the engine's backends ask for them.

Source: spec 4 §Install on first use.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from xprim_nb._threads import settled
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.cache.values import InstalledModel
from xprim_nb.config import expand_home
from xprim_nb.errors import NotInstalledError, XprimError
from xprim_nb.events import PullProgress
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.workers.contract import OnInstall
from xprim_nb.workers.values import InstallProgress, LocalModel, Recommended

__all__ = ["ManagerLibrary"]

_log = logging.getLogger("xprim_nb.manager")

# Where no version is named: what `docker run` and `ollama run` take too.
_DEFAULT_VERSION = "latest"


class ManagerLibrary:
    """`Library` over a manager, which stays its owner's.

    Args:
        manager: Open.
        max_cache_bytes: Above it, what was not used lately is cleaned up after an installation; None: never.
    """

    def __init__(self, manager: Manager, max_cache_bytes: int | None = None) -> None:
        self._manager, self._max_cache_bytes = manager, max_cache_bytes

    async def find(self, name: str) -> LocalModel | None:
        """The installed model, or the directory of one's own that a path names; None when it is not installed.

        A name without a version means the only installed one, else what `latest` is another name of, else the newest.

        Raises:
            InvalidRefError: It is neither a reference nor a path.
            NotInstalledError: It is a path, and there is no directory.
        """
        if _is_path(name):
            return await settled(_own_directory, name)
        ref = ModelRef.parse(name)
        installed = await self._manager.list_installed()
        same = {each.ref.version: each for each in installed if each.ref.name == ref.name}
        version = ref.version
        if version not in same:
            version = await self._meant(ref) or version
        if not ref.version and version not in same and same:
            version = max(same.values(), key=lambda each: each.installed_at).ref.version
        found = same.get(version)
        return await self._local(found) if found is not None else None

    async def install(self, name: str, progress: OnInstall) -> LocalModel:
        """Install it, or find it installed.

        Raises:
            InvalidRefError, NotInstalledError: See `find`.
            ModelNotFoundError, NetworkError, RegistryError, HashMismatchError, StorageError: See `Manager.pull`.
        """
        found = await self.find(name)
        if found is not None:
            return found
        ref = ModelRef.parse(name)
        if not ref.version:
            ref = await self._default(ref)
        remote = await self._manager.get_remote(ref)
        ref = ref.with_version(remote.alias_of or ref.version)

        def tell(at: PullProgress) -> None:
            progress(InstallProgress(str(ref), at.bytes_completed, at.bytes_total, str(at)))

        await self._manager.pull(ref, progress=tell)
        await self._keep_in_bounds(ref)
        return await self._local(await self._manager.get_installed(ref))

    async def recommended(self) -> list[Recommended]:
        """Models of the registry that can answer, smallest first; empty when it cannot be asked."""
        try:
            listing = await self._manager.list_remote()
        except XprimError as error:
            _log.info("the registry cannot recommend anything: %s", error.message)
            return []
        found = [
            Recommended(str(each.ref), _why(each.metadata), each.total_size or 0)
            for each in listing
            if each.alias_of is None and each.metadata.get("kind", "model") == "model"
        ]
        return sorted(found, key=lambda each: (each.size_bytes, each.name))

    async def hold(self, name: str) -> Callable[[], None]:
        """Keep it from being cleaned up until the result is called; a directory of one's own needs no keeping.

        Raises:
            NotInstalledError: It is not installed.
        """
        if _is_path(name):
            return lambda: None
        lease = await self._manager.lease(name)
        return lease.close

    async def _local(self, model: InstalledModel) -> LocalModel:
        known = await self._manager.cached_remote()
        listed = {each.ref: each.metadata for each in known} if known is not None else {}
        return LocalModel(
            str(model.ref), model.path, model.manifest_hash, model.total_size, listed.get(model.ref, {})
        )

    async def _meant(self, ref: ModelRef) -> str | None:
        """The version that an alias, or no version at all, stands for; None when nobody here knows."""
        known = await self._manager.cached_remote()
        wanted = ref.with_version(ref.version or _DEFAULT_VERSION)
        found = next((each for each in known if each.ref == wanted), None) if known else None
        return found.alias_of if found is not None else None

    async def _default(self, ref: ModelRef) -> ModelRef:
        versions = await self._manager.list_remote_versions(ref.group, ref.model)
        names = [each.ref.version for each in versions]
        if _DEFAULT_VERSION in names or len(names) != 1:
            return ref.with_version(_DEFAULT_VERSION)
        return ref.with_version(names[0])

    async def _keep_in_bounds(self, ref: ModelRef) -> None:
        if self._max_cache_bytes is None:
            return
        lease = await self._manager.lease(ref)  # the one that was just asked for is not the one to go
        try:
            await self._manager.cleanup(CleanupPolicy(max_cache_size_gb=self._max_cache_bytes / 1024**3))
        except XprimError as error:  # the model is installed all the same
            _log.warning("the cache could not be kept in bounds: %s", error.message)
        finally:
            lease.close()


def _is_path(name: str) -> bool:
    """True for what begins like a path, which no reference does."""
    return name.startswith(("/", "./", "../", "~", ".\\", "..\\")) or (
        len(name) > 2 and name[1:3] in (":\\", ":/")
    )


def _own_directory(name: str) -> LocalModel:
    path = Path(os.path.abspath(expand_home(name, "model")))  # noqa: PTH100  # resolve() would follow links
    if not path.is_dir():
        raise NotInstalledError(
            f"{path} is no directory.", subject=str(path), hint="Name a model, or a directory with its files."
        )
    size = sum(each.stat().st_size for each in path.iterdir() if each.is_file())
    return LocalModel(str(path), path, size_bytes=size)


def _why(metadata: Mapping[str, object]) -> str:
    architecture = metadata.get("architecture")
    return f"a {architecture} model of the registry" if architecture else "a model of the registry"
