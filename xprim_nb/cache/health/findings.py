"""What is wrong with which file, and whether it is damage or somebody's work. Looks at files; changes none.

A regular file of the manifest with wrong bytes is

1. `corrupted` when size and time of modification are as they were installed: nobody wrote to it;
2. `corrupted` when its bytes, or its facts, are those of another file of the model;
3. `corrupted` when nothing is in it: no bytes at all, or zeros alone;
4. `corrupted` when it is a tensor container that is too short, or of the right size with at least one right chunk of its
   own: nobody edits those by hand. That is likely, not certain: its old bytes are put aside when it is mended;
5. otherwise `modified`.

Source: spec 2 §Validation, §Repair ("locally modified files are never overwritten").
"""

from __future__ import annotations

import hashlib
import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, TypeAlias

from xprim_nb._hashing import read_range
from xprim_nb._text import format_bytes
from xprim_nb.cache.health.report import FileFinding, FindingStatus
from xprim_nb.registry.manifest import Manifest

__all__ = [
    "Look",
    "Recorded",
    "chunks_of",
    "classify",
    "file_digest",
    "is_tensor_file",
    "look_at",
    "wrong_file",
]

# Containers of tensors: written by programs, never by hand.
_TENSORS = frozenset(".safetensors .gguf .bin .pt .pth .onnx .npz .npy .h5 .msgpack .tflite .pb".split())
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)

Kind: TypeAlias = Literal["file", "missing", "replaced", "unreadable"]


class Look(NamedTuple):
    """What one file looks like, without its bytes. Sizes in bytes, times in ns; all 0 where there is no plain file."""

    kind: Kind
    size_bytes: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    what: str = ""

    @property
    def facts(self) -> list[int]:
        """As the receipt records them."""
        return [self.size_bytes, self.mtime_ns, self.ctime_ns]

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """As the checked files are recorded."""
        return self.size_bytes, self.mtime_ns, self.ctime_ns, self.inode


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the receipt in a model says.

    Attributes:
        files: Facts of each file as installed.
        local: Files that a refresh left to the user: path → `{"kind": …, "sha256": …}`.
        installed_ns: When the manifest was written, in ns: models of the original client have no receipt.
        token: Of the installation; empty where there is no receipt.
        manifest_hash: As the receipt gives it; empty where it does not.
    """

    files: Mapping[str, list[int]]
    local: Mapping[str, Mapping[str, object]]
    installed_ns: int = 0
    token: str = ""
    manifest_hash: str = ""


def look_at(root: Path, path: str, folders: dict[str, Kind]) -> Look:
    """What lies at `path` below `root`.

    Args:
        root: The model's directory.
        path: Relative, `/`-separated.
        folders: What was found of the directories on the way, kept between calls.
    """
    for parent in reversed(PurePosixPath(path).parents):
        name = parent.as_posix()
        if name not in folders:
            folders[name] = _folder(root / name, is_root=name == ".")
        if folders[name] == "replaced":
            return Look("replaced", what="something else lies where its directory should be")
        if folders[name] != "file":
            return Look(folders[name], what="its directory may not be read")
    try:
        found = os.lstat(root / path)
    except (FileNotFoundError, NotADirectoryError):
        return Look("missing")
    except OSError as error:
        return Look("unreadable", what=error.strerror or str(error))
    if not stat.S_ISREG(found.st_mode):
        return Look("replaced", what=f"{_kind_of(found.st_mode)} lies in its place")
    kind: Kind = "file"
    what = ""
    # By its bits: root may read everything, and the model would fail for everybody else.
    if os.name != "nt" and not found.st_mode & stat.S_IRUSR:
        kind, what = "unreadable", "its permissions do not let its owner read it"
    elif not os.access(root / path, os.R_OK):
        kind, what = "unreadable", "its permissions do not let you read it"
    return Look(kind, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, what)


def _folder(path: Path, *, is_root: bool) -> Kind:
    try:
        found = path.stat() if is_root else path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return "unreadable"
    if not stat.S_ISDIR(found.st_mode):
        return "replaced"
    needed = stat.S_IRUSR | stat.S_IXUSR
    return "file" if os.name == "nt" or found.st_mode & needed == needed else "unreadable"


def _kind_of(mode: int) -> str:
    for test, name in ((stat.S_ISDIR, "a directory"), (stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a pipe")):
        if test(mode):
            return name
    return "a device"


def chunks_of(manifest: Manifest, number: int) -> range:
    """The chunks that have bytes of file `number`."""
    size, start = manifest.files[number].size, manifest.file_starts[number]
    if not size:
        return range(0)
    first = max(bisect_right(manifest.chunk_starts, start) - 1, 0)
    return range(first, bisect_left(manifest.chunk_starts, start + size))


def is_tensor_file(path: str) -> bool:
    """True for files that nobody edits by hand."""
    return PurePosixPath(path).suffix.lower() in _TENSORS


def file_digest(path: Path, size_bytes: int, offset: int = 0) -> str:
    """SHA-256 of a range of a file; empty when it cannot be read."""
    found = hashlib.sha256()
    try:
        fd = os.open(path, _READ_FLAGS)
        try:
            if read_range(fd, offset, size_bytes, found.update) < size_bytes:
                return ""
        finally:
            os.close(fd)
    except OSError:
        return ""
    return found.hexdigest()


def wrong_file(
    root: Path, manifest: Manifest, number: int, look: Look, wrong: Sequence[int], recorded: Recorded
) -> FileFinding:
    """The finding for a regular file whose bytes are wrong; see the rules above.

    Args:
        root: The model's directory.
        manifest: What should be there.
        number: The file's number in the manifest.
        look: What it looks like.
        wrong: The chunks that are wrong in it.
        recorded: What was recorded of it when it was installed.
    """
    file = manifest.files[number]
    known = recorded.files.get(file.path)
    untouched = (
        known[:2] == look.facts[:2]
        if known is not None
        else look.size_bytes == file.size and look.mtime_ns <= recorded.installed_ns
    )
    holds = None if untouched else _other_file(root, manifest, number, look)
    like_another = holds is not None or any(
        facts[:2] == look.facts[:2] for path, facts in recorded.files.items() if path != file.path
    )
    status: FindingStatus = "corrupted"
    certain = True
    if not (untouched or like_another or _is_blank(root / file.path, look.size_bytes)):  # 1, 2, 3
        own = [index for index in chunks_of(manifest, number) if _lies_in(manifest, index, number)]
        short = look.size_bytes < file.size
        damaged = look.size_bytes == file.size and bool(set(own) - set(wrong))
        if is_tensor_file(file.path) and (short or damaged):  # 4
            certain = False
        else:  # 5
            status = "modified"
    return FileFinding(
        path=file.path,
        status=status,
        chunks=tuple(wrong),
        bytes_wrong=_bytes_in(manifest, number, wrong),
        sentence=_sentence(manifest, number, look, wrong, status, holds),
        holds=holds,
        certain=certain,
    )


def classify(manifest: Manifest, number: int, look: Look) -> FileFinding:
    """The finding for a file that is no readable regular file."""
    file, chunks = manifest.files[number], chunks_of(manifest, number)
    if look.kind == "unreadable":
        return FileFinding(path=file.path, status="unreadable", sentence=f"cannot be read: {look.what}.")
    status: FindingStatus = "replaced" if look.kind == "replaced" else "missing"
    why = f"is not there: {look.what}." if look.what else "is missing."
    return FileFinding(
        path=file.path, status=status, chunks=tuple(chunks), bytes_wrong=file.size, sentence=why
    )


def _sentence(
    manifest: Manifest, number: int, look: Look, wrong: Sequence[int], status: str, holds: str | None
) -> str:
    file, total = manifest.files[number], len(chunks_of(manifest, number))
    if holds is not None:
        return f"holds the bytes of {holds}."
    if status == "modified":
        return "was changed by somebody."
    if look.size_bytes < file.size:
        return f"was cut short: {format_bytes(look.size_bytes)} of {format_bytes(file.size)} are there."
    numbers = ", ".join(str(index) for index in wrong[:5]) + (", …" if len(wrong) > 5 else "")
    size = format_bytes(_bytes_in(manifest, number, wrong))
    which = f"{len(wrong)} of its {total:,} chunks {'is' if len(wrong) == 1 else 'are'} wrong"
    if total == 1:
        which = "its only chunk is wrong"
    return f"{which} ({size}; number {numbers})."


def _bytes_in(manifest: Manifest, number: int, chunks: Sequence[int]) -> int:
    start, end = manifest.file_starts[number], manifest.file_starts[number] + manifest.files[number].size
    return sum(
        max(
            0,
            min(end, manifest.chunk_starts[each] + manifest.sizes[each])
            - max(start, manifest.chunk_starts[each]),
        )
        for each in chunks
    )


def _lies_in(manifest: Manifest, index: int, number: int) -> bool:
    """True when the whole chunk belongs to the file."""
    start, begin = manifest.chunk_starts[index], manifest.file_starts[number]
    return start >= begin and start + manifest.sizes[index] <= begin + manifest.files[number].size


def _other_file(root: Path, manifest: Manifest, number: int, look: Look) -> str | None:
    """The other file of the model whose bytes lie at file `number`."""
    path, digest = root / manifest.files[number].path, ""
    for other, file in enumerate(manifest.files):
        if other == number or file.size != look.size_bytes or not file.size:
            continue
        if file.sha256 is not None:
            digest = digest or file_digest(path, file.size)
            if digest == file.sha256:
                return file.path
            continue
        own = [index for index in chunks_of(manifest, other) if _lies_in(manifest, index, other)]
        begin = manifest.file_starts[other]
        if own and all(
            file_digest(path, manifest.sizes[index], manifest.chunk_starts[index] - begin)
            == manifest.chunks[index]
            for index in own
        ):
            return file.path
    return None


def _is_blank(path: Path, size_bytes: int) -> bool:
    """True when a file is empty or holds zeros alone, as after a power cut: no work is lost with it."""
    blank = True

    def check(block: memoryview) -> None:
        nonlocal blank
        blank = blank and block.nbytes == bytes(block).count(0)
        if not blank:
            raise _NotBlankError

    try:
        fd = os.open(path, _READ_FLAGS)
        try:
            read_range(fd, 0, size_bytes, check)
        finally:
            os.close(fd)
    except (_NotBlankError, OSError):
        return False
    return blank


class _NotBlankError(Exception):
    """Ends the reading of a file that holds something."""
