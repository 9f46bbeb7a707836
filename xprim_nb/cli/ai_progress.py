"""What a model's user waits for before its first token: a bar on stderr while somebody watches, a note where nobody does.

Source: spec 4 §Install on first use ("with live progress"); spec 1 §CLI (progress bars only on a TTY).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from xprim_nb.cli import words
from xprim_nb.cli.progress import fitted, live_bar
from xprim_nb.cli.session import Session

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from xprim_nb._bridge import Handle
    from xprim_nb.scheduling.values import GenerateProgress

__all__ = ["TICK_S", "Waiting", "waited", "waiting"]

_T = TypeVar("_T")

TICK_S = 0.1
"""Between two looks at how far it is: as often as an eye can use."""

_WORDS = {
    "installing": "Installing",
    "waiting": "Waiting",
    "loading": "Loading",
    "reading": "Reading the prompt",
    "answering": "Answering",
}


class Waiting:
    """Shows how far one request is, until `end`.

    Args:
        session: Where the notes go.
        bar: The live bar, if there is one.
    """

    def __init__(self, session: Session, bar: tuple[Progress, TaskID] | None) -> None:
        self._session, self._bar = session, bar
        self._is_told = False

    def show(self, progress: GenerateProgress | None) -> None:
        """Show where it stands now."""
        if progress is None:
            return
        is_installing = progress.phase == "installing"
        self._session.paused = (
            f"paused at {progress.fraction:.0%}".replace("%", " %") if is_installing else ""
        )
        if self._bar is not None:
            bar, task = self._bar
            doing, detail = fitted(bar.console.width, words.clean(_doing(progress)), _details(progress))
            if bar.tasks[0].total is not None and not progress.fraction:
                # A bar that knows how far it is cannot forget it; the next stage has one of its own.
                bar.remove_task(task)
                self._bar = bar, (task := bar.add_task(doing, total=None, detail=detail))
            total = 1.0 if progress.fraction else None
            bar.update(task, description=doing, detail=detail, total=total, completed=progress.fraction)
        elif is_installing and not self._is_told:
            self._is_told = True
            self._session.announce_registry()
            self._session.note(f"installing {progress.model}")

    def end(self) -> None:
        """Take it away: what was waited for has come."""
        self._session.paused = ""
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None


@contextmanager
def waiting(session: Session) -> Iterator[Waiting]:
    """What shows a wait, inside the block."""
    with live_bar(session, "Looking for the model...") as bar:
        yield Waiting(session, bar)


def waited(session: Session, handle: Handle[_T]) -> _T:
    """The result of a verb of the engine; how far it is, is shown until then.

    Raises:
        KeyboardInterrupt: Interrupted; the work was stopped.
        XprimError: As the verb does.
    """
    with waiting(session) as shown:
        result = _looked_at(handle, shown.show)
        shown.end()
    return result


def _looked_at(handle: Handle[_T], show: Callable[[Any], None]) -> _T:
    while not handle.done:
        show(handle.snapshot())
        try:
            return handle.result(TICK_S)
        except TimeoutError:
            if handle.done:  # a limit that the work itself has passed
                break
    return handle.result()


def _doing(progress: GenerateProgress) -> str:
    word = _WORDS[progress.stage]
    return word if progress.stage in ("reading", "answering") else f"{word}: {progress.model}"


def _details(progress: GenerateProgress) -> list[str]:
    """What else there is to say, the most wanted first."""
    if progress.stage in ("reading", "answering"):
        return []
    place = f"number {progress.position} in the queue" if progress.position > 1 else ""
    return [words.clean(each) for each in (place, progress.reason) if each]
