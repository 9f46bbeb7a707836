"""The verbs about other programs' models on this machine.

Source: spec 2 §Adopt.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from xprim_nb._threads import settled
from xprim_nb.cache.adopt.installing import Adopted, AdoptionInstaller, choose_model
from xprim_nb.cache.adopt.places import adopted_places, forget_places, remember_place
from xprim_nb.cache.adopt.scanning import AdoptedPlace, PlaceKind, scan_place
from xprim_nb.cache.history import record
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.pull import Puller
from xprim_nb.cache.state import State
from xprim_nb.config import Config, foreign_cache
from xprim_nb.errors import ConfigError
from xprim_nb.events import EventHub, PullProgress
from xprim_nb.manager.reading import Reading, at_home
from xprim_nb.refs import ModelRef

__all__ = ["Adopting"]

_PROGRAMS: dict[str, PlaceKind] = {"hf": "hf", "ollama": "ollama"}


class Adopting(Reading):
    """Makes other programs' files serve pulls, and installs from them. Its parts are the manager's."""

    config: Config
    events: EventHub
    _layout: Layout
    _state: State
    _installer: Installer
    _puller: Puller

    @at_home
    async def scan(self, place: Path | str) -> AdoptedPlace:
        """What adopting a directory would find. Changes nothing.

        Args:
            place: `"hf"`, `"ollama"`, or a directory.

        Raises:
            ConfigError: It is no directory, or our own.
            StorageError: It cannot be read.
        """
        root, kind = self._root(place)
        return await settled(scan_place, root, kind, time.time())

    @at_home
    async def adopt(
        self,
        place: Path | str,
        *,
        install_as: ModelRef | str | None = None,
        model: str | None = None,
        concurrency: int | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Adopted:
        """Let a directory's files serve pulls and repairs from now on; install a model from it if asked.

        Nothing in it is changed, and none of its names is believed.

        Args:
            place: `"hf"`, `"ollama"`, or a directory in any of their layouts, or in none.
            install_as: Install a model of it under this name, without a download.
            model: Which, where the place has several: its name there, or a part of it.
            concurrency: Chunks copied at once.
            progress: Called with each `PullProgress`.

        Raises:
            ConfigError: It is no directory, or our own; or has no model of that name.
            VersionExistsError: Something else is installed under that name.
            PublishError: A file changed while it was read.
            InvalidRefError, NetworkError, StorageError: See `errors`.
        """
        ref = ModelRef.parse(install_as).require_version() if install_as is not None else None
        found = await self.scan(place)
        chosen = choose_model(found, model) if ref is not None or model is not None else None
        await settled(remember_place, self._layout, found)
        details = {
            "root": found.root,
            "kind": found.kind,
            "files": len(found.files),
            "bytes": found.size_bytes,
        }
        await settled(record, self._state, "adopt", str(ref or ""), details)
        if ref is None or chosen is None:
            return Adopted(found)
        installer = AdoptionInstaller(self._layout, self._store, self._puller, self._installer, self.events)
        wanted = self.config.concurrency if concurrency is None else concurrency
        installed, receipt = await installer.install(
            found, chosen, ref, concurrency=wanted, progress=progress
        )
        return Adopted(found, installed, receipt)

    @at_home
    async def adopted(self) -> list[AdoptedPlace]:
        """Every adopted directory, with what was found in it when it was adopted.

        Raises:
            StorageError: The list cannot be read.
        """
        return await settled(adopted_places, self._layout)

    @at_home
    async def forget_adopted(self, place: Path | str | None = None) -> list[str]:
        """Stop using a directory, or all of them; the directories that were forgotten. No file is touched.

        Raises:
            StorageError: The list cannot be written.
        """
        root = None if place is None else self._root(place)[0]
        return await settled(forget_places, self._layout, root)

    def _root(self, place: Path | str) -> tuple[Path, PlaceKind | None]:
        if isinstance(place, str) and place in _PROGRAMS:
            return foreign_cache(place), _PROGRAMS[place]
        root = Path(os.path.abspath(Path(place).expanduser()))  # noqa: PTH100  # resolve() would follow links
        base = self._layout.base
        if root == base or root.is_relative_to(base) or base.is_relative_to(root):
            raise ConfigError(
                f"{root} is, or holds, our own models directory.",
                subject=str(root),
                hint="What is installed serves pulls anyway.",
            )
        return root, None
