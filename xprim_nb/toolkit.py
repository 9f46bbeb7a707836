"""The notebook's side: one toolkit on our own loop, whose verbs return a `Handle` at once.

    kit = connect()
    handle = kit.pull("demo/tiny-llama v1")
    handle.result().path

The one place that builds and closes every owner.

Source: DESIGN §One loop; spec 1 §Manager.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from xprim_nb._bridge import Handle
from xprim_nb._threads import settled
from xprim_nb.cache.values import (
    Exported,
    InstalledModel,
    Peeked,
    Pruned,
    Pulled,
    PullPlan,
    RemoteDetail,
    Removed,
    UpdateCheck,
)
from xprim_nb.config import Config
from xprim_nb.errors import ConfigError
from xprim_nb.events import Event, EventHub, PullProgress
from xprim_nb.logs import Logger
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.registry.chunking import DEFAULT_CHUNK_BYTES
from xprim_nb.registry.index import RemoteModel
from xprim_nb.registry.listing import RemoteListing
from xprim_nb.registry.manifest import FileEntry
from xprim_nb.registry.opening import AsyncClientLike
from xprim_nb.registry.publisher import Published, publish

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Toolkit", "allow_nested_loops", "connect"]

_T = TypeVar("_T")

# What was cancelled closes its sockets and lists its chunks well within this.
_CLEANUP_S = 5.0


def connect(
    config: Config | None = None, *, client: AsyncClientLike | None = None, logger: Logger | None = None
) -> Toolkit:
    """A toolkit for notebooks and scripts. Touches no disk and no network until its first verb.

    Args:
        config: The settings; the environment is applied on top.
        client: Carries every request when given.
        logger: Receives diagnostics.

    Raises:
        ConfigError: A setting cannot work.
    """
    return Toolkit(config, client=client, logger=logger)


class Toolkit:
    """`Manager`'s verbs, each returning a `Handle`. Thread-safe; `close` (or leaving the `with` block) ends it.

    Equal pulls in flight are joined: the second call returns the first one's handle.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        client: AsyncClientLike | None = None,
        logger: Logger | None = None,
    ) -> None:
        self.events = EventHub()
        self._manager = Manager(config, client=client, logger=logger, events=self.events)
        self._lock = threading.Lock()
        self._opening: asyncio.Task[Manager] | None = None
        self._closed = False
        self._running = _Running()
        self._pulls: dict[tuple[ModelRef, bool], Handle[Pulled]] = {}
        self._latest: dict[ModelRef, PullProgress] = {}
        self.events.subscribe(self._remember)

    @property
    def config(self) -> Config:
        """The settings in force, the environment applied."""
        return self._manager.config

    @property
    def registry_url(self) -> str:
        """The registry's base URL or directory, passwords masked."""
        return self._manager.registry_url

    @property
    def uses_demo_registry(self) -> bool:
        """True when no registry is configured and the embedded one answers."""
        return self._manager.uses_demo_registry

    def list_installed(self) -> Handle[list[InstalledModel]]:
        """See `Manager.list_installed`."""
        return self._do("list installed models", Manager.list_installed)

    def get_installed(self, ref: ModelRef | str) -> Handle[InstalledModel]:
        """See `Manager.get_installed`."""
        return self._do(f"look up {ref}", Manager.get_installed, ref)

    def list_files(self, ref: ModelRef | str) -> Handle[tuple[FileEntry, ...]]:
        """See `Manager.list_files`."""
        return self._do(f"list the files of {ref}", Manager.list_files, ref)

    def path(self, ref: ModelRef | str) -> Handle[Path]:
        """See `Manager.path`."""
        return self._do(f"find {ref}", Manager.path, ref)

    def list_remote(self) -> Handle[RemoteListing]:
        """See `Manager.list_remote`."""
        return self._do("list the registry", Manager.list_remote)

    def cached_remote(self) -> Handle[RemoteListing | None]:
        """See `Manager.cached_remote`."""
        return self._do("recall the registry's list", Manager.cached_remote)

    def list_remote_group(self, group: str) -> Handle[RemoteListing]:
        """See `Manager.list_remote_group`."""
        return self._do(f"list {group}", Manager.list_remote_group, group)

    def list_remote_versions(self, group: str, model: str) -> Handle[RemoteListing]:
        """See `Manager.list_remote_versions`."""
        return self._do(f"list {group}/{model}", Manager.list_remote_versions, group, model)

    def get_remote(self, ref: ModelRef | str) -> Handle[RemoteModel]:
        """See `Manager.get_remote`."""
        return self._do(f"look up {ref}", Manager.get_remote, ref)

    def get_remote_detail(self, ref: ModelRef | str) -> Handle[RemoteDetail]:
        """See `Manager.get_remote_detail`."""
        return self._do(f"look up {ref}", Manager.get_remote_detail, ref)

    def plan_pull(self, ref: ModelRef | str, *, force: bool = False) -> Handle[PullPlan]:
        """See `Manager.plan_pull`."""
        return self._do(f"plan a pull of {ref}", Manager.plan_pull, ref, force=force)

    def pull(
        self,
        ref: ModelRef | str,
        *,
        force: bool = False,
        concurrency: int | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Handle[Pulled]:
        """See `Manager.pull`. An equal pull in flight is joined; its own `progress` then stays the only one.

        Raises:
            InvalidRefError: At once, before anything is started.
        """
        parsed = ModelRef.parse(ref).require_version()
        key = (parsed, force)
        with self._lock:
            running = self._pulls.get(key)
            if running is not None and not running.done and not running.cancelling:
                return running
            self._latest.pop(parsed, None)
            handle = self._do(
                f"pull {parsed}",
                Manager.pull,
                parsed,
                snapshot=lambda: self._latest.get(parsed),
                force=force,
                concurrency=concurrency,
                progress=progress,
            )
            self._pulls[key] = handle
        handle.add_done_callback(lambda ended: self._forget(key, ended))
        return handle

    def pulls(self) -> list[Handle[Pulled]]:
        """The pulls in flight."""
        with self._lock:
            return [handle for handle in self._pulls.values() if not handle.done]

    def remove(self, ref: ModelRef | str) -> Handle[Removed]:
        """See `Manager.remove`."""
        return self._do(f"remove {ref}", Manager.remove, ref)

    def remove_all(self, group: str, model: str) -> Handle[list[Removed]]:
        """See `Manager.remove_all`."""
        return self._do(f"remove {group}/{model}", Manager.remove_all, group, model)

    def check_update(self, ref: ModelRef | str) -> Handle[UpdateCheck]:
        """See `Manager.check_update`."""
        return self._do(f"check {ref} for an update", Manager.check_update, ref)

    def check_updates(self, name: str | None = None) -> Handle[list[UpdateCheck]]:
        """See `Manager.check_updates`."""
        return self._do("check for updates", Manager.check_updates, name)

    def prune(self) -> Handle[Pruned]:
        """See `Manager.prune`."""
        return self._do("prune", Manager.prune)

    def export(self, refs: Sequence[ModelRef | str] | ModelRef | str, *, to: Path | str) -> Handle[Exported]:
        """See `Manager.export`."""
        return self._do(f"export to {to}", Manager.export, refs, to=to)

    def peek(self, ref: ModelRef | str) -> Handle[Peeked]:
        """See `Manager.peek`."""
        return self._do(f"peek at {ref}", Manager.peek, ref)

    def publish(
        self,
        source: Path | str,
        ref: ModelRef | str,
        *,
        to: Path | str,
        alias: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        chunk_size: int = DEFAULT_CHUNK_BYTES,
        mode: Literal["aligned", "fixed"] = "aligned",
        replace: bool = False,
    ) -> Handle[Published]:
        """See `registry.publisher.publish`."""

        async def work() -> Published:
            return await settled(
                publish,
                Path(source),
                ModelRef.parse(ref),
                to=Path(to),
                alias=alias,
                metadata=metadata,
                chunk_size=chunk_size,
                mode=mode,
                replace=replace,
            )

        return self._running.add(Handle(work(), f"publish {ref}"))

    def close(self) -> None:
        """Cancel what runs, wait for its clean-up, close connections and the database. Idempotent."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            try:
                self._running.stop()
            finally:
                Handle(self._close(), "close").result()

    def __repr__(self) -> str:
        registry = "the embedded demo registry" if self.uses_demo_registry else self.registry_url
        return f"<Toolkit: {registry}, models in {self.config.base_dir}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(
        self,
        describe: str,
        verb: Callable[..., Coroutine[Any, Any, _T]],
        *args: object,
        snapshot: Callable[[], object] | None = None,
        **kwargs: object,
    ) -> Handle[_T]:
        async def work() -> _T:
            return await verb(await self._opened(), *args, **kwargs)

        return self._running.add(Handle(work(), describe, snapshot))

    async def _opened(self) -> Manager:
        if self._closed:
            raise ConfigError(
                "This toolkit is closed.", subject="toolkit", hint="Make a new one with connect()."
            )
        opening = self._opening
        if opening is None or _is_lost(opening):
            self._opening = opening = asyncio.create_task(self._manager.__aenter__())
        return await asyncio.shield(opening)

    async def _close(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None and not _is_lost(opening):
            await asyncio.wait([opening])
            if not _is_lost(opening):
                await self._manager.__aexit__(None, None, None)

    def _remember(self, event: Event) -> None:
        if isinstance(event, PullProgress):
            self._latest[event.ref] = event

    def _forget(self, key: tuple[ModelRef, bool], handle: Handle[Pulled]) -> None:
        with self._lock:
            if self._pulls.get(key) is handle:
                del self._pulls[key]


class _Running:
    """The work that has not ended yet. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: set[Handle[Any]] = set()

    def add(self, handle: Handle[_T]) -> Handle[_T]:
        """The handle, remembered until its work has ended."""
        with self._lock:
            self._handles.add(handle)
        handle.add_done_callback(self._drop)
        return handle

    def stop(self) -> None:
        """Cancel all of it, and wait for its clean-up."""
        with self._lock:
            handles = list(self._handles)
        for handle in handles:
            handle.cancel()
        for handle in handles:
            with contextlib.suppress(Exception):  # what became of it is told to whoever holds it
                handle.exception(_CLEANUP_S)

    def _drop(self, handle: Handle[Any]) -> None:
        with self._lock:
            self._handles.discard(handle)


def _is_lost(opening: asyncio.Task[Manager]) -> bool:
    """True when it failed, or its loop is another: that one was stopped, or we are a fork of its process."""
    if opening.get_loop() is not asyncio.get_running_loop():
        return True
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


def allow_nested_loops() -> None:
    """Let code in cells call `asyncio.run` although the notebook's loop runs. Patches the whole process.

    For third-party code only: nothing of ours needs it. Uses `nest-asyncio2`; refuses uvloop, which cannot be patched.

    Raises:
        ConfigError: The running loop cannot be patched.
    """
    module = sys.modules.get("uvloop")
    try:
        running: object = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if module is not None and isinstance(running, module.Loop):
        raise ConfigError(
            "The running loop is uvloop's, which cannot be nested.", subject="allow_nested_loops"
        )
    importlib.import_module("nest_asyncio2").apply()
