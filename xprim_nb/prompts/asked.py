"""What a question comes to: the answer, where it is from, why, and what it cost.

Source: seeds/001 (ExecutionResult); spec 6 §Caches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xprim_nb._hashing import Digest
from xprim_nb.prompts.answers import Answer, Cost
from xprim_nb.prompts.caches import Call, MissReason
from xprim_nb.prompts.resolve import ResolvedScaffold
from xprim_nb.prompts.values import ResolveInput

__all__ = ["Asked", "OnCall", "Passed", "Source"]

Source: TypeAlias = Literal["cache", "generated", "joined"]


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, and how it was come by.

    Attributes:
        answer: As the model said it; from the cache, without secrets.
        source: `cache`, `generated`, or `joined`: somebody who asked the same at the same time was answered too, in
            this process or another.
        request: The hash of what was asked.
        asked: What was asked, without secrets.
        resolved: What was sent, and what is known of it; None for an answer from the cache.
        reason: Why it was not answered from the cache; None when it was.
        cost: What this call cost; None when nothing was paid, or no price is known.
        saved: For an answer from the cache, what it would have cost; None for the others, or when no price is known.
        not_kept: Why the answer was not kept; empty when it was, or was there already.
        looked_up_s: From asking to the end of the look-up.
        total_s: From asking to the answer.
        sent: What the record of prefixes says of the call; None where this question was no call of its own.
        waited: How long it waited for another process that asked the same, in a sentence; empty where it did not.
    """

    answer: Answer
    source: Source
    request: Digest
    asked: ResolveInput
    resolved: ResolvedScaffold | None = None
    reason: MissReason | None = None
    cost: Cost | None = None
    saved: Cost | None = None
    not_kept: str = ""
    looked_up_s: float = 0.0
    total_s: float = 0.0
    sent: Call | None = None
    waited: str = ""

    @property
    def hit(self) -> bool:
        """True when nobody was asked."""
        return self.source == "cache"


@dataclass(frozen=True, slots=True)
class Passed:
    """A question that is over, as it is told to whoever counts them.

    Attributes:
        asked: What was asked, without secrets.
        request: Its hash.
        checkpoint: The checkpoint that it belongs to; empty for none.
        result: What it came to, or what it ended with.
        at_s: When it was asked, in seconds since 1970.
        total_s: From asking to the end.
        is_sent: Of what ended with an error: whether a provider was asked, and on this question's account. A call that many
            have joined is one's; of an answer its `source` tells it.
    """

    asked: ResolveInput
    request: Digest
    checkpoint: str
    result: Asked | BaseException
    at_s: float
    total_s: float
    is_sent: bool = True


OnCall: TypeAlias = Callable[[Passed], object]
"""Told each question that is over; it must not wait, and what it raises is logged and goes no further."""
