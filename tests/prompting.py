"""Prompts and what became of them, for tests of whatever shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from xprim_nb.prompts.answers import Answer, Cost, Usage
from xprim_nb.prompts.asked import Asked
from xprim_nb.prompts.explain import Explanation, explain
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.prefix import Sent
from xprim_nb.prompts.pricing import rates
from xprim_nb.prompts.resolve import ResolvedScaffold, resolve_scaffold
from xprim_nb.prompts.rules import cache_rule
from xprim_nb.prompts.tokens import TokenCount
from xprim_nb.prompts.values import PromptBlock, ResolveInput

__all__ = ["ASKED", "answered", "asking", "explained", "resolved"]

CLAUDE = "claude-opus-4-8"
# One place, so that a price list that changes breaks no test that is about something else.
_NOW = datetime(2026, 11, 28, tzinfo=UTC)


def asking(day: str = "2026-11-28", turn: str = "Why?", model: str = CLAUDE) -> ResolveInput:
    """Two long blocks, the second of which names the day, and a turn."""
    return ResolveInput(
        prompt=turn,
        provider="anthropic",
        model=model,
        blocks=(
            PromptBlock(type="requirements", name="requirements", content="Be exact. " * 1_200, volatility=5),
            PromptBlock(
                type="style_guide",
                name="style guide",
                content=f"As of {day}. " + "Short sentences. " * 900,
                volatility=10,
            ),
        ),
    )


def resolved(asked: ResolveInput) -> ResolvedScaffold:
    """What is sent for it, a token for each four letters."""
    return resolve_scaffold(asked, count=lambda text: len(text) // 4)


def explained(before: ResolveInput | None, now: ResolveInput) -> Explanation:
    """The X-ray of a call a minute after another."""
    rule = cache_rule(now.provider, now.model)
    assert rule is not None
    sent = []
    if before is not None:
        was = resolved(before)
        sent = [Sent.of(was.rendered, was.segment_tokens, rule, 0.0)]
    found = resolved(now)
    counts = [TokenCount(count) for count in found.segment_tokens]
    return explain(found.rendered, counts, sent, 60.0, rule, rates(now.provider, now.model, at=_NOW))


ASKED = ResolveInput(prompt="Why?", provider="anthropic", model=CLAUDE)


def answered(text: str = "Because.", source: str = "generated", **changes: object) -> Asked:
    """An answer to `ASKED`."""
    fields: dict[str, object] = {
        "cost": Cost(Decimal("0.00123456"), "billed") if source == "generated" else None,
        "saved": Cost(Decimal("0.5"), "estimated") if source == "cache" else None,
        "total_s": 2.5 if source == "generated" else 0.0004,
    }
    answer = Answer(text, usage=Usage(12, 3), model=CLAUDE)
    return Asked(answer, source, request_hash(ASKED), ASKED, **{**fields, **changes})  # type: ignore[arg-type]  # a test's
