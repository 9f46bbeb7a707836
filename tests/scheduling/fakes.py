"""A backend whose models are scripts: it records what it is asked, and needs no process.

For tests of what stands above backends; the backends themselves are held to their contract with real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace

from xprim_nb.errors import ModelNotFoundError, XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.workers.contract import OnInstall
from xprim_nb.workers.values import (
    Capabilities,
    CrashReport,
    Ended,
    GenerateRequest,
    InstallProgress,
    LoadOptions,
    LocalModel,
    Measured,
    ModelFacts,
    Piece,
    Recommended,
    WorkerStats,
)

__all__ = ["FakeBackend", "FakeRunner", "NoModels", "until"]


async def until(holds: Callable[[], object]) -> None:
    """Let others run until it holds; the test's own limit ends what never does."""
    while not holds():  # noqa: ASYNC110  # what is waited for is no event: a list that grows, a state
        await asyncio.sleep(0.001)


@dataclass
class FakeRunner:
    """Answers with the words of the prompt, one piece each, when `gate` lets it."""

    name: str
    options: LoadOptions
    measured: Measured
    gate: asyncio.Event
    pid: int | None = None
    requests: list[GenerateRequest] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    fault: XprimError | None = None
    dies: CrashReport | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        self.ended: asyncio.Future[CrashReport | None] = asyncio.get_running_loop().create_future()

    @property
    def context_tokens(self) -> int:
        return self.options.context_tokens

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Ended, None]:
        self.requests.append(request)
        words = (request.prompt or request.messages[-1].content).split()
        how = "cancelled"
        try:
            if self.fault is not None:
                fault, self.fault = self.fault, None
                if self.dies is not None:
                    self.crash(self.dies)
                raise fault
            for word in words[: request.sampling.max_tokens]:
                await self.gate.wait()
                yield Piece(f"{word} ")
            how = "whole"
            yield Ended("stop", prompt_tokens=len(words), tokens=len(words))
        finally:
            self.endings.append(how)

    async def stats(self) -> WorkerStats:
        return WorkerStats(0, self.measured)

    async def park(self) -> Measured:
        return Measured(0, 0)

    async def wake(self) -> Measured:
        return self.measured

    async def close(self) -> None:
        self.closed = True
        if not self.ended.done():
            self.ended.set_result(None)

    def crash(self, report: CrashReport) -> None:
        """End as a worker does that somebody kills."""
        if not self.ended.done():
            self.ended.set_result(report)


@dataclass
class FakeBackend:
    """Has the models that `sizes` names; every one can be made to fail or to take its time.

    Attributes:
        sizes: Bytes that each model takes.
        missing: Models that must be installed first.
        load_gate: Loading waits for it.
        gate: Answers wait for it before each word.
        faults: What the next loads of a model raise, in order.
    """

    name: str = "fake"
    sizes: dict[str, int] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    faults: dict[str, list[XprimError]] = field(default_factory=dict)
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(has_process=True))
    calls: list[tuple[str, str]] = field(default_factory=list)
    runners: list[FakeRunner] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate, self.load_gate, self.install_gate = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for each in (self.gate, self.load_gate, self.install_gate):
            each.set()

    async def check_model_availability(self, names: Sequence[str]) -> list[str]:
        self.calls.extend(("check", name) for name in names)
        return [name for name in names if name in self.missing]

    async def install_model(self, name: str, progress: OnInstall) -> None:
        self.calls.append(("install", name))
        progress(InstallProgress(name, 1, 2, "half of it"))
        await self.install_gate.wait()
        self.missing.discard(name)

    async def get_recommended_models(self) -> list[Recommended]:
        return []

    async def facts(self, name: str, options: LoadOptions) -> ModelFacts:
        self.calls.append(("facts", name))
        size = self.sizes.get(name, 1000)
        return ModelFacts(name, self.name, fingerprint=name, weight_bytes=size, footprint_bytes=size)

    async def load(
        self, name: str, options: LoadOptions, progress: Callable[[float, str], object]
    ) -> FakeRunner:
        self.calls.append(("load", name))
        progress(0.5, "half of it")
        await self.load_gate.wait()
        if self.faults.get(name):
            raise self.faults[name].pop(0)
        size = self.sizes.get(name, 1000)
        runner = FakeRunner(name, options, Measured(size, size), self.gate)
        self.runners.append(runner)
        return runner

    async def aclose(self) -> None:
        self.closed = True

    def loads(self) -> list[str]:
        """Names of the models that were loaded, in order."""
        return [name for what, name in self.calls if what == "load"]

    def remote(self) -> FakeBackend:
        """The same as a server's."""
        self.capabilities = replace(self.capabilities, is_remote=True, has_process=False, slots=8)
        return self


class NoModels:
    """A library of a machine that has none, and of a registry that lists none."""

    async def find(self, name: str) -> LocalModel | None:
        ModelRef.parse(name)
        return None

    async def install(self, name: str, progress: OnInstall) -> LocalModel:
        raise ModelNotFoundError(f"Nobody has {name}.", subject=name)

    async def recommended(self) -> list[Recommended]:
        return []

    async def hold(self, name: str) -> Callable[[], None]:
        return lambda: None
