"""What all backends have in common whose models run elsewhere: what a server has, asked by name.

Its models need no process and no memory here, and give several answers at once; `remote_runner` is one of them, loaded.

Source: spec 4 §Install on first use ("Remote ones need no VRAM here"); `xprim_nb.workers.contract`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from xprim_nb.errors import (
    GenerationFailedError,
    LoadFailedError,
    ModelNotFoundError,
    NotInstalledError,
    XprimError,
)
from xprim_nb.workers.backends.remote_runner import RemoteRunner, Served
from xprim_nb.workers.contract import OnInstall
from xprim_nb.workers.values import (
    Capabilities,
    GenerateRequest,
    InstallProgress,
    LoadOptions,
    Message,
    ModelFacts,
    Recommended,
)

__all__ = ["SLOTS", "Listed", "RemoteBackend", "refuse_settings", "turns"]

# Servers batch, and queue what they cannot take; beyond a handful at once a notebook only gets 429 sooner.
SLOTS = 8
# A server may have hundreds of models; a person reads a few.
_MOST_RECOMMENDED = 10


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that a server has.

    Attributes:
        name: As the server names it.
        why: What a person should know of it, in a sentence.
        context_tokens: Its longest context; 0 when the server does not tell.
        size_bytes: Of its files there; 0 when the server does not tell.
        fingerprint: Changes when its weights do; the name where the server tells nothing better.
    """

    name: str
    why: str
    context_tokens: int = 0
    size_bytes: int = 0
    fingerprint: str = ""


def refuse_settings(settings: Mapping[str, object], known: Collection[str], backend: str) -> None:
    """Raise when a setting is none of the backend's.

    Raises:
        LoadFailedError: It names the first unknown one, and the known ones in its hint.
    """
    for name in settings:
        if name not in known:
            raise LoadFailedError(
                f"{backend} has no setting {name!r}.",
                subject=name,
                hint=f"It has: {', '.join(sorted(known)) or 'none'}.",
            )


def turns(request: GenerateRequest) -> tuple[Message, ...]:
    """The request as a conversation: its messages, or its prompt as what the user says.

    Raises:
        GenerationFailedError: It has neither.
    """
    if request.messages:
        return request.messages
    if request.prompt is None:
        raise GenerationFailedError("There is neither a prompt nor a message to answer.", subject="prompt")
    return (Message("user", request.prompt),)


class RemoteBackend(abc.ABC):
    """See `xprim_nb.workers.contract.Backend`. What differs between servers is in the abstract methods.

    Args:
        name: As it stands before the colon in `backend:model`.
        capabilities: What it can do.
        settings: Names of the settings that `load` takes.
    """

    def __init__(self, name: str, capabilities: Capabilities, settings: Collection[str]) -> None:
        self._name, self._capabilities, self._settings = name, capabilities, frozenset(settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    @property
    def name(self) -> str:
        """As it stands before the colon in `backend:model`."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    @abc.abstractmethod
    async def listed(self) -> Sequence[Listed]:
        """What the server has, most interesting first.

        Raises:
            ProviderError, OfflineError, ConfigError, MissingExtraError: It cannot be asked.
        """

    @abc.abstractmethod
    async def serve(self, found: Listed, options: LoadOptions) -> Served:
        """Make one of its models ready; its settings are known ones."""

    async def find(self, name: str) -> Listed | None:
        """The model of that name; None when the server does not have it."""
        return next((each for each in await self.listed() if self.same(each.name, name)), None)

    def same(self, one: str, other: str) -> bool:
        """Whether two names are one model's."""
        return one == other

    async def check_model_availability(self, names: Sequence[str]) -> list[str]:
        """See `Backend.check_model_availability`.

        Raises:
            ProviderError, OfflineError, ConfigError, MissingExtraError: The server cannot be asked.
        """
        if not names:
            return []
        there = [each.name for each in await self.listed()]
        return [name for name in names if not any(self.same(each, name) for each in there)]

    async def install_model(self, name: str, progress: OnInstall) -> None:
        """Nothing, where the server has it.

        Raises:
            ModelNotFoundError: It does not; nobody can install on it from here.
            ProviderError, OfflineError, ConfigError, MissingExtraError: It cannot be asked.
        """
        if await self.find(name) is None:
            raise ModelNotFoundError(
                f"{self._name} does not have {name!r}, and takes no models from here.",
                subject=name,
                hint="Start the server with it, or name one that it has.",
            )
        progress(InstallProgress(name, 1, 1, "there"))

    async def get_recommended_models(self) -> list[Recommended]:
        """What the server has; empty when it cannot be asked."""
        try:
            listed = await self.listed()
        except XprimError:
            return []
        return [Recommended(each.name, each.why, each.size_bytes) for each in listed[:_MOST_RECOMMENDED]]

    async def facts(self, name: str, options: LoadOptions) -> ModelFacts:
        """See `Backend.facts`: nothing is needed here.

        Raises:
            NotInstalledError: The server does not have it.
            LoadFailedError: A setting is unknown.
            ProviderError, OfflineError, ConfigError, MissingExtraError: The server cannot be asked.
        """
        refuse_settings(options.settings, self._settings, self._name)
        found = await self._found(name)
        return ModelFacts(
            name=name,
            backend=self._name,
            fingerprint=found.fingerprint or found.name,
            max_context_tokens=found.context_tokens,
            footprint_bytes=0,
            is_remote=True,
        )

    async def load(
        self, name: str, options: LoadOptions, progress: Callable[[float, str], object]
    ) -> RemoteRunner:
        """See `Backend.load`.

        Raises:
            NotInstalledError: The server does not have it.
            LoadFailedError: A setting is unknown, or the server refused.
            ProviderError, OfflineError, ConfigError, MissingExtraError: The server cannot be asked.
        """
        refuse_settings(options.settings, self._settings, self._name)
        progress(0.0, f"asking {self._name}")
        served = await self.serve(await self._found(name), options)
        progress(1.0, f"{name} at {served.where}")
        return RemoteRunner(served)

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Close the connections. Idempotent."""

    async def _found(self, name: str) -> Listed:
        found = await self.find(name)
        if found is None:
            raise NotInstalledError(
                f"{self._name} does not have {name!r}.",
                subject=name,
                hint=f"xprim ai run {self._name}:MODEL …",
            )
        return found
