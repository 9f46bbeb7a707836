"""The quarter of the room's owner that keeps states: checkpoints, their branches, and the store that has them.

Source: spec 6 §Checkpoints, §Faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xprim_nb.config.database import is_here, mask_database_url
from xprim_nb.errors import OfflineError
from xprim_nb.prompts import checkpoints as kept_states
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.values import JsonValue

if TYPE_CHECKING:
    from xprim_nb.prompts.checkpoints import CheckpointStore
    from xprim_nb.prompts.checkpoints.saved import Checkpoint, TreeNode

__all__ = ["SavingPrompts"]


class SavingPrompts:
    """The checkpoints' verbs; see `Prompts`, which opens and closes what these need."""

    folder: Path
    _database: str
    _offline: bool
    _redactor: Redactor
    _opened: AsyncExitStack
    _store: CheckpointStore | None = None

    async def checkpoints(self) -> CheckpointStore:
        """The store, opened with the first use; it belongs to these prompts, and is closed with them.

        Raises:
            MissingExtraError: The extra `prompts` is not installed, or for PostgreSQL `postgres`.
            ConfigError: The database's address cannot work.
            OfflineError: It is on another machine, and offline mode is on.
            StorageError, DatabaseUnavailableError: Its database cannot be opened.
        """
        if self._store is None:
            where = self._database or self.folder / "checkpoints.sqlite"
            if self._offline and not is_here(self._database):
                shown = mask_database_url(self._database)
                raise OfflineError(
                    f"Checkpoints are kept at {shown}, and offline mode opens no connection to it.",
                    subject=shown,
                    hint="Unset XPRIM_OFFLINE, or XPRIM_DATABASE_URL to keep them in a file here.",
                )
            # Set before anything is waited for: of two first uses at once only one opens it.
            # The package fetches it here: it needs an extra, which questions alone do not.
            self._store = kept_states.CheckpointStore.open(where, redactor=self._redactor)
            # Whatever becomes of the first connection: it is made again with the next use, and has to be closed.
            self._opened.push_async_exit(self._store)
            await self._store.__aenter__()
        return self._store

    async def save(
        self, scaffold: str, state: Mapping[str, JsonValue], name: str = "main", **how: Any
    ) -> Checkpoint:
        """See `CheckpointStore.save`."""
        return await (await self.checkpoints()).save(scaffold, state, name, **how)

    async def restore(self, checkpoint: str, *, scaffold: str | None = None) -> Checkpoint:
        """See `CheckpointStore.get`."""
        return await (await self.checkpoints()).get(checkpoint, scaffold=scaffold)

    async def branch(self, checkpoint: str, name: str, *, scaffold: str | None = None) -> Checkpoint:
        """See `CheckpointStore.branch_from`."""
        return await (await self.checkpoints()).branch_from(checkpoint, name, scaffold=scaffold)

    async def delete(self, checkpoint: str, *, scaffold: str | None = None) -> None:
        """See `CheckpointStore.delete`."""
        await (await self.checkpoints()).delete(checkpoint, scaffold=scaffold)

    async def compact(self) -> int:
        """See `CheckpointStore.compact`."""
        return await (await self.checkpoints()).compact()

    async def saved(self, limit: int = 100, **how: str | None) -> tuple[TreeNode, ...]:
        """See `CheckpointStore.list`."""
        return await (await self.checkpoints()).list(limit, **how)

    async def tree(self, scaffold: str | None = None) -> tuple[TreeNode, ...]:
        """See `CheckpointStore.tree`."""
        return await (await self.checkpoints()).tree(scaffold)
