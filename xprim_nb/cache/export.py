"""Make a registry directory from what is installed: for an air gap, a classroom, a colleague's USB stick.

Local bytes only; every chunk is hashed while it is copied, so a damaged model cannot be passed on.

Source: spec 1 §Manager (`export`); research pull §5 ("the cache is a registry").
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from xprim_nb._files import storage_errors, write_atomic
from xprim_nb._threads import Check, unhalted
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.loose import LooseChunk
from xprim_nb.cache.partial import hash_segments
from xprim_nb.cache.store import Store
from xprim_nb.cache.values import Exported, InstalledModel
from xprim_nb.errors import (
    ConfigError,
    HashMismatchError,
    InvalidRefError,
    NotInstalledError,
    VersionNotFoundError,
)
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import Index, RemoteModel
from xprim_nb.registry.manifest import VerifiedManifest
from xprim_nb.registry.naming import name_version

__all__ = ["export"]


def export(
    layout: Layout,
    store: Store,
    refs: Sequence[ModelRef],
    to: Path,
    known: Index | None,
    check: Check = unhalted,
) -> Exported:
    """Write the models into a registry directory; what it holds already stays.

    An installed alias is written as the version it resolved to, and as an alias of it.

    Args:
        layout: Where the models lie.
        store: What is installed.
        refs: Which versions; a reference without a version means all its installed ones.
        to: The registry directory.
        known: The last index seen, for metadata; None for none.
        check: Called before each chunk.

    Raises:
        NotInstalledError: One of them is not installed.
        ConfigError: There is nothing to export, or `to` lies in the cache itself.
        HashMismatchError: An installed file is damaged; the model was not named.
        VersionExistsError: The directory has other bytes under the same version.
        StorageError: The disk refused.
        HaltedError: `check` did; the chunks that are there stay for the next try.
    """
    models = [model for ref in refs for model in _matching(store, ref)]
    if not models:
        raise ConfigError("There is nothing to export: no model was named.", subject="refs")
    if to.resolve().is_relative_to(layout.base.resolve()):
        raise ConfigError(
            f"{to} lies in the models directory itself.", subject=str(to), hint="Choose another place."
        )
    chunks = written = 0
    notes: list[str] = []
    for model in models:
        verified = store.manifest_of(model)
        if verified.digest != model.manifest_hash:
            notes.append(
                f"{model.ref}: another client re-encoded its manifest, which is exported as {verified.digest[:12]}."
            )
        new = _write_chunks(model, verified, to / "data", check)
        chunks, written = chunks + new[0], written + new[1]
        write_atomic(to / "data" / verified.digest, verified.raw)
        _name(model, verified, to, known)
    return Exported(to, tuple(model.ref for model in models), chunks, written, tuple(notes))


def _matching(store: Store, ref: ModelRef) -> list[InstalledModel]:
    if ref.version:
        return [store.get(ref)]
    found = [model for model in store.list() if model.ref.name == ref.name]
    if not found:
        raise NotInstalledError(f"No version of {ref.name} is installed.", subject=ref.name)
    return found


def _write_chunks(
    model: InstalledModel, verified: VerifiedManifest, data: Path, check: Check
) -> tuple[int, int]:
    count = size = 0
    for digest, numbers in verified.manifest.distinct.items():
        check()
        length = verified.manifest.sizes[numbers[0]]
        path = data / digest
        with storage_errors(path, "looking for a chunk"):
            if path.is_file() and path.stat().st_size == length:
                continue
        with LooseChunk(data, digest, length) as sink:
            whole = hash_segments(model.path, verified.manifest, numbers[0], sink.write)
            try:
                sink.verify()
            except HashMismatchError as error:
                where = verified.manifest.files[next(verified.manifest.segments(numbers[0])).file_index].path
                problem = "is damaged" if whole else "is missing or too short"
                raise HashMismatchError(
                    f"{model.ref}: {where} {problem}, so the model was not exported.",
                    subject=str(model.path / where),
                    hint=f"Mend it: `xprim models pull {model.ref} --force`.",
                ) from error
            sink.keep()
        count, size = count + 1, size + length
    return count, size


def _name(model: InstalledModel, verified: VerifiedManifest, to: Path, known: Index | None) -> None:
    ref, aliases = model.ref, []
    resolved = model.extra.get("resolved_version")
    if isinstance(resolved, str) and resolved not in ("", ref.version):
        with contextlib.suppress(InvalidRefError):  # anybody can write into registry.json
            ref, aliases = ref.with_version(resolved), [model.ref]
    remote = _remote(known, ref, verified.digest)
    metadata = dict(remote.metadata) if remote is not None else None
    name_version(to, ref, verified.digest, verified.manifest.total_size, aliases=aliases, metadata=metadata)


def _remote(known: Index | None, ref: ModelRef, digest: str) -> RemoteModel | None:
    if known is None:
        return None
    try:
        found = known.get(ref)
    except (
        VersionNotFoundError,
        LookupError,
        ValueError,
    ):  # the index knows no more of it, or nothing usable
        return None
    return found if found.manifest_hash == digest else None
