"""One chunk as one file, named by its digest once its bytes were verified.

Used for what `peek` fetches and for the registries that `export` makes.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from xprim_nb._files import make_dirs, storage_errors, sync_dir, sync_file
from xprim_nb._hashing import Digest
from xprim_nb._text import format_count
from xprim_nb.errors import HashMismatchError

__all__ = ["LooseChunk"]


class LooseChunk:
    """A `VerifyingSink` that becomes `<directory>/<digest>`. Leaving the block without `keep` leaves nothing.

    Args:
        directory: Where; created.
        digest: The chunk's name.
        size_bytes: How long it is.
    """

    def __init__(self, directory: Path, digest: Digest, size_bytes: int) -> None:
        self.path = directory / digest
        self.digest = digest
        self.size_bytes = size_bytes
        self.received = 0
        self._temporary = directory / f".{digest}.{secrets.token_hex(6)}.tmp"
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        with storage_errors(self._temporary, "writing a chunk"):
            make_dirs(self._temporary.parent)
            self._file = self._temporary.open("xb", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, block: memoryview) -> None:
        """Take the next bytes.

        Raises:
            HashMismatchError: There are more than the chunk has.
            StorageError: The disk refused.
        """
        assert self._file is not None, "used inside its with block"
        if self.received + len(block) > self.size_bytes:
            raise HashMismatchError(
                f"Chunk {self.digest} is longer than {format_count(self.size_bytes, 'byte')}.",
                subject=self.digest,
            )
        with storage_errors(self._temporary, "writing a chunk"):
            view = block
            while view:
                view = view[self._file.write(view) :]
        self._hash.update(block)
        self.received += len(block)

    def restart(self) -> None:
        """Forget what was taken."""
        assert self._file is not None, "used inside its with block"
        self._file.seek(0)
        self._file.truncate()
        self.received, self._hash = 0, hashlib.sha256()

    def verify(self) -> None:
        """Return when the bytes are the chunk's.

        Raises:
            HashMismatchError: They are not.
        """
        found = self._hash.hexdigest()
        if self.received != self.size_bytes or found != self.digest:
            raise HashMismatchError(f"Chunk {self.digest} arrived as {found}.", subject=self.digest)

    def keep(self) -> Path:
        """Give the verified bytes their name, durably; the result is the path.

        Raises:
            StorageError: The disk refused.
        """
        assert self._file is not None, "used inside its with block"
        with storage_errors(self.path, "naming a chunk"):
            sync_file(self._file.fileno())
            self._file.close()
            self._temporary.replace(self.path)
            sync_dir(self.path.parent)
        return self.path
