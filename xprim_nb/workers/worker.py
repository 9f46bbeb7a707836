"""One worker process: its start, its frames, its health, its end. Which engine it runs is `process`'s business.

Everything here happens on the event loop that started it. The threads of `tidings` and `limits` hand on by
`call_soon_threadsafe`; where the loop is closed, nobody is left to answer for, and the worker is killed.

Source: spec 4 §Workers; research/residency §5.2.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

from xprim_nb.errors import WorkerCrashedError, WorkerError, WorkerStartError
from xprim_nb.workers import wire
from xprim_nb.workers.crash import Circumstances, Verdict, crash_error, crash_report
from xprim_nb.workers.routes import Reply, Route, to_the_end
from xprim_nb.workers.spawn import Group, command, environment, spawn
from xprim_nb.workers.tidings import Tidings
from xprim_nb.workers.values import CrashCause, CrashReport, Environment, LoadOptions
from xprim_nb.workers.watch import Watch

__all__ = ["OLDEST_PYTHON", "Worker"]

# What engines are written for; the worker itself starts on older ones, to be able to say so.
OLDEST_PYTHON = (3, 11)
# A model of many gigabytes is freed within it; a worker that is still there does not hear.
_SHUTDOWN_S = 5.0
# Time for the engine's own helpers to end, after they were asked to.
_TERMINATE_S = 1.0
# A process that SIGKILL does not end within it waits for a device, and nothing here can change that.
_REAP_S = 5.0


class Worker:
    """One worker process. Made by `start`; whoever has it ends it, by `close` or `end_now`.

    Args:
        group: The started process.
        where: Where it runs.
    """

    def __init__(self, group: Group, where: Environment) -> None:
        self._loop = asyncio.get_running_loop()
        self._group, self.where = group, where
        self.python = self.model = command(where)[0]
        self.hello: dict[str, Any] = {}
        self._greeting: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self.ended: asyncio.Future[CrashReport | None] = self._loop.create_future()
        self._verdict: Verdict | None = None
        self._is_closing, self._closing = False, None  # type: bool, asyncio.Task[None] | None
        self._routes: dict[int, tuple[Route, float | None]] = {}
        self._numbers = itertools.count(1)
        self.watch = Watch(group, self.kill, self._tell, lambda: self.post("ping", 0))
        self._tidings = Tidings(
            group.pipes,
            group.wait,
            lambda header, _: self._tell(self._on_frame, header),
            lambda reason: self._tell(self._on_damage, reason),
            lambda code: self._tell(self._on_end, code),
        )

    @classmethod
    async def start(cls, where: Environment, timeout_s: float, model: str = "") -> Worker:
        """A worker that has said hello.

        Args:
            where: The interpreter and its variables.
            timeout_s: Longest wait for its hello.
            model: Whom it is started for; errors name its interpreter where that is nobody yet.

        Raises:
            WorkerStartError: It cannot be started, ended, is silent, or is too old. No process is left.
        """
        try:
            group = await spawn(command(where), environment(where, os.environ))
        except OSError as error:
            detail = f"{command(where)[0]} cannot be started: {error.strerror or error}."
            named = model or command(where)[0]
            seen = Circumstances(named, 0, "start", None, False, Verdict("no_hello", detail))
            starts = f"No worker starts for {model}" if model else "No worker starts"
            raise WorkerStartError(
                f"{starts}: {detail}", subject=named, retryable=True, report=crash_report(seen)
            ) from error
        worker = cls(group, where)
        worker.model = model or worker.model
        try:
            try:
                async with asyncio.timeout(timeout_s):
                    worker.hello = await asyncio.shield(worker._greeting)
            except TimeoutError:
                raise await worker.condemned(
                    "no_hello", f"It said no hello within {timeout_s:g} s."
                ) from None
            if not worker.hello:
                raise worker.gone(True)
            if (refusal := _refusal(worker.python, worker.hello)) is not None:
                raise await worker.condemned("no_hello", refusal)
        except BaseException:
            await to_the_end(worker.end_now())
            raise
        return worker

    def adopt(self, model: str, options: LoadOptions) -> None:
        """It is this model's from now on, with its limits."""
        self.model = model
        self.watch.adopt(self.pid, options.ram_limit_bytes)

    # --- what is known of it --------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the interpreter, which a wrapper may have started."""
        return int(self.hello.get("pid", self._group.pid))

    def report(self, exit_code: int | None, verdict: Verdict | None = None) -> CrashReport:
        """What is known of it, as of now."""
        return crash_report(
            Circumstances(
                model=self.model,
                pid=self.pid,
                doing=self._doing(),
                exit_code=exit_code,
                said_hello=bool(self.hello),
                verdict=verdict or self._verdict,
                oom_kills=self.watch.oom_kills(),
                last_lines=self._tidings.lines.lines(),
                memory=self.watch.memory(),
            )
        )

    def _doing(self) -> str:
        if not self.hello:
            return "start"
        return next((route.doing for route, _ in self._routes.values() if route.doing != "idle"), "idle")

    def gone(self, retryable: bool) -> WorkerError:
        """The error of whoever wants something of a worker that has ended."""
        report = self.ended.result() if self.ended.done() else None
        if report is not None:
            return crash_error(report, retryable=retryable)
        return WorkerCrashedError(
            f"{self.model} was unloaded before it answered.",
            subject=self.model,
            hint="Run again: it is loaded again.",
            retryable=retryable,
        )

    # --- frames ---------------------------------------------------------------------------------

    def open(self, route: Route, op: str, stall_s: float | None = None, **more: object) -> int:
        """Send a question and route what comes back; the result is its id, which `shut` takes.

        Args:
            route: Who waits.
            op: The question.
            stall_s: Longest silence that is borne; None where the caller's patience is the limit.
            more: The rest of its header.

        Raises:
            WorkerError: It has ended.
            FrameError: It is too large to be sent.
        """
        if self.ended.done() or self._is_closing:
            raise self.gone(True)
        number = next(self._numbers)
        frame = wire.pack({"op": op, "id": number, **more})
        self._routes[number] = route, stall_s
        if route.doing != "idle":
            self.watch.begin(stall_s)
        self._tidings.post(frame)
        return number

    def shut(self, number: int) -> None:
        """Nobody waits for these frames any more."""
        route, stall_s = self._routes.pop(number)
        if route.doing != "idle":
            self.watch.end(stall_s)

    def post(self, op: str, number: int, **more: object) -> None:
        """Send a word that has no answer of its own."""
        self._tidings.post(wire.pack({"op": op, "id": number, **more}))

    async def ask(
        self,
        op: str,
        doing: str = "idle",
        stall_s: float | None = None,
        on_progress: Callable[[dict[str, Any]], object] | None = None,
        **more: object,
    ) -> Mapping[str, Any]:
        """The header of the answer.

        Raises:
            WorkerError: It ended before.
            FrameError: The question is too large to be sent.
        """
        reply = Reply(doing, on_progress)
        number = self.open(reply, op, stall_s, **more)
        if op == "stats":
            self.watch.asked()
        try:
            return await reply.answer
        finally:
            self.shut(number)

    def _tell(self, call: Callable[..., None], *args: Any) -> None:  # whatever `call` takes
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            self._group.kill()  # the loop is closed, and so is whoever owned this

    def _on_frame(self, header: dict[str, Any]) -> None:
        op = header["op"]
        self.watch.heard(worked=op not in ("pong", "stats"))
        try:
            if op == "hello" and not self._greeting.done():
                header["pid"], self.watch.watcher = int(header["pid"]), int(header["watcher"])
                self._greeting.set_result(header)
            elif header["id"] in self._routes:
                self._routes[header["id"]][0].take(header)
        except (KeyError, TypeError, ValueError) as error:
            self._on_damage(f"It sent {header!r:.200}: {error!r:.200}.")

    def _on_damage(self, reason: str) -> None:
        self.kill("exit" if self.hello else "no_hello", f"What it sent cannot be read. {reason}")

    # --- its end --------------------------------------------------------------------------------

    def kill(self, cause: CrashCause, detail: str) -> None:
        """End it now, for this reason; the first reason counts. From any thread."""
        self._verdict = self._verdict or Verdict(cause, detail)
        self._group.kill()

    async def condemned(self, cause: CrashCause, detail: str) -> WorkerError:
        """End it for this reason, and return the error once it is gone."""
        self.kill(cause, detail)
        await to_the_end(self._gone())
        return self.gone(True)

    async def _gone(self) -> None:
        if not await self._is_gone(_REAP_S):
            self._on_end(None)  # it is stuck in the kernel; its thread waits on

    async def _is_gone(self, timeout_s: float) -> bool:
        return bool((await asyncio.wait([self.ended], timeout=timeout_s))[0])

    async def end_now(self) -> None:
        """Kill it, without a report. Idempotent."""
        if not self.ended.done():
            self._is_closing = True
            self._group.kill()
            await self._gone()

    async def close(self) -> None:
        """Shutdown frame, 5 s, terminate, 1 s, kill, reap. Idempotent; goes to its end also when cancelled."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await to_the_end(_joined(self._closing))

    async def _close(self) -> None:
        if self.ended.done():
            return
        self._is_closing = True
        self.watch.sample()  # what it has started is taken along
        self.post("shutdown", 0)
        if await self._is_gone(_SHUTDOWN_S):
            return
        self._group.terminate()
        if not await self._is_gone(_TERMINATE_S):
            self._group.kill()
            await self._gone()

    def _on_end(self, code: int | None) -> None:
        if self.ended.done():
            return
        self.ended.set_result(None if self._is_closing else self.report(code))
        self.watch.close()
        if not self._greeting.done():
            self._greeting.set_result({})
        for route, _ in list(self._routes.values()):
            route.fail(self.gone)


async def _joined(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


def _refusal(path: str, hello: Mapping[str, Any]) -> str | None:
    """Why a worker that greets so is not spoken to."""
    python, protocol = str(hello.get("python")), hello.get("protocol")
    digits = tuple(int(part) if part.isdecimal() else 0 for part in python.split(".")[:2])
    if digits < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return f"{path} is Python {python}, and a worker needs {oldest} or newer."
    if protocol != wire.PROTOCOL:
        return f"It speaks protocol {protocol!r:.20}, and this is {wire.PROTOCOL}."
    return None
