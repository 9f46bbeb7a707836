"""What a checkpoint saver's suites are told, and how they put and get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    empty_checkpoint,
)

from xprim_nb.prompts.checkpoints import Saver

__all__ = ["Given", "at", "long", "put", "values_of"]


def at(thread: str, checkpoint_id: str | None = None, namespace: str = "") -> RunnableConfig:
    """What addresses a thread, or one of its checkpoints."""
    configurable = {"thread_id": thread, "checkpoint_ns": namespace}
    return {"configurable": configurable | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def put(
    saver: BaseCheckpointSaver[Any],
    config: RunnableConfig,
    values: dict[str, Any],
    *,
    version: int = 1,
    changed: Sequence[str] | None = None,
    **metadata: Any,
) -> RunnableConfig:
    """Keep a checkpoint with these values as the child of what `config` addresses."""
    checkpoint: Checkpoint = {
        **empty_checkpoint(),
        "channel_values": values,
        "channel_versions": dict.fromkeys(values, version),
    }
    new: ChannelVersions = dict.fromkeys(values if changed is None else changed, version)
    about = cast("CheckpointMetadata", {"source": "loop", "step": version, **metadata})
    return saver.put(config, checkpoint, about, new)


def values_of(saver: BaseCheckpointSaver[Any], config: RunnableConfig) -> dict[str, Any]:
    """The values of a checkpoint that must be there."""
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]


def long(text: str) -> str:
    """A text too long to be kept in a row with others."""
    return f"{text} " * 40


class Given:
    """What a saver's suite is told."""

    @pytest.fixture
    def saver(self) -> Iterator[Saver]:
        """A saver over an empty database."""
        raise NotImplementedError

    @pytest.fixture
    def count_values(self, saver: Saver) -> Callable[[], int]:
        """Counts the values that the database has, however many refer to one."""
        return lambda: int(
            saver.database.read(lambda session: session.rows("SELECT count(*) FROM xprim_blobs"))[0][0]
        )
