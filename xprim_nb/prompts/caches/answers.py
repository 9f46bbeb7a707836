"""The response cache: answers that were paid for, by the hash of everything that could have changed them.

A look-up never writes. Each sample of a request has a hash of its own, and so a place of its own.

Source: spec 6 §Caches; research/prompts §6 (15, 16).
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass, replace
from typing import Any

from xprim_nb._hashing import Digest
from xprim_nb.prompts.answers import Answer, Usage
from xprim_nb.prompts.caches.codec import DamagedValueError, pack, unpack
from xprim_nb.prompts.caches.schema import ROW_VERSION
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.values import ResolveInput

__all__ = ["KEPT", "Found", "find_answer", "has_answer", "keep_answer", "redacted_answer"]

KEPT = frozenset({"stop", "tool_calls"})
"""How an answer must have ended to be kept: a refusal, a truncated, failed or cancelled one may be better next time."""

_FIND = "SELECT version, value FROM answers WHERE request = ? AND created_at >= ?"
_HAS = "SELECT 1 FROM answers WHERE request = ? AND version = ?"
_KEEP = """
    INSERT INTO answers (request, version, provider, model, created_at, size_bytes, value) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (request) DO UPDATE SET version = excluded.version, created_at = excluded.created_at,
        size_bytes = excluded.size_bytes, value = excluded.value
        WHERE excluded.created_at >= created_at
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up came to.

    Attributes:
        answer: None for a miss.
        trouble: Why a row that is there is no hit: `damaged`, `version`; empty where there is none.
        detail: What its reader said.
        value: The bytes of a damaged row.
    """

    answer: Answer | None = None
    trouble: str = ""
    detail: str = ""
    value: bytes = b""


_NOTHING = Found()


def find_answer(connection: sqlite3.Connection, request: Digest, since_s: float = 0.0) -> Found:
    """The kept answer of a request, unless it was asked for before `since_s`.

    Raises:
        MissingExtraError: It was packed by zstandard, which is not installed here.
    """
    row = connection.execute(_FIND, (bytes.fromhex(request), since_s)).fetchone()
    if row is None:
        return _NOTHING
    version, value = row
    if version != ROW_VERSION:
        return Found(trouble="version", detail=f"its rows are of version {version}, these of {ROW_VERSION}")
    try:
        return Found(_from_json(unpack(value)))
    except (DamagedValueError, KeyError, TypeError, AttributeError) as error:
        return Found(trouble="damaged", detail=str(error), value=bytes(value))


def has_answer(connection: sqlite3.Connection, request: Digest) -> bool:
    """Whether there is a row of this version; what it holds is not read."""
    row = connection.execute(_HAS, (bytes.fromhex(request), ROW_VERSION)).fetchone()
    return row is not None


def keep_answer(
    connection: sqlite3.Connection, request: Digest, asked: ResolveInput, answer: Answer, asked_s: float
) -> None:
    """Keep an answer that is safe to keep: redacted, and ended as it should. One that was asked for later stays.

    Raises:
        ValueError: It ended in another way; none of those may ever be found again.
        TypeError: It holds what JSON cannot.
    """
    if answer.finish not in KEPT:
        raise ValueError(f"an answer that ended with {answer.finish!r} is never kept")
    value = pack(_to_json(answer))
    connection.execute(
        _KEEP,
        (bytes.fromhex(request), ROW_VERSION, asked.provider, asked.model, asked_s, len(value), value),
    )


def redacted_answer(answer: Answer, redact: Redactor) -> Answer:
    """The answer without secrets, wherever the model repeated them."""
    return replace(
        answer,
        text=redact.text(answer.text),
        model=redact.text(answer.model),
        tool_calls=tuple(redact.json(call) for call in answer.tool_calls),
        extra=redact.json(answer.extra),
    )


def _to_json(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "finish": answer.finish,
        "usage": asdict(answer.usage),
        "model": answer.model,
        "tool_calls": [dict(call) for call in answer.tool_calls],
        "latency_s": answer.latency_s,
        "first_token_s": answer.first_token_s,
        "extra": dict(answer.extra),
    }


def _from_json(value: dict[str, Any]) -> Answer:
    return Answer(
        text=value["text"],
        finish=value["finish"],
        usage=Usage(**value["usage"]),
        model=value["model"],
        tool_calls=tuple(value["tool_calls"]),
        latency_s=value["latency_s"],
        first_token_s=value["first_token_s"],
        extra=value["extra"],
    )
