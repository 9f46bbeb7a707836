"""What other programs' directories hold: files with their sizes, their digests where the names tell, and models.

    Hugging Face   `models--org--name/{blobs/<etag>, snapshots/<commit>/<file> -> blob, refs/<name>}`; a blob named by 64
                   digits is a large file named by its SHA-256, others are named by git's hash and tell nothing.
    Ollama         `blobs/sha256-<hex>`, `manifests/<host>/<namespace>/<model>/<tag>` with a list of layers.
    folder         any files; one model.

A name is a hint for where to look. Nothing here reads a byte of a model.

Source: spec 2 §Adopt; huggingface_hub "cache system", Ollama's model store.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import orjson
from pydantic import BaseModel, ConfigDict

from xprim_nb._files import read_plain, storage_errors
from xprim_nb._hashing import is_digest
from xprim_nb._text import format_bytes, format_count
from xprim_nb.errors import ConfigError
from xprim_nb.registry.folder import is_skipped

__all__ = ["AdoptedFile", "AdoptedPlace", "FoundModel", "PlaceKind", "scan_place"]

PlaceKind: TypeAlias = Literal["hf", "ollama", "folder"]

# What Ollama calls its layers, and under which names a user would look for them.
_OLLAMA_NAMES = {
    "application/vnd.ollama.image.model": "model.gguf",
    "application/vnd.ollama.image.adapter": "adapter.gguf",
    "application/vnd.ollama.image.projector": "projector.gguf",
    "application/vnd.ollama.image.template": "template.txt",
    "application/vnd.ollama.image.system": "system.txt",
    "application/vnd.ollama.image.params": "params.json",
    "application/vnd.ollama.image.messages": "messages.json",
    "application/vnd.ollama.image.license": "license.txt",
}
# Ollama's own manifests have a few hundred bytes.
_MAX_MANIFEST_BYTES = 1 << 20


class AdoptedFile(BaseModel):
    """One file that may serve chunks.

    Attributes:
        path: Relative to the place, `/`-separated.
        size: In bytes.
        mtime_ns: Its time of modification when it was found.
        sha256: What its name says its digest is; None when the name says nothing.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    path: str
    size: int
    mtime_ns: int
    sha256: str | None = None


class FoundModel(BaseModel):
    """A model that a place holds, as its program names it.

    Attributes:
        name: `org/name` and its revision, `library/llama3:8b`, or the folder's name.
        files: The path of each file in the model, and the file's path in the place.
        size: Sum of the files, in bytes.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    name: str
    files: dict[str, str]
    size: int

    def __str__(self) -> str:
        return f"{self.name} ({format_count(len(self.files), 'file')}, {format_bytes(self.size)})"


class AdoptedPlace(BaseModel):
    """A directory whose files may serve chunks.

    Attributes:
        kind: Whose layout it has.
        root: Its absolute path.
        adopted_at: When it was scanned, in unix seconds.
        files: What was found.
        models: What can be installed from it, by the names it has there.
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    kind: PlaceKind
    root: str
    adopted_at: float
    files: tuple[AdoptedFile, ...]
    models: tuple[FoundModel, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Sum of the files, in bytes."""
        return sum(file.size for file in self.files)

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.root}: {format_count(len(self.files), 'file')}, {format_bytes(self.size_bytes)}, "
            f"{format_count(len(self.models), 'model')}"
        )


def scan_place(root: Path, kind: PlaceKind | None, now: float) -> AdoptedPlace:
    """What a directory holds.

    Args:
        root: The directory.
        kind: Whose layout; found out when None.
        now: In unix seconds.

    Raises:
        ConfigError: It is no directory.
        StorageError: It cannot be read.
    """
    if not root.is_dir():
        raise ConfigError(
            f"{root} is no directory.", subject=str(root), hint="Name the directory with the files."
        )
    with storage_errors(root, "reading"):
        kind = kind or _kind_of(root)
        if kind == "hf":
            root = root / "hub" if (root / "hub").is_dir() else root
        files = {each.path: each for each in _files(root, kind)}
        models = {"hf": _hf_models, "ollama": _ollama_models, "folder": _folder_model}[kind](root, files)
    return AdoptedPlace(
        kind=kind, root=str(root), adopted_at=now, files=tuple(files.values()), models=tuple(models)
    )


def _kind_of(root: Path) -> PlaceKind:
    if any(root.glob("models--*/snapshots")) or any(root.glob("hub/models--*/snapshots")):
        return "hf"
    return "ollama" if (root / "blobs").is_dir() and (root / "manifests").is_dir() else "folder"


def _files(root: Path, kind: PlaceKind) -> Iterator[AdoptedFile]:
    starts = {"hf": root.glob("models--*"), "ollama": (root / "blobs",), "folder": (root,)}[kind]
    for start in sorted(starts):
        for folder, folders, names in os.walk(start):
            if kind == "folder":
                folders[:] = [name for name in folders if not is_skipped(name)]
            if kind == "hf" and Path(folder) == start:
                folders[:] = [name for name in folders if name in ("blobs", "snapshots")]
                continue
            for name in sorted(names):
                if kind == "folder" and is_skipped(name):
                    continue
                if (found := _file(root, Path(folder) / name)) is not None:
                    yield found


def _file(root: Path, path: Path) -> AdoptedFile | None:
    """A plain file; links lead to files that are found where they lie."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    name = path.name.removeprefix("sha256-").removeprefix("sha256:")
    if not stat.S_ISREG(facts.st_mode) or name.endswith((".incomplete", "-partial", ".lock", ".tmp")):
        return None
    return AdoptedFile(
        path=path.relative_to(root).as_posix(),
        size=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        sha256=name if is_digest(name) else None,
    )


def _hf_models(root: Path, files: dict[str, AdoptedFile]) -> Iterator[FoundModel]:
    for repo in sorted(root.glob("models--*")):
        name = repo.name.removeprefix("models--").replace("--", "/")
        revisions = {
            read_plain(ref).decode("utf-8", "replace").strip(): ref.relative_to(repo / "refs").as_posix()
            for ref in sorted((repo / "refs").rglob("*"))
            if ref.is_file()
        }
        for snapshot in sorted((repo / "snapshots").glob("*")):
            listed = {}
            for path in sorted(snapshot.rglob("*")):
                target = Path(os.path.realpath(path))
                inside = target.is_relative_to(os.path.realpath(root)) and target.is_file()
                place = target.relative_to(os.path.realpath(root)).as_posix() if inside else ""
                if place in files:
                    listed[path.relative_to(snapshot).as_posix()] = place
            revision = revisions.get(snapshot.name, snapshot.name[:12])
            if listed:
                yield _model(f"{name}@{revision}", listed, files)


def _ollama_models(root: Path, files: dict[str, AdoptedFile]) -> Iterator[FoundModel]:
    for path in sorted((root / "manifests").rglob("*")):
        if not path.is_file() or path.stat().st_size > _MAX_MANIFEST_BYTES:
            continue
        try:
            layers = orjson.loads(read_plain(path))["layers"]
            named = [(str(each["mediaType"]), str(each["digest"]).replace(":", "-")) for each in layers]
        except (OSError, ValueError, KeyError, TypeError):  # somebody else's file: it is none of ours to mend
            continue
        listed: dict[str, str] = {}
        for media, digest in named:
            blob, name = f"blobs/{digest}", _OLLAMA_NAMES.get(media)
            if name is not None and blob in files:
                count = sum(
                    known.partition(".")[0].rstrip("0123456789-") == name.partition(".")[0]
                    for known in listed
                )
                stem, _, suffix = name.partition(".")
                listed[f"{stem}-{count + 1}.{suffix}" if count else name] = blob
        parts = path.relative_to(root / "manifests").parts
        if listed and len(parts) >= 3:
            yield _model(f"{'/'.join(parts[1:-1])}:{parts[-1]}", listed, files)


def _folder_model(root: Path, files: dict[str, AdoptedFile]) -> Iterator[FoundModel]:
    if files:
        yield _model(root.name, {path: path for path in files}, files)


def _model(name: str, listed: dict[str, str], files: dict[str, AdoptedFile]) -> FoundModel:
    return FoundModel(name=name, files=listed, size=sum(files[place].size for place in listed.values()))
