"""The backends of one engine: found by entry point, made when they are first needed, closed together.

Source: spec 4 §Install on first use (entry points `xprim_nb.backends`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from xprim_nb._threads import settled
from xprim_nb.errors import ConfigError, EngineError, InvalidRefError
from xprim_nb.scheduling.naming import ModelName, choose_local
from xprim_nb.workers.backends import numpy as numpy_backend
from xprim_nb.workers.backends import openai_compatible
from xprim_nb.workers.backends.modelfiles import read_model_files
from xprim_nb.workers.contract import ENTRY_POINTS, Backend, BackendContext, BackendFactory
from xprim_nb.workers.values import LocalModel

__all__ = ["Backends"]


@cache
def _entry_points() -> Mapping[str, importlib.metadata.EntryPoint]:
    return {each.name: each for each in importlib.metadata.entry_points(group=ENTRY_POINTS)}


@dataclass(slots=True)
class Backends:
    """Makes each backend once. `aclose` closes those that were made.

    Args:
        context: What each is made from.
        given: Backends made elsewhere (tests, other packages); they win over entry points of the same name.
    """

    context: BackendContext
    given: Mapping[str, Backend] = field(default_factory=dict)
    _made: dict[str, Backend] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Everything that may stand before the colon, sorted."""
        return sorted({*_entry_points(), *self.given, *self.context.endpoints})

    def get(self, name: str) -> Backend:
        """The backend of this name.

        Raises:
            InvalidRefError: There is none.
            EngineError: It cannot be imported.
        """
        found = self.given.get(name) or self._made.get(name)
        if found is None:
            found = self._made[name] = self._make(name)
        return found

    async def resolve(self, name: ModelName) -> tuple[Backend, LocalModel | None]:
        """The backend that a name means, and the model if it is installed and local.

        Raises:
            InvalidRefError: It means none.
            LoadFailedError, UnsupportedModelError: Its files cannot be read.
        """
        if name.backend:
            backend = self.get(name.backend)
            if not backend.capabilities.uses_library:
                return backend, None
            return backend, await self.context.library.find(name.name)
        found = await self.context.library.find(name.name)
        if found is None:
            return self.get("numpy"), None
        files = await settled(read_model_files, found.path, found.name)
        unsupported = numpy_backend.supports(files.config)
        has_transformers = all(importlib.util.find_spec(each) for each in ("torch", "transformers"))
        chosen = choose_local(unsupported, found.size_bytes, has_transformers=has_transformers)
        return self.get(chosen), found

    def made(self) -> list[Backend]:
        """Those that exist already."""
        return [*self.given.values(), *self._made.values()]

    async def aclose(self) -> None:
        """Close those that were made here."""
        made, self._made = list(self._made.values()), {}
        for each in made:
            await each.aclose()

    def _make(self, name: str) -> Backend:
        point = _entry_points().get(name)
        if point is None:
            if name in self.context.endpoints:
                return openai_compatible.create_named(self.context, name)
            known = ", ".join(self.names())
            raise InvalidRefError(
                f"{name[:60]!r} is no backend.", subject=name[:60], hint=f"There are {known}."
            )
        try:
            factory: BackendFactory = point.load()
        except ImportError as error:
            raise EngineError(f"The backend {name} cannot be loaded: {error}", subject=name) from error
        backend = factory(self.context)
        if backend.name != name:
            raise ConfigError(f"The backend {name} calls itself {backend.name}.", subject=name)
        return backend
