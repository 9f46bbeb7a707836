"""What comes from a worker is handed on in order, and what it logs stays bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from xprim_nb.workers import wire
from xprim_nb.workers.tidings import LastLines, Tidings


def test_the_last_lines_are_few_and_whole() -> None:
    """Two hundred lines at most, 64 KiB at most, the newest; broken text is shown as such."""
    lines = LastLines()
    lines.write(b"".join(b"line %d\n" % number for number in range(1000)))
    assert lines.lines() == tuple(f"line {number}" for number in range(800, 1000))
    lines.write(b"x" * (1 << 20))
    assert [len(line) for line in lines.lines()] == [64 << 10]
    lines.write(b"\nbar 1\rbar 2\r\nend \xff\xfe")
    assert lines.lines()[-3:] == ("bar 1", "bar 2", "end \ufffd\ufffd")


def test_a_flood_of_lines_costs_little() -> None:
    """A gigabyte of log in pieces as a pipe gives them is taken in seconds."""
    lines, piece, began = LastLines(), b"\n" * (64 << 10), time.process_time()
    for _ in range(1 << 10):
        lines.write(piece)
    assert time.process_time() - began < 2
    assert lines.lines() == ("",) * 200


class _Heard:
    def __init__(self, code: str) -> None:
        self.frames: list[dict[str, Any]] = []
        self.damage: list[str] = []
        self.code: list[int] = []
        self.ended = threading.Event()
        head = "import os, sys, time\nsys.path.insert(0, sys.argv[1])\nimport wire\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", head + code, str(Path(wire.__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        pipes = self.process.stdin, self.process.stdout, self.process.stderr
        self.tidings = Tidings(
            pipes, self.process.wait, lambda header, _: self.frames.append(header), self._damaged, self._end
        )

    def _damaged(self, reason: str) -> None:
        self.damage.append(reason)
        self.process.kill()

    def _end(self, code: int) -> None:
        self.code.append(code)
        self.ended.set()


_SAY = "say = lambda **each: os.write(1, wire.pack(each))\nos.write(1, wire.PREAMBLE)\n"


def test_what_was_sent_before_the_end_comes_before_the_end() -> None:
    """A hundred frames and the log of a process that then dies are all there when its end is told."""
    heard = _Heard(
        _SAY
        + "for n in range(100): say(op='x', id=n)\nos.write(2, b'last words\\n')\nos.kill(os.getpid(), 9)"
    )
    assert heard.ended.wait(10)
    assert [frame["id"] for frame in heard.frames] == list(range(100))
    assert heard.tidings.lines.lines() == ("last words",)
    assert (heard.code, heard.damage) == ([-9], [])


def test_a_frame_that_death_cut_is_no_damage() -> None:
    """Where the process died within a frame, its death is what is told."""
    heard = _Heard(_SAY + "os.write(1, wire.pack({'op': 'x', 'more': 'y' * 100})[:50])\nos._exit(3)")
    assert heard.ended.wait(10)
    assert (heard.code, heard.damage, heard.frames) == ([3], [], [])


def test_a_worker_that_reads_nothing_blocks_nobody() -> None:
    """More than a pipe holds is posted at once; the rest is dropped when the process ends."""
    heard = _Heard(_SAY + "say(op='x')\ntime.sleep(30)")
    began = time.monotonic()
    for _ in range(100):
        heard.tidings.post(bytes(100_000))
    assert time.monotonic() - began < 10
    heard.process.kill()
    assert heard.ended.wait(10)


def test_a_pipe_that_somebody_else_holds_delays_little() -> None:
    """A grandchild that keeps stderr open does not keep the end from being told."""
    heard = _Heard(
        _SAY + "import subprocess\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "say(op='x', id=p.pid)\ntime.sleep(0.1)\nos._exit(0)"
    )
    assert heard.ended.wait(20)
    os.kill(heard.frames[0]["id"], 9)


def test_the_threads_end_with_the_worker() -> None:
    """Nothing of it runs on."""
    before = set(threading.enumerate())
    heard = _Heard(_SAY + "sys.stdin.buffer.read(1)")
    own = {each for each in threading.enumerate() if each.name.startswith("xprim-worker-")} - before
    assert own
    heard.tidings.post(b"x")
    assert heard.ended.wait(10)
    for each in own:
        each.join(10)
        assert not each.is_alive()


def test_what_did_not_fit_at_once_arrives_whole_and_in_its_order() -> None:
    """Small frames behind ones that fill the pipe several times over are read in the order they were sent in."""
    heard = _Heard(
        _SAY
        + "time.sleep(0.3)\n"
        + "while (frame := wire.unpack(sys.stdin.buffer.read)):\n"
        + "    say(op='got', id=frame[0]['id'], size=len(frame[1]))\n"
        + "    if frame[0]['op'] == 'last': break\n"
    )
    sizes = [0, 300_000, 0, 70_000, 1, 0, 500_000, 0]
    for number, size in enumerate(sizes):
        heard.tidings.post(
            wire.pack({"op": "last" if number == len(sizes) - 1 else "take", "id": number}, b"x" * size)
        )
    assert heard.ended.wait(20)
    assert [(frame["id"], frame["size"]) for frame in heard.frames] == list(enumerate(sizes))
