"""The saver over PostgreSQL. Needs the extra `postgres` as well."""

from __future__ import annotations

from typing import Self

from .langgraph_parts import SerializerProtocol
from .postgres_database import PostgresDatabase
from .saver import Saver

__all__ = ["PostgresSaver"]


class PostgresSaver(Saver):
    """Checkpoints in a PostgreSQL database, a Neon or any other."""

    @classmethod
    def open(
        cls,
        url: str,
        *,
        serde: SerializerProtocol | None = None,
        timeout_s: float = 10.0,
        memory_bytes: int = 64 << 20,
    ) -> Self:
        """A saver for `with` or `async with`; it connects when it is entered or first used.

        Args:
            url: `postgresql://…`, or any connection string that libpq reads.
            serde: See `Saver`.
            timeout_s: How long a call waits for a connection, in seconds.
            memory_bytes: See `Saver`.
        """
        return cls(PostgresDatabase(url, timeout_s=timeout_s), serde=serde, memory_bytes=memory_bytes)
