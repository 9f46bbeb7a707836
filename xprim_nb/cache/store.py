"""`registry.json`: what is installed. Written last, atomically, and read without a lock.

The whole read-modify-write happens inside the lock; keys we do not know are kept. A damaged file is moved aside and
rebuilt from the model directories, each of which holds its own manifest; so is an empty one, which a power cut leaves
of a file that was not made durable.

Source: spec 1 §Disk layout; faults G17 and G18 of the original.
"""

from __future__ import annotations

import contextlib
import json
import logging
import operator
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from xprim_nb._files import PathLock, read_plain, storage_errors, write_atomic
from xprim_nb._hashing import sha256_hex
from xprim_nb._memory import uncollected
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.pinned import KEY, pin_beside, pins_left_in, repeat_pin
from xprim_nb.cache.values import InstalledModel, listed_model
from xprim_nb.errors import InvalidRefError, NotInstalledError, StorageError, XprimError
from xprim_nb.refs import ModelRef, listed_ref
from xprim_nb.registry.manifest import VerifiedManifest, parse_manifest

__all__ = ["Store", "manifest_digest", "read_manifest"]

_log = logging.getLogger("xprim_nb.cache")

Document: TypeAlias = dict[str, Any]

# A write of registry.json takes milliseconds: whoever holds the lock for this long is hung.
_LOCK_TIMEOUT_S = 30.0
# The order of refs, without the generated comparison that builds two tuples each time.
_by_ref = operator.attrgetter("ref.group", "ref.model", "ref.version")
_OWN_KEYS = {"manifest_hash", "total_size", "file_count", "installed_at"}


class Store:
    """Reads and writes `registry.json`. Holds nothing open; safe from many threads and processes.

    Args:
        layout: Where things lie.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def list(self) -> list[InstalledModel]:
        """Every installed model, sorted by ref. Touches no model directory.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        with uncollected():
            return sorted(self._entries(self._read()), key=_by_ref)

    def find(self, ref: ModelRef) -> InstalledModel | None:
        """The installed model, its directory present; None when it is not installed.

        Raises:
            StorageError: The disk cannot be read.
        """
        entry = _entry(self._read(), ref)
        model = self._model(ref, entry) if entry is not None else None
        with storage_errors(self._layout.model_dir(ref), "looking for a model"):
            return model if model is not None and self._layout.manifest_file(model.path).is_file() else None

    def get(self, ref: ModelRef) -> InstalledModel:
        """The installed model.

        Raises:
            NotInstalledError: It is not installed, or its directory is gone; the hint tells which.
        """
        found = self.find(ref.require_version())
        if found is not None:
            return found
        entry = _entry(self._read(), ref)
        if entry is not None:
            gone = self._model(ref, entry) is not None
            raise NotInstalledError(
                f"{ref} is listed, but its directory is gone: {self._layout.model_dir(ref)}"
                if gone
                else f"{ref} is listed, but its entry in registry.json is damaged.",
                subject=str(ref),
                hint=f"Pull it again: `xprim models pull {ref}`.",
            )
        versions = [model.ref.version for model in self.list() if model.ref.name == ref.name]
        raise NotInstalledError(
            f"{ref} is not installed.",
            subject=str(ref),
            hint=f"Installed versions: {', '.join(versions)}."
            if versions
            else f"Install it: `xprim models pull {ref}`.",
        )

    def get_entry(self, ref: ModelRef) -> InstalledModel:
        """The listed model, whether or not its directory is there.

        Raises:
            NotInstalledError: It is not listed.
        """
        entry = _entry(self._read(), ref)
        model = self._model(ref, entry) if entry is not None else None
        return model or self.get(ref)

    def record(self, ref: ModelRef, manifest: VerifiedManifest, extra: dict[str, Any]) -> InstalledModel:
        """Name an installed model; its directory is in place already.

        Raises:
            StorageError: The file cannot be written.
        """
        entry = {
            "manifest_hash": manifest.digest,
            "total_size": manifest.manifest.total_size,
            "file_count": len(manifest.manifest.files),
            "installed_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **extra,
        }

        pinned: object = None

        def put(document: Document) -> None:
            nonlocal pinned
            known = _object_in(_object_in(_object_in(document, ref.group), ref.model), ref.version)
            known.update(entry)
            pinned = known.get(KEY)

        self._change(put)
        repeat_pin(self._layout, self._layout.model_dir(ref), pinned)
        return self._require(ref, entry)

    def annotate(self, ref: ModelRef, extra: dict[str, Any]) -> None:
        """Set further keys of a listed model's entry; None takes a key away.

        Raises:
            NotInstalledError, StorageError: It is not listed, or the file cannot be written.
        """
        self.get_entry(ref)
        self._change(lambda document: _merge(_entry(document, ref), extra))
        if KEY in extra:
            repeat_pin(self._layout, self._layout.model_dir(ref), extra[KEY])

    def forget(self, ref: ModelRef) -> None:
        """Drop a model's entry; a missing one is fine.

        Raises:
            StorageError: The file cannot be written.
        """

        def drop(document: Document) -> None:
            models = document.get(ref.group)
            versions = models.get(ref.model) if isinstance(models, dict) else None
            if not isinstance(models, dict) or not isinstance(versions, dict) or ref.version not in versions:
                return
            del versions[ref.version]
            if not versions:
                del models[ref.model]
            if not models:
                del document[ref.group]

        self._change(drop)

    def document(self) -> tuple[Document, bool]:
        """`registry.json` as it is: group → model → version → entry, nothing in it checked; and whether it is damaged.

        Raises:
            StorageError: It cannot be read.
        """
        with storage_errors(path := self._layout.registry_file, "reading"):
            raw = read_plain(path) if path.exists() else b"{}"
        found = _parsed(raw)
        rebuilt = self._read() if found is None else found
        return rebuilt, found is None and bool(rebuilt or raw.strip())

    def mend(self) -> None:
        """Write `registry.json` anew if it is damaged; the damaged file is set aside.

        Raises:
            StorageError: The file cannot be written.
        """
        if self.document()[1]:
            self._change(lambda document: None)

    def manifest_of(self, model: InstalledModel) -> VerifiedManifest:
        """The manifest inside an installed model. Re-encoded ones (the original client's) have another digest.

        Raises:
            StorageError: It cannot be read, or is damaged.
        """
        return read_manifest(self._layout, model.path)

    def _require(self, ref: ModelRef, entry: dict[str, Any]) -> InstalledModel:
        model = self._model(ref, entry)
        assert model is not None, "an entry of our own making is well-formed"
        return model

    def _change(self, change: Callable[[Document], None]) -> None:
        lock = PathLock(self._layout.registry_lock)
        lock.acquire(_LOCK_TIMEOUT_S)
        try:
            document = self._read(setting_aside=True)
            before = _encoded(document)
            change(document)
            after = _encoded(document)
            if after != before or not self._layout.registry_file.exists():
                write_atomic(self._layout.registry_file, after)
        finally:
            lock.release()

    def _read(self, *, setting_aside: bool = False) -> Document:
        path = self._layout.registry_file
        with storage_errors(path, "reading"):
            try:
                raw = read_plain(path)
            except FileNotFoundError:
                return {}
        try:
            document = orjson.loads(raw)
            if document is None:  # the original writes "null" for an empty registry
                return {}
            if isinstance(document, dict):
                return _exactly(raw, document) if setting_aside else document
        except orjson.JSONDecodeError:
            _log.debug("registry.json does not parse", extra={"path": str(path)})
        rebuilt = _rebuilt(self._layout, raw)
        if not rebuilt and not raw.strip():
            return {}
        _log.warning(
            "registry.json is damaged; %d models were found again in their directories",
            sum(len(versions) for models in rebuilt.values() for versions in models.values()),
            extra={"path": str(path)},
        )
        if setting_aside:
            with storage_errors(path, "setting aside"):
                path.rename(path.with_name(f"registry.json.damaged-{time.time_ns()}"))
        return rebuilt

    def _entries(self, document: Document) -> Iterator[InstalledModel]:
        for group, models in document.items():
            for model, versions in models.items() if isinstance(models, dict) else ():
                for version, entry in versions.items() if isinstance(versions, dict) else ():
                    try:
                        found = self._model(listed_ref(group, model, version), entry)
                    except InvalidRefError as error:
                        _log.warning("registry.json: %s", error.message)
                        continue
                    if found is not None:
                        yield found

    def _model(self, ref: ModelRef, entry: object) -> InstalledModel | None:
        try:
            if not isinstance(entry, dict) or not isinstance(entry["manifest_hash"], str):
                raise TypeError("not an object with a manifest_hash")
            bare = len(entry) == len(_OWN_KEYS)
            return listed_model(
                ref,
                entry["manifest_hash"],
                int(entry["total_size"]),
                int(entry["file_count"]),
                _time(entry["installed_at"]),
                self._layout.base,
                {} if bare else {key: value for key, value in entry.items() if key not in _OWN_KEYS},
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            _log.warning("registry.json: the entry of %s is damaged and is skipped (%s)", ref, error)
            return None


def _rebuilt(layout: Layout, damaged: bytes) -> Document:
    """The document as the model directories tell it: children before parents, so each of them is whole.

    What a user decided comes from the model's directory too, and from what can be read of the damaged document.
    """
    document: Document = {}
    left = pins_left_in(damaged)
    pattern = f"*/*/*/{layout.metadata_name}/manifest.json"
    for path in sorted(layout.base.glob(pattern)):
        group, model, version = path.relative_to(layout.base).parts[:3]
        try:
            ref = ModelRef(group, model, version)
            found = read_manifest(layout, path.parent.parent)
        except XprimError:
            continue
        when = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        pinned = pin_beside(layout, path.parent.parent) or left.get((group, model, version))
        document.setdefault(ref.group, {}).setdefault(ref.model, {})[ref.version] = {
            "manifest_hash": found.digest,
            "total_size": found.manifest.total_size,
            "file_count": len(found.manifest.files),
            "installed_at": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            **({KEY: pinned} if pinned else {}),
        }
    return document


def read_manifest(layout: Layout, model_dir: Path) -> VerifiedManifest:
    """The manifest in a model directory.

    Raises:
        StorageError: It cannot be read, or is damaged.
    """
    path = layout.manifest_file(model_dir)
    with storage_errors(path, "reading"):
        raw = read_plain(path)
    try:
        return parse_manifest(raw, layout.metadata_name)
    except XprimError as error:
        raise StorageError(
            f"{path} is damaged: {error.message}",
            subject=str(path),
            hint="Pull the model with force: what is still right is kept.",
        ) from error


def manifest_digest(layout: Layout, model_dir: Path) -> str | None:
    """The digest of the manifest in a model directory; None when there is none that can be read."""
    try:
        return sha256_hex(read_plain(layout.manifest_file(model_dir)))
    except OSError:
        return None


def _encoded(document: Document) -> bytes:
    try:
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)
    except TypeError:  # somebody's values are nested deeper than orjson writes, though it reads them
        return json.dumps(document, indent=2).encode()


def _exactly(raw: bytes, otherwise: Document) -> Document:
    """The document in `raw` with every digit of the numbers that others put there, which orjson rounds to 64 bits."""
    try:
        found: Document = json.loads(raw)
    except RecursionError:  # nested deeper than this reader goes
        return otherwise
    return found


def _parsed(raw: bytes) -> Document | None:
    """What `registry.json` says; None when it is damaged."""
    with contextlib.suppress(orjson.JSONDecodeError):
        found = orjson.loads(raw)
        if isinstance(found, dict | None):
            return found or {}
    return None


def _object_in(parent: Document, key: str) -> Document:
    """The object under a key; put there where something else was."""
    found = parent.get(key)
    if not isinstance(found, dict):
        found = parent[key] = {}
    return found


def _entry(document: Document, ref: ModelRef) -> Any:  # noqa: ANN401  # checked by the caller
    found: Any = document
    for part in (ref.group, ref.model, ref.version):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _merge(entry: object, extra: dict[str, Any]) -> None:
    if isinstance(entry, dict):  # else removed meanwhile
        entry.update(extra)
        for key in [key for key, value in extra.items() if value is None]:
            del entry[key]


def _time(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is UTC:  # nearly always
        return when
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
