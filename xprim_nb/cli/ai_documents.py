"""What `xprim ai … --json` prints of the engine's values; `xprim_nb.cli.documents` lists every document.

Source: spec 4 §Faces ("JSON: `text`, `tokens`, `timings_s`, `worker_pid`").
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from xprim_nb.cli import documents

if TYPE_CHECKING:
    from xprim_nb.scheduling.leases import TimelineRow
    from xprim_nb.scheduling.values import GenerateProgress, Reply

__all__ = ["reply", "stopped", "timeline"]


def reply(value: Reply) -> dict[str, Any]:
    """An answer; `timings_s` has one number a stage, and `total`."""
    document: dict[str, Any] = documents.plain(value)
    timings: dict[str, float] = document.pop("timings")
    return {
        "text": document.pop("text"),
        "tokens": document.pop("tokens"),
        "timings_s": {name.removesuffix("_s"): round(seconds, 6) for name, seconds in timings.items()},
        "worker_pid": document.pop("worker_pid"),
        **document,
        "tokens_per_s": round(value.tokens_per_s, 3),
    }


def stopped(progress: GenerateProgress) -> dict[str, Any]:
    """What came of an answer that was interrupted."""
    return {
        "text": progress.text,
        "tokens": progress.tokens,
        "timings_s": {"total": round(progress.elapsed_s, 6)},
        "worker_pid": None,
        "model": progress.model,
        "finish_reason": "cancelled",
    }


def timeline(rows: Iterable[TimelineRow]) -> list[dict[str, Any]]:
    """What happened to models, times as documents have them."""
    return [
        {**documents.plain(each), "at": documents.plain(datetime.fromtimestamp(each.at, UTC))}
        for each in rows
    ]
