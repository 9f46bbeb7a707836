"""What the values about prompts have to tell.

Source: spec 6 §Faces; spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from xprim_nb._text import format_bytes, format_count, format_dollars
from xprim_nb.magics.cache_facts import present, shown
from xprim_nb.magics.sheets import Facts

if TYPE_CHECKING:
    from xprim_nb.prompts.asked import Asked
    from xprim_nb.prompts.caches import CacheStats
    from xprim_nb.prompts.checkpoints.saved import Checkpoint
    from xprim_nb.prompts.explain import Explanation
    from xprim_nb.prompts.resolve import ResolvedScaffold

__all__ = ["FACTS", "LINES"]

# Of a list of answers each begins on a line of its own.
_LINE_CHARS = 60


def _resolved_facts(resolved: ResolvedScaffold) -> Facts:
    segments = resolved.rendered.segments
    tokens = resolved.segment_tokens or (None,) * len(segments)
    parts = [
        (each.label, ", ".join(filter(None, [_tokens(count), "kept up to here" if each.breakpoint else ""])))
        for each, count in zip(segments, tokens, strict=True)
    ]
    cost = resolved.estimated_cost
    dated = f", prices of {cost.price_date}" if cost is not None and cost.price_date else ""
    bound = f", give or take {resolved.token_bound:,}" if resolved.token_bound else ""
    kept = {True: "kept: it is answered from the cache", False: "not kept yet", None: ""}
    return present(
        Model=f"{resolved.asked.provider}: {resolved.asked.model}",
        Format=resolved.provider_format,
        Tokens="" if resolved.token_count is None else f"{resolved.token_count:,}{bound}",
        Cost=f"{format_dollars(cost.amount)} {cost.kind}, if nothing is cached{dated}"
        if cost is not None
        else "",
        Answer=kept[resolved.cache_hit],
        Parts=shown(parts),
        Notes="\n".join(resolved.notes),
        Scaffold=resolved.scaffold.hash,
        Request=resolved.request_hash,
    )


def _tokens(count: int | None) -> str:
    return "" if count is None else format_count(count, "token")


def _checkpoint_facts(saved: Checkpoint) -> Facts:
    state = shown((name, _beginning(repr(value))) for name, value in saved.state.items())
    return present(
        Checkpoint=saved.id,
        Label=saved.label,
        Scaffold=saved.scaffold,
        Branch=saved.name,
        Tip_of=", ".join(saved.branches),
        Follows=saved.parent or "",
        State="erased" if saved.is_erased else state,
        Nodes=shown((each.kind, each.name) for each in saved.nodes),
    )


def _checkpoint_line(saved: Checkpoint) -> str:
    label = f"{saved.label} " if saved.label else ""
    return f"<Checkpoint {label}{saved.id[:8]} on {saved.name}>"


def _stats_facts(stats: CacheStats) -> Facts:
    return present(
        Answers=f"{stats.answers:,}",
        Prompts=f"{stats.scaffolds:,} rendered",
        Sent=format_count(stats.sent, "call"),
        Size=format_bytes(stats.size_bytes),
        Damaged=f"{format_count(stats.damaged, 'row')} put aside" if stats.damaged else "",
        Put_aside="\n".join(map(str, stats.moved_aside)),
    )


def _asked_line(asked: Asked) -> str:
    return f"<Asked {asked.source}: {_beginning(asked.answer.text)}>"


def _resolved_line(resolved: ResolvedScaffold) -> str:
    tokens = f", {_tokens(resolved.token_count)}" if resolved.token_count is not None else ""
    return f"<ResolvedScaffold {resolved.asked.provider}: {resolved.asked.model}{tokens}>"


def _explanation_line(found: Explanation) -> str:
    read = f"{found.prediction.read_tokens:,} of {_tokens(found.prediction.tokens)} cached"
    return f"<Explanation {found.provider}: {found.model}, {read}>"


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LINE_CHARS else f"{line[: _LINE_CHARS - 1]}…"


LINES: Mapping[tuple[str, str], Callable[[Any], str]] = {
    ("xprim_nb.prompts.asked", "Asked"): _asked_line,
    ("xprim_nb.prompts.resolve", "ResolvedScaffold"): _resolved_line,
    ("xprim_nb.prompts.checkpoints.saved", "Checkpoint"): _checkpoint_line,
    ("xprim_nb.prompts.xray", "Explanation"): _explanation_line,
}
"""What they say in one short line, among others: their reprs hold whole prompts."""

FACTS: Mapping[tuple[str, str], Callable[[Any], Facts]] = {
    ("xprim_nb.prompts.resolve", "ResolvedScaffold"): _resolved_facts,
    ("xprim_nb.prompts.caches.store", "CacheStats"): _stats_facts,
    ("xprim_nb.prompts.checkpoints.saved", "Checkpoint"): _checkpoint_facts,
}
