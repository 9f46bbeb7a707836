"""The names of `langgraph-checkpoint` that this package uses. Needs the extra `prompts`.

The one module that imports it, and what it is made of.
"""

from __future__ import annotations

from xprim_nb.errors import MissingExtraError

try:
    import ormsgpack
    import zstandard
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
        PendingWrite,
        get_checkpoint_metadata,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.serde.types import INTERRUPT

    # LangGraph's own PostgreSQL saver needs it as well: there is no public name for a delta channel's full state.
    from langgraph.checkpoint.serde.types import _DeltaSnapshot as DeltaSnapshot
except ImportError as error:
    raise MissingExtraError.for_extra("prompts", "Keeping checkpoints") from error

__all__ = [
    "INTERRUPT",
    "WRITES_IDX_MAP",
    "BaseCheckpointSaver",
    "ChannelVersions",
    "Checkpoint",
    "CheckpointMetadata",
    "CheckpointTuple",
    "DeltaChannelHistory",
    "DeltaSnapshot",
    "JsonPlusSerializer",
    "PendingWrite",
    "RunnableConfig",
    "SerializerProtocol",
    "get_checkpoint_metadata",
    "ormsgpack",
    "zstandard",
]
