"""Take models away, whole or not at all.

Source: seeds/002 §Manager (`Remove`, `RemoveAll`); faults G18 and G20 of the original.
"""

from __future__ import annotations

from xprim_nb._files import locked
from xprim_nb._threads import settled
from xprim_nb.cache.install import Installer
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store
from xprim_nb.cache.values import Removed
from xprim_nb.errors import NotInstalledError
from xprim_nb.events import EventHub, ModelRemoved
from xprim_nb.refs import ModelRef

__all__ = ["Remover"]


class Remover:
    """Removes versions under their locks. Holds nothing open.

    Args:
        layout: Where things lie.
        store: What is installed.
        installer: Moves trees.
        events: Where removals are told.
    """

    def __init__(self, layout: Layout, store: Store, installer: Installer, events: EventHub) -> None:
        self._layout, self._store, self._installer, self._events = layout, store, installer, events

    async def remove(self, ref: ModelRef) -> Removed:
        """Remove one version; a pull of it in another process is waited for.

        Raises:
            NotInstalledError: It is not installed.
            StorageError: The disk refused.
        """
        await settled(self._store.get_entry, ref)  # an unknown name fails at once, and leaves no lock file
        async with locked(self._layout.ref_lock(ref)):
            await settled(self._installer.recover, ref)
            removed = await settled(self._remove, ref)
        self._events.publish(ModelRemoved(ref))
        return removed

    async def remove_all(self, name: ModelRef) -> list[Removed]:
        """Remove every installed version of a model.

        Raises:
            NotInstalledError: None is installed.
            StorageError: The disk refused; those removed before stay removed.
        """
        models = [model for model in await settled(self._store.list) if model.ref.name == name.name]
        if not models:
            raise NotInstalledError(f"No version of {name.name} is installed.", subject=name.name)
        return [await self.remove(model.ref) for model in models]

    def _remove(self, ref: ModelRef) -> Removed:
        model = self._store.get_entry(ref)
        if not model.path.exists() and not model.path.is_symlink():
            self._store.forget(ref)  # somebody deleted the directory: the name follows
            return Removed(ref, 0)
        return self._installer.remove(model)
