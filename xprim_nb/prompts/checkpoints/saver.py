"""LangGraph's checkpoint saver over our databases: all eight capabilities, for callers with and without an event loop.

The methods without an `a` do the work on the thread they are called on, an event loop's own included, as a notebook's
cells need it. Those with one do the same on a thread of the database's, so that the loop goes on.

Source: spec 6 §Checkpoints; langgraph-checkpoint 4.3 (`BaseCheckpointSaver`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from xprim_nb.errors import ConfigError

from .aside import AsideSaver
from .database import Database
from .langgraph_parts import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    RunnableConfig,
    SerializerProtocol,
    get_checkpoint_metadata,
)
from .reading import Query, Reader, config_of
from .remembered import Place, Remembered
from .removing import copy_thread, delete_runs, delete_thread, prune_thread
from .sqlite_database import SqliteDatabase
from .storing import store_checkpoint, store_writes

__all__ = ["Saver", "SqliteSaver"]

# Two hundred times a thread of 300 messages; what is not remembered is read.
_MEMORY_BYTES = 64 << 20
_STRATEGIES = ("keep_latest", "delete")


class Saver(AsideSaver):
    """Checkpoints in a database. Thread-safe; used in `graph.compile(checkpointer=…)`, ended by `with` or `close`.

    Args:
        database: Owned by the saver from now on.
        serde: LangGraph's `JsonPlusSerializer` when None, which unpickles nothing and has an allow-list of types.
        memory_bytes: Stored bytes that the saver may remember to save itself reading; the values that it has made of
            them take half as much again at most.
    """

    def __init__(
        self,
        database: Database,
        *,
        serde: SerializerProtocol | None = None,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        super().__init__(database, serde=serde)
        self._remembered = Remembered(memory_bytes)

    # --- reading ---------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that is addressed, or the newest of its thread and namespace; None when there is none."""
        place = _place(config)
        return self._reader().one(Query(place.thread, place.namespace, place.id or None))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first; of every thread when `config` is None, of every namespace when it names none.

        Raises:
            ConfigError: A key of the filter is not made of letters, digits, dots, hyphens and underscores.
        """
        return itertools.chain.from_iterable(self.pages(config, filter, before, limit))

    def pages(
        self,
        config: RunnableConfig | None,
        chosen: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Iterator[Sequence[CheckpointTuple]]:
        """What `list` lists, some at a time."""
        return self._reader().pages(_query(config, chosen, before, limit))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each delta channel its last full value among the ancestors, and the writes since, oldest first."""
        place = _place(config)
        if not place.id:
            newest = self.get_tuple(config)
            if newest is None:
                return {channel: {"writes": []} for channel in channels}
            place = place._replace(id=newest.checkpoint["id"])
        return self._reader().delta_history(place.thread, place.namespace, place.id, channels)

    # --- writing ---------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint as the child of the one that `config` addresses; the result addresses the new one."""
        parent = _place(config)
        place = parent._replace(id=checkpoint["id"])
        store_checkpoint(
            self.database,
            self._remembered,
            self.serde,
            place,
            parent.id or None,
            checkpoint,
            get_checkpoint_metadata(config, metadata),
            new_versions,
        )
        return config_of(*place)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task has written after a checkpoint, until the next one has it."""
        place = _place(config)
        if not place.id:
            raise ConfigError("Writes belong to a checkpoint, and none is named.", subject=place.thread)
        store_writes(self.database, self._remembered, self.serde, place, writes, task_id, task_path)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Give one thread all checkpoints and writes of another; their values are shared, not copied."""
        copy_thread(self.database, source_thread_id, target_thread_id)

    # --- taking away -----------------------------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Take a thread away, with every value that no other thread has."""
        delete_thread(self.database, str(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Take away the checkpoints of these runs, with their writes and values.

        A delta channel of a thread that goes on loses what these runs wrote: whoever deletes a run wants that.
        """
        delete_runs(self.database, [str(run) for run in run_ids])

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Take away what a thread does not need to go on, or all of it.

        Args:
            thread_ids: Each is pruned in a transaction of its own.
            strategy: `keep_latest` keeps, of each namespace, the newest checkpoint and those that wait for an answer,
                and the ancestors that delta channels are made of. `delete` keeps nothing.

        Raises:
            ConfigError: There is no such strategy.
        """
        if strategy not in _STRATEGIES:
            raise ConfigError(
                f"There is no strategy {strategy!r:.50}.",
                subject="strategy",
                hint="It is 'keep_latest' or 'delete'.",
            )
        for thread in map(str, thread_ids):
            if strategy == "delete":
                delete_thread(self.database, thread)
            else:
                prune_thread(self.database, self.serde, thread)

    def compact(self) -> int:
        """Give back the room of what was taken away; so many bytes less. See `Database.compact`.

        Deleting and pruning leave room that the next checkpoints use; who wants the disk to have it calls this then.
        """
        return self.database.compact()

    def get_next_version(self, current: Any, channel: None) -> Any:  # noqa: ANN401  # a number or a text
        """The next version: a whole number, or LangGraph's padded text in threads that have those."""
        if isinstance(current, str):
            return f"{int(current.split('.')[0]) + 1:032}.{random.random():016}"
        return 1 if current is None else int(current) + 1

    def _reader(self) -> Reader:
        # Made for each call: `with_allowlist` gives a copy of the saver another serialiser.
        return Reader(self.database, self._remembered, self.serde)


class SqliteSaver(Saver):
    """Checkpoints in one SQLite file, for this user alone.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, SqliteSaver.open(f"{folder}/runs.sqlite") as saver:
    ...     print(list(saver.list(None)))
    []
    """

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        serde: SerializerProtocol | None = None,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> Self:
        """A saver for `with` or `async with`; the file is opened, or created, when it is entered or first used.

        Args:
            path: The file, or its URL (`sqlite:///…`).
            serde: See `Saver`.
            memory_bytes: See `Saver`.

        Raises:
            ConfigError: It is no file: each thread has a connection of its own, and so would each have a memory.
        """
        text = str(path)
        if text in ("", ":memory:") or text.startswith("file:"):
            raise ConfigError(
                f"{text!r} is no file, and checkpoints are kept in one.",
                subject=text,
                hint="Name a file; one in a temporary directory is gone as soon as memory would be.",
            )
        file = text.removeprefix("sqlite:///") if text.startswith("sqlite:///") else text
        return cls(SqliteDatabase(file), serde=serde, memory_bytes=memory_bytes)


def _place(config: RunnableConfig) -> Place:
    """What a configuration addresses; the id is empty when it names none."""
    configurable = config.get("configurable") or {}
    if "thread_id" not in configurable:
        raise ConfigError(
            "A checkpoint needs a thread.",
            subject="thread_id",
            hint='Pass {"configurable": {"thread_id": "…"}} to the graph.',
        )
    return Place(
        str(configurable["thread_id"]),
        str(configurable.get("checkpoint_ns") or ""),
        str(configurable.get("checkpoint_id") or ""),
    )


def _query(
    config: RunnableConfig | None,
    chosen: dict[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> Query:
    earlier = (before or {}).get("configurable", {}).get("checkpoint_id")
    if config is None:
        return Query(before=earlier, filter=chosen, limit=limit)
    place = _place(config)
    namespace = (config.get("configurable") or {}).get("checkpoint_ns")
    return Query(
        place.thread,
        None if namespace is None else str(namespace),
        place.id or None,
        before=earlier,
        filter=chosen,
        limit=limit,
    )
