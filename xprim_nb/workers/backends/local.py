"""What every backend that runs installed files does in the same way; how it runs them is its own.

    names ─▶ LocalModels ─▶ OpenedModel (which model, what its files say) ─▶ the backend's facts and worker

Source: spec 4 §Install on first use; seeds/003 phase 1 (`check_model_availability`, `install_model`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from xprim_nb._threads import settled
from xprim_nb.errors import ConfigError, NotInstalledError, UnsupportedModelError, XprimError
from xprim_nb.workers.backends.modelfiles import ModelFiles, read_model_files
from xprim_nb.workers.contract import BackendContext, OnInstall, Runner
from xprim_nb.workers.values import LocalModel, Recommended

__all__ = ["LocalModels", "OpenedModel", "check_settings"]

_log = logging.getLogger("xprim_nb.workers")


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """An installed model, and what its files say of it."""

    model: LocalModel
    files: ModelFiles


def check_settings(settings: Mapping[str, object], known: Sequence[str], backend: str) -> None:
    """Refuse, by name, a setting of `LoadOptions` that the backend does not know.

    Raises:
        ConfigError: There is one.
    """
    unknown = sorted(set(settings) - set(known))
    if unknown:
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise ConfigError(
            f"The {backend} backend has no setting {unknown[0]!r:.60}; {has}.", subject=unknown[0]
        )


class LocalModels:
    """The installed models, as one backend sees them.

    Args:
        context: What the backend was made from.
        backend: Its name, for messages.
        refuses: Why it cannot run a model, as the end of a sentence; `""` when it can.
    """

    def __init__(self, context: BackendContext, backend: str, refuses: Callable[[ModelFiles], str]) -> None:
        self._library, self._backend, self._refuses = context.library, backend, refuses

    async def check_model_availability(self, names: Sequence[str]) -> list[str]:
        """Which of these are not installed, in their order.

        Raises:
            InvalidRefError: One is neither a reference nor a directory.
        """
        return [name for name in names if await self._library.find(name) is None]

    async def install_model(self, name: str, progress: OnInstall) -> None:
        """Install it.

        Raises:
            ModelNotFoundError, NetworkError, RegistryError, HashMismatchError, StorageError: See `Library.install`.
        """
        await self._library.install(name, progress)

    async def get_recommended_models(self) -> list[Recommended]:
        """What the registry has to try; empty when it cannot be asked."""
        try:
            return await self._library.recommended()
        except XprimError as error:
            _log.info("no recommendations: %s", error.message)
            return []

    async def open(self, name: str) -> OpenedModel:
        """The model and what its files say.

        Raises:
            NotInstalledError: It is not there.
            UnsupportedModelError: The backend cannot run it; the message says why.
            LoadFailedError: A file is damaged.
        """
        model = await self._library.find(name)
        if model is None:
            raise NotInstalledError(f"{name} is not installed.", subject=name)
        files = await settled(read_model_files, model.path, model.name)
        why = self._refuses(files)
        if why:
            raise UnsupportedModelError(
                f"The {self._backend} backend cannot run {model.name}: {why}", subject=model.name
            )
        return OpenedModel(model, files)

    async def held(self, name: str, start: Callable[[], Awaitable[Runner]]) -> Runner:
        """What `start` returns; the model is not cleaned up before that has ended.

        Raises:
            XprimError: What `start` raises.
        """
        release = await self._library.hold(name)
        try:
            runner = await start()
        except BaseException:
            release()
            raise
        runner.ended.add_done_callback(lambda _: release())
        return runner
