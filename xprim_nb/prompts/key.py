"""The key of this base's redaction marks: random, made once, for this user alone.

With it the same secret leaves the same mark in every prompt of this base, and nobody without it can try out what a mark
stands for.

Source: spec 6 §Resolve (secrets); STYLE rule 10.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from xprim_nb._files import PathLock, storage_errors, write_atomic
from xprim_nb.errors import StorageError

__all__ = ["redaction_key"]

_KEY_BYTES = 32
# Another process that makes it needs an fsync or two.
_LOCK_TIMEOUT_S = 10.0


def redaction_key(folder: Path) -> bytes:
    """The key that lies in a folder, made when there is none. The folder is made for this user alone.

    Args:
        folder: `<base>/prompts`.

    Raises:
        StorageError: It cannot be read or written, or is no key.
    """
    path = folder / "redaction.key"
    with storage_errors(path, "reading"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            lock = PathLock(path.with_name(f"{path.name}.lock"))
            lock.acquire(_LOCK_TIMEOUT_S)
            try:
                # Another process may have made it since: two keys would be two marks for one secret.
                if not path.exists():
                    write_atomic(path, secrets.token_bytes(_KEY_BYTES), private=True)
            finally:
                lock.release()
        found = path.read_bytes()
    if len(found) != _KEY_BYTES:
        raise StorageError(
            f"{path} is no key: it has {len(found)} bytes, and a key has {_KEY_BYTES}.",
            subject=str(path),
            hint="Put it back from a copy, or delete it: prompts with secrets in them are then asked anew.",
        )
    return found
