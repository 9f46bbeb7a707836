"""The static twin of the residency panel: the same bars, rows and queue, as HTML without scripts and as text. Pure.

Source: spec 4 §Faces (ResidencyPanel); spec 3 §Views ("static HTML and text").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from xprim_nb.magics import crash_card
from xprim_nb.workers.values import CrashReport
from xprim_widgets._residency_rows import DeviceRow, ModelRow, Part, QueueRow

__all__ = ["Page", "html", "text"]

_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"
_BAR = (
    "display:flex;height:.9em;max-width:40em;overflow:hidden;gap:1px;border-radius:2px;"
    "outline:1px solid var(--jp-border-color1,#8888)"
)
_CARD = "border-left:4px solid var(--jp-error-color1,#d32f2f);padding:.4em .9em;margin:.4em 0"
_FILLS: Mapping[str, str] = {
    "resident": "var(--jp-success-color1,#2e7d32)",
    "loading": "var(--jp-brand-color1,#1976d2)",
    "leaving": "var(--jp-warn-color1,#b26a00)",
    "ghost": "var(--jp-warn-color1,#b26a00)",
    "parked": "var(--jp-success-color1,#2e7d32)",
    "kernel": "var(--jp-brand-color1,#1976d2)",
    "external": "var(--jp-border-color1,#888)",
    "free": "transparent",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What is on it; `waiting` counts the whole queue, of which `queue` is the beginning."""

    verdict: str
    devices: Sequence[DeviceRow] = ()
    models: Sequence[ModelRow] = ()
    queue: Sequence[QueueRow] = ()
    waiting: int = 0
    crash: CrashReport | None = None


def html(page: Page) -> str:
    """A sentence, a bar for each device with its words, a table, the queue, the latest crash."""
    parts = [f"<p><strong>{escape(page.verdict)}</strong></p>", *map(_html_device, page.devices)]
    if page.models:
        heads = "".join(f'<th scope="col" style="{_CELL}">{name}</th>' for name in _COLUMNS)
        rows = "".join(map(_html_model, page.models))
        parts.append(
            f'<table class="xprim-residency"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        )
    if page.queue:
        items = "".join(f"<li>{escape(_queued(each))}</li>" for each in page.queue)
        parts.append(f"<p>Waiting:</p><ol>{items}</ol>")
        parts += [f"<p>{escape(line)}</p>" for line in _more(page)]
    if page.crash is not None:
        parts.append(f'<div style="{_CARD}">{crash_card.html(page.crash)}</div>')
    return "".join(parts)


def text(page: Page) -> str:
    """The same as text."""
    lines = [page.verdict]
    for device in page.devices:
        lines += [_device(device), *(f"  {_part(part)}" for part in device.parts if part.kind != "free")]
    lines += [
        ": ".join(filter(None, [_model(row)[0], ", ".join(filter(None, _model(row)[1:]))]))
        for row in page.models
    ]
    lines += [f"{each.position}. {_queued(each)}" for each in page.queue]
    lines += _more(page)
    lines += [crash_card.text(page.crash)] if page.crash is not None else []
    return "\n".join(lines)


_COLUMNS = ("model", "state", "where and how much", "requests", "process")


def _html_device(row: DeviceRow) -> str:
    spans = "".join(
        f'<span style="width:{part.percent}%;background:{_FILLS[part.kind]}"></span>' for part in row.parts
    )
    words = "; ".join(map(_part, row.parts))
    return (
        f'<div>{escape(_device(row))}</div><div role="img" aria-label="{escape(f"{row.id}: {words}")}" '
        f'style="{_BAR}">{spans}</div><div>{escape(words)}</div>'
    )


def _html_model(row: ModelRow) -> str:
    name, *rest = _model(row)
    cells = "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in rest)
    return f'<tr><th scope="row" style="{_CELL}">{escape(name)}</th>{cells}</tr>'


def _device(row: DeviceRow) -> str:
    notes = f" ({row.notes})" if row.notes else ""
    return (
        f"{row.id}, {row.name}{notes}: {row.line}" if row.name != row.id else f"{row.id}{notes}: {row.line}"
    )


def _part(part: Part) -> str:
    words = f" ({part.words})" if part.words else ""
    return f"{part.name}{words}: {part.size}"


def _model(row: ModelRow) -> tuple[str, str, str, str, str]:
    loading = f" {row.percent} %" if row.percent else ""
    state = ", ".join(filter(None, [f"{row.words}{loading}", "pinned" if row.pinned else "", row.cause]))
    where = ", ".join(filter(None, [row.device, row.size, row.context]))
    process = ", ".join(filter(None, [row.process, row.note]))
    return row.name, state, where, ", ".join(filter(None, [row.counts, row.idle])), process


def _queued(row: QueueRow) -> str:
    return f"{row.model} ({row.priority}), waits for {row.waited}: {row.reason}"


def _more(page: Page) -> list[str]:
    more = page.waiting - len(page.queue)
    return [f"… and {more:,} more."] if more > 0 else []
