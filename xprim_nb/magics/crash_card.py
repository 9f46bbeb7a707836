"""A worker's end on a card: its class, what happened, the memory curve, the last lines, what to try. Pure.

    CrashReport ── face_of ──> CrashFace ──> html (an error's card, a saved page), text (a terminal)
                                       └──> the residency panel draws the same face itself

Source: spec 4 §Faces ("crash card in the cell: cause class, memory curve, last lines, what to try").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from xprim_nb._text import clean, format_bytes, format_seconds
from xprim_nb.magics.wording import in_notebook

if TYPE_CHECKING:
    from xprim_nb.workers.values import CrashReport

__all__ = [
    "CURVE_HEIGHT",
    "CURVE_WIDTH",
    "CrashFace",
    "Curve",
    "curve_of",
    "face_of",
    "html",
    "is_report",
    "text",
]

# The curve is a glance, not a chart: as tall as two lines of text.
CURVE_WIDTH, CURVE_HEIGHT = 240, 40
# More points than that share a pixel.
_MOST_POINTS = 120
# In a terminal it takes less than half a line.
_STRETCHES, _BLOCKS = 24, "▁▂▃▄▅▆▇█"
# A traceback and what led to it fit; the worker keeps no more than a few hundred.
_MOST_LINES, _LINE_CHARS, _SENTENCE_CHARS = 200, 500, 600

_CAUSES = {
    "killed": "killed from outside",
    "segfault": "crashed in native code",
    "out_of_memory": "out of memory",
    "exception": "ended by an exception",
    "exit": "ended itself",
    "hung": "hung",
    "no_hello": "never started",
}
_DOINGS = {"start": "starting", "load": "loading", "generate": "answering", "idle": "idle"}


class Curve(NamedTuple):
    """Resident memory over time; `points` is an SVG polyline in a box of `CURVE_WIDTH` by `CURVE_HEIGHT`.

    `sparks` is the same as a line of blocks, for a terminal.
    """

    points: str
    words: str
    sparks: str = ""


@dataclass(frozen=True, slots=True)
class CrashFace:
    """A report as it is shown; all of it is text that cannot turn or move what stands beside it.

    Attributes:
        title: Model and class of the cause.
        cause: The class, as the report has it.
        detail: What happened, in a sentence.
        facts: Where and when, in words.
        curve: The memory curve; None where there are fewer than two samples.
        lines: What the worker wrote last.
        advice: What to try, most promising first.
    """

    title: str
    cause: str
    detail: str
    facts: str
    curve: Curve | None
    lines: tuple[str, ...]
    advice: tuple[str, ...]


def is_report(value: object) -> bool:
    """Whether a value is a `CrashReport`; its class comes with the engine, and is not loaded for the question."""
    return type(value).__name__ == "CrashReport" and hasattr(value, "last_lines")


def face_of(report: CrashReport) -> CrashFace:
    """What is shown of a report."""
    name = _told(report.model.partition(":")[2] or report.model)
    facts = [f"process {report.pid}", f"while {_DOINGS.get(report.doing, report.doing)}"]
    if report.exit_code is not None:
        facts.append(f"exit code {report.exit_code}")
    return CrashFace(
        title=f"{name}: {_CAUSES.get(report.cause, report.cause)}",
        cause=_told(report.cause),
        detail=_told(report.detail),
        facts=_told(", ".join(facts)),
        curve=curve_of(report.memory),
        lines=tuple(clean(each.rstrip("\n"))[:_LINE_CHARS] for each in report.last_lines[-_MOST_LINES:]),
        advice=tuple(map(_told, report.advice)),
    )


def curve_of(memory: Sequence[tuple[float, int]]) -> Curve | None:
    """The curve of `(seconds since start, resident bytes)` samples, oldest first; None where there is no curve."""
    if len(memory) < 2:
        return None
    first_s, last_s = memory[0][0], memory[-1][0]
    span, top = max(last_s - first_s, 1e-9), max(size for _, size in memory)
    step = max(1, -(-len(memory) // _MOST_POINTS))
    # Of each stretch the highest, so that the peak is not lost; and the very last sample.
    thinned = [max(memory[at : at + step], key=lambda each: each[1]) for at in range(0, len(memory), step)]
    if thinned[-1] != memory[-1]:
        thinned.append(memory[-1])
    points = " ".join(
        f"{CURVE_WIDTH * (at - first_s) / span:.1f},{CURVE_HEIGHT - (CURVE_HEIGHT - 2) * size / max(top, 1):.1f}"
        for at, size in thinned
    )
    words = (
        f"memory: {format_bytes(memory[0][1])} at first, {format_bytes(top)} at most, "
        f"{format_bytes(memory[-1][1])} at the end, over {format_seconds(span)}"
    )
    return Curve(points, words, _sparks(memory, first_s, span, top))


def _sparks(memory: Sequence[tuple[float, int]], first_s: float, span: float, top: int) -> str:
    """A block for each stretch of time: the most of it, or what there was before where nobody looked."""
    most = [0] * _STRETCHES
    for at, size in memory:
        stretch = min(_STRETCHES - 1, int(_STRETCHES * (at - first_s) / span))
        most[stretch] = max(most[stretch], size)
    for stretch in range(1, _STRETCHES):
        most[stretch] = most[stretch] or most[stretch - 1]
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, len(_BLOCKS) * size // max(top, 1))] for size in most)


def text(report: CrashReport) -> str:
    """The card as lines of text."""
    face = face_of(report)
    lines = [face.title, face.detail, face.facts]
    lines += [f"{face.curve.words}  {face.curve.sparks}"] if face.curve is not None else []
    lines += ["last lines:", *(f"  {each}" for each in face.lines)] if face.lines else []
    lines += (
        ["what to try:", *(f"  {at}. {each}" for at, each in enumerate(face.advice, 1))]
        if face.advice
        else []
    )
    return "\n".join(line for line in lines if line)


def html(report: CrashReport) -> str:
    """The card as HTML without scripts, readable in light and dark themes."""
    face = face_of(report)
    parts = [
        f"<div><strong>{escape(face.title)}</strong></div>",
        f"<div>{escape(face.detail)}</div>",
        f'<div style="color:var(--jp-ui-font-color2,inherit)">{escape(face.facts)}</div>',
    ]
    parts += [_svg(face.curve)] if face.curve is not None else []
    if face.advice:
        items = "".join(f"<li>{escape(each)}</li>" for each in face.advice)
        parts.append(f'<div>What to try:</div><ol style="margin:.1em 0">{items}</ol>')
    if face.lines:
        parts.append(
            "<details open><summary>Last lines</summary>"
            '<pre tabindex="0" role="region" aria-label="Last lines of the worker" '
            'style="white-space:pre-wrap;overflow-wrap:anywhere;max-height:12em;overflow:auto;margin:.2em 0">'
            f"{escape(chr(10).join(face.lines))}</pre></details>"
        )
    return f'<div class="xprim-crash">{"".join(parts)}</div>'


def _svg(curve: Curve) -> str:
    return (
        f'<svg role="img" aria-label="{escape(curve.words)}" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" '
        f'width="{CURVE_WIDTH}" height="{CURVE_HEIGHT}" style="display:block;max-width:100%;margin:.3em 0 0;'
        'border-bottom:1px solid var(--jp-border-color1,currentColor)" preserveAspectRatio="none">'
        f'<polyline points="{curve.points}" fill="none" stroke="currentColor" stroke-width="1.5" '
        f'vector-effect="non-scaling-stroke"/></svg><div>{escape(curve.words)}</div>'
    )


def _told(sentence: str) -> str:
    return clean(in_notebook(str(sentence)))[:_SENTENCE_CHARS]
