"""A process at a terminal of its own, as a person has it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType


class Terminal:
    """`python -m <module>` with a pseudo-terminal as stdin, stdout and stderr. Ends with its `with` block.

    Attributes:
        shown: Everything that was printed so far, escape sequences included.
    """

    # What a test waits for comes in milliseconds; a loaded machine may take longer.
    deadline_s = 60.0

    def __init__(
        self,
        *args: str,
        env: Mapping[str, str],
        module: str = "xprim_nb.cli.models",
        columns: int = 100,
        kind: str = "xterm-256color",
    ) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            env={**env, "TERM": kind, "COLUMNS": str(columns), "LINES": "30"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def read_until(self, pattern: str) -> None:
        """Return when what was printed matches.

        Raises:
            TimeoutError: It does not in time.
            EOFError: The process ended before.
        """
        deadline = time.monotonic() + self.deadline_s
        while not re.search(pattern, self.shown):
            self._read(deadline, pattern)

    def enter(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + self.deadline_s
        with contextlib.suppress(EOFError):
            while True:
                self._read(deadline, "the end")
        return self.process.wait(self.deadline_s)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def _read(self, deadline: float, wanted: str) -> None:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"{wanted!r} did not come: {self.shown[-800:]!r}")
        try:
            block = os.read(self._master, 65536)
        except OSError as error:  # Linux says so when the last process has closed its side
            raise EOFError(f"{wanted!r} did not come: {self.shown[-800:]!r}") from error
        if not block:
            raise EOFError(f"{wanted!r} did not come: {self.shown[-800:]!r}")
        self.shown += block.decode(errors="replace")
