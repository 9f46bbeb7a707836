"""Read a file of an installed model: a read-only memory map or a plain handle, with a lease that keeps the model here.

Source: spec 2 §Access.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Self

from xprim_nb._files import storage_errors
from xprim_nb._text import format_count
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store
from xprim_nb.cache.upkeep.leases import Lease, Leases
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import NotInstalledError, StorageError
from xprim_nb.refs import ModelRef

__all__ = ["OpenedFile", "open_file"]

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class OpenedFile:
    """An open file of a model. Owns the map or handle, and the lease, until `close` or the end of its `with` block.

    Attributes:
        ref: The version.
        path: The file's absolute path.
        size_bytes: Its length.
        handle: The plain handle; None for a map.
    """

    def __init__(self, ref: ModelRef, path: Path, file: BinaryIO, lease: Lease, *, mapped: bool) -> None:
        self.ref, self.path = ref, path
        self.size_bytes = os.fstat(file.fileno()).st_size
        self.handle: BinaryIO | None = None if mapped else file
        self._lease, self._map = lease, None
        if mapped:
            with file:
                # An empty file cannot be mapped.
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size_bytes else None

    @property
    def view(self) -> memoryview:
        """The bytes, read-only, without reading them; let go of it before `close`.

        Raises:
            StorageError: It was opened without a map, or is closed.
        """
        if self.handle is not None or not self._lease.held:
            raise StorageError(
                f"{self.path} is not mapped.", subject=str(self.path), hint="Open it with mmap=True."
            )
        return memoryview(self._map if self._map is not None else b"")

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return not self._lease.held

    def close(self) -> None:
        """Let go of the bytes and of the lease. Idempotent.

        A map that somebody still looks through stays until that ends; the lease is given back all the same.
        """
        try:
            if self.handle is not None:
                self.handle.close()
            if self._map is not None:
                self._map.close()
        except BufferError:  # arrays made from `view` live on: the system keeps the bytes for them
            self._map = None
        finally:
            self._lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        how = "closed" if self.closed else "handle" if self.handle is not None else "map"
        return f"<{self.path.name} of {self.ref}, {format_count(self.size_bytes, 'byte')}, {how}>"


def open_file(
    layout: Layout, store: Store, leases: Leases, ref: ModelRef, path: str, *, mapped: bool
) -> OpenedFile:
    """Open one file of an installed version.

    Args:
        layout: Where things lie.
        store: What is installed.
        leases: Takes the lease.
        ref: The version.
        path: The file, relative to the model, `/`-separated.
        mapped: A memory map instead of a handle.

    Raises:
        NotInstalledError: The model is not installed, or has no such file; the hint names those it has.
        StorageError: The file cannot be read, or is no plain file.
    """
    lease = leases.take(ref)
    try:
        model = store.get(ref)
        place = model.path / path
        parts = PurePosixPath(path.replace("\\", "/")).parts
        if not parts or path.startswith("/") or ".." in parts or ":" in parts[0]:
            raise _no_such_file(store, model, path)
        with storage_errors(place, "opening"):
            try:
                fd = os.open(place, _READ_FLAGS)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _no_such_file(store, model, path) from error
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise StorageError(f"{place} is no plain file.", subject=str(place), hint="Name a file.")
            return OpenedFile(model.ref, place, os.fdopen(fd, "rb"), lease, mapped=mapped)
    except BaseException:
        lease.close()
        raise


def _no_such_file(store: Store, model: InstalledModel, path: str) -> NotInstalledError:
    try:
        names = [file.path for file in store.manifest_of(model).manifest.files]
    except StorageError:
        names = []
    if path in names:
        return NotInstalledError(
            f"{path} of {model.ref} is gone from the disk.",
            subject=path,
            hint=f'Bring it back with `xprim models pull --force "{model.ref}"`.',
        )
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return NotInstalledError(
        f"{model.ref} has no file {path[:200]!r}.", subject=path[:200], hint=f"It has: {shown}"
    )
