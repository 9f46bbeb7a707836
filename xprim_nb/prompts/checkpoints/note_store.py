"""What every part of the checkpoint store needs: a database, and a redactor; and what is noted and called on the way.

Source: spec 6 §Checkpoints; seeds/001 (ScratchpadArtifact, ToolTrace).
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

from xprim_nb.config.database import POSTGRES, SQLITE
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.values import JsonValue

from . import noting
from .database import Database
from .langgraph_parts import JsonPlusSerializer, SerializerProtocol
from .naming import check_word
from .payloads import PayloadDraft, draft_payload
from .saved import ArtifactKind, Purity, ScratchpadArtifact, ToolTrace
from .sqlite_database import SqliteDatabase

__all__ = ["NOTHING", "NoteStore", "check_mapping"]

# Two of so many random bytes are never equal.
_ID_BYTES = 16
NOTHING: Mapping[str, JsonValue] = {}
"""A default that nobody changes."""


class NoteStore:
    """Artifacts and traces, linked to checkpoints. Safe from many tasks, threads and processes.

    Args:
        database: `saver.database`, say. Closed with the store; use opens it again.
        redactor: Takes secrets out of all that is kept.
        serde: LangGraph's `JsonPlusSerializer` when None; the saver's, where values are to be shared with it.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        redactor: Redactor | None = None,
        serde: SerializerProtocol | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self._redactor = redactor or Redactor()
        self._serde: SerializerProtocol = serde or JsonPlusSerializer()
        self._clock = clock

    @classmethod
    def open(
        cls,
        address: Path | str,
        *,
        redactor: Redactor | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """A store for `async with`: of a file, `sqlite:///…`, or `postgresql://…`; connected when first used."""
        text = str(address)
        if text.startswith(POSTGRES):
            from .postgres_database import PostgresDatabase  # noqa: PLC0415  # needs the extra `postgres`

            return cls(PostgresDatabase(text), redactor=redactor, clock=clock)
        return cls(SqliteDatabase(text.removeprefix(SQLITE)), redactor=redactor, clock=clock)

    async def add_artifact(
        self,
        checkpoint: str,
        content: str,
        kind: ArtifactKind,
        *,
        metadata: Mapping[str, JsonValue] = NOTHING,
        span: str = "",
        scaffold: str | None = None,
    ) -> ScratchpadArtifact:
        """What was written down, once it is kept at the checkpoint.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            ConfigError: The kind is none, or something cannot be kept.
        """
        _check_choice(kind, get_args(ArtifactKind), "kind")
        if not isinstance(content, str):
            raise ConfigError(
                "An artifact's content is text.", subject="content", hint="Turn it into text first."
            )
        check_mapping(metadata, "metadata")
        columns = (kind, check_word(span, "span", self._redactor, may_be_empty=True))
        parts = {"content": content, "metadata": metadata}
        return (await self._noted("artifact", checkpoint, scaffold, columns, parts)).artifacts(self._serde)[0]

    async def list_artifacts(
        self, checkpoint: str, *, scaffold: str | None = None
    ) -> tuple[ScratchpadArtifact, ...]:
        """What was written down at a checkpoint, oldest first; CheckpointNotFoundError when there is none such."""
        noted = await self.database.aread(
            lambda session: noting.read_notes(session, "artifact", checkpoint, scaffold)
        )
        return noted.artifacts(self._serde)

    async def add_trace(
        self,
        checkpoint: str,
        tool: str,
        *,
        inputs: Mapping[str, JsonValue] = NOTHING,
        outputs: JsonValue = None,
        duration_s: float,
        success: bool | None = None,
        error: str = "",
        purity: Purity = "effect",
        span: str = "",
        scaffold: str | None = None,
    ) -> ToolTrace:
        """One call of a tool, once it is kept at the checkpoint; without `success`, it failed if there is an error.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            ConfigError: The purity is none, the duration no time, or something cannot be kept.
        """
        _check_choice(purity, get_args(Purity), "purity")
        check_mapping(inputs, "inputs")
        if not math.isfinite(duration_s) or duration_s < 0:
            raise ConfigError(
                f"{duration_s!r} is no duration.", subject="duration_s", hint="Give seconds, from 0."
            )
        columns = (
            check_word(tool, "tool", self._redactor),
            float(duration_s),
            int(not error if success is None else success),
            purity,
            check_word(span, "span", self._redactor, may_be_empty=True),
        )
        parts = {"inputs": inputs, "outputs": outputs, "error": error}
        return (await self._noted("trace", checkpoint, scaffold, columns, parts)).traces(self._serde)[0]

    async def list_traces(self, checkpoint: str, *, scaffold: str | None = None) -> tuple[ToolTrace, ...]:
        """The calls of tools at a checkpoint, oldest first; CheckpointNotFoundError when there is none such."""
        noted = await self.database.aread(
            lambda session: noting.read_notes(session, "trace", checkpoint, scaffold)
        )
        return noted.traces(self._serde)

    async def aclose(self) -> None:
        """End the connections, when what runs on them has ended."""
        await self.database.aclose()

    async def __aenter__(self) -> Self:
        await self.database.aside(self.database.prepare)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _draft(self, what: str, parts: Mapping[str, JsonValue]) -> PayloadDraft:
        return draft_payload(what, parts, self._redactor, self._serde)

    async def _noted(
        self,
        what: str,
        checkpoint: str,
        scaffold: str | None,
        columns: tuple[str | float | int, ...],
        parts: Mapping[str, JsonValue],
    ) -> noting.Noted:
        id_, at = secrets.token_hex(_ID_BYTES), self._clock()

        def note() -> noting.Noted:
            made = noting.Note(what, id_, columns, self._draft(what, parts), at)
            return self.database.write(lambda session: noting.add_note(session, checkpoint, scaffold, made))

        return await self.database.aside(note)


def check_mapping(value: object, what: str) -> None:
    """ConfigError where JSON values by name are wanted and something else is given."""
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"The {what} is {type(value).__name__}, and must be a mapping.",
            subject=what,
            hint='Give it a name: {"value": …}.',
        )


def _check_choice(value: str, choices: tuple[str, ...], what: str) -> None:
    if value not in choices:
        raise ConfigError(
            f"{value!r:.50} is no {what}.", subject=what, hint=f"It is one of: {', '.join(choices)}."
        )
