"""The pulls of one toolkit as views see them: those in flight, and how the earlier ones ended.

A toolkit knows what runs; a panel that comes after a pull has failed should still show that it did.

Source: spec 3 §Views (PullPanel: "survives a page reload", states after the end).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from xprim_nb._bridge import Handle
from xprim_nb.cache.values import Pulled
from xprim_nb.errors import XprimError
from xprim_nb.events import Event, PullProgress
from xprim_nb.toolkit import Toolkit
from xprim_widgets._pull_rows import Seen

__all__ = ["PullBook", "book_of"]

# Ended pulls that are remembered: more rows than that nobody reads.
_MOST_ENDED = 50


@dataclass(slots=True)
class _Entry:
    handle: Handle[Pulled]
    progress: PullProgress | None = None
    moved_bytes: int = -1
    moved_at: float = 0.0
    dropped: bool = False


class PullBook:
    """Keeps an entry for each version that was pulled. Thread-safe. Lives as long as its toolkit.

    Args:
        kit: Whose pulls.
    """

    def __init__(self, kit: Toolkit) -> None:
        self._kit = kit
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._listeners: tuple[Callable[[], None], ...] = ()
        kit.events.subscribe(self._hear)
        for handle in kit.pulls():
            self.note(handle)

    def note(self, handle: Handle[Pulled]) -> str:
        """Remember a pull; the result is its ref."""
        ref = handle.describe.removeprefix("pull ")
        with self._lock:
            entry = self._entries.get(ref)
            if entry is not None and entry.handle is handle:
                return ref
            self._entries.pop(ref, None)  # so that the newest stands last
            self._entries[ref] = _Entry(handle, handle.snapshot(), moved_at=time.monotonic())
            ended = [each for each, known in self._entries.items() if known.handle.done]
            for each in ended[: max(0, len(ended) - _MOST_ENDED)]:
                del self._entries[each]
        handle.add_done_callback(lambda _: self._tell())
        self._tell()
        return ref

    def start(self, ref: str, *, force: bool = False) -> Handle[Pulled]:
        """Pull a version, or join the pull that runs.

        Raises:
            InvalidRefError: At once, before anything is started.
        """
        handle = self._kit.pull(ref, force=force)
        self.note(handle)
        return handle

    def pause(self, ref: str) -> None:
        """Stop a pull; what it fetched is kept."""
        self._entry(ref).handle.cancel()

    def cancel(self, ref: str) -> None:
        """Stop a pull, and throw away what it fetched."""
        entry = self._entry(ref)
        entry.dropped = True
        entry.handle.cancel()
        # In the loop's thread, where the end is told: the next verb is begun there, and waits for nobody.
        entry.handle.add_done_callback(lambda _: self._discard(ref, entry))

    def seen(self, refs: frozenset[str] | None = None) -> list[Seen]:
        """What is known of the pulls, or of some, the oldest first."""
        now = time.monotonic()
        with self._lock:
            entries = [(ref, each) for ref, each in self._entries.items() if refs is None or ref in refs]
        return [_seen(ref, entry, now) for ref, entry in entries]

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Hear that something has changed; the result ends it."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def end() -> None:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not listener)

        return end

    def _entry(self, ref: str) -> _Entry:
        with self._lock:
            found = self._entries.get(ref)
        if found is None:
            raise XprimError(f"No pull of {ref} is known here.", subject=ref)
        return found

    def _discard(self, ref: str, entry: _Entry) -> None:
        with self._lock:
            if self._entries.get(ref) is not entry:  # pulled again meanwhile
                return
        self._kit.discard(ref).add_done_callback(lambda _: self._tell())

    def _hear(self, event: Event) -> None:
        if not isinstance(event, PullProgress):
            return
        ref, now = str(event.ref), time.monotonic()
        with self._lock:
            entry = self._entries.get(ref)
        if entry is None or entry.handle.done:
            for handle in self._kit.pulls():
                self.note(handle)
            with self._lock:
                entry = self._entries.get(ref)
        if entry is not None:
            entry.progress = event
            moved = event.bytes_completed + event.bytes_in_flight + event.bytes_network
            if moved != entry.moved_bytes or event.phase == "extracting":
                entry.moved_bytes, entry.moved_at = moved, now
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _seen(ref: str, entry: _Entry, now: float) -> Seen:
    handle = entry.handle
    if not handle.done:
        silent_s = max(0.0, now - entry.moved_at)
        return Seen(ref, entry.progress, silent_s, True, handle.cancelling, entry.dropped)
    try:
        error = handle.exception()
    except CancelledError:
        return Seen(ref, entry.progress, running=False, dropped=entry.dropped)
    if error is None:
        return Seen(ref, entry.progress, running=False, pulled=handle.result())
    text = error.message if isinstance(error, XprimError) else f"{type(error).__name__}: {error}"
    hint = error.hint or "" if isinstance(error, XprimError) else ""
    return Seen(ref, entry.progress, running=False, dropped=entry.dropped, error=text, hint=hint)


_books: WeakKeyDictionary[Toolkit, PullBook] = WeakKeyDictionary()
_making = threading.Lock()


def book_of(kit: Toolkit) -> PullBook:
    """The book of a toolkit, begun when it is first asked for."""
    with _making:
        book = _books.get(kit)
        if book is None:
            book = _books[kit] = PullBook(kit)
        return book
