"""How far a pull is: a live bar where somebody watches, and the seed's lines in any case.

The lines belong to the transcript and go to stdout; the bar goes to stderr and leaves nothing behind.

Source: seeds/002 §models pull; spec 1 §CLI (progress bars only on a TTY).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xprim_nb.cli import words
from xprim_nb.cli.session import Session
from xprim_nb.events import CheckProgress, Event, FetchRetried, PullProgress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Reporter", "checking", "live_bar", "watching"]

# As wide as the seed's: [====================]
_BAR_CELLS = 20
# What a narrow terminal still shows beside the words: six cells of the bar, "100%", and the gaps between.
_LEAST_CELLS = 6 + 4 + 3
_CHECKS = {"validate": "Checking", "scrub": "Scrubbing", "repair": "Repairing"}


@contextmanager
def live_bar(
    session: Session, begin: str = "Fetching manifest..."
) -> Iterator[tuple[Progress, TaskID] | None]:
    """A bar on stderr, gone without a trace afterwards; None when nobody watches."""
    if not session.shows_bars:
        yield None
        return
    from rich import console, progress  # noqa: PLC0415  # house: 50 ms that only a watched pull needs

    screen = console.Console(stderr=True)
    if screen.is_dumb_terminal:  # an editor's shell: it cannot draw in place, and gets the lines instead
        yield None
        return
    bar = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=_BAR_CELLS),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[detail]}", markup=False),
        console=screen,
        transient=True,
    )
    with bar:
        yield bar, bar.add_task(begin, total=None, detail="")


class Reporter:
    """Follows one pull. `hear` may be called from any thread, one call at a time.

    Args:
        session: Where the lines go.
        bar: The live bar, if there is one.
        heading: Begin with the manifest's line, as `pull` does and `update` does not.
        doing: What the bar calls it.
        transcript: Print the seed's lines; without them there is the bar alone.
    """

    def __init__(
        self,
        session: Session,
        bar: tuple[Progress, TaskID] | None,
        *,
        heading: bool = True,
        doing: str = "Downloading",
        transcript: bool = True,
    ) -> None:
        self._session, self._bar, self._heading = session, bar, heading
        self._word, self._transcript = doing, transcript
        self._lock = threading.Lock()
        self._lines_told = 0
        self._trouble, self._trouble_ends = "", 0.0
        self._ended = False

    def hear(self, news: PullProgress) -> None:
        """Show how far it is now."""
        with self._lock:
            if self._ended:
                return
            percent = int(100 * news.bytes_completed / news.bytes_total) if news.bytes_total else 0
            self._session.paused = f"paused at {percent} %"
            if self._bar is not None:
                bar, task = self._bar
                total = news.bytes_total or None
                completed = news.bytes_completed + news.bytes_in_flight
                trouble = words.clean(self._trouble) if time.monotonic() < self._trouble_ends else ""
                doing, detail = fitted(
                    bar.console.width, _doing(news, self._word), [trouble] if trouble else _details(news)
                )
                bar.update(task, total=total, completed=completed, description=doing, detail=detail)
            elif news.phase != "manifest":
                self._tell(news, upto=1 if news.phase == "chunks" else 2)

    def hear_trouble(self, event: Event) -> None:
        """Show what will be tried again, until it is."""
        if isinstance(event, FetchRetried):
            self._trouble_ends = time.monotonic() + event.delay_s
            self._trouble = f"{event.what} failed, trying again in {event.delay_s:.0f} s"

    def end(self, chunks: int, size_bytes: int) -> None:
        """The pull has ended well: tell what was not told yet."""
        with self._lock:
            self._ended = True
            self._session.paused = ""
            if self._bar is not None:
                self._bar[0].stop()
            self._tell_lines([*self._first_lines(chunks, size_bytes), "Extracting files... done"])

    def _tell(self, news: PullProgress, upto: int) -> None:
        self._tell_lines(
            self._first_lines(news.chunks_total, news.bytes_total)[: upto if self._heading else upto - 1]
        )

    def _first_lines(self, chunks: int, size_bytes: int) -> list[str]:
        heading = ["Fetching manifest... done"] if self._heading else []
        return [
            *heading,
            f"Downloading: {chunks}/{chunks} chunks [{'=' * _BAR_CELLS}] 100% {words.size(size_bytes)}",
        ]

    def _tell_lines(self, lines: list[str]) -> None:
        if not self._transcript:
            return
        for line in lines[self._lines_told :]:
            self._session.step(line)
        self._lines_told = max(self._lines_told, len(lines))


@contextmanager
def watching(
    session: Session, *, heading: bool = True, doing: str = "Downloading", transcript: bool = True
) -> Iterator[Reporter]:
    """A reporter with its bar, for one pull, or for what is done in its manner."""
    with live_bar(session) as bar:
        reporter = Reporter(session, bar, heading=heading, doing=doing, transcript=transcript)
        unsubscribe = session.events.subscribe(reporter.hear_trouble)
        try:
            yield reporter
        finally:
            unsubscribe()


@contextmanager
def checking(session: Session) -> Iterator[None]:
    """A bar for a validation, a scrub or a repair inside the block."""
    with live_bar(session, "Looking at the cache...") as live:

        def hear(event: Event) -> None:
            if live is not None and isinstance(event, CheckProgress):
                bar, task = live
                count = f" ({event.models_done + 1}/{event.models_total})" if event.models_total > 1 else ""
                told = f"{words.size(event.bytes_done)} of {words.size(event.bytes_total)}"
                doing, detail = fitted(
                    bar.console.width, f"{_CHECKS[event.doing]}: {event.ref}{count}", [told]
                )
                bar.update(
                    task,
                    total=event.bytes_total or None,
                    completed=event.bytes_done,
                    description=words.clean(doing),
                    detail=detail,
                )

        unsubscribe = session.events.subscribe(hear)
        try:
            yield
        finally:
            unsubscribe()


def _doing(news: PullProgress, word: str) -> str:
    if news.waiting_for:
        return f"Waiting: {news.waiting_for}"
    if news.phase == "manifest":
        return "Fetching manifest..."
    if news.phase == "extracting":
        return "Extracting files..."
    return f"{word}: {news.chunks_completed}/{news.chunks_total} chunks"


def _details(news: PullProgress) -> list[str]:
    """What else there is to say, the most wanted first."""
    if not news.bytes_total:
        return []
    parts = [f"{words.size(news.bytes_completed + news.bytes_in_flight)} of {words.size(news.bytes_total)}"]
    if news.speed_bytes_s > 0 and news.phase == "chunks":
        parts.append(f"{words.size(int(news.speed_bytes_s))}/s")
        if news.eta_s is not None:
            parts.append(f"{words.duration(news.eta_s)} left")
    if news.bytes_reused:
        parts.append(f"{words.size(news.bytes_reused)} reused")
    return parts


def fitted(width: int, doing: str, details: Sequence[str]) -> tuple[str, str]:
    """What stands before and behind the bar in a line of `width` cells: the bar and its share always stay.

    >>> fitted(80, "Downloading: 4/30 chunks", ["1.4 MB of 2.9 MB", "202.7 KB/s", "9 s left", "1.1 MB reused"])
    ('Downloading: 4/30 chunks', '1.4 MB of 2.9 MB, 202.7 KB/s, 9 s left')
    >>> fitted(30, "Downloading: 4/30 chunks", ["1.4 MB of 2.9 MB"])
    ('Downloading: 4...', '')
    """
    room = max(width - _LEAST_CELLS, 0)
    if len(doing) > room:
        return f"{doing[: max(room - 3, 0)]}...", ""
    room -= len(doing)
    shown = ""
    for part in details:
        longer = f"{shown}, {part}" if shown else part
        if len(longer) > room:
            break
        shown = longer
    return doing, shown
