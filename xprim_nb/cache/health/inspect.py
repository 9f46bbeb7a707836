"""Look at an installed model's files: only at what changed, or at every byte; damage is located to chunks.

    1. Each file's facts are compared with what was recorded of it. `quick` believes a match; `full` believes nothing.
    2. Every chunk that has bytes of a file in doubt is hashed, on all cores.
    3. A file is wrong when its size is, or a chunk of its own.
    4. Where a wrong chunk belongs to several files: the file's own digest decides, if the manifest has one. Otherwise
       those are blamed whose looks changed most.
    5. What is wrong is damage or somebody's work: see `findings`.

Source: spec 2 §Validation; research perf (hashlib, preadv, two threads).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from xprim_nb._files import read_plain
from xprim_nb.cache.health.findings import (
    Kind,
    Look,
    Recorded,
    chunks_of,
    classify,
    file_digest,
    look_at,
    wrong_file,
)
from xprim_nb.cache.health.hashing import hashed_chunks
from xprim_nb.cache.health.report import Depth, FileFinding
from xprim_nb.cache.layout import Layout
from xprim_nb.registry.manifest import Manifest

__all__ = ["CheckedFile", "Inspection", "inspect_files", "recorded_in"]

# The original client locks a pull with a file inside the model's directory, and leaves it there.
_ORIGINALS_LOCK = ".pull.lock"
# File systems stamp changes with the kernel's tick: a file that was written this shortly before it was looked at may be
# written again without looking different.
_RACY_NS = 20_000_000


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What was found of one file, as `checked_files` keeps it.

    Attributes:
        look: Its size, times and inode then.
        checked_at: When, in seconds since the epoch.
        finding: What was wrong; None when nothing was.
    """

    look: tuple[int, int, int, int]
    checked_at: float
    finding: FileFinding | None


@dataclass(slots=True)
class Inspection:
    """What was found.

    Attributes:
        findings: Sorted by path.
        files: What is to be recorded of each file that was decided by its bytes.
        right: Chunks that were hashed and are right.
        wrong: Chunks that were hashed and are wrong, or whose bytes are not all there.
        bytes_hashed: Bytes read.
    """

    findings: list[FileFinding] = field(default_factory=list)
    files: dict[str, CheckedFile] = field(default_factory=dict)
    right: set[int] = field(default_factory=set)
    wrong: set[int] = field(default_factory=set)
    bytes_hashed: int = 0


def recorded_in(layout: Layout, model_dir: Path) -> Recorded:
    """What the receipt in a model directory says; nothing where there is none."""
    try:
        installed_ns = layout.manifest_file(model_dir).stat().st_mtime_ns
    except OSError:
        installed_ns = 0
    try:
        document = orjson.loads(read_plain(layout.receipt_file(model_dir)))
        files, local = document.get("files"), document.get("local")
        return Recorded(
            files if isinstance(files, dict) else {},
            local if isinstance(local, dict) else {},
            installed_ns,
            str(document.get("token", "")),
            str(document.get("manifest_hash", "")),
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return Recorded({}, {}, installed_ns)


def inspect_files(
    layout: Layout,
    root: Path,
    manifest: Manifest,
    *,
    depth: Depth,
    checked: Mapping[str, CheckedFile] | None = None,
    suspects: Collection[int] = (),
    told: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Inspection:
    """Compare a model directory with its manifest.

    Args:
        layout: Where things lie.
        root: The model's directory.
        manifest: What should be in it.
        depth: `quick` hashes only what changed since it was installed or last checked.
        checked: What was found of its files before; `full` believes it only where nothing else can tell whose of a
            chunk's files is wrong.
        suspects: Chunks to be hashed whatever was recorded.
        told: Called with the bytes hashed so far and those to be hashed.
        stop: Ends it when set.

    Raises:
        StoppedCheckError: `stop` was set.
    """
    return _Inspector(layout, root, manifest, depth, checked or {}, told, stop).run(set(suspects))


class _Inspector:
    """One comparison."""

    def __init__(
        self,
        layout: Layout,
        root: Path,
        manifest: Manifest,
        depth: Depth,
        checked: Mapping[str, CheckedFile],
        told: Callable[[int, int], None] | None,
        stop: threading.Event | None,
    ) -> None:
        self._stop = stop
        self._layout, self._root, self._manifest = layout, root, manifest
        self._depth, self._checked, self._told = depth, checked, told
        self._recorded = recorded_in(layout, root)
        self._looks: list[Look] = []
        self._result = Inspection()

    def run(self, suspects: set[int]) -> Inspection:
        """Steps 1 to 5."""
        now_ns, folders = time.time_ns(), dict[str, Kind]()
        self._looks = [look_at(self._root, file.path, folders) for file in self._manifest.files]
        doubtful: list[int] = []
        for number, look in enumerate(self._looks):
            if not self._is_settled(number, look, suspects):
                doubtful.append(number)
        chunks = {index for number in doubtful for index in chunks_of(self._manifest, number)}
        self._hash(sorted(chunks))
        for number in doubtful:
            finding = self._judge(number)
            if finding is not None:
                self._result.findings.append(finding)
            look = self._looks[number]
            if now_ns - max(look.mtime_ns, look.ctime_ns) > _RACY_NS:
                found = CheckedFile(look.identity, now_ns / 1e9, finding)
                self._result.files[self._manifest.files[number].path] = found
        self._result.findings += self._extras()
        self._result.findings.sort(key=lambda finding: finding.path)
        return self._result

    def _is_settled(self, number: int, look: Look, suspects: set[int]) -> bool:
        """True when the file needs no hashing; its finding, if any, is noted."""
        file = self._manifest.files[number]
        if look.kind != "file":
            self._result.findings.append(classify(self._manifest, number, look))
            self._result.wrong.update(chunks_of(self._manifest, number))
            return True
        kept = self._recorded.local.get(file.path)
        if kept is not None:
            self._result.findings.append(self._kept(number, look, kept))
            self._result.wrong.update(chunks_of(self._manifest, number))
            return True
        if self._depth == "full" or not suspects.isdisjoint(chunks_of(self._manifest, number)):
            return False
        known = self._checked.get(file.path)
        if known is not None and known.look == look.identity:
            if known.finding is not None:
                self._result.findings.append(known.finding)
                self._result.wrong.update(known.finding.chunks)
            return True
        return self._recorded.files.get(file.path) == look.facts and look.size_bytes == file.size

    def _kept(self, number: int, look: Look, kept: Mapping[str, object]) -> FileFinding:
        """A file that a refresh left as the user had it."""
        path = self._manifest.files[number].path
        sentence = "was changed by you, and kept when the model was refreshed."
        if self._depth == "full" and kept.get("sha256"):
            self._result.bytes_hashed += look.size_bytes
            if file_digest(self._root / path, look.size_bytes) != kept["sha256"]:
                sentence = "was changed by you, kept when the model was refreshed, and changed again since."
        return FileFinding(path=path, status="modified", sentence=sentence)

    def _hash(self, chunks: list[int]) -> None:
        manifest, total = self._manifest, sum(self._manifest.sizes[index] for index in chunks)
        done = 0

        blocked = self._result.wrong.copy()  # a part of these is not there: it need not be read
        wanted = [index for index in chunks if index not in blocked]
        for index, right in hashed_chunks(self._root, manifest, wanted, self._stop):
            (self._result.right if right else self._result.wrong).add(index)
            done += manifest.sizes[index]
            if self._told is not None:
                self._told(done, total)
        self._result.bytes_hashed += done

    def _judge(self, number: int) -> FileFinding | None:
        file, look = self._manifest.files[number], self._looks[number]
        wrong = [index for index in chunks_of(self._manifest, number) if index in self._result.wrong]
        if look.size_bytes == file.size:  # 3
            if not wrong:
                return None
            if file.sha256 is not None and not any(self._is_own(index, number) for index in wrong):  # 4
                self._result.bytes_hashed += file.size
                if file_digest(self._root / file.path, file.size) == file.sha256:
                    return None
            elif file.sha256 is None:
                wrong = [index for index in wrong if self._is_blamed(index, number)]
                if not wrong:
                    return None
        return wrong_file(self._root, self._manifest, number, look, wrong, self._recorded)  # 5

    def _is_own(self, index: int, number: int) -> bool:
        return all(segment.file_index == number for segment in self._manifest.segments(index))

    def _is_blamed(self, index: int, number: int) -> bool:
        """True when no other file of the chunk looks more suspicious."""
        files = {segment.file_index for segment in self._manifest.segments(index)}
        own = self._suspicion(number)
        return own >= 1 or own == max(self._suspicion(each) for each in files)

    def _suspicion(self, number: int) -> float:
        """3 for what is no plain file, or of another size, or the user's; 1 to 2 for changed looks; 0 for none."""
        file, look = self._manifest.files[number], self._looks[number]
        if look.kind != "file" or look.size_bytes != file.size or file.path in self._recorded.local:
            return 3
        known = self._recorded.files.get(file.path)
        before = self._checked.get(file.path)
        if before is not None and before.look == look.identity and before.finding is None:
            return 0
        if known is None:
            return 0.5 if look.mtime_ns <= self._recorded.installed_ns else 2
        if known == look.facts:
            return 0
        return 0.5 if known[:2] == look.facts[:2] else 2

    def _extras(self) -> Iterator[FileFinding]:
        """Files that are not the model's, also those that a refresh or an archive carried along."""
        own = {file.path for file in self._manifest.files} | {_ORIGINALS_LOCK}
        for folder, folders, files in os.walk(self._root):
            here = Path(folder)
            if here == self._root:
                folders[:] = [name for name in folders if name != self._layout.metadata_name]
            links = [name for name in folders if (here / name).is_symlink()]
            for name in [*files, *links]:
                path = (here / name).relative_to(self._root).as_posix()
                if path in own or self._lies_in_place_of(path, own):
                    continue
                if sentence := self._extra(here / name, path):
                    yield FileFinding(path=path, status="extra", sentence=sentence)

    def _extra(self, place: Path, path: str) -> str:
        """What is said of a file that is not the model's; empty for the new side of a conflict, as a refresh wrote it."""
        carried = self._recorded.local.get(path)
        if carried is None:
            return "is not part of the model."
        if carried.get("kind") != "upstream":
            return "is not part of the model, and was kept when it was refreshed or restored."
        if self._depth == "quick" or place.is_symlink():
            return ""
        size = place.stat().st_size
        self._result.bytes_hashed += size
        return (
            ""
            if file_digest(place, size) == carried.get("sha256")
            else "was the new version's; somebody changed it."
        )

    def _lies_in_place_of(self, path: str, own: set[str]) -> bool:
        """True for what lies in a directory that has taken a file's place: told with that file."""
        return any(parent in own for parent in _parents(path))


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    for length in range(1, len(parts)):
        yield "/".join(parts[:length])
