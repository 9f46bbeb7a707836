"""Money and each cache's share by day: bars and lines, a table that says the same, and words.

The drawing is an SVG inside an image, the rest HTML without scripts or style sheets: it is the same in a saved notebook, on
a page without a kernel, and in a notebook that is not trusted, where front ends take every other SVG out. What is billed and
what is estimated are two bars side by side, never one; each cache has a line of its own, told apart by its mark as well as
by its colour. A cache that was not asked on a day has no mark there, and no line across.

Source: spec 6 §Telemetry ("DataFrames and a chart", trends); research/prompts §6 (7: never one hit rate).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from xprim_nb._text import clean, format_count, format_dollars
from xprim_nb.reports.charts import INK, WIDTH
from xprim_nb.reports.markup import CELL, NO_MATHS, NUMBER, escaped, legend

if TYPE_CHECKING:
    from xprim_nb.prompts.telemetry import Analysis

__all__ = ["TrendChart", "TrendDay"]

# Okabe and Ito's palette, as in `cache_bar`: each is told from a light and from a dark page by 3 : 1.
_BILLED: Final = "#0072b2"
_SHARES: Final = {"response": "#009e73", "prefix": "#d55e00", "scaffold": "#808080"}
_WORDS: Final = {
    "response": "answers from the response cache",
    "prefix": "input tokens read from the provider's prefix cache",
    "scaffold": "prompts that had been rendered before",
}
# More days than pixels for them say nothing; the frame has them all.
_MOST_DAYS, _MOST_ROWS = 90, 14
_LEFT, _RIGHT, _TOP, _HIGH, _BETWEEN = 64, 12, 34, 90, 40
_WIDEST_BAR: Final = 14.0


class TrendDay(NamedTuple):
    """One day in UTC.

    Attributes:
        day: Which.
        calls: Sent to providers.
        billed: In US dollars, from what providers told.
        estimated: In US dollars, of what nobody billed.
        response: Of the questions that asked the response cache, those that it answered, 0 to 1; None where none did.
        prefix: Of the input tokens whose provider says so, those that it read from its cache; None where none said it.
        scaffold: Of the prompts that were looked up, those that had been rendered before; None where none was.
    """

    day: date
    calls: int
    billed: Decimal = Decimal(0)
    estimated: Decimal = Decimal(0)
    response: float | None = None
    prefix: float | None = None
    scaffold: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class TrendChart:
    """What prompts cost by day, and how far each cache spared it.

    Attributes:
        title: What is shown, in one line.
        days: The earliest first; days without an operation are left out.
    """

    title: str
    days: tuple[TrendDay, ...]

    @classmethod
    def of(cls, analysis: Analysis) -> Self:
        """The days of an analysis, the last ninety."""
        found = [
            TrendDay(
                day=date.fromisoformat(each.key),
                calls=each.calls,
                billed=each.billed,
                estimated=each.estimated,
                response=each.rate("response").share if each.rate("response").asked else None,
                prefix=each.prefix_read_share if each.reported_tokens else None,
                scaffold=each.rate("scaffold").share if each.rate("scaffold").asked else None,
            )
            for each in analysis.by_day
        ]
        return cls("Cost and cache hits by day", tuple(found[-_MOST_DAYS:]))

    @property
    def described(self) -> str:
        """All of it in a sentence or two, for who does not see the drawing."""
        if not self.days:
            return "Nothing is recorded."
        first, last = self.days[0], self.days[-1]
        billed = sum((each.billed for each in self.days), Decimal(0))
        estimated = sum((each.estimated for each in self.days), Decimal(0))
        calls = format_count(sum(each.calls for each in self.days), "call")
        span = f"On {first.day}" if first is last else f"From {first.day} to {last.day}"
        money = f"{format_dollars(billed)} billed and {format_dollars(estimated)} estimated"
        shares = _hits(last)
        return f"{span}: {calls}, {money}." + (f" Cache hits on the last day: {shares}." if shares else "")

    def svg(self) -> str:
        """The drawing, with its title and its description; its ink is read on a light and on a dark page."""
        height = _TOP + 2 * _HIGH + _BETWEEN + 24
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" font-family="sans-serif" font-size="12" fill="{INK}">'
        )
        parts = [
            opening,
            f"<title>{escaped(self.title)}</title><desc>{escaped(self.described)}</desc>",
            f'<text x="0" y="14" font-weight="bold">{escaped(self.title)}</text>',
        ]
        if self.days:
            parts += [*_money_panel(self.days), *_share_panel(self.days), *_dates(self.days, height - 6)]
        return "".join([*parts, "</svg>"])

    def html(self) -> str:
        """The drawing as an image, what its colours mean, and the table."""
        alt = escaped(f"{self.title}. {self.described}")
        image = b64encode(self.svg().encode()).decode("ascii")
        parts = [
            f'<img alt="{alt}" src="data:image/svg+xml;base64,{image}" style="max-width:100%;height:auto"/>',
            f"<p>{escaped(self.described)}</p>",
        ]
        if self.days:
            rows = list(reversed(self.days))
            parts += [_legend(), _table(rows[:_MOST_ROWS])]
            if rows[_MOST_ROWS:]:
                more = format_count(len(rows) - _MOST_ROWS, "earlier day")
                parts.append(f"<details><summary>{more}</summary>{_table(rows[_MOST_ROWS:])}</details>")
        return f'<div class="xprim-trend {NO_MATHS}">{"".join(parts)}</div>'

    def text(self) -> str:
        """The chart in words, a line a day."""
        lines = [f"  {each.day}: {', '.join(_told(each))}" for each in self.days]
        return clean("\n".join([f"{self.title}. {self.described}", *lines]))

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {"text/html": self.html(), "text/plain": self.text()}


def _told(day: TrendDay) -> Iterator[str]:
    yield from filter(None, (format_count(day.calls, "call"), _cost(day), _hits(day)))


def _cost(day: TrendDay) -> str:
    """A bill and an estimate, each by its name."""
    told = ((day.billed, "billed"), (day.estimated, "estimated"))
    return ", ".join(f"{format_dollars(amount)} {kind}" for amount, kind in told if amount)


def _hits(day: TrendDay) -> str:
    """Each cache that was asked, by its name."""
    shares = ((name, getattr(day, name)) for name in _SHARES)
    return ", ".join(f"{name} {_percent(share)}" for name, share in shares if share is not None)


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _places(days: Sequence[TrendDay]) -> list[float]:
    """Where each day stands, true to time: pauses are wide."""
    first, whole = days[0].day, (days[-1].day - days[0].day).days or 1
    room = WIDTH - _LEFT - _RIGHT - 2 * _WIDEST_BAR
    return [_LEFT + _WIDEST_BAR + room * (each.day - first).days / whole for each in days]


def _money_panel(days: Sequence[TrendDay]) -> Iterator[str]:
    most = max(max(each.billed, each.estimated) for each in days)
    bottom = _TOP + _HIGH
    yield from _axis(_TOP, [(0.0, "$0"), (1.0, format_dollars(most))] if most else [(0.0, "$0")])
    whole = (days[-1].day - days[0].day).days + 1
    width = max(1.0, min(_WIDEST_BAR, (WIDTH - _LEFT - _RIGHT) / whole / 2 - 1))
    for each, x in zip(days, _places(days), strict=True):
        for name, left in (("billed", x - width), ("estimated", x)):
            amount: Decimal = getattr(each, name)
            if not amount:
                continue
            high = max(1.0, _HIGH * float(amount / most))
            ink = f'fill="{_BILLED}"' if name == "billed" else f'fill="none" stroke="{_BILLED}"'
            yield (
                f'<rect x="{left:.1f}" y="{bottom - high:.1f}" width="{width:.1f}" height="{high:.1f}" {ink}/>'
            )


def _share_panel(days: Sequence[TrendDay]) -> Iterator[str]:
    top = _TOP + _HIGH + _BETWEEN
    yield from _axis(top, [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")])
    places = _places(days)
    for name, colour in _SHARES.items():
        line: list[tuple[float, float]] = []
        for each, x in zip((*days, None), (*places, 0.0), strict=True):
            share: float | None = None if each is None else getattr(each, name)
            if share is not None:
                line.append((x, top + _HIGH * (1 - share)))
                continue
            if len(line) > 1:  # what was not asked in between is no line across
                points = " ".join(f"{left:.1f},{high:.1f}" for left, high in line)
                yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            yield from (_mark(name, left, high) for left, high in line)
            line = []


def _axis(top: float, ticks: Iterable[tuple[float, str]]) -> Iterator[str]:
    for share, word in ticks:
        y = top + _HIGH * (1 - share)
        yield (
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{INK}" '
            f'stroke-opacity="0.35"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{word}</text>'
        )


def _dates(days: Sequence[TrendDay], y: float) -> Iterator[str]:
    yield f'<text x="{_LEFT}" y="{y}">{days[0].day}</text>'
    if len(days) > 1:
        yield f'<text x="{WIDTH - _RIGHT}" y="{y}" text-anchor="end">{days[-1].day} UTC</text>'


def _mark(name: str, x: float, y: float) -> str:
    """A circle, a square, or a triangle."""
    colour = _SHARES[name]
    match name:
        case "response":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
        case "prefix":
            return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" fill="{colour}"/>'
        case _:
            points = f"{x - 4:.1f},{y + 3:.1f} {x + 4:.1f},{y + 3:.1f} {x:.1f},{y - 4:.1f}"
            return f'<polygon points="{points}" fill="{colour}"/>'


def _legend() -> str:
    """Each mark with its words; the marks are letters, so that they are there without the drawing too."""
    box = "display:inline-block;width:.7em;height:.7em;margin-right:.4em;forced-color-adjust:none"
    told = [
        f'<span style="{box};background-color:{_BILLED}"></span>billed',
        f'<span style="{box};border:1px solid {_BILLED}"></span>estimated',
        *(
            f'<span style="color:{_SHARES[name]}" aria-hidden="true">{mark}</span> {name}: {_WORDS[name]}'
            for name, mark in zip(_SHARES, "●■▲", strict=True)
        ),
    ]
    return legend(told)


def _table(days: Iterable[TrendDay]) -> str:
    """Few columns whose words wrap: in a narrow page nothing is cut."""
    head = "".join(
        f'<th scope="col" style="text-align:left">{name}</th>'
        for name in ("day", "calls", "cost", "cache hits")
    )
    rows = []
    for each in days:
        cells = "".join(f'<td style="{CELL}">{escaped(cell)}</td>' for cell in (_cost(each), _hits(each)))
        calls = f'<td style="{NUMBER}">{each.calls:,}</td>'
        rows.append(f'<tr><th scope="row" style="{CELL}">{each.day}</th>{calls}{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
