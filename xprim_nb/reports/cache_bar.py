"""What a provider's cache does with a prompt, as a bar: read, written, paid in full, and the place where it breaks.

The bar is HTML without scripts or style sheets: it is the same in a saved notebook, on a page without a kernel, and in a
notebook that is not trusted, where front ends drop everything but plain styles. Whatever a colour says stands in words
beside it, and each colour is told from a light and from a dark page by 3 : 1.

Source: spec 6 §Faces, §Caches (explain); research/prompts §9 (1: cache X-ray).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from xprim_nb._text import clean, format_count, format_dollars
from xprim_nb.reports.markup import CELL, NO_MATHS, NUMBER, escaped, legend

if TYPE_CHECKING:
    from xprim_nb.prompts.explain import Advice, Explanation

__all__ = ["BREAK_COLOUR", "CACHE_COLOURS", "BarPart", "BarState", "CacheBar"]

BarState: TypeAlias = Literal["cached", "written", "fresh"]

# Okabe and Ito's palette, as in `charts`; each is also named in words.
CACHE_COLOURS: Final = {"cached": "#009e73", "written": "#0072b2", "fresh": "#808080"}
BREAK_COLOUR: Final = "#d55e00"
_WORDS: Final = {
    "cached": "read from the cache",
    "written": "will be written to the cache",
    "fresh": "paid in full",
}
_BREAKS: Final = "breaks here"

# More rows than fit on a screen are a click away, and blocks thinner than a few pixels say nothing.
_MOST_ROWS, _MOST_BLOCKS = 12, 60

_BAR = "display:flex;height:1.4em;max-width:48em;margin:.4em 0"
_BLOCK = "min-width:3px;margin-right:1px;forced-color-adjust:none"
_SWATCH = "display:inline-block;width:.8em;height:.8em;margin-right:.5em;forced-color-adjust:none"
# A reader finds the two lines by what they are for, and the differing byte by the mark in front of it.
_CODE = "margin:0;white-space:pre-wrap;overflow-wrap:anywhere;max-width:48em"


@dataclass(frozen=True, slots=True)
class BarPart:
    """A segment of what is sent, and what the cache does with its tokens.

    Attributes:
        label: What people call it.
        cached: Tokens that are read from the provider's cache.
        written: Tokens that will be written to it.
        fresh: Tokens that are paid in full, and not kept for a price.
        cost: Of all of them, in US dollars; None where nobody knows, or nobody is paid.
        breaks: Whether the first byte that differs from what was sent before lies in it.
    """

    label: str
    cached: int = 0
    written: int = 0
    fresh: int = 0
    cost: Decimal | None = None
    breaks: bool = False

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.cached + self.written + self.fresh

    @property
    def stretches(self) -> tuple[tuple[BarState, int], ...]:
        """What the cache does with so many tokens, in the order in which they lie."""
        told: tuple[tuple[BarState, int], ...] = (
            ("cached", self.cached),
            ("written", self.written),
            ("fresh", self.fresh),
        )
        return tuple((state, tokens) for state, tokens in told if tokens)

    @property
    def words(self) -> str:
        """What its colours say."""
        found = self.stretches
        told = [
            _WORDS[state] if len(found) == 1 else f"{tokens:,} {_WORDS[state]}" for state, tokens in found
        ]
        return ", ".join([*([_BREAKS] if self.breaks else []), *told])


@dataclass(frozen=True, slots=True)
class CacheBar:
    """What a provider's cache does with a prompt, before it is sent.

    Attributes:
        verdict: All of it in one sentence.
        parts: In the order in which the cache sees them.
        broken: Why the prefix ends where it does, in one sentence.
        before: What stood around the first byte that differs; empty where no byte does.
        now: What stands there now.
        advice: What to move where, a sentence each.
        notes: What else is to be known: whence the numbers are, a sentence each.
    """

    verdict: str
    parts: tuple[BarPart, ...] = ()
    broken: str = ""
    before: str = ""
    now: str = ""
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Explanation) -> Self:
        """The bar of an explanation."""
        difference = found.broken.difference
        return cls(
            verdict=_verdict(found),
            parts=tuple(
                BarPart(
                    label=each.label,
                    cached=each.share.read,
                    written=each.share.written,
                    fresh=each.share.fresh,
                    cost=each.amount,
                    breaks=each.state == "breaks",
                )
                for each in found.segments
            ),
            broken=found.broken.message,
            before=difference.before if difference is not None else "",
            now=difference.now if difference is not None else "",
            advice=tuple(_advised(each) for each in found.advice),
            notes=_notes(found),
        )

    @property
    def totals(self) -> dict[BarState, int]:
        """Tokens by what the cache does with them; what it does with none is missing."""
        found: dict[BarState, int] = {}
        for part in self.parts:
            for state, tokens in part.stretches:
                found[state] = found.get(state, 0) + tokens
        return {state: found[state] for state in _WORDS if state in found}

    def text(self) -> str:
        """The bar in words: a line a part, then where it breaks and what to do about it."""
        rows = [(each.label, _tokens(each.tokens), _money(each), each.words) for each in self.parts]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines = [
            f"  {label:<{widths[0]}}  {tokens:>{widths[1]}}  {money:>{widths[2]}}  {words}".rstrip()
            for label, tokens, money, words in rows
        ]
        lines += [self.broken] if self.broken else []
        if self._differs:
            lines += [f"  before: {_one_line(self.before)}", f"  now:    {_one_line(self.now)}"]
        return clean("\n".join([self.verdict, *lines, *self.advice, *self.notes]))

    def html(self) -> str:
        """The same as HTML, with the bar."""
        parts = [f"<p><strong>{escaped(self.verdict)}</strong></p>"]
        if self.parts:
            parts += [_bar(self.parts, self._spoken()), _legend(self.parts), *_tables(self.parts)]
        parts += [f"<p>{escaped(self.broken)}</p>"] if self.broken else []
        parts += [_difference(self.before, self.now)] if self._differs else []
        if self.advice:
            items = "".join(f"<li>{escaped(each)}</li>" for each in self.advice)
            parts.append(f"<p>What to do about it:</p><ul>{items}</ul>")
        parts += [f"<p>{escaped(each)}</p>" for each in self.notes]
        return f'<div class="xprim-cache-bar {NO_MATHS}">{"".join(parts)}</div>'

    @property
    def _differs(self) -> bool:
        return bool(self.before or self.now)

    def _spoken(self) -> str:
        told = [f"{_tokens(tokens)} {_WORDS[state]}" for state, tokens in self.totals.items()]
        breaks = [f"{_BREAKS}: {each.label}" for each in self.parts if each.breaks]
        return "; ".join([*told, *breaks])

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


def _verdict(found: Explanation) -> str:
    sums = found.prediction
    kept = "The answer is kept: nothing would be sent. " if found.answer_kept else ""
    told = f"{kept}{sums.read_tokens:,} of {found.count} tokens are read from the cache of {found.provider} {found.model}"
    if found.cost is None or found.uncached is None:
        return f"{told}."
    cost, uncached = format_dollars(found.cost.amount), format_dollars(found.uncached.amount)
    return f"{told}: about {cost}, and {uncached} without a cache."


def _advised(advice: Advice) -> str:
    saved = f", {format_dollars(advice.saved)}" if advice.saved is not None else ""
    return f"{advice.message} Saves {_tokens(advice.saved_tokens)}{saved} a call."


def _notes(found: Explanation) -> tuple[str, ...]:
    dated = f"Prices of {found.cost.price_date}" if found.cost is not None and found.cost.price_date else ""
    rule = f"the provider's rule was checked on {found.rule_checked}" if found.rule_checked else ""
    told = "; ".join(filter(None, (dated, rule)))
    # A first call, and the byte that differs, are told already.
    missed = "" if found.broken.cause in ("first call", "content") else found.answer_missed
    return tuple(filter(None, (missed, found.unpriced, f"{told[0].upper()}{told[1:]}." if told else "")))


@dataclass(frozen=True, slots=True)
class _Block:
    """A stretch of the bar in one colour."""

    label: str
    state: BarState
    tokens: int
    breaks: bool

    @property
    def colour(self) -> str:
        """What it is drawn in."""
        return BREAK_COLOUR if self.breaks else CACHE_COLOURS[self.state]

    @property
    def words(self) -> str:
        """What its colour says."""
        return f"{_BREAKS}, {_WORDS[self.state]}" if self.breaks else _WORDS[self.state]


def _blocks(parts: Iterable[BarPart]) -> list[_Block]:
    """What of a segment that breaks is still read is drawn as what it is."""
    return [
        _Block(each.label, state, tokens, each.breaks and state != "cached")
        for each in parts
        for state, tokens in each.stretches
    ]


def _bar(parts: Sequence[BarPart], spoken: str) -> str:
    blocks = _blocks(parts)
    shown = "".join(
        f'<span title="{escaped(f"{each.label}: {_tokens(each.tokens)}, {each.words}")}" '
        f'style="{_BLOCK};flex:{each.tokens} 1 0;background-color:{each.colour}"></span>'
        for each in (blocks if len(blocks) <= _MOST_BLOCKS else _merged(blocks))
    )
    return f'<div role="img" aria-label="{escaped(spoken)}" style="{_BAR}">{shown}</div>'


def _merged(blocks: Sequence[_Block]) -> list[_Block]:
    """Neighbours of one colour as one block."""
    merged = []
    for _, group in groupby(blocks, lambda each: each.colour):
        first, *others = group
        more = f" and {format_count(len(others), 'other')}" if others else ""
        tokens = first.tokens + sum(each.tokens for each in others)
        merged.append(replace(first, label=first.label + more, tokens=tokens))
    return merged


def _legend(parts: Sequence[BarPart]) -> str:
    """Each colour with its words and its tokens."""
    sums: dict[tuple[str, str], int] = {}
    for each in sorted(_blocks(parts), key=lambda each: (each.breaks, list(_WORDS).index(each.state))):
        sums[each.colour, each.words] = sums.get((each.colour, each.words), 0) + each.tokens
    return legend(f"{_swatch(colour)}{words}: {_tokens(tokens)}" for (colour, words), tokens in sums.items())


def _tables(parts: Sequence[BarPart]) -> list[str]:
    tables = [_table(parts[:_MOST_ROWS])]
    rest = parts[_MOST_ROWS:]
    if rest:
        more = f"{format_count(len(rest), 'more part')}, {_tokens(sum(each.tokens for each in rest))}"
        tables.append(f"<details><summary>{more}</summary>{_table(rest)}</details>")
    return tables


def _table(parts: Sequence[BarPart]) -> str:
    priced = any(each.cost is not None for each in parts)
    names = ("part", "provider's cache", "tokens", *(["cost"] if priced else []))
    head = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in names)
    rows = []
    for each in parts:
        money = f'<td style="{NUMBER}">{escaped(_money(each))}</td>' if priced else ""
        rows.append(
            f'<tr><th scope="row" style="{CELL}">{escaped(each.label)}</th>'
            f'<td style="{CELL}">{_swatches(each)}{each.words}</td>'
            f'<td style="{NUMBER}">{each.tokens:,}</td>{money}</tr>'
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _difference(before: str, now: str) -> str:
    rows = "".join(
        f'<tr><th scope="row" style="{CELL}">{name}</th><td style="{CELL}">'
        f'<code style="{_CODE}">{escaped(_one_line(text))}</code></td></tr>'
        for name, text in (("before", before), ("now", now))
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _swatches(part: BarPart) -> str:
    return "".join(_swatch(each.colour) for each in _blocks([part]))


def _swatch(colour: str) -> str:
    return f'<span style="{_SWATCH};background-color:{colour}"></span>'


def _tokens(tokens: int) -> str:
    return format_count(tokens, "token")


def _money(part: BarPart) -> str:
    return format_dollars(part.cost) if part.cost is not None else ""


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎").replace("\t", "→") or "(nothing)"
