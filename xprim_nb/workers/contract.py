"""What a backend promises, what a loaded model promises, and what both need to know of the models on this machine.

`xprim_nb.testing.backend_contract` holds every backend to it.

Source: spec 4 §Install on first use; seeds/003 phase 1 (`AIProviderAdapter`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from xprim_nb.config import mask_url
from xprim_nb.logs import Logger
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

__all__ = ["ENTRY_POINTS", "Backend", "BackendContext", "BackendFactory", "Library", "OnInstall", "Runner"]

ENTRY_POINTS = "xprim_nb.backends"
"""The entry-point group; each name in it is a backend's, each value a `BackendFactory`."""

OnInstall: TypeAlias = Callable[[InstallProgress], object]


class Library(Protocol):
    """The models on this machine and in the registry, as backends that run local files need them."""

    async def find(self, name: str) -> LocalModel | None:
        """The installed model, or None. `name` is a ref, or the path of a directory that is taken as it is.

        Raises:
            InvalidRefError: It is neither.
        """
        ...

    async def install(self, name: str, progress: OnInstall) -> LocalModel:
        """Install it, whatever the policy says, and return it; found at once when it is there.

        Raises:
            ModelNotFoundError, NetworkError, RegistryError, HashMismatchError, StorageError: See `Manager.pull`.
        """
        ...

    async def recommended(self) -> list[Recommended]:
        """Models of the registry that run here, smallest first; empty when it cannot be asked."""
        ...

    async def hold(self, name: str) -> Callable[[], None]:
        """Keep it from being cleaned up until the result is called."""
        ...


class Runner(Protocol):
    """One loaded model. Its owner closes it; `generate` may be called `slots` times at once."""

    @property
    def pid(self) -> int | None:
        """Of its worker process; None when it runs elsewhere."""
        ...

    @property
    def measured(self) -> Measured:
        """Memory it takes, measured when it had been loaded."""
        ...

    @property
    def context_tokens(self) -> int:
        """Room for prompt and answer that it was loaded with."""
        ...

    @property
    def ended(self) -> asyncio.Future[CrashReport | None]:
        """Done when it is gone: None after `close`, a report after a crash. Never cancelled."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Ended, None]:
        """The answer, piece by piece, and `Ended` as the last.

        `aclose()` on it, or cancelling whoever reads, ends the answer and leaves the model loaded: when `aclose`
        returns, the model serves the next request. An answer that does not stop within two seconds costs the worker.

        Raises:
            WorkerCrashedError, WorkerMemoryError, WorkerHungError: `retryable` only when no piece had come.
            GenerationFailedError: The backend raised; the model stays loaded.
            ProviderError: A server answered with an error.
        """
        ...

    async def stats(self) -> WorkerStats:
        """Its own account of itself, within a second; also while it answers."""
        ...

    async def park(self) -> Measured:
        """Leave the accelerator, keep the process; the result is the residue.

        Raises:
            UnsupportedModelError: It cannot (`Capabilities.can_park`).
        """
        ...

    async def wake(self) -> Measured:
        """Come back to the accelerator."""
        ...

    async def close(self) -> None:
        """Unload: shutdown frame, 5 s, terminate, 1 s, kill, reap. Idempotent; ends what is being answered."""
        ...


class Backend(Protocol):
    """One way to run models. Made by a `BackendFactory`; `aclose` ends it after its runners."""

    @property
    def name(self) -> str:
        """As it stands before the colon in `backend:model`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    async def check_model_availability(self, names: Sequence[str]) -> list[str]:
        """Which of these models are missing, in their order; empty when all are there."""
        ...

    async def install_model(self, name: str, progress: OnInstall) -> None:
        """Make it available.

        Raises:
            ModelNotFoundError: Nobody has it.
            NetworkError, ProviderError, StorageError, HashMismatchError: It could not be fetched.
        """
        ...

    async def get_recommended_models(self) -> list[Recommended]:
        """What is worth trying; never raises, empty when nobody can be asked."""
        ...

    async def facts(self, name: str, options: LoadOptions) -> ModelFacts:
        """What an estimate of an available model's memory is made from.

        Raises:
            NotInstalledError: It is not available.
            UnsupportedModelError: This backend cannot run it; the message says why.
        """
        ...

    async def load(self, name: str, options: LoadOptions, progress: Callable[[float, str], object]) -> Runner:
        """Load an available model; cancelling it leaves no process.

        Args:
            name: The model.
            options: How.
            progress: Called with the fraction that is loaded and a text.

        Raises:
            NotInstalledError, UnsupportedModelError: See `facts`.
            WorkerStartError, WorkerCrashedError, WorkerMemoryError, WorkerHungError: Its process is at fault.
            LoadFailedError: The backend refused.
            MissingExtraError: The environment it shall run in lacks a package.
        """
        ...

    async def aclose(self) -> None:
        """End what it holds (connections); runners are closed before."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class BackendContext:
    """What a backend is made from. Its repr shows no key, and no password of an address.

    Attributes:
        library: The models on this machine.
        endpoints: Base URLs by backend name.
        keys: API keys by backend name; never logged, never shown.
        offline: Open no socket but to this machine.
        logger: Receives diagnostics.
        hot_spare: Keep one worker started, its framework imported, for the next load.
    """

    library: Library
    endpoints: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False
    logger: Logger | None = None
    hot_spare: bool = False

    def __repr__(self) -> str:
        endpoints = {name: mask_url(url) for name, url in self.endpoints.items()}
        return f"BackendContext(endpoints={endpoints!r}, keys={dict.fromkeys(self.keys, '***')!r}, offline={self.offline})"


BackendFactory: TypeAlias = Callable[[BackendContext], Backend]
