"""When which model was awake: a Vega-Lite document with an SVG beside it, in the manner of `charts`.

Source: spec 4 §Faces (timeline); Vega-Lite 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xprim_nb._text import clean, format_bytes, format_seconds
from xprim_nb.reports.charts import CONFIG, GAP, INK, LABEL, MIME, ROW, WIDTH, short
from xprim_nb.reports.markup import escaped

if TYPE_CHECKING:
    from xprim_nb.scheduling.leases import TimelineRow

__all__ = ["STATE_COLOURS", "Span", "TimelineChart", "spans_of"]

# Okabe and Ito's palette, as in `charts`; each is also named in words.
STATE_COLOURS: Final = {
    "loading": "#e69f00",
    "resident": "#009e73",
    "parked": "#56b4e9",
    "leaving": "#cc79a7",
    "not given back": "#d55e00",
}
# A lease's states, as a reader has them.
_WORDS: Mapping[str, str] = {
    "reserved": "loading",
    "loading": "loading",
    "resident": "resident",
    "draining": "leaving",
    "releasing": "leaving",
    "parked": "parked",
    "ghost": "not given back",
}
_GONE = "gone"
# Shorter than a pixel is shown as one: a load that took a moment happened all the same.
_THINNEST = 1.0


class Span(NamedTuple):
    """A model in one state, for a while.

    Attributes:
        model: `backend:name`.
        state: A key of `STATE_COLOURS`.
        begin: In seconds since the epoch.
        end: The same; of what still lasts the moment of looking.
        device: Where.
        size_bytes: Charged there.
        note: What caused the load: the cell.
        reason: Why it came into this state.
        kernel_pid: Who held it.
    """

    model: str
    state: str
    begin: float
    end: float
    device: str
    size_bytes: int
    note: str
    reason: str
    kernel_pid: int


def spans_of(rows: Iterable[TimelineRow], now: float) -> tuple[Span, ...]:
    """What the changes of a timeline span, by beginning; neighbours in the same state are one.

    Args:
        rows: Oldest first.
        now: Until when what still lasts is shown, in seconds since the epoch.
    """
    current: dict[str, Span] = {}
    spans: list[Span] = []

    def end(lease_id: str, at: float) -> None:
        span = current.pop(lease_id, None)
        if span is not None:
            spans.append(span._replace(end=max(at, span.begin)))

    for row in rows:
        before = current.get(row.lease_id)
        state = _WORDS.get(row.state, row.state)
        if before is not None and before.state == state:
            current[row.lease_id] = before._replace(size_bytes=row.device_bytes, device=row.device)
            continue
        end(row.lease_id, row.at)
        if row.state != _GONE:
            current[row.lease_id] = Span(
                row.model,
                state,
                row.at,
                row.at,
                row.device,
                row.device_bytes,
                row.note,
                row.reason,
                row.kernel_pid,
            )
    for lease_id in list(current):
        end(lease_id, now)
    return tuple(sorted(spans, key=lambda span: (span.begin, span.model)))


@dataclass(frozen=True, slots=True)
class TimelineChart:
    """When which model was loading, resident, parked or leaving, a line a model.

    Attributes:
        title: What is shown, in one line.
        spans: By beginning.
    """

    title: str
    spans: tuple[Span, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """One a line, in the order in which they were first loaded."""
        return tuple(dict.fromkeys(span.model for span in self.spans))

    @property
    def _whole_s(self) -> float:
        """From the first beginning to the last end, in seconds."""
        begin = min((span.begin for span in self.spans), default=0.0)
        return max((span.end for span in self.spans), default=0.0) - begin or 1.0

    def vega_lite(self) -> dict[str, Any]:
        """The chart as a Vega-Lite 5 document that holds its own data."""
        states = [state for state in STATE_COLOURS if any(span.state == state for span in self.spans)]
        least_s = _THINNEST * self._whole_s / (WIDTH - LABEL)
        values = [
            {
                "model": clean(span.model),
                "state": span.state,
                "begin": _iso(span.begin),
                "end": _iso(max(span.end, span.begin + least_s)),
                "took": format_seconds(span.end - span.begin),
                "size": format_bytes(span.size_bytes),
                "device": span.device,
                "cause": clean(span.note),
                "why": clean(span.reason),
            }
            for span in self.spans
        ]
        told = ("model", "state", "took", "size", "device", "cause", "why")
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": {"text": self.title, "anchor": "start"},
            "width": WIDTH - LABEL,
            "height": {"step": ROW},
            "background": "transparent",
            "data": {"values": values},
            "mark": {"type": "bar"},
            "encoding": {
                "y": {
                    "field": "model",
                    "type": "nominal",
                    "sort": [clean(each) for each in self.models],
                    "title": None,
                },
                "x": {"field": "begin", "type": "temporal", "title": None},
                "x2": {"field": "end"},
                "color": {
                    "field": "state",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": states, "range": [_colour(state) for state in states]},
                    "legend": {"orient": "bottom"},
                },
                "tooltip": [{"field": name, "type": "nominal"} for name in told],
            },
            "config": CONFIG,
        }

    def svg(self) -> str:
        """The chart as an SVG; text takes the page's colour, and each bar says what it is when it is pointed at."""
        lines = {model: number for number, model in enumerate(self.models, 1)}
        begin = min((span.begin for span in self.spans), default=0.0)
        whole = self._whole_s
        height, room = ROW * (len(lines) + 2) + GAP, WIDTH - LABEL
        # Of a whole day nobody wants every span read out; the table beside it has them.
        label = f"{self.title}: {', '.join(self.models[:5])}" if self.spans else self.title
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-label="{escaped(label)}" font-family="sans-serif" '
            f'font-size="12" fill="currentColor">'
        )
        parts = [opening, f'<text x="0" y="{ROW - 7}" font-weight="bold">{escaped(self.title)}</text>']
        for model, number in lines.items():
            name = escaped(short(model))
            parts.append(f'<text x="{LABEL - 8}" y="{number * ROW + 15}" text-anchor="end">{name}</text>')
        for span in self.spans:
            left = LABEL + room * (span.begin - begin) / whole
            width = max(_THINNEST, room * (span.end - span.begin) / whole)
            top = lines[span.model] * ROW + GAP // 2
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - GAP}" '
                f'fill="{_colour(span.state)}"><title>{escaped(_told(span))}</title></rect>'
            )
        if self.spans:
            low = height - GAP - 4
            parts += [
                f'<text x="{LABEL}" y="{low}">{_clock(begin)}</text>',
                f'<text x="{WIDTH}" y="{low}" text-anchor="end">{_clock(begin + whole)} UTC</text>',
            ]
        return "".join([*parts, "</svg>"])

    def text(self) -> str:
        """The chart in words, a line a span."""
        return clean(
            "\n".join([self.title, *(f"  {_clock(span.begin)} {_told(span)}" for span in self.spans)])
        )

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {MIME: self.vega_lite(), "image/svg+xml": self.svg(), "text/plain": self.text()}


def _told(span: Span) -> str:
    cause = f", for {span.note}" if span.note else ""
    took = format_seconds(span.end - span.begin)
    return f"{span.model}: {span.state} for {took}, {format_bytes(span.size_bytes)} on {span.device}{cause}"


def _colour(state: str) -> str:
    return STATE_COLOURS.get(state, INK)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"
