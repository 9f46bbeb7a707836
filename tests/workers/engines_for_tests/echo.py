"""Says the prompt again, a word each; and misbehaves on demand.

A prompt that begins with `!` is a wish: `!sleep 3`, `!exit 3`, `!segfault` … see `_wishes`.
"""

from __future__ import annotations

import builtins
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def create() -> Any:
    """The engine."""
    return Echo()


class _Sticky(Exception):
    pass


class Echo:
    """See the module."""

    def load(self, spec: Mapping[str, Any], progress: Callable[[float, str], object]) -> dict[str, Any]:
        """Obey the wishes of `spec["wishes"]`."""
        self.steps, self.spec, self.stats_wish = 0, dict(spec), ""
        self.ballast: list[bytearray] = []
        for at, wish in enumerate(spec.get("wishes", [])):
            for _ in self.obey(wish, lambda: False):
                progress(0.5, f"step {at}")
        progress(1.0, "loaded")
        return {
            "context_tokens": 77,
            "device_bytes": spec.get("device_bytes"),
            "dtype": "none",
            "spec": self.spec,
        }

    def generate(self, request: Mapping[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """The prompt's words, or its wish."""
        prompt = request["prompt"] or " ".join(each["content"] for each in request["messages"])
        if prompt.startswith("!"):
            for text in self.obey(prompt[1:], cancelled):
                self.steps += 1
                yield {"text": text, "tokens": 1}
        else:
            for number, word in enumerate(prompt.split(" ")[: request["max_tokens"]]):
                if cancelled():
                    break
                self.steps += 1
                yield {"text": (" " if number else "") + word, "tokens": 1}
        yield {
            "ended": {
                "reason": "cancelled" if cancelled() else "stop",
                "prompt_tokens": len(prompt.split()),
                "tokens": self.steps,
                "prefill_s": 0.25,
            }
        }

    def obey(self, wish: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Do what `wish` says: a verb and its argument."""
        verb, _, argument = wish.partition(" ")
        yield from getattr(self, "do_" + verb)(argument, cancelled)

    def do_sleep(self, argument: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Say a piece every 10 ms, for so many seconds."""
        for _ in range(int(float(argument) * 100)):
            if cancelled():
                return
            time.sleep(0.01)
            yield "."

    def do_deaf(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Do nothing, and hear nothing, for `seconds N` or until `file PATH` is there, once a second step was counted."""
        how, until = argument.split(" ")
        yield "deaf"
        self.steps += 1
        if how == "seconds":
            time.sleep(float(until))
        while how == "file" and not os.path.exists(until):  # noqa: PTH110  # as light as a worker's engine can be
            time.sleep(0.01)

    def do_still(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Do nothing for so many seconds, and say nothing before."""
        time.sleep(float(argument))
        yield "still"

    def do_spin(self, argument: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Compute for so many seconds in Python."""
        end = time.monotonic() + float(argument)
        yield "spin"
        while time.monotonic() < end and not cancelled():
            sum(range(1000))

    def do_hold(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Hold the interpreter's lock for so many seconds, asleep."""
        yield "held"
        ctypes.PyDLL(None).usleep(int(float(argument) * 1_000_000))

    def do_burn(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Hold the interpreter's lock, computing: the power of large numbers is one call."""
        yield "burnt"
        pow(3, int(argument))

    def do_flood(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Write so many megabytes to fd 1, by Python and past it."""
        for _number in range(int(argument)):
            os.write(1, b"flood " * (1 << 17))
            print("printed " * 1000)
        yield "flooded"

    def do_eat(self, argument: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Take so many megabytes, ten at a time, and keep them."""
        for _number in range(int(argument) // 10):
            self.ballast.append(bytearray(os.urandom(1 << 20) * 10))
            time.sleep(0.01)
            yield "m"

    def do_feed(self, argument: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Say the pid of a child process, and let that take so many megabytes."""
        code = f"input(); b = bytearray({argument} << 20); b[::4096] = b'x' * len(b[::4096]); input()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
            yield str(child.pid)
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.flush()
            time.sleep(30)

    def do_nurse(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Start a grandchild that outlives everybody and holds stderr; `away` lets it leave the group. Say its pid."""
        child = subprocess.Popen(
            [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"],
            start_new_session=argument == "away",
        )
        yield str(child.pid)

    def do_kill(self, argument: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Send itself a signal, after a piece if told `late`."""
        number, _, late = argument.partition(" ")
        if late:
            yield "late"
        os.kill(os.getpid(), int(number))
        time.sleep(30)
        yield ""

    def do_segfault(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Read where nothing is."""
        ctypes.string_at(8)
        yield ""

    def do_exit(self, argument: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """End the process, by `_exit` or by SystemExit (`exit 3 softly`)."""
        code, _, softly = argument.partition(" ")
        if softly:
            sys.exit(int(code))
        os._exit(int(code))
        yield ""

    def do_raise(self, argument: str, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Raise: a name of an exception, and its text; `late` before them says a piece first."""
        if argument.startswith("late "):
            yield "late"
            argument = argument[5:]
        name, _, text = argument.partition(" ")
        kinds: dict[str, type[BaseException]] = {
            "OutOfMemoryError": type("OutOfMemoryError", (RuntimeError,), {}),
            "Sticky": _Sticky,
        }
        raise (kinds.get(name) or getattr(builtins, name))(text)
        yield ""

    def do_import(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Import a module and say its version."""
        yield str(getattr(__import__(argument), "__version__", argument))

    def do_corrupt(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Write what is no frame to every fd above 2."""
        yield "bad"
        for fd in range(3, 12):
            try:
                os.write(fd, b"\xff" * 64)
            except OSError:
                continue
        time.sleep(30)

    def do_close(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Close every fd above 2, as careless daemons do."""
        os.closerange(3, 100)
        time.sleep(30)
        yield "closed"

    def do_stats(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """From now on stats `raise`, or are `odd`."""
        self.stats_wish = argument
        yield "done"

    def do_say(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Say what it can tell of its process."""
        yield {
            "env": repr(dict(os.environ)),
            "python": sys.executable,
            "path": repr(sys.path),
            "modules": repr(sorted(sys.modules)),
        }[argument]

    def do_stop(self, argument: str, _: Callable[[], bool]) -> Iterator[str]:
        """Stop the whole process, as a debugger does."""
        yield "stopped"
        os.kill(os.getpid(), signal.SIGSTOP)

    def park(self) -> dict[str, Any]:
        """Leave, unless told otherwise."""
        wish = self.spec.get("park")
        if wish == "no":
            raise NotImplementedError
        if wish == "fail":
            raise RuntimeError("half moved")
        return {"device_bytes": 5}

    def wake(self) -> dict[str, Any]:
        """Come back."""
        return {"device_bytes": 50}

    def stats(self) -> dict[str, Any]:
        """Steps so far, unless wished otherwise."""
        if self.stats_wish == "raise":
            raise RuntimeError("no stats")
        if self.stats_wish == "odd":
            return {"steps": object()}
        return {"steps": self.steps, "device_bytes": self.spec.get("device_bytes")}

    def unload(self) -> None:
        """Obey the wish for the end."""
        for _ in self.obey(self.spec.get("unload", "sleep 0"), lambda: False):
            pass
