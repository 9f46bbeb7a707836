"""What led to a checkpoint: what was recorded under it, and under those that it follows until the next one was saved. Pure.

    ──●── first ──●── second ──●── third          what is told under `first` after `second` was saved led elsewhere
      └ asked      └ asked, resolved

A record names its checkpoint as whoever asked did: by the id, or by the beginning of one.

Source: spec 6 §Telemetry (`analyze(checkpoint_id)`), §Checkpoints (parents).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, Protocol

from xprim_nb._text import clean, format_dollars
from xprim_nb.prompts.telemetry.records import CACHES, Record

__all__ = ["Saved", "led_by", "step_document", "step_text"]

# As the store has it: fewer digits name no checkpoint.
_FEWEST_DIGITS: Final = 8


class Saved(Protocol):
    """As much of a checkpoint as is needed."""

    @property
    def id(self) -> str:
        """Its hash."""
        ...

    @property
    def at(self) -> float:
        """When it was first saved, in seconds since 1970."""
        ...


def led_by(line: Sequence[Saved], known: Iterable[str]) -> Mapping[str, float]:
    """What records may be recorded under that led to a checkpoint, each with the time until when they did.

    Args:
        line: The checkpoint, then the one that it follows, and so on.
        known: What records are recorded under.
    """
    until = {each.id: math.inf if place == 0 else line[place - 1].at for place, each in enumerate(line)}
    ids = sorted(until)
    found: dict[str, float] = {}
    for name in known:
        if len(name) < _FEWEST_DIGITS:
            continue
        some = ids[bisect_left(ids, name) :]
        times = [until[each] for each in takewhile(lambda id_: id_.startswith(name), some)]  # noqa: B023  # used at once
        if times:
            found[name] = max(times)
    return found


def step_document(step: Record) -> dict[str, Any]:
    """A record as one step on the way, as JSON; money as text, so that no digit is lost."""
    told: dict[str, Any] = {
        name: getattr(step, name)
        for name in (
            *("at_s", "operation", "provider", "model", "checkpoint", "scaffold", "scaffold_type", "request"),
            *("finish", "error", "is_sent", "latency_s", "saved_tokens"),
        )
    }
    usage = step.usage
    told |= {
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "read_tokens": usage.cache_read_tokens if usage and usage.reported else None,
    }
    for name in ("billed", "estimated", "saved"):
        amount = getattr(step, name)
        told[name] = None if amount is None else str(amount)
    return told | {
        "caches": {cache: dict(zip(("hit", "reason"), step.outcome(cache), strict=True)) for cache in CACHES}
    }


def step_text(step: Record) -> str:
    """The same in a line."""
    parts = [step.operation, step.model, step.error or step.finish]
    if step.usage is not None:
        parts.append(f"{step.usage.input_tokens:,} + {step.usage.output_tokens:,} tokens")
    for name in ("billed", "estimated", "saved"):
        amount = getattr(step, name)
        parts.append("" if amount is None else f"{format_dollars(amount)} {name}")
    for cache in CACHES:
        hit, reason = step.outcome(cache)
        parts.append("" if hit is None else f"{cache} {'hit' if hit else 'missed'} ({reason})")
    parts.append(f"under {step.checkpoint[:12]}")
    return clean(", ".join(filter(None, parts))).replace("\n", " ")
