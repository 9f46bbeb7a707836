"""Lines of standard input that a cancelled reader need not wait for.

The SDK's own reader is a thread that cannot be interrupted while the client is silent: Ctrl-C would not end the server.

Source: STYLE rule 11 (teardown).
"""

from __future__ import annotations

import asyncio
import os
import threading

__all__ = ["InputLines"]

_BLOCK_BYTES = 64 << 10


class InputLines:
    """The lines of a file descriptor, as text, until its end. Made on the loop that reads it.

    The thread that waits for them is a daemon, and reads the descriptor itself: the interpreter can end without it.

    Args:
        fd: Stays its owner's.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        threading.Thread(target=self._read, name="xprim-stdin", daemon=True).start()

    def __aiter__(self) -> InputLines:
        return self

    async def __anext__(self) -> str:
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)  # the end stays the end
            raise StopAsyncIteration
        return line

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                block = os.read(self._fd, _BLOCK_BYTES)
            except OSError:  # closed, or a terminal that is gone: there will be no more
                block = b""
            *lines, rest = (rest + block).split(b"\n")
            if not block and rest:
                lines.append(rest)
            told = [line.decode(errors="replace") for line in lines if line.strip()]
            try:
                for line in told:
                    self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
                if not block:
                    self._loop.call_soon_threadsafe(self._lines.put_nowait, None)
                    return
            except RuntimeError:  # the loop is closed: nobody listens any more
                return
