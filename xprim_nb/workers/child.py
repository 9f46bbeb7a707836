"""The worker itself: runs one engine in a process of its own, and speaks frames over what were its stdin and stdout.

Run as `python -u child.py PARENT_PID`, by an interpreter that may have no package of ours: the standard library alone
is imported here; `wire`, `guard` and the engines are loaded by their paths.

Two threads. The main one runs the engine, one call at a time. The reader answers ping, cancel, credit, stats and
shutdown at once, while the engine works. Where the stream ends, the kernel is gone, and this process group with it.

Source: spec 4 §Workers; research/residency §5.2 (2, 3, 4).
"""

from __future__ import annotations

import os
import sys


def _take_pipes() -> tuple[int, int]:
    """Keep fds 0 and 1 for frames, under numbers nobody else knows; what is printed goes to stderr from now on."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415  # exists there alone

        msvcrt.setmode(incoming, os.O_BINARY)
        msvcrt.setmode(outgoing, os.O_BINARY)
    return incoming, outgoing


# Before any other import: whatever an import prints must not be taken for a frame.
_PIPES = _take_pipes() if __name__ == "__main__" else (-1, -1)
_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib is not imported yet
if sys.path and os.path.abspath(sys.path[0] or ".") == _FOLDER:  # noqa: PTH100
    # A script's folder comes first on the path: modules that lie beside this one would hide others of their name.
    del sys.path[0]

import contextlib  # noqa: E402  # see above; so below
import faulthandler  # noqa: E402
import gc  # noqa: E402
import importlib.util  # noqa: E402
import platform  # noqa: E402
import signal  # noqa: E402
import threading  # noqa: E402
import traceback  # noqa: E402
import types  # noqa: E402
from collections import deque  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

_ENGINES = "xprim_worker_engines"  # no package anywhere is called so
_RESERVED = ("lora.", "snapshot")
# After these a CUDA context answers nothing any more, whoever asks.
_POISON = ("cuda error", "illegal memory access", "device-side assert", "unspecified launch", "hip error")


def load_file(name: str, path: Path, folder: Path | None = None) -> types.ModuleType:
    """The module that lies at `path`, under `name`; a package with that folder when one is named."""
    places = None if folder is None else [str(folder)]
    spec = importlib.util.spec_from_file_location(name, str(path), submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module.", name=name, path=str(path))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


wire = load_file("xprim_worker_wire", Path(_FOLDER, "wire.py"))
guard = load_file("xprim_worker_guard", Path(_FOLDER, "guard.py"))


def find_engine(engine: str) -> Any:  # noqa: ANN401  # the protocol is where this file cannot import it from
    """An instance of the engine: a module of the folder `engines`, or a file of one's own.

    Either is a member of a package made of its folder, so that engines can import each other, and nothing here.
    """
    path = Path(engine)
    name, folder = (
        (_ENGINES + "_own", path.parent) if path.is_absolute() else (_ENGINES, Path(_FOLDER, "engines"))
    )
    if (folder / "__init__.py").is_file():
        load_file(name, folder / "__init__.py", folder)
    else:
        package = sys.modules[name] = types.ModuleType(name)
        package.__path__ = [str(folder)]
    return importlib.import_module(f"{name}.{path.stem}").create()


def told(error: BaseException) -> dict[str, Any]:
    """What crosses of an exception: its kind, type and text, and whether the process can be trusted after it."""
    text = str(error) or type(error).__name__
    low = text.lower()
    kind = "failed"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "out of memory" in low:
        kind = "memory"
    elif isinstance(error, ImportError):
        kind = "missing"
    elif isinstance(error, NotImplementedError):
        kind = "unsupported"
    elif isinstance(error, ValueError):
        kind = "refused"
    poisoned = kind != "memory" and any(each in low for each in _POISON)
    name = (getattr(error, "name", None) or "") if kind == "missing" else ""
    return {
        "kind": kind,
        "type": type(error).__name__,
        "text": text[:4000],
        "name": name,
        "poisoned": poisoned,
    }


class Answer:
    """One answer that is being made; touched under the worker's lock, but for `steps`."""

    def __init__(self, number: int, request: dict[str, Any], allowed: int) -> None:
        self.number, self.request, self.allowed = number, request, allowed
        self.gone, self.tokens = False, 0
        self.steps: Iterator[dict[str, Any]] | None = None

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.gone


class Worker:
    """The two threads and what they share.

    Args:
        incoming: The fd that frames come from.
        outgoing: The fd that frames go to.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = open(incoming, "rb", buffering=1 << 16)  # noqa: SIM115  # until the process ends
        self._outgoing, self._writing = outgoing, threading.Lock()
        self._news = threading.Condition()
        self._jobs: deque[dict[str, Any]] = deque()
        self._answers: dict[int, Answer] = {}
        self._slots, self._stopping, self._engine = 1, False, None  # type: int, bool, Any

    # --- frames ---------------------------------------------------------------------------------

    def send(self, op: str, number: int = 0, **more: object) -> None:
        """Send a frame, from either thread."""
        self._write(wire.pack({"op": op, "id": number, **more}))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._writing:
            try:
                while view:
                    view = view[os.write(self._outgoing, view) :]
            except BrokenPipeError:
                guard.leave()  # the kernel is gone
            except OSError:
                self._give_up()

    def greet(self, watcher: int) -> None:
        """Say who is here; `watcher` is the process that outlives this one by a moment, or 0."""
        self._write(wire.PREAMBLE)
        self.send(
            "hello",
            protocol=wire.PROTOCOL,
            python=platform.python_version(),
            platform=sys.platform,
            pid=os.getpid(),
            watcher=watcher,
            executable=sys.executable,
        )

    # --- the reader: answers at once ------------------------------------------------------------

    def read(self) -> None:
        """Read frames until the stream ends, which is the end of this process."""
        try:
            while (frame := wire.unpack(self._incoming.read)) is not None:
                self._take(frame[0])
        except wire.CutError:
            pass  # the kernel died as it wrote
        except Exception:  # noqa: BLE001  # nothing can be read after it
            self._give_up()
        guard.leave()

    def _give_up(self) -> None:
        """End by the exception that is being handled: the kernel lives, and is told by the log."""
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)

    def _take(self, header: dict[str, Any]) -> None:
        op, number = header["op"], header.get("id", 0)
        if op == "ping":
            self.send("pong", number)
        elif op == "stats":
            self._tell_stats(number)
        elif op == "credit":
            with self._news:
                if number in self._answers:
                    self._answers[number].allowed += header["count"]
                    self._news.notify()
        elif op == "cancel":
            with self._news:
                if number in self._answers:
                    self._answers[number].gone = True
                    self._news.notify()
        elif op == "shutdown":
            with self._news:
                self._stopping = True
                for answer in self._answers.values():
                    answer.gone = True
                self._news.notify()
        else:
            with self._news:
                if op == "generate":
                    self._answers[number] = Answer(number, header["request"], header["credits"])
                self._jobs.append(header)
                self._news.notify()

    def _tell_stats(self, number: int) -> None:
        try:
            self.send("stats", number, stats=dict(self._engine.stats()) if self._engine is not None else {})
        except Exception:  # noqa: BLE001
            traceback.print_exc()  # it goes to the log; who asks is still told that the process lives
            self.send("stats", number, stats={})

    # --- the main thread: runs the engine -------------------------------------------------------

    def run(self) -> None:
        """Do what comes, in its order; return when told to shut down."""
        while True:
            with self._news:
                while not (self._stopping or self._can_begin() or self._can_step()):
                    self._news.wait()
                if self._stopping:
                    break
                job = self._jobs.popleft() if self._can_begin() else None
                ready = [] if job else self._can_step()
            if job is not None:
                self._begin(job)
            for answer in ready:
                self._step(answer)
        for answer in list(self._answers.values()):
            self._finish(answer)
        if self._engine is not None:
            self._engine.unload()

    def _begun(self) -> list[Answer]:
        return [answer for answer in self._answers.values() if answer.steps is not None]

    def _can_begin(self) -> bool:
        """Answers are made `slots` at once, a piece each in turns; everything else has the engine to itself."""
        return bool(self._jobs) and len(self._begun()) < (
            self._slots if self._jobs[0]["op"] == "generate" else 1
        )

    def _can_step(self) -> list[Answer]:
        return [answer for answer in self._begun() if answer.gone or answer.allowed > 0]

    def _begin(self, job: dict[str, Any]) -> None:
        op, number = job["op"], job.get("id", 0)
        try:
            if op == "generate":
                self._open(self._answers[number])
            elif op == "load":
                self._load(job)
            elif op in ("park", "wake"):
                result = self._engine.park() if op == "park" else self._engine.wake()
                self.send("done", number, result=result)
            elif op == "preload":
                for name in job["modules"]:
                    with contextlib.suppress(ImportError):  # whoever needs it says that it is missing
                        importlib.import_module(name)
                self.send("done", number)
            elif op.startswith(_RESERVED):
                raise NotImplementedError(f"{op} is reserved, and not offered by this worker.")
            else:
                raise NotImplementedError(f"No worker knows {op!r:.80}.")
        except Exception as error:  # noqa: BLE001  # whoever asked hears it
            self._fail(number, error)

    def _load(self, job: dict[str, Any]) -> None:
        number = job["id"]
        self._slots = job["slots"]
        engine = find_engine(job["engine"])

        def progress(fraction: float, text: str) -> None:
            self.send("progress", number, fraction=float(fraction), text=str(text))

        result = engine.load(job["spec"], progress)
        self._engine = engine
        self.send("done", number, result=result)

    def _open(self, answer: Answer) -> None:
        answer.steps = (
            iter(()) if answer.gone else iter(self._engine.generate(answer.request, answer.cancelled))
        )

    def _step(self, answer: Answer) -> None:
        assert answer.steps is not None, "only begun answers are stepped"
        if answer.gone:
            self._finish(answer)
            return
        try:
            piece = next(answer.steps, None)
            if piece is None or "ended" in piece:
                ended = {"reason": "stop", "tokens": answer.tokens} if piece is None else piece["ended"]
                self._forget(answer)
                self.send("done", answer.number, ended=ended)
                return
            tokens = int(piece.get("tokens", 1))
            with self._news:
                answer.allowed -= 1
            answer.tokens += tokens
            self.send("chunk", answer.number, text=piece["text"], tokens=tokens)
        except Exception as error:  # noqa: BLE001  # whoever asked hears it
            self._fail(answer.number, error)

    def _finish(self, answer: Answer) -> None:
        """End an answer that nobody waits for."""
        self._forget(answer)
        try:
            close = getattr(answer.steps, "close", None)
            if close is not None:
                close()
        except Exception as error:  # noqa: BLE001  # whoever asked hears it
            self._fail(answer.number, error)
        else:
            self.send("done", answer.number, ended={"reason": "cancelled", "tokens": answer.tokens})

    def _forget(self, answer: Answer) -> None:
        with self._news:
            self._answers.pop(answer.number, None)

    def _fail(self, number: int, error: Exception) -> None:
        traceback.print_exception(type(error), error, error.__traceback__)
        answer = self._answers.get(number)
        if answer is not None:
            self._forget(answer)
            answer.steps = None
        words = told(error)
        error.__traceback__ = None  # its frames hold the arrays that there was no room for
        if words["kind"] == "memory":
            gc.collect()
        self.send("error", number, **words)


def main() -> None:
    """Greet, serve, and end."""
    watcher = guard.watch(*_PIPES)
    guard.die_with(int(sys.argv[1]))
    # Jupyter's interrupt goes to the kernel's group; one that comes here all the same is no reason to die.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]  # text streams
    faulthandler.enable(sys.stderr, all_threads=False)
    worker = Worker(*_PIPES)
    threading.Thread(target=worker.read, name="xprim-reader", daemon=True).start()
    worker.greet(watcher)
    code: object = 0
    try:
        worker.run()
    except SystemExit as error:  # the engine's own wish
        code = error.code
    except BaseException:  # noqa: BLE001  # the last lines of the log
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    # No finalisation: what the engine let run on, threads above all, has nothing to finish.
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
