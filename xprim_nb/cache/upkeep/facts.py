"""Looks at the cache once and writes down what clean-up and accounting decide from. Changes nothing.

Source: spec 2 §Clean-up ("its true freed bytes").
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from xprim_nb._files import PathLock, free_bytes, read_plain
from xprim_nb.cache.kept import changed_files, same_bytes
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store
from xprim_nb.cache.upkeep.archived import archives
from xprim_nb.cache.upkeep.leases import lease_count
from xprim_nb.cache.upkeep.needs import needs_of
from xprim_nb.cache.upkeep.pins import pin_in, pin_of
from xprim_nb.cache.upkeep.usage import Used
from xprim_nb.cache.upkeep.values import CacheFacts, Folder, Holding, HoldingKind, Inode
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import InvalidRefError, StorageError
from xprim_nb.refs import ModelRef

__all__ = ["Look", "changed_backup", "collect", "inodes_of", "is_locked", "named_by_intents"]

_VERSION_DEPTH = "*/*/*"


@dataclass(frozen=True, slots=True)
class Look:
    """What the collector knows beside the disk.

    Attributes:
        layout: Where things lie.
        store: What is installed.
        used: How each model was used, by ref.
        metadata: What the registry's index said of each model, by ref.
    """

    layout: Layout
    store: Store
    used: Mapping[str, Used] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def collect(look: Look) -> CacheFacts:
    """Everything in the cache now.

    Raises:
        StorageError: `registry.json` cannot be read.
    """
    layout = look.layout
    folders: dict[str, Folder] = {}
    intents = named_by_intents(layout)
    holdings = [
        *_models(look, folders),
        *_partials(layout, intents),
        *_leftovers(layout, intents, folders),
        *_backups(layout, folders),
        *_archives(layout, folders),
        *_stamped(layout, layout.kept, "kept", folders),
        *_bundles(layout, folders),
    ]
    return CacheFacts(tuple(holdings), folders, time.time(), free_bytes(layout.base))


def inodes_of(path: Path) -> tuple[Inode, ...]:
    """What a file, or a directory with all below it, is made of; what vanishes meanwhile is left out."""
    found: dict[tuple[int, int], Inode] = {}
    waiting = [str(path)]
    while waiting:
        place = waiting.pop()
        try:
            facts = os.lstat(place)  # thousands of files: no path object for each
            if stat.S_ISDIR(facts.st_mode):
                waiting += [entry.path for entry in os.scandir(place)]
        except OSError:
            continue
        links = 1 if stat.S_ISDIR(facts.st_mode) else max(1, facts.st_nlink)
        key = facts.st_dev, facts.st_ino
        seen = found[key].seen + 1 if key in found else 1
        found[key] = Inode(*key, _disk_bytes(facts), links, seen)
    return tuple(found.values())


def is_locked(path: Path) -> bool:
    """True when somebody holds a lock now. A lock file that is not there is not made."""
    if not path.exists():
        return False
    lock = PathLock(path)
    with contextlib.suppress(StorageError):
        if lock.try_acquire():
            lock.release()
            return False
    return True


def named_by_intents(layout: Layout) -> set[str]:
    """Names of the trees that a swap or removal still has to do with."""
    names = set()
    for path in layout.intents.glob("*.json"):
        try:
            intent = orjson.loads(read_plain(path))
            names |= {
                Path(intent["out"]).name,
                Path(intent["tree"]).parent.name,
                Path(intent["out"]).parent.name,
            }
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return names


def _models(look: Look, folders: dict[str, Folder]) -> Iterator[Holding]:
    layout = look.layout
    for model in look.store.list():
        if not os.path.lexists(model.path):
            continue
        ref, pin = str(model.ref), pin_of(model)
        used, created = look.used.get(ref), model.installed_at.timestamp()
        yield Holding(
            "model",
            ref,
            *_placed(layout, model.path, folders, layout.base),
            ref=ref,
            manifest_hash=model.manifest_hash,
            created_at=created,
            used_at=max(used.last_used_at if used else 0.0, created),
            uses=used.uses if used else 0,
            pinned=pin.reason if pin else "",
            leases=lease_count(layout, model.ref),
            busy=is_locked(layout.ref_lock(model.ref)),
            changed=tuple(_changed(layout, model)),
            depends_on=needs_of(model, look.metadata.get(ref, {})),
        )


def _changed(layout: Layout, model: InstalledModel) -> list[str]:
    if model.path.is_symlink():  # removing it takes the link away and nothing else
        return []
    try:
        return changed_files(layout, model.path)
    except (OSError, StorageError):  # what cannot be judged is nobody's to delete
        return [layout.metadata_name]


def _partials(layout: Layout, intents: set[str]) -> Iterator[Holding]:
    for path in _children(layout.partials):
        yield Holding(
            "partial",
            path.name,
            *_placed(layout, path, {}, None),
            manifest_hash=path.name,
            created_at=_touched(path),
            used_at=_touched(path),
            busy=path.name in intents or is_locked(layout.partial_lock(path.name)),
        )


def _leftovers(layout: Layout, intents: set[str], folders: dict[str, Folder]) -> Iterator[Holding]:
    for path in [*_children(layout.trash), *_children(layout.chunks)]:
        touched = _touched(path)
        yield Holding(
            "leftover",
            path.name,
            *_placed(layout, path, {}, None),
            created_at=touched,
            used_at=touched,
            busy=path.name.removesuffix(".ours") in intents,
        )
    for path in sorted(layout.archives.glob(_VERSION_DEPTH)):
        ref = _ref_at(path)
        if ref is not None and path.is_dir() and not (path / "archive.json").exists():
            touched = max(_touched(path), _touched(path / "chunks"))
            yield Holding(
                "leftover",
                f"unfinished archive of {ref}",
                *_placed(layout, path, folders, layout.archives),
                ref=str(ref),
                created_at=touched,
                used_at=touched,
                busy=is_locked(layout.ref_lock(ref)),
            )


def _backups(layout: Layout, folders: dict[str, Folder]) -> Iterator[Holding]:
    root = layout.cache / "backup"
    newest: dict[Path, str] = {}
    for path in root.glob(f"{_VERSION_DEPTH}/*/tree"):
        newest[path.parent.parent] = max(newest.get(path.parent.parent, ""), path.parent.name)
    for holding in _stamped(layout, root, "backup", folders):
        path = layout.base / holding.path
        ref = ModelRef.parse(holding.ref)
        yield replace(
            holding,
            superseded=path.name < newest.get(path.parent, ""),
            busy=is_locked(layout.ref_lock(ref)),
            changed=tuple(changed_backup(layout, ref, path)),
        )


def changed_backup(layout: Layout, ref: ModelRef, backup: Path) -> list[str]:
    """Files in a backup that somebody had changed or added, and that the installed version does not have too."""
    tree, model = backup / "tree", layout.model_dir(ref)
    if not tree.is_dir():
        return []
    try:
        return [path for path in changed_files(layout, tree) if not same_bytes(tree / path, model / path)]
    except (OSError, StorageError):  # what cannot be judged is nobody's to delete
        return [layout.metadata_name]


def _archives(layout: Layout, folders: dict[str, Folder]) -> Iterator[Holding]:
    readable = {each.path: each for each in archives(layout)}
    for path in sorted(layout.archives.glob(f"{_VERSION_DEPTH}/archive.json")):
        found, ref = readable.get(path.parent), _ref_at(path.parent)
        if ref is None:
            continue
        document = found.document if found else None
        pin = pin_in(ref, document.entry) if document else None
        yield Holding(
            "archive",
            str(ref),
            *_placed(layout, path.parent, folders, layout.archives),
            ref=str(ref),
            manifest_hash=document.manifest_hash if document else "",
            created_at=document.archived_at if document else _touched(path),
            used_at=document.last_used_at if document else _touched(path),
            uses=document.uses if document else 0,
            pinned=pin.reason if pin else "",
            busy=is_locked(layout.ref_lock(ref)),
            changed=found.local_files if found else ("archive.json",),
            stored=True,
        )


def _stamped(layout: Layout, root: Path, kind: HoldingKind, folders: dict[str, Folder]) -> Iterator[Holding]:
    for path in sorted(root.glob(f"{_VERSION_DEPTH}/*")):
        ref = _ref_at(path.parent)
        if ref is not None and path.is_dir():
            yield Holding(
                kind,
                f"{ref} {path.name}",
                *_placed(layout, path, folders, root),
                ref=str(ref),
                created_at=_touched(path),
                used_at=_touched(path),
            )


def _bundles(layout: Layout, folders: dict[str, Folder]) -> Iterator[Holding]:
    root = layout.base / "info"
    for path in sorted(root.glob("*/*")):
        if path.is_dir():
            touched = _touched(path)
            name = "/".join(path.parts[-2:])
            placed = _placed(layout, path, folders, root)
            yield Holding("bundle", name, *placed, created_at=touched, used_at=touched)


def _placed(
    layout: Layout, path: Path, folders: dict[str, Folder], root: Path | None
) -> tuple[str, tuple[Inode, ...], str]:
    """A holding's path, inodes and folder; the directories between it and `root` are those that go with the last."""
    folder = ""
    if root is not None:
        above = []
        parent = path.parent
        while parent != root:
            above.append(parent)
            parent = parent.parent
        for each in reversed(above):
            key = each.relative_to(layout.base).as_posix()
            if key not in folders:
                facts = each.lstat()
                names = len(os.listdir(each))  # noqa: PTH208  # names, not paths
                folders[key] = Folder(key, _disk_bytes(facts), names, folder)
            folder = key
    return path.relative_to(layout.base).as_posix(), inodes_of(path), folder


def _ref_at(path: Path) -> ModelRef | None:
    try:
        return ModelRef(*path.parts[-3:]).require_version()
    except InvalidRefError:
        return None


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _touched(path: Path) -> float:
    """When something in an unfinished pull, or a leftover, was last written, in unix seconds."""
    newest = 0.0
    for each in (path, path / "verified", path / "tree"):
        with contextlib.suppress(OSError):
            newest = max(newest, each.lstat().st_mtime)
    return newest


def _disk_bytes(facts: os.stat_result) -> int:
    return int(getattr(facts, "st_blocks", -(-facts.st_size // 512))) * 512
