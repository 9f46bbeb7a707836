"""Leases: who reads which model now. A lock file for each, held by the living process and by nothing else.

    1. A lease is taken, and looked for, inside the version's gate: a lock held for milliseconds.
    2. A lease file whose lock nobody holds belongs to a process that died: it is ignored, and deleted.
    3. Who removes holds the gate from looking to the end, so that nobody can take a lease in between.

Source: spec 2 §Clean-up ("Never: a leased one"); flock(2).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from xprim_nb._files import Claim, PathLock, storage_errors
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store
from xprim_nb.errors import StorageError
from xprim_nb.refs import ModelRef

__all__ = ["Lease", "Leases", "gate", "lease_count"]

# Taking a lease takes milliseconds; a removal may delete many gigabytes.
_GATE_TIMEOUT_S = 120.0


class Lease:
    """Keeps one version from being cleaned up until `close`, or the end of its `with` block. Thread-safe.

    Attributes:
        ref: Which version.
    """

    def __init__(self, ref: ModelRef, claim: Claim) -> None:
        self.ref = ref
        self._claim, self._lock = claim, threading.Lock()

    @property
    def held(self) -> bool:
        """True until it is closed."""
        return self._claim.held

    def close(self) -> None:
        """Give it back. Idempotent."""
        with self._lock:
            self._claim.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Lease of {self.ref}{'' if self.held else ', closed'}>"


class Leases:
    """Takes leases, and gives back what is left of them on `close`.

    Args:
        layout: Where things lie.
        store: What is installed.
    """

    def __init__(self, layout: Layout, store: Store) -> None:
        self._layout, self._store = layout, store
        self._taken: list[Lease] = []
        self._lock = threading.Lock()

    def take(self, ref: ModelRef) -> Lease:
        """Lease an installed version.

        Raises:
            NotInstalledError: It is not installed.
            StorageError: The disk refused.
        """
        self._store.get(ref)  # an unknown name leaves no lock file
        with gate(self._layout, ref):
            self._store.get(ref)
            name = f"{os.getpid()}-{secrets.token_hex(6)}.lock"
            claim = Claim(_folder(self._layout, ref) / name)
            if not claim.try_acquire():
                raise StorageError(
                    f"{claim.path} cannot be locked.",
                    subject=str(claim.path),
                    hint="Keep the models directory on a file system that knows locks.",
                )
        lease = Lease(ref, claim)
        with self._lock:
            self._taken = [each for each in self._taken if each.held]
            self._taken.append(lease)
        return lease

    def close(self) -> None:
        """Give back what was taken here and is still held."""
        with self._lock:
            taken, self._taken = self._taken, []
        for lease in taken:
            lease.close()


@contextlib.contextmanager
def gate(layout: Layout, ref: ModelRef) -> Iterator[None]:
    """Hold the version's gate: nobody takes a lease meanwhile.

    Raises:
        StorageError: It was held for too long, or the lock file cannot be created.
    """
    folder = _folder(layout, ref)
    lock = PathLock(folder.with_name(f"{folder.name}.gate"))
    lock.acquire(_GATE_TIMEOUT_S)
    try:
        yield
    finally:
        lock.release()


def lease_count(layout: Layout, ref: ModelRef, *, gated: bool = False) -> int:
    """How many living processes' leases a version has; the files of dead ones are deleted.

    Args:
        layout: Where things lie.
        ref: Which version.
        gated: The caller holds the gate.

    Raises:
        StorageError: The gate was held for too long.
    """
    folder = _folder(layout, ref)
    if not folder.is_dir():
        return 0
    with contextlib.nullcontext() if gated else gate(layout, ref), storage_errors(folder, "reading"):
        return sum(_is_alive(path) for path in sorted(folder.glob("*.lock")))


def _is_alive(path: Path) -> bool:
    if not path.is_file():  # no process of ours made it
        return False
    claim = Claim(path)
    if not claim.try_acquire():
        return True
    claim.release()  # 2
    return False


def _folder(layout: Layout, ref: ModelRef) -> Path:
    # The name of the version's own lock: short enough for every file system.
    return layout.leases / layout.ref_lock(ref).name.removesuffix(".lock")
