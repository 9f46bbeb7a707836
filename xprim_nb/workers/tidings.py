"""What comes from a worker and goes to it: one thread for each pipe, and one that waits for its end.

None of them ever touches the worker's state: each hands on by a callable that must not block. While nothing comes, all
of them sleep in a system call.

Source: spec 4 §Workers; research/residency §5.2 (1, 2).
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, TypeAlias

from xprim_nb.workers import wire

__all__ = ["LastLines", "Tidings"]

OnFrame: TypeAlias = Callable[[dict[str, Any], bytes], None]

# A crash card shows the end of a log; a traceback of torch has some 60 lines.
_MAX_LINES, _MAX_LOG_BYTES = 200, 64 << 10
# The pipes of a process that has ended hold at most this long's worth; a grandchild may hold them open for ever.
_DRAIN_S = 0.5
# A process that ends closes its pipes first; one that lives on after so long has closed them itself.
_CLOSED_S = 1.0
# Windows has no pipes that refuse instead of waiting.
_CAN_TRY = sys.platform != "win32"


def _wait_for_room(pipe: int) -> None:
    """Until a pipe takes something, or nobody reads it any more."""
    if hasattr(
        select, "poll"
    ):  # `select` itself refuses descriptors above 1,023, which a busy kernel reaches
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        poll.poll()
    else:
        select.select([], [pipe], [])


class LastLines:
    """The end of what a worker wrote: 200 lines, 64 KiB. From any thread."""

    def __init__(self) -> None:
        self._tail, self._lock = b"", threading.Lock()

    def write(self, data: bytes) -> None:
        """Take what came. Costs the same for one line and for a flood of them."""
        with self._lock:
            self._tail = (self._tail + data)[-_MAX_LOG_BYTES:]

    def lines(self) -> tuple[str, ...]:
        """The last lines, oldest first; a progress bar that redraws itself is a line for each drawing."""
        return tuple(self._tail.decode("utf-8", "replace").splitlines()[-_MAX_LINES:])


class Tidings:
    """The threads of one worker.

    Args:
        pipes: Its stdin, stdout and stderr.
        wait: Blocks until it has ended and returns its exit code.
        on_frame: Called with each frame, in the reader's thread.
        on_damage: Called when what comes is no frame, with the reason; nothing is read after it.
        on_end: Called once it has ended and what it had sent has been handed on, with its exit code.
    """

    def __init__(
        self,
        pipes: tuple[IO[bytes], IO[bytes], IO[bytes]],
        wait: Callable[[], int],
        on_frame: OnFrame,
        on_damage: Callable[[str], None],
        on_end: Callable[[int], None],
    ) -> None:
        self.lines = LastLines()
        self._stdin, self._stdout, self._stderr = pipes
        self._wait, self._on_frame, self._on_damage, self._on_end = wait, on_frame, on_damage, on_end
        self._has_ended = threading.Event()
        self._letters: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sending, self._unsent, self._is_open = threading.Lock(), 0, True
        if _CAN_TRY:
            os.set_blocking(self._stdin.fileno(), False)
        runs = ((self._read, "frames"), (self._listen, "log"), (self._write, "writer"))
        self._threads = [self._start(run, name) for run, name in runs]
        self._start(self._attend, "end")

    def _start(self, run: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=run, name=f"xprim-worker-{name}", daemon=True)
        thread.start()
        return thread

    def post(self, frame: bytes) -> None:
        """Send a frame as soon as the worker takes it. Never blocks; lost when it has ended.

        What the pipe takes at once is written here: to wake the thread would cost more than the write.
        """
        with self._sending:
            if _CAN_TRY and self._is_open and not self._unsent:
                try:
                    frame = frame[os.write(self._stdin.fileno(), frame) :]
                except BlockingIOError:
                    pass  # full
                except OSError:
                    return  # it has ended: `_attend` tells
            if frame:
                self._unsent += 1
                self._letters.put(frame)

    # Each thread closes its own pipe: one that is closed under a thread that reads it may be another file meanwhile.

    def _write(self) -> None:
        # A worker that reads nothing fills the pipe: whoever writes then waits, and that must not be the event loop.
        with contextlib.suppress(OSError):  # it has ended: `_attend` tells
            while (frame := self._letters.get()) is not None:
                self._write_all(frame)
                with self._sending:
                    self._unsent -= 1
        with self._sending, contextlib.suppress(OSError):
            self._is_open = False
            self._stdin.close()

    def _write_all(self, frame: bytes) -> None:
        view, pipe = memoryview(frame), self._stdin.fileno()
        while view:
            try:
                view = view[os.write(pipe, view) :]
            except BlockingIOError:
                _wait_for_room(pipe)

    def _read(self) -> None:
        with self._stdout:
            try:
                self.lines.write(wire.skip_to_preamble(self._stdout.read))
                while (frame := wire.unpack(self._stdout.read)) is not None:
                    self._on_frame(*frame)
            except wire.CutError:
                pass  # told below, or by its end
            except (wire.FrameError, OSError) as error:
                self._on_damage(str(error))
                return
        if not self._has_ended.wait(_CLOSED_S):
            self._on_damage("It closed its pipe, and lives.")

    def _listen(self) -> None:
        with self._stderr, contextlib.suppress(OSError):
            while data := os.read(self._stderr.fileno(), 1 << 16):
                self.lines.write(data)

    def _attend(self) -> None:
        code = self._wait()
        self._has_ended.set()
        self._letters.put(None)
        for thread in self._threads:
            thread.join(_DRAIN_S)
        self._on_end(code)
