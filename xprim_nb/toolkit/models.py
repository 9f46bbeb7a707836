"""The toolkit's verbs for models: list, pull, remove, publish.

Source: spec 1 §Manager.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from xprim_nb._bridge import Handle
from xprim_nb._threads import halting
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
from xprim_nb.config import expand_home
from xprim_nb.events import CheckProgress, Event, PullProgress
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.registry.chunking import DEFAULT_CHUNK_BYTES
from xprim_nb.registry.index import RemoteModel
from xprim_nb.registry.listing import RemoteListing
from xprim_nb.registry.manifest import FileEntry
from xprim_nb.registry.publisher import Published, publish
from xprim_nb.toolkit.base import Verbs

__all__ = ["ModelVerbs"]


class ModelVerbs(Verbs):
    """See `Manager`; each verb returns a `Handle`. Equal pulls in flight are joined."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._pulls: dict[tuple[ModelRef, bool], Handle[Pulled]] = {}
        self._latest: dict[ModelRef, PullProgress] = {}
        self._checks: dict[tuple[str, ModelRef | None], CheckProgress] = {}

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

    def plan_pull(
        self, ref: ModelRef | str, *, force: bool = False, manifest_hash: str | None = None
    ) -> Handle[PullPlan]:
        """See `Manager.plan_pull`."""
        return self._do(
            f"plan a pull of {ref}", Manager.plan_pull, ref, force=force, manifest_hash=manifest_hash
        )

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

    def discard(self, ref: ModelRef | str) -> Handle[Pruned]:
        """See `Manager.discard`."""
        return self._do(f"discard what was fetched of {ref}", Manager.discard, ref)

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
        """See `registry.publisher.publish`; no shell has replaced `~` here, so it is."""

        async def work() -> Published:
            return await halting(
                lambda check: publish(
                    expand_home(source, "source"),
                    ModelRef.parse(ref),
                    to=expand_home(to, "to"),
                    alias=alias,
                    metadata=metadata,
                    chunk_size=chunk_size,
                    mode=mode,
                    replace=replace,
                    progress=lambda _: check(),
                )
            )

        return self._running.add(Handle(work(), f"publish {ref}"))

    def _remember(self, event: Event) -> None:
        if isinstance(event, PullProgress):
            self._latest[event.ref] = event
        elif isinstance(event, CheckProgress):
            self._checks[event.doing, event.ref] = self._checks[event.doing, None] = event

    def _forget(self, key: tuple[ModelRef, bool], handle: Handle[Pulled]) -> None:
        with self._lock:
            if self._pulls.get(key) is handle:
                del self._pulls[key]
