"""A pull as a bar: what was here already in one tone, what was fetched in another, and one line that says it.

Source: spec 3 §Magics, §Views (PullPanel); research notebook §8.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from xprim_nb._text import clean, format_bytes, format_seconds

if TYPE_CHECKING:
    from xprim_nb.events import CheckProgress, PullProgress
    from xprim_nb.scheduling.values import GenerateProgress

__all__ = ["answering", "answering_html", "html", "is_answer", "text"]

_TROUGH = (
    "display:flex;height:.7em;max-width:32em;border-radius:2px;overflow:hidden;"
    "background:var(--jp-layout-color3,#8884);outline:1px solid var(--jp-border-color1,#8888)"
)
_REUSED = "background:var(--jp-success-color1,#388e3c)"
_FETCHED = "background:var(--jp-brand-color1,#1976d2)"


def is_answer(progress: object) -> bool:
    """True for the progress of a request to a model, of which no class is loaded for this."""
    return hasattr(progress, "position")


def answering(progress: GenerateProgress) -> str:
    """What a request waits for, or how far its answer is, in one line."""
    return clean(str(progress)).replace("\n", " ")


def answering_html(progress: GenerateProgress) -> str:
    """The same as HTML: a bar while something is installed or loaded, the line alone otherwise."""
    line = answering(progress)
    if not progress.fraction:
        return f'<div class="xprim-pull">{escape(line)}</div>'
    percent = 100 * progress.fraction
    return bar(clean(progress.model), int(percent), (0.0, percent), line)


def text(progress: PullProgress | CheckProgress, doing: str = "") -> str:
    """How far it is, in one line; `doing` says what is done, where that is no pull."""
    doing = doing or f"pull {progress.ref}"
    check, pull = _sorted(progress)
    if check is not None:
        return f"{doing}: {_checked(check)}"
    return f"{doing}: {_pulled(pull)}"


def _pulled(progress: PullProgress) -> str:
    if progress.waiting_for:
        return f"waiting for {progress.waiting_for}"
    if progress.phase == "manifest":
        return "fetching the manifest"
    done = progress.bytes_completed + progress.bytes_in_flight
    parts = [f"{_percent(progress)} %, {format_bytes(done)} of {format_bytes(progress.bytes_total)}"]
    parts.append(f"{progress.chunks_completed}/{progress.chunks_total} chunks")
    if progress.phase == "extracting":
        parts.append("putting it in place")
    elif progress.speed_bytes_s > 0:
        parts.append(f"{format_bytes(progress.speed_bytes_s)}/s")
        if progress.eta_s is not None:
            parts.append(f"{format_seconds(progress.eta_s)} left")
    if progress.bytes_reused:
        parts.append(f"{format_bytes(progress.bytes_reused)} were here already")
    return ", ".join(parts)


def _checked(progress: CheckProgress) -> str:
    told = (
        f"{format_bytes(progress.bytes_done)} of {format_bytes(progress.bytes_total)} of {progress.ref} read"
    )
    if progress.models_total > 1:
        told += f", {progress.models_done} of {progress.models_total} models done"
    return told


def html(progress: PullProgress | CheckProgress, line: str, doing: str = "") -> str:
    """The bar, with the line under it; `doing` names it as in `text`."""
    doing = doing or f"pull {progress.ref}"
    total = max(progress.bytes_total, 1)
    check, pull = _sorted(progress)
    reused = 0.0 if check is not None else 100 * pull.bytes_reused / total
    fetched = max(0.0, 100 * progress.fraction - reused)
    return bar(doing, _percent(progress), (reused, fetched), line)


def bar(label: str, percent: int, tones: tuple[float, float], line: str) -> str:
    """A bar with the line under it.

    Args:
        label: What it is the bar of.
        percent: How far, 0 to 100.
        tones: Percent that was here already, and percent that was fetched.
        line: How far, in words.
    """
    reused, fetched = tones
    return (
        '<div class="xprim-pull">'
        f'<div role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}" aria-valuetext="{escape(line)}" style="{_TROUGH}">'
        f'<div style="width:{reused:.1f}%;{_REUSED}"></div><div style="width:{fetched:.1f}%;{_FETCHED}"></div></div>'
        f"<div>{escape(line)}</div></div>"
    )


def _sorted(progress: Any) -> tuple[CheckProgress | None, PullProgress]:  # noqa: ANN401  # either of them
    # Without their classes: that module is loaded with the toolkit, not with the extension.
    return (progress if hasattr(progress, "models_total") else None), progress


def _percent(progress: PullProgress | CheckProgress) -> int:
    return int(100 * progress.fraction)
