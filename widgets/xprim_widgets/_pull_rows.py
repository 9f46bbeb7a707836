"""One pull as a row: what is seen of its handle goes in, words, shares and buttons come out. Nothing here waits.

    starting → queued | running ⇄ stalled → verifying → done
                      ↘ pausing → paused | cancelled   ↘ failed

Source: spec 3 §Views (PullPanel); research notebook §8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xprim_nb._text import format_bytes, format_seconds
from xprim_nb.cache.values import Pulled
from xprim_nb.events import PullProgress

__all__ = ["BUTTONS", "STALLED_S", "PullRow", "Seen", "State", "row_of"]

# A retry after a lost connection takes a few seconds; a silence that lasts longer is worth a word.
STALLED_S = 10.0

State: TypeAlias = Literal[
    "starting",
    "queued",
    "running",
    "stalled",
    "verifying",
    "pausing",
    "paused",
    "cancelled",
    "failed",
    "done",
]
Op: TypeAlias = Literal["pause", "cancel", "resume", "retry"]

# The first is what one wants mostly.
BUTTONS: Mapping[State, tuple[Op, ...]] = {
    "starting": ("cancel",),
    "queued": ("cancel",),
    "running": ("pause", "cancel"),
    "stalled": ("pause", "cancel"),
    "verifying": (),
    "pausing": (),
    "paused": ("resume", "cancel"),
    "cancelled": ("retry",),
    "failed": ("retry", "cancel"),
    "done": (),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a pull.

    Attributes:
        ref: Which version, as text.
        progress: The latest; None before there is any.
        silent_s: Seconds since a byte arrived.
        running: Its work has not ended.
        cancelling: It was asked to stop.
        dropped: What it had fetched was to be thrown away.
        pulled: How it ended, when it ended well.
        error: What went wrong, in a sentence; empty otherwise.
        hint: What to do then.
    """

    ref: str
    progress: PullProgress | None = None
    silent_s: float = 0.0
    running: bool = True
    cancelling: bool = False
    dropped: bool = False
    pulled: Pulled | None = None
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PullRow:
    """A pull as it is drawn.

    Attributes:
        ref: Which version.
        state: See the module.
        line: How far it is, in words.
        hint: What to do about a failure; empty otherwise.
        percent: 0 to 100.
        reused: Percent that was on this machine already.
        fetched: Percent that came from elsewhere, in flight included.
        chunk_map: See `PullProgress`.
        buttons: What can be done, the first first.
    """

    ref: str
    state: State
    line: str
    hint: str = ""
    percent: int = 0
    reused: float = 0.0
    fetched: float = 0.0
    chunk_map: str = ""
    buttons: tuple[Op, ...] = ()


def row_of(seen: Seen) -> PullRow:
    """The row of a pull."""
    state = _state(seen)
    reused, fetched = _shares(seen)
    return PullRow(
        ref=seen.ref,
        state=state,
        line=_line(seen, state),
        hint=seen.hint if state == "failed" else "",
        percent=100 if state == "done" else min(99, int(reused + fetched)),
        reused=round(reused, 1),
        fetched=round(fetched, 1),
        chunk_map=seen.progress.chunk_map if seen.progress is not None else "",
        buttons=BUTTONS[state],
    )


def _state(seen: Seen) -> State:
    progress = seen.progress
    if not seen.running:
        if seen.pulled is not None:
            return "done"
        if seen.error:
            return "failed"
        return "cancelled" if seen.dropped else "paused"
    if seen.cancelling:
        return "pausing"
    if progress is None:
        return "starting"
    if progress.waiting_for:
        return "queued"
    if progress.phase == "extracting":
        return "verifying"
    return "stalled" if seen.silent_s >= STALLED_S else "running"


def _shares(seen: Seen) -> tuple[float, float]:
    progress = seen.progress
    if seen.pulled is not None:
        receipt = seen.pulled.receipt
        total = max(1, receipt.bytes_network + receipt.bytes_present + receipt.bytes_local)
        reused = 100 * (receipt.bytes_present + receipt.bytes_local) / total
        return (reused, 100 - reused) if total > 1 else (100.0, 0.0)
    if progress is None or not progress.bytes_total or seen.dropped:
        return 0.0, 0.0
    reused = 100 * progress.bytes_reused / progress.bytes_total
    # Only what is verified is kept when a pull stops.
    share = progress.fraction if seen.running else progress.bytes_completed / progress.bytes_total
    return reused, max(0.0, 100 * share - reused)


def _line(seen: Seen, state: State) -> str:
    progress = seen.progress
    match state:
        case "starting":
            return "starting"
        case "queued":
            return f"waiting for {progress.waiting_for if progress else 'its turn'}"
        case "pausing":
            return "stopping; what is verified is kept" if not seen.dropped else "stopping"
        case "cancelled":
            return "cancelled; what it had fetched is gone"
        case "paused":
            return _paused(progress)
        case "failed":
            return seen.error
        case "done":
            assert seen.pulled is not None, "that is what done means"
            return _done(seen.pulled)
        case "verifying":
            return "every byte is verified; putting it in place"
        case _:
            assert progress is not None, "running pulls have told how far they are"
            return _running(progress, seen.silent_s if state == "stalled" else 0.0)


def _running(progress: PullProgress, silent_s: float) -> str:
    if progress.phase == "manifest":
        said = "fetching the manifest"
        return f"stalled for {format_seconds(silent_s)}: {said}" if silent_s else said
    done = progress.bytes_completed + progress.bytes_in_flight
    parts = [f"{format_bytes(done)} of {format_bytes(progress.bytes_total)}"]
    parts.append(f"{progress.chunks_completed}/{progress.chunks_total} chunks")
    if progress.bytes_reused:
        parts.append(f"{format_bytes(progress.bytes_reused)} were here")
    if silent_s:
        return f"stalled: nothing has arrived for {format_seconds(silent_s)}; {', '.join(parts)}"
    if progress.speed_bytes_s > 0:
        parts.append(f"{format_bytes(progress.speed_bytes_s)}/s")
        if progress.eta_s is not None:
            parts.append(f"{format_seconds(progress.eta_s)} left")
    return ", ".join(parts)


def _paused(progress: PullProgress | None) -> str:
    if progress is None or not progress.bytes_total:
        return "paused"
    kept = format_bytes(progress.bytes_completed)
    return f"paused at {100 * progress.bytes_completed // progress.bytes_total} %; {kept} are kept"


def _done(pulled: Pulled) -> str:
    if pulled.status == "already_installed":
        return "already installed"
    receipt = pulled.receipt
    said = f"{pulled.status}, {format_bytes(pulled.model.total_size)} in {format_seconds(receipt.seconds)}"
    here = receipt.bytes_present + receipt.bytes_local
    return f"{said}; {format_bytes(here)} were here already" if here else said
