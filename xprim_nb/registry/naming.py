"""Putting names on manifests: the writing side of `models.json`.

An edit is read, changed and written inside one lock, and checked as a reader will check it before it is written.

Source: spec 1 §Wire format (alias entries repeat their target's hash; unknown keys are kept), §Publisher.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xprim_nb._files import PathLock, read_plain, storage_errors, write_atomic
from xprim_nb._hashing import Digest
from xprim_nb.errors import ConfigError, RegistryError, VersionExistsError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import parse_index
from xprim_nb.registry.manifest import MAX_DOCUMENT_BYTES

__all__ = ["INDEX_NAME", "name_version", "other_bytes", "parse_alias", "published_hash", "set_alias"]

INDEX_NAME = "models.json"

# An edit takes milliseconds; who waits longer waits for a process that hangs, or for a dead network drive.
_LOCK_TIMEOUT_S = 60.0

_Document = dict[str, Any]


def published_hash(to: Path, ref: ModelRef, aliases: Sequence[ModelRef], *, replace: bool) -> Digest | None:
    """The manifest that the version has now; None when there is none or it may be replaced. Takes no lock.

    Asked before gigabytes are read; `name_version` decides again, inside the lock.

    Raises:
        VersionExistsError: An alias is taken by a real version, or the version by an alias.
        RegistryError: `models.json` is there and cannot be used.
    """
    versions = _versions(_read(to), ref)
    _refuse_taken(versions, ref, aliases, replace=replace)
    entry = versions.get(ref.version)
    return None if replace or not isinstance(entry, dict) else entry.get("hash")


def name_version(
    to: Path,
    ref: ModelRef,
    digest: Digest,
    total_size: int,
    *,
    aliases: Sequence[ModelRef] = (),
    metadata: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> bool:
    """Let a version, and aliases of it, name a manifest that is in place already.

    Args:
        to: The registry's directory.
        ref: The version.
        digest: Of the manifest.
        total_size: Of the model, in bytes.
        aliases: Further names of the same version; they are moved here from wherever they pointed.
        metadata: What the index says about it; None leaves what it says now.
        replace: Let the version name other bytes than it does now; aliases of it follow.

    Returns:
        False when the index said all this before; it was not written then.

    Raises:
        VersionExistsError: See `published_hash`; or the version names other bytes and `replace` is False.
        RegistryError: `models.json` cannot be used, or would not be readable afterwards.
        StorageError: The disk refused, or the lock was held too long.
    """

    def change(document: _Document) -> None:
        versions = _versions(document, ref)
        _refuse_taken(versions, ref, aliases, replace=replace)
        entry = versions.get(ref.version)
        entry = entry if isinstance(entry, dict) else {}
        if not replace and entry.get("hash", digest) != digest:
            raise other_bytes(ref)
        entry.pop("alias", None)
        versions[ref.version] = entry | {"hash": digest, "total_size": total_size}
        if metadata is not None:
            versions[ref.version]["metadata"] = dict(metadata)
        _point(versions, ref.version, [each.version for each in aliases])

    return _edit(to, change, [ref, *aliases])


def set_alias(to: Path, target: ModelRef | str, alias: str) -> bool:
    """Let another name stand for a published version.

    Args:
        to: The registry's directory.
        target: The version, or an alias of it.
        alias: The name; it is moved here from wherever it pointed.

    Returns:
        False when it stood for that already.

    Raises:
        InvalidRefError: One of the two is no name.
        ConfigError: A name would stand for itself.
        ModelNotFoundError: The target is not published.
        VersionExistsError: The name belongs to a real version.
        RegistryError: `models.json` cannot be used; or the aliases would form a loop or a chain too long.
        StorageError: The disk refused, or the lock was held too long.
    """
    target = ModelRef.parse(target).require_version()
    named = parse_alias(target, alias)

    def change(document: _Document) -> None:
        parse_index(_encoded(document)).get(target)
        versions = _versions(document, target)
        _refuse_taken(versions, target, [named], replace=True)
        _point(versions, target.version, [named.version])

    return _edit(to, change, [named])


def parse_alias(ref: ModelRef, alias: str) -> ModelRef:
    """The reference that an alias of `ref` forms.

    Raises:
        InvalidRefError: It is no name.
        ConfigError: It is the version itself.
    """
    named = ref.with_version(alias).require_version()
    if named == ref:
        raise ConfigError(
            f"{ref} cannot be an alias of itself.", subject=str(ref), hint="Choose another name."
        )
    return named


def other_bytes(ref: ModelRef) -> VersionExistsError:
    """The error that says a version cannot change."""
    return VersionExistsError(
        f"{ref} is published already, with other bytes or in other chunks.", subject=str(ref)
    )


def _refuse_taken(
    versions: Mapping[str, Any], ref: ModelRef, aliases: Sequence[ModelRef], *, replace: bool
) -> None:
    entry = versions.get(ref.version)
    if isinstance(entry, dict) and entry.get("alias") and not replace:
        raise VersionExistsError(f"{ref} is an alias of {entry['alias']!r:.100}.", subject=str(ref))
    for alias in aliases:
        entry = versions.get(alias.version)
        if isinstance(entry, dict) and not entry.get("alias"):
            raise VersionExistsError(
                f"{alias} is a version of its own, so it cannot be an alias of {ref.version!r}.",
                subject=str(alias),
                hint="Choose another name for the alias.",
            )


def _point(versions: _Document, target: str, aliases: Sequence[str]) -> None:
    """Let aliases name a version, and let all that lead to it repeat its hash."""
    for alias in aliases:
        entry = versions.get(alias)
        versions[alias] = (entry if isinstance(entry, dict) else {}) | {"alias": target}
    settled, repeated = {target}, {key: versions[target].get(key) for key in ("hash", "total_size")}
    while True:
        following = [
            name
            for name, entry in versions.items()
            if isinstance(entry, dict) and entry.get("alias") in settled and name not in settled
        ]
        if not following:
            return
        for name in following:
            versions[name].update({key: value for key, value in repeated.items() if value is not None})
            settled.add(name)


def _versions(document: _Document, ref: ModelRef) -> _Document:
    models = document.setdefault(ref.group, {})
    versions = models.setdefault(ref.model, {}) if isinstance(models, dict) else None
    if not isinstance(versions, dict):
        raise RegistryError(
            f"{INDEX_NAME} has something else than versions at {ref.name}.", subject=ref.name, hint=_LEFT
        )
    return versions


_LEFT = f"Mend {INDEX_NAME} by hand; it was left as it is."


def _edit(to: Path, change: Callable[[_Document], None], touched: Sequence[ModelRef]) -> bool:
    with _locked(to):
        document = _read(to)
        before = _encoded(document)
        change(document)
        after = _encoded(document)
        if after == before:
            return False
        index = parse_index(after)
        for ref in touched:
            index.get(ref)
        if len(after) > MAX_DOCUMENT_BYTES:
            raise RegistryError(
                f"{INDEX_NAME} would be larger than {MAX_DOCUMENT_BYTES} bytes.", subject=INDEX_NAME
            )
        write_atomic(to / INDEX_NAME, after)
        return True


@contextlib.contextmanager
def _locked(to: Path) -> Iterator[None]:
    lock = PathLock(to / f".{INDEX_NAME}.lock")
    lock.acquire(_LOCK_TIMEOUT_S)
    try:
        yield
    finally:
        lock.release()


def _read(to: Path) -> _Document:
    # Not orjson: it would round the numbers beyond 64 bits that unknown keys may hold.
    path = to / INDEX_NAME
    with storage_errors(path, "reading"):
        try:
            raw = read_plain(path)
        except FileNotFoundError:
            return {}
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{path} is not JSON: {error}", subject=str(path), hint=_LEFT) from error
    if not isinstance(document, dict):
        raise RegistryError(f"{path} is not a JSON object.", subject=str(path), hint=_LEFT)
    return document


def _encoded(document: _Document) -> bytes:
    """Indented and sorted: a registry may live under version control."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode("utf-8", "surrogatepass")
