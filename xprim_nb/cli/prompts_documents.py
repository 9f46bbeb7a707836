"""What `xprim prompts … --json` prints of the room's values; `xprim_nb.cli.documents` lists every document.

Source: spec 6 §Faces.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from xprim_nb.cli import documents

if TYPE_CHECKING:
    from xprim_nb.prompts.answers import Cost
    from xprim_nb.prompts.asked import Asked
    from xprim_nb.prompts.caches import MissReason
    from xprim_nb.prompts.resolve import ResolvedScaffold

__all__ = ["answered", "cost", "money", "reason", "resolved"]


def cost(value: Cost | None) -> dict[str, Any] | None:
    """Money as text, exact; an amount never stands without its kind."""
    if value is None:
        return None
    return {**documents.plain(value), "amount": _exact(value.amount), "currency": "USD"}


def money(value: Cost) -> str:
    """The same for people: six digits, which is a token of the cheapest models."""
    return f"${value.amount:.6f}".rstrip("0").rstrip(".")


def reason(value: MissReason | None) -> dict[str, Any] | None:
    """Why the cache did not answer, in parts and as a sentence."""
    if value is None:
        return None
    told: dict[str, Any] = documents.plain(value)
    at = told.pop("earlier_at")
    told["earlier_at"] = documents.plain(datetime.fromtimestamp(at, UTC)) if at else None
    return {**told, "sentence": value.sentence}


def answered(value: Asked) -> dict[str, Any]:
    """An answer, where it is from, and what it cost."""
    answer = value.answer
    return {
        "text": answer.text,
        "finish": answer.finish,
        "source": value.source,
        "request": value.request,
        "sample_index": value.asked.sample_index,
        "provider": value.asked.provider,
        "model": answer.model or value.asked.model,
        "usage": documents.plain(answer.usage),
        "cost": cost(value.cost),
        "saved": cost(value.saved),
        "reason": reason(value.reason),
        "not_kept": value.not_kept,
        "waited": value.waited,
        "tool_calls": documents.plain(answer.tool_calls),
        "timings_s": {
            "look_up": round(value.looked_up_s, 6),
            "first_token": round(answer.first_token_s, 6),
            "answer": round(answer.latency_s, 6),
            "total": round(value.total_s, 6),
        },
        "extra": documents.plain(answer.extra),
    }


def resolved(value: ResolvedScaffold) -> dict[str, Any]:
    """What would be sent, in the order in which a provider's cache sees it."""
    tokens = value.segment_tokens or (None,) * len(value.rendered.segments)
    return {
        "provider": value.rendered.provider,
        "model": value.rendered.model,
        "format": value.provider_format,
        "request": value.request_hash,
        "scaffold": value.scaffold.hash,
        "rendered": value.rendered.digest,
        "endpoint": value.asked.endpoint,
        "tokens": value.token_count,
        "tokens_bound": value.token_bound,
        "estimated_cost": cost(value.estimated_cost),
        "cached": value.cache_hit,
        "notes": list(value.notes),
        "segments": [
            {
                "kind": each.kind,
                "label": each.label,
                "hash": each.hash,
                "tokens": count,
                "volatility": each.volatility,
                "breakpoint": each.breakpoint,
                "path": list(each.path),
            }
            for each, count in zip(value.rendered.segments, tokens, strict=True)
        ],
        "body": documents.plain(value.rendered.body),
    }


def _exact(amount: Decimal) -> str:
    return format(amount, "f")
