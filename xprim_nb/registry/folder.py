"""A directory that is to be published: which files it has, and whether they stay as they are.

Source: spec 1 §Publisher, §References and paths.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xprim_nb._files import storage_errors
from xprim_nb.errors import RegistryError, XprimError
from xprim_nb.registry.chunking import order_files
from xprim_nb.registry.paths import check_paths

__all__ = [
    "METADATA_DIR",
    "Folder",
    "PublishError",
    "SourceFile",
    "changed_error",
    "identity_of",
    "is_skipped",
    "scan_folder",
]

# A program's leavings that do not begin with a dot.
_LITTER = frozenset({"__pycache__", "thumbs.db", "desktop.ini"})
# The default application's directory inside an installed model. Others begin with a dot too, and are skipped.
METADATA_DIR = ".xprim"


class PublishError(XprimError, ValueError):
    """The directory cannot be published as it is; no name points at what was written."""

    default_hint = "Correct the directory, then publish again: chunks that were written are kept."


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to be published.

    Attributes:
        path: As the manifest will name it.
        size: In bytes.
        place: Where it lies, links followed.
        identity: Device, inode, size and modification time; another one means other content.
    """

    path: str
    size: int
    place: Path
    identity: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Folder:
    """What a scan found.

    Attributes:
        root: The directory, links followed.
        files: In stream order: weights, other large files, small files.
        skipped: Hidden files and litter, which are not published; directories end in `/`.
    """

    root: Path
    files: tuple[SourceFile, ...]
    skipped: tuple[str, ...]

    def require_unchanged(self) -> None:
        """Return when the directory still holds these files.

        Raises:
            PublishError: One was added, removed, or written to.
        """
        then, now = set(self.files), set(scan_folder(self.root).files)
        if changed := sorted(file.path for file in then ^ now):
            raise changed_error(changed[0])


def changed_error(path: str) -> PublishError:
    """The error that says a file did not keep still."""
    return PublishError(
        f"{path} changed while it was being published.",
        subject=path,
        hint="Wait until nothing writes to the directory, then publish again: written chunks are kept.",
    )


def identity_of(facts: os.stat_result) -> tuple[int, int, int, int]:
    """What tells one state of a file from another without reading it."""
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def is_skipped(name: str) -> bool:
    """True for names that are no part of a model: hidden ones and litter.

    Every application keeps its metadata in a hidden directory (`.xprim`), version control and download tools do
    too (`.git`, `.cache`), and a hidden file may well be a secret (`.env`).
    """
    return name.startswith(".") or name.lower() in _LITTER


def scan_folder(source: Path) -> Folder:
    """The files of a directory, at any depth. A link to a file inside it counts as that file.

    Raises:
        PublishError: It is missing, no directory, or has no files; a link leads out of it or to a directory;
            something in it is neither file nor directory; or a path is one that not every system can have.
        StorageError: It cannot be read.
    """
    # Not Path.resolve: before Python 3.13 it raises RuntimeError where links form a loop.
    root = Path(os.path.realpath(source))
    if not root.is_dir():
        fault = "is not a directory" if root.exists() else "does not exist"
        raise PublishError(
            f"{source} {fault}.", subject=str(source), hint="Name the directory with the files."
        )
    skipped: list[str] = []
    with storage_errors(root, "reading"):
        files = list(_walk(root, skipped))
    if not files:
        raise PublishError(f"{source} has no files to publish.", subject=str(source), hint=_about(skipped))
    try:
        check_paths((file.path for file in files), METADATA_DIR, where=str(source))
    except RegistryError as error:
        raise PublishError(error.message, subject=error.subject, hint="Rename it.") from error
    return Folder(root, tuple(order_files(files)), tuple(sorted(skipped)))


def _about(skipped: list[str]) -> str:
    return f"Hidden names are skipped: {', '.join(sorted(skipped)[:5])}." if skipped else ""


def _walk(root: Path, skipped: list[str]) -> Iterator[SourceFile]:
    folders = [""]
    while folders:
        folder = folders.pop()
        for name in sorted(os.listdir(root / folder)):  # noqa: PTH208  # names, not paths
            path = f"{folder}{name}"
            place = root / path
            if is_skipped(name):
                skipped.append(f"{path}/" if place.is_dir() else path)
                continue
            if place.is_symlink():
                place = _followed(root, path)
            facts = place.stat()
            if stat.S_ISDIR(facts.st_mode):
                folders.append(f"{path}/")
            elif stat.S_ISREG(facts.st_mode):
                yield SourceFile(path, facts.st_size, place, identity_of(facts))
            else:
                raise PublishError(
                    f"{path} is neither a file nor a directory.",
                    subject=path,
                    hint="Move it out of the directory.",
                )


def _followed(root: Path, path: str) -> Path:
    target = Path(os.path.realpath(root / path))
    if not target.exists():
        fault = "leads nowhere"
    elif root not in target.parents:
        fault = f"leads out of the directory, to {target}"
    elif target.is_dir():
        fault = "leads to a directory"
    else:
        return target
    raise PublishError(
        f"The link {path} {fault}.", subject=path, hint="Put the files themselves there (`cp -rL` copies so)."
    )
