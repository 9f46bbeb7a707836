"""Bars as a Vega-Lite document with an SVG beside it: a notebook that draws the one ignores the other.

JupyterLab draws Vega-Lite offline, without a further package; the SVG is for front ends that do not, and for a
notebook that is looked at without a kernel. Colours are readable on a light and on a dark page.

Source: spec 2 §Reports; DESIGN §Decisions (tables, charts); Vega-Lite 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, NamedTuple

from xprim_nb._text import format_bytes, format_count

__all__ = [
    "CONFIG",
    "GAP",
    "INK",
    "LABEL",
    "MIME",
    "ROW",
    "STATUS_COLOURS",
    "WIDTH",
    "Bar",
    "BarChart",
    "bars_of",
    "short",
]

# Okabe and Ito's palette: told apart by people with any colour vision; each is also named in words.
STATUS_COLOURS: Final = {
    "healthy": "#009e73",
    "degraded": "#e69f00",
    "damaged": "#d55e00",
    "not checked yet": "#808080",
}
_PLAIN = "#0072b2"
# A front end may draw on either ground, and does not say which: 4.3 : 1 on white, 4.4 : 1 on JupyterLab's dark page.
INK = "#7a7a7a"
MIME = "application/vnd.vegalite.v5+json"
ROW, LABEL, WIDTH, GAP = 22, 220, 640, 4
_LONGEST_LABEL = 34
CONFIG: Final = {
    "axis": {"labelColor": INK, "titleColor": INK, "gridOpacity": 0.25},
    "legend": {"labelColor": INK},
    "title": {"color": INK},
    "view": {"stroke": None},
}


class Bar(NamedTuple):
    """One bar: its name, its length in bytes, and the group that gives its colour."""

    name: str
    size_bytes: int
    group: str = ""


@dataclass(frozen=True, slots=True)
class BarChart:
    """Sizes as horizontal bars, coloured by group.

    Attributes:
        title: What is shown, in one line.
        bars: From top to bottom.
    """

    title: str
    bars: tuple[Bar, ...]

    def vega_lite(self) -> dict[str, Any]:
        """The chart as a Vega-Lite 5 document that holds its own data."""
        groups = list(dict.fromkeys(bar.group for bar in self.bars))
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": {"text": self.title, "anchor": "start"},
            "width": WIDTH - LABEL,
            "height": {"step": ROW},
            "background": "transparent",
            "data": {
                "values": [{"name": b.name, "bytes": b.size_bytes, "group": b.group} for b in self.bars]
            },
            "mark": {"type": "bar", "tooltip": True},
            "encoding": {
                "y": {"field": "name", "type": "nominal", "sort": None, "title": None},
                "x": {"field": "bytes", "type": "quantitative", "title": "bytes", "axis": {"format": "~s"}},
                "color": {
                    "field": "group",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": groups, "range": [_colour(group) for group in groups]},
                    "legend": {"orient": "bottom"} if any(groups) else None,
                },
            },
            "config": CONFIG,
        }

    def svg(self) -> str:
        """The chart as an SVG; text takes the page's colour."""
        most = max((bar.size_bytes for bar in self.bars), default=0) or 1
        height = ROW * (len(self.bars) + 1) + GAP
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-label="{escape(self.text())}" font-family="sans-serif" '
            f'font-size="12" fill="currentColor">'
        )
        parts = [opening, f'<text x="0" y="{ROW - 7}" font-weight="bold">{escape(self.title)}</text>']
        for number, bar in enumerate(self.bars, 1):
            top, room = number * ROW, WIDTH - LABEL - 150
            length = max(1.0, room * bar.size_bytes / most) if bar.size_bytes else 0.0
            told = format_bytes(bar.size_bytes) + (f", {bar.group}" if bar.group else "")
            size = f'y="{top + GAP // 2}" width="{length:.1f}" height="{ROW - GAP}"'
            parts += [
                f'<text x="{LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(short(bar.name))}</text>',
                f'<rect x="{LABEL}" {size} fill="{_colour(bar.group)}"/>',
                f'<text x="{LABEL + length + 6:.1f}" y="{top + 15}">{escape(told)}</text>',
            ]
        return "".join([*parts, "</svg>"])

    def text(self) -> str:
        """The chart in words, a line a bar."""
        return "\n".join(
            [
                self.title,
                *(
                    f"  {bar.name}: {format_bytes(bar.size_bytes)}{f' ({bar.group})' if bar.group else ''}"
                    for bar in self.bars
                ),
            ]
        )

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {MIME: self.vega_lite(), "image/svg+xml": self.svg(), "text/plain": self.text()}


def bars_of(rows: Sequence[tuple[str, int, str]], *, most: int = 20) -> tuple[Bar, ...]:
    """The largest rows as bars, and one bar for all the others."""
    ordered = sorted(rows, key=lambda row: -row[1])
    bars = [Bar(*row) for row in ordered[:most]]
    if len(ordered) > most:
        rest = ordered[most:]
        bars.append(Bar(format_count(len(rest), "other"), sum(row[1] for row in rest), ""))
    return tuple(bars)


def _colour(group: str) -> str:
    return STATUS_COLOURS.get(group, _PLAIN)


def short(name: str) -> str:
    """A name as far as there is room for a label."""
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"
