"""The worker needs nothing but the standard library, and keeps its pipes to itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.workers import wire
from xprim_nb.workers.spawn import CHILD

from .working import ECHO


class _Child:
    """A worker that the test itself speaks to."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.noise = wire.skip_to_preamble(self._out.read)
        self.hello = self.read()

    def read(self) -> dict[str, Any]:
        """The next frame's header."""
        frame = wire.unpack(self._out.read)
        assert frame is not None, "it ended"
        return frame[0]

    def send(self, **header: object) -> None:
        """Send a frame."""
        self._in.write(wire.pack(header))
        self._in.flush()

    def ask(self, **header: object) -> dict[str, Any]:
        """The first frame that comes after this one was sent."""
        self.send(**header)
        return self.read()


@contextmanager
def _running(*flags: str, **environ: str) -> Iterator[_Child]:
    with subprocess.Popen(
        [sys.executable, *flags, "-u", str(CHILD), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environ},
        start_new_session=True,
    ) as process:
        try:
            yield _Child(process)
        finally:
            process.kill()


def _load(child: _Child, engine: str = ECHO, **spec: object) -> Mapping[str, Any]:
    child.send(op="load", id=1, engine=engine, spec=spec, slots=1)
    while (frame := child.read())["op"] == "progress":
        pass
    return frame


def test_it_starts_with_the_standard_library_alone() -> None:
    """Isolated, without site-packages, it greets, loads an engine, answers, and goes when told to."""
    with _running("-I", "-S") as child:
        assert child.hello["op"] == "hello"
        assert child.hello["protocol"] == wire.PROTOCOL
        assert child.hello["python"] == ".".join(map(str, sys.version_info[:3]))
        assert child.hello["pid"] == child.process.pid
        assert _load(child)["op"] == "done"
        request = {"prompt": "a b", "max_tokens": 9, "messages": []}
        assert child.ask(op="generate", id=2, request=request, credits=9)["text"] == "a"
        assert child.read()["text"] == " b"
        assert child.read()["ended"]["reason"] == "stop"
        child.send(op="shutdown", id=0)
        assert child.process.wait(20) == 0


@pytest.mark.parametrize("name", ["child.py", "wire.py", "guard.py"])
def test_it_imports_the_standard_library_alone(name: str) -> None:
    """No import statement of what a worker starts with names anything else."""
    tree = ast.parse(CHILD.with_name(name).read_text(encoding="utf-8"))
    named = {
        module.partition(".")[0]
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "." * node.level]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "os" in named
    assert named <= set(sys.stdlib_module_names)


def test_modules_beside_it_hide_no_others(tmp_path: Path) -> None:
    """An engine that imports `values` or `wire` gets what its environment calls so, not a file of ours."""
    (tmp_path / "values.py").write_text("mine = True")
    engine = tmp_path / "engine" / "own.py"
    engine.parent.mkdir()
    engine.write_text(
        "import sys\n"
        "def create():\n"
        f"    sys.path.insert(0, {str(tmp_path)!r})\n"
        "    import values\n"
        "    assert values.mine\n"
        "    return Own()\n"
        "class Own:\n"
        "    def load(self, spec, progress): return {'path': sys.path, 'xprim': 'xprim_nb' in sys.modules}\n"
    )
    with _running() as child:
        result = _load(child, str(engine))["result"]
        assert str(CHILD.parent) not in result["path"]
        assert result["xprim"] is False


def test_engines_import_each_other_relatively(tmp_path: Path) -> None:
    """A folder of engines is a package of its own, with its `__init__` where it has one."""
    (tmp_path / "__init__.py").write_text("base = 40")
    (tmp_path / "part.py").write_text("from . import base\nmore = base + 1")
    (tmp_path / "whole.py").write_text(
        "from .part import more\n"
        "def create(): return E()\n"
        "class E:\n"
        "    def load(self, spec, progress): return {'sum': more + 1}\n"
    )
    with _running() as child:
        assert _load(child, str(tmp_path / "whole.py"))["result"] == {"sum": 42}


def test_what_a_start_up_file_prints_is_no_frame(tmp_path: Path) -> None:
    """Text that came on stdout before the worker had its pipes is told apart."""
    (tmp_path / "sitecustomize.py").write_text("print('welcome to this environment')")
    with _running(PYTHONPATH=str(tmp_path)) as child:
        assert child.noise.strip() == b"welcome to this environment"
        assert child.hello["op"] == "hello"


def test_questions_are_answered_while_the_engine_works() -> None:
    """Ping and stats come back while an answer is made, and while a model loads."""
    with _running() as child:
        child.send(op="load", id=1, engine=ECHO, spec={"wishes": ["still 30"]}, slots=1)
        assert child.ask(op="ping", id=7) == {"op": "pong", "id": 7}
        assert child.ask(op="stats", id=8) == {"op": "stats", "id": 8, "stats": {}}


def test_credits_bound_what_is_sent() -> None:
    """After so many chunks as were allowed nothing comes, until more is allowed."""
    with _running() as child:
        _load(child)
        request = {"prompt": "a b c d e", "max_tokens": 9, "messages": []}
        child.send(op="generate", id=2, request=request, credits=2)
        assert [child.read()["text"] for _ in range(2)] == ["a", " b"]
        assert child.ask(op="ping", id=3)["op"] == "pong"
        assert child.ask(op="stats", id=4)["stats"]["steps"] == 2
        assert child.ask(op="credit", id=2, count=1)["text"] == " c"
        child.send(op="cancel", id=2)
        assert child.read() == {"op": "done", "id": 2, "ended": {"reason": "cancelled", "tokens": 3}}


@pytest.mark.parametrize("op", ["lora.stage", "lora.commit", "lora.rollback", "snapshot", "no.such.op"])
def test_what_it_does_not_offer_is_said(op: str) -> None:
    """Reserved words and unknown ones are answered by an error that names them."""
    with _running() as child:
        answer = child.ask(op=op, id=5)
        assert (answer["op"], answer["id"], answer["kind"]) == ("error", 5, "unsupported")
        assert op in answer["text"]


def test_damage_ends_it() -> None:
    """What is no frame cannot be followed by one: the worker goes, and says why in its log."""
    with _running() as child:
        assert child.process.stdin is not None
        child.process.stdin.write(b"\xff" * 8)
        child.process.stdin.flush()
        assert child.process.wait(20) != 0
        assert child.process.stderr is not None
        assert b"FrameError" in child.process.stderr.read()


def test_the_end_of_the_stream_ends_it() -> None:
    """Where the kernel's end of the pipe is closed, the worker goes at once, also in the middle of a load."""
    with _running() as child:
        child.send(op="load", id=1, engine=ECHO, spec={"wishes": ["still 30"]}, slots=1)
        assert child.process.stdin is not None
        child.process.stdin.close()
        assert child.process.wait(20) != 0
