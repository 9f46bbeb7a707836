"""What became of the tokens, by day or by provider: bars of what was read, written, paid in full and answered.

In three forms like the other charts: Vega-Lite where a front end draws it, SVG where it does not, words in a terminal.

Source: spec 6 §Telemetry ("DataFrames and a chart"); Vega-Lite 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xprim_nb.reports.charts import CONFIG, GAP, LABEL, MIME, ROW, WIDTH, short

if TYPE_CHECKING:
    from xprim_nb.prompts.telemetry import Summary

__all__ = ["TokenBar", "TokenChart", "token_bars"]

# Okabe and Ito's palette; each is named in words beneath the chart and in each bar's text.
_COLOURS: Final = {"read": "#009e73", "written": "#e69f00", "fresh": "#0072b2", "answered": "#cc79a7"}


class TokenBar(NamedTuple):
    """One bar: its name, its tokens by what became of them, and what they cost.

    `read`, `written` and `fresh` add up to what was sent. A bill and an estimate stand apart, in US dollars.
    """

    name: str
    read: int
    written: int
    fresh: int
    answered: int
    billed: Decimal = Decimal(0)
    estimated: Decimal = Decimal(0)

    @property
    def parts(self) -> dict[str, int]:
        """Tokens by what became of them, from left to right."""
        return {name: getattr(self, name) for name in _COLOURS}

    @property
    def told(self) -> str:
        """All of it in words."""
        tokens = ", ".join(f"{count:,} {name}" for name, count in self.parts.items() if count)
        money = [f"${self.billed:.4f} billed"] if self.billed else []
        money += [f"${self.estimated:.4f} estimated"] if self.estimated else []
        return ", ".join([tokens or "no tokens", *money])


@dataclass(frozen=True, slots=True)
class TokenChart:
    """Tokens as stacked horizontal bars.

    Attributes:
        title: What is shown, in one line.
        bars: From top to bottom.
    """

    title: str
    bars: tuple[TokenBar, ...]

    def vega_lite(self) -> dict[str, Any]:
        """The chart as a Vega-Lite 5 document that holds its own data."""
        values = [
            {"name": bar.name, "kind": kind, "tokens": count, "place": place}
            for bar in self.bars
            for place, (kind, count) in enumerate(bar.parts.items())
        ]
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": {"text": self.title, "anchor": "start"},
            "width": WIDTH - LABEL,
            "height": {"step": ROW},
            "background": "transparent",
            "data": {"values": values},
            "mark": {"type": "bar", "tooltip": True},
            "encoding": {
                "y": {"field": "name", "type": "nominal", "sort": None, "title": None},
                "x": {"field": "tokens", "type": "quantitative", "title": "tokens", "axis": {"format": "~s"}},
                "order": {"field": "place", "type": "quantitative"},
                "color": {
                    "field": "kind",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": list(_COLOURS), "range": list(_COLOURS.values())},
                    "legend": {"orient": "bottom"},
                },
            },
            "config": CONFIG,
        }

    def svg(self) -> str:
        """The chart as an SVG; text takes the page's colour."""
        most = max((sum(bar.parts.values()) for bar in self.bars), default=0) or 1
        height = ROW * (len(self.bars) * 2 + 2) + GAP
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-label="{escape(self.text())}" font-family="sans-serif" '
            f'font-size="12" fill="currentColor">'
        )
        parts = [opening, f'<text x="0" y="{ROW - 7}" font-weight="bold">{escape(self.title)}</text>']
        for number, bar in enumerate(self.bars):
            top, left = ROW * (2 * number + 1), float(LABEL)
            parts.append(
                f'<text x="{LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(short(bar.name))}</text>'
            )
            for kind, count in bar.parts.items():
                length = (WIDTH - LABEL) * count / most
                parts.append(
                    f'<rect x="{left:.1f}" y="{top + GAP // 2}" width="{length:.1f}" height="{ROW - GAP}" '
                    f'fill="{_COLOURS[kind]}"/>'
                )
                left += length
            parts.append(f'<text x="{LABEL}" y="{top + ROW + 12}" font-size="11">{escape(bar.told)}</text>')
        foot, left = height - ROW, 0.0
        for kind, colour in _COLOURS.items():
            parts += [
                f'<rect x="{left:.0f}" y="{foot + GAP}" width="12" height="12" fill="{colour}"/>',
                f'<text x="{left + 18:.0f}" y="{foot + 15}">{kind}</text>',
            ]
            left += 100
        return "".join([*parts, "</svg>"])

    def text(self) -> str:
        """The chart in words, a line a bar."""
        return "\n".join([self.title, *(f"  {bar.name}: {bar.told}" for bar in self.bars)])

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {MIME: self.vega_lite(), "image/svg+xml": self.svg(), "text/plain": self.text()}


def token_bars(summaries: Iterable[Summary]) -> tuple[TokenBar, ...]:
    """A bar for each group, in the order given: `Analysis.by_day` for a trend, `by_provider` for who gets what."""
    return tuple(
        TokenBar(
            name=each.key or "(none)",
            read=each.read_tokens,
            written=each.written_tokens,
            # Convention: what is read and written is part of the input.
            fresh=max(0, each.input_tokens - each.read_tokens - each.written_tokens),
            answered=each.output_tokens,
            billed=each.billed,
            estimated=each.estimated,
        )
        for each in summaries
    )
