"""One look at a prompt before it is sent: whether its answer is kept, and what its provider has of it.

Source: spec 6 §Caches (`explain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xprim_nb.prompts.caches import MissReason
from xprim_nb.prompts.explain import explain
from xprim_nb.prompts.prefix import Prediction, Sent, Share
from xprim_nb.prompts.pricing import Rates
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.rules import cache_rule
from xprim_nb.prompts.tokens import Counter, TokenCount
from xprim_nb.prompts.xray import Break, Explanation, SegmentState

__all__ = ["look"]


def look(
    rendered: Rendered,
    counts: Sequence[TokenCount],
    history: Sequence[Sent],
    now_s: float,
    rates: Rates | str,
    *,
    count: Counter | None = None,
    missed: MissReason | None = None,
) -> Explanation:
    """The X-ray of a prompt, whoever it is for; of a provider without a cache that is known, all is fresh.

    Args:
        rendered: What would be sent.
        counts: For each segment, its tokens.
        history: What was sent to the model before.
        now_s: By the history's clock.
        rates: Prices, or why there are none.
        count: Counts a part of a segment.
        missed: Why no answer is kept; None when one is.
    """
    rule = cache_rule(rendered.provider, rendered.model)
    if rule is None:
        found = _fresh(rendered, counts, rates)
    else:
        part = (lambda text: count(text).count) if count is not None else None
        found = explain(rendered, counts, history, now_s, rule, rates, count=part)
    return replace(found, answer_kept=missed is None, answer_missed=missed.sentence if missed else "")


def _fresh(rendered: Rendered, counts: Sequence[TokenCount], rates: Rates | str) -> Explanation:
    shares = tuple(Share(0, 0, each.count) for each in counts)
    return Explanation(
        provider=rendered.provider,
        model=rendered.model,
        segments=tuple(
            SegmentState(index, segment.kind, segment.label, "fresh", share, None)
            for index, (segment, share) in enumerate(zip(rendered.segments, shares, strict=True))
        ),
        prediction=Prediction(0, 0, 0, sum(each.count for each in counts), shares),
        count=sum(counts, TokenCount(0, counts[0].method if counts else "estimate")),
        broken=Break(
            "nothing", f"{rendered.provider} keeps nothing from call to call, as far as is known here."
        ),
        unpriced=rates if isinstance(rates, str) else "",
    )
