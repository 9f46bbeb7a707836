"""The verbs that change nothing: what is installed, what the registry lists, what could be updated.

Source: seeds/002 §Public API; spec 1 §Manager.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from xprim_nb._threads import settled
from xprim_nb.cache.store import Store
from xprim_nb.cache.updates import check_models
from xprim_nb.cache.values import InstalledModel, RemoteDetail, UpdateCheck
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.index import RemoteModel
from xprim_nb.registry.listing import RemoteListing
from xprim_nb.registry.manifest import FileEntry

__all__ = ["Reading", "at_home"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_S = TypeVar("_S", bound="Reading")


def at_home(
    verb: Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]]:
    """Run a verb on the loop that entered the manager, whichever loop or thread awaits it."""

    async def forwarded(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        home = self.home_loop()
        if asyncio.get_running_loop() is home:
            return await verb(self, *args, **kwargs)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(verb(self, *args, **kwargs), home))

    return functools.update_wrapper(forwarded, verb)


class Reading:
    """The half of `Manager` that only looks. Its store and client are the manager's."""

    _store: Store
    _client: RegistryClient
    _home: asyncio.AbstractEventLoop | None = None

    def home_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that entered the manager.

        Raises:
            RuntimeError: It is not open.
        """
        if self._home is None:
            raise RuntimeError(
                "The manager is not open: use it inside `async with Manager(...) as manager:`."
            )
        return self._home

    @at_home
    async def list_installed(self) -> list[InstalledModel]:
        """Every installed model, sorted by ref.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        return await settled(self._store.list)

    @at_home
    async def get_installed(self, ref: ModelRef | str) -> InstalledModel:
        """One installed model.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        return await settled(self._store.get, ModelRef.parse(ref))

    @at_home
    async def list_files(self, ref: ModelRef | str) -> tuple[FileEntry, ...]:
        """The files of an installed model, in the manifest's order.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        model = await settled(self._store.get, ModelRef.parse(ref))
        return (await settled(self._store.manifest_of, model)).manifest.files

    @at_home
    async def path(self, ref: ModelRef | str) -> Path:
        """The absolute directory of an installed model.

        Raises:
            InvalidRefError, NotInstalledError, StorageError: See `errors`.
        """
        return (await settled(self._store.get, ModelRef.parse(ref))).path

    @at_home
    async def list_remote(self) -> RemoteListing:
        """Every model in the registry, sorted by ref; from the cache, marked stale, when it cannot be asked.

        Raises:
            NetworkError, OfflineError: It cannot be asked, and nothing is cached.
            RegistryError: Its answer is broken.
        """
        return RemoteListing.of(await self._client.index())

    @at_home
    async def cached_remote(self) -> RemoteListing | None:
        """The last listing on this machine, asking nobody; None when there is none."""
        answer = await self._client.cached_index()
        return RemoteListing.of(answer) if answer else None

    @at_home
    async def list_remote_group(self, group: str) -> RemoteListing:
        """Every model of one group; empty when the registry has no such group.

        Raises:
            InvalidRefError: The group is no name.
            NetworkError, OfflineError, RegistryError: See `list_remote`.
        """
        ModelRef(group, "any")  # refused before anybody is asked
        return (await self.list_remote()).keeping(lambda model: model.ref.group == group)

    @at_home
    async def list_remote_versions(self, group: str, model: str) -> RemoteListing:
        """Every version of one model.

        Raises:
            InvalidRefError, ModelNotFoundError: There is no such model.
            NetworkError, OfflineError, RegistryError: See `list_remote`.
        """
        name = ModelRef(group, model)
        answer = await self._client.index()
        found = {each.ref for each in answer.index.versions(name)}
        return RemoteListing.of(answer).keeping(lambda each: each.ref in found)

    @at_home
    async def get_remote(self, ref: ModelRef | str) -> RemoteModel:
        """The index entry of one version.

        Raises:
            InvalidRefError, ModelNotFoundError, VersionNotFoundError: There is no such version.
            NetworkError, OfflineError, RegistryError: See `list_remote`.
        """
        parsed = ModelRef.parse(ref).require_version()
        return (await self._client.index()).index.get(parsed)

    @at_home
    async def get_remote_detail(self, ref: ModelRef | str) -> RemoteDetail:
        """One version with what its manifest says.

        Raises:
            HashMismatchError: Every source served another manifest.
            InvalidRefError, ModelNotFoundError, NetworkError, OfflineError, RegistryError: See `get_remote`.
        """
        remote = await self.get_remote(ref)
        manifest = (await self._client.manifest(remote.manifest_hash)).manifest
        return RemoteDetail(
            ref=remote.ref,
            manifest_hash=remote.manifest_hash,
            alias_of=remote.alias_of,
            metadata=remote.metadata,
            total_size=manifest.total_size,
            chunk_size=manifest.chunk_size,
            chunk_count=len(manifest.chunks),
            files=manifest.files,
        )

    @at_home
    async def check_update(self, ref: ModelRef | str) -> UpdateCheck:
        """Whether the registry has another manifest for an installed version.

        Raises:
            NotInstalledError: It is not installed.
            NetworkError, OfflineError: The registry could not be asked: the answer would be a guess.
        """
        model = await settled(self._store.get, ModelRef.parse(ref))
        answer = await self._client.index(fresh=True)
        answer.index.get(model.ref)
        return check_models([model], answer)[0]

    @at_home
    async def check_updates(self, name: str | None = None) -> list[UpdateCheck]:
        """The same for every installed version, or every one of the model `group/model`, asking once.

        Versions that the registry no longer lists are left out.

        Raises:
            InvalidRefError: `name` is no name.
            NotInstalledError: `name` is given and nothing of it is installed.
            NetworkError, OfflineError: The registry could not be asked.
        """
        wanted = None if name is None else ModelRef.parse(name)
        models = await settled(self._store.list)
        if wanted is not None:
            models = [
                each for each in models if wanted in (each.ref, ModelRef(each.ref.group, each.ref.model))
            ]
            if not models:
                await settled(self._store.get, wanted if wanted.version else wanted.with_version("latest"))
        return check_models(models, await self._client.index(fresh=True))
