"""Where the objects of a registry come from: one base URL or one directory each.

A source makes one try and says honestly how it ended; trying again, mirrors and verification are the client's.
"""

from xprim_nb.registry.sources.contract import (
    BlockingSource,
    ChunkSink,
    Document,
    Source,
    SourceError,
    SourceStalledError,
)

__all__ = ["BlockingSource", "ChunkSink", "Document", "Source", "SourceError", "SourceStalledError"]
