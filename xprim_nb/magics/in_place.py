"""One output of a cell that changes in place.

Source: spec 3 §Magics; Jupyter's messaging protocol (`update_display_data`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

from IPython.display import display

__all__ = ["InPlace"]

_publish: Callable[..., object] = display  # IPython's has no types


class InPlace:
    """One output of the cell that runs."""

    def __init__(self) -> None:
        self._id = uuid4().hex
        self._is_there = False

    def put(self, bundle: Mapping[str, str]) -> None:
        """Show something, by MIME type, in place of what was there.

        Raises:
            KeyboardInterrupt: The cell was interrupted meanwhile; it is shown nevertheless.
        """
        with _interrupted_after():
            _publish(dict(bundle), raw=True, display_id=self._id, update=self._is_there)
            self._is_there = True


@contextmanager
def _interrupted_after() -> Iterator[None]:
    """An interrupt inside the block is heard at its end: an output that is there and not known to be comes twice."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield  # interrupts are another thread's, or no Python code hears them
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(came[0])
