"""Children that work until they are killed: forks of a process that has imported everything, so that each starts at once.

The process is a script that ends in `nurse`; a test starts it as a `Nursery`. Forking is safe in it: it has no threads.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Nursery", "nurse", "say_ready"]


def say_ready() -> None:
    """Called in a child that has begun: it may be killed from now on."""
    _say(f"ready {os.getpid()}")


def nurse(work: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Fork a child for each `begin SEED` on stdin, kill it for `kill NUMBER`; answers with its number and its status."""
    alive: set[int] = set()
    for line in sys.stdin:
        order, value = line.split()
        if order == "kill":
            _say(f"ended {value} {_kill(int(value))}")
            alive.remove(int(value))
            continue
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(work(value))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                _say(f"failed {os.getpid()}")
                os._exit(1)
        alive.add(pid)
        _say(f"begun {value} {pid}")
    for pid in alive:
        _kill(pid)


def _say(line: str) -> None:
    # In one piece: several write to this pipe, and an unbuffered `print` writes a line and its end apart.
    os.write(1, f"{line}\n".encode())


def _kill(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)  # one that has ended is there until it is waited for
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Nursery:
    """The process and its children, which end with the block.

    Args:
        script: Ends in `nurse`.
        arguments: Its command line.
    """

    def __init__(self, script: Path, *arguments: str | Path) -> None:
        command = [sys.executable, str(script), *map(str, arguments)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the block
        self._heard: set[str] = set()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def begin(self, seed: str) -> int:
        """Begin a child; its number. It may not be ready yet."""
        self._tell(f"begin {seed}")
        return int(self._hear(f"begun {seed} ").rpartition(" ")[2])

    def wait_ready(self, child: int) -> None:
        """Return when the child has said that it is ready."""
        self._hear(f"ready {child}")

    def kill(self, child: int) -> None:
        """Kill a child. One that ended by itself has found a fault."""
        self._tell(f"kill {child}")
        ended = self._hear(f"ended {child} ")
        assert ended.endswith(f" {-signal.SIGKILL}"), self._told()

    def kill_three(self, chance: random.Random, longest_s: float) -> None:
        """Three children, two of them at work at any time, each killed some time after it was ready.

        Args:
            chance: Where their seeds and times come from.
            longest_s: The longest time that one lives.
        """

        def victim() -> Callable[[], None]:
            child, lives_s = self.begin(str(chance.random())), chance.random() * longest_s

            def kill() -> None:
                self.wait_ready(child)
                time.sleep(lives_s)  # not to synchronise: the instant is the random thing
                self.kill(child)

            return kill

        first, second = victim(), victim()
        first()
        third = victim()
        second()
        third()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._errors.close()

    def _tell(self, order: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()

    def _hear(self, start: str) -> str:
        assert self._process.stdout is not None
        while (found := next((each for each in self._heard if each.startswith(start)), None)) is None:
            line = self._process.stdout.readline()
            assert line, self._told()
            assert not line.startswith("failed "), self._told()
            self._heard.add(line.rstrip("\n"))
        self._heard.remove(found)
        return found

    def _told(self) -> str:
        self._errors.seek(0)
        return self._errors.read()
