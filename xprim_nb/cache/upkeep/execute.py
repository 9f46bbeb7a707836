"""Does what a clean-up plan says, one candidate after the other, asking at the moment of acting whether it still may.

    1. Its lock is taken without waiting: who holds it works on it.
    2. What killed processes began is finished.
    3. It must be what the plan saw: same manifest, still stale, still superseded.
    4. No pin, no lease (the gate stays closed until it has gone), no changed files, nobody who needs it.
    5. It goes by the same machinery as any removal: files that somebody changed or added are put aside.

What fails a question is spared, and said. What fails on the disk is said, and the others go on.

Source: spec 2 §Clean-up (`execute`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xprim_nb._files import PathLock, remove_tree, storage_errors
from xprim_nb._text import format_bytes
from xprim_nb.cache.install import Installer
from xprim_nb.cache.kept import changed_files
from xprim_nb.cache.upkeep.archive import Archiver
from xprim_nb.cache.upkeep.archived import archive_of
from xprim_nb.cache.upkeep.cleanup import Candidate, CleanupPlan, Guard, Spared, dependents
from xprim_nb.cache.upkeep.dedupe import Deduplicated
from xprim_nb.cache.upkeep.dropping import drop_archive
from xprim_nb.cache.upkeep.facts import Look, changed_backup, inodes_of, named_by_intents
from xprim_nb.cache.upkeep.leases import gate, lease_count
from xprim_nb.cache.upkeep.needs import needs_of
from xprim_nb.cache.upkeep.pins import pin_in, pin_of
from xprim_nb.cache.upkeep.values import Holding, told_readers
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import XprimError
from xprim_nb.events import EventHub, ModelRemoved
from xprim_nb.refs import ModelRef

__all__ = ["CleanupResult", "Done", "Executor"]

_log = logging.getLogger("xprim_nb.cache")


@dataclass(frozen=True, slots=True)
class Done:
    """One thing that went.

    Attributes:
        candidate: As it was planned.
        freed_bytes: What came back on the disk, measured when it went.
        kept: Where files were put aside that somebody changed at the last moment; None for none.
    """

    candidate: Candidate
    freed_bytes: int
    kept: Path | None = None

    def __str__(self) -> str:
        return f"{self.candidate.action}d {self.candidate.name}: {format_bytes(self.freed_bytes)}"


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What a clean-up did.

    Attributes:
        plan: What it followed.
        done: What went.
        spared: What stayed after all, and why.
        failed: Sentences about what the disk refused.
        deduplicated: Which files share their blocks now, when the policy asked for it.
    """

    plan: CleanupPlan
    done: tuple[Done, ...]
    spared: tuple[Spared, ...] = ()
    failed: tuple[str, ...] = ()
    deduplicated: Deduplicated | None = None

    @property
    def freed_bytes(self) -> int:
        """What came back on the disk, by `du`."""
        return sum(each.freed_bytes for each in self.done)

    @property
    def freed_space_gb(self) -> float:
        """The same in GiB."""
        return self.freed_bytes / 1024**3

    @property
    def removed_models(self) -> tuple[str, ...]:
        """Refs of the models that went; archived ones are not among them."""
        return tuple(
            each.candidate.ref
            for each in self.done
            if each.candidate.kind == "model" and each.candidate.action == "remove"
        )

    @property
    def archived_models(self) -> tuple[str, ...]:
        """Refs of the models that were compressed."""
        return tuple(each.candidate.ref for each in self.done if each.candidate.action == "archive")

    @property
    def optimization_report(self) -> str:
        """What was done, for a person."""
        return str(self)

    def __str__(self) -> str:
        lines = [str(each) for each in (*self.done, *self.spared, *self.failed)]
        if self.deduplicated is not None:
            lines.append(str(self.deduplicated))
        return "\n".join([*lines, f"{format_bytes(self.freed_bytes)} freed."])


class _Refusal(Exception):
    """A guard keeps a candidate after all."""

    def __init__(self, spared: Spared) -> None:
        super().__init__(spared.reason)
        self.spared = spared


class Executor:
    """Carries out clean-up plans. Blocks its thread; holds nothing open.

    Args:
        look: What is known of the cache.
        installer: Moves trees.
        archiver: Compresses models.
        events: Where removals are told.
    """

    def __init__(self, look: Look, installer: Installer, archiver: Archiver, events: EventHub) -> None:
        self._look, self._layout, self._store = look, look.layout, look.store
        self._installer, self._archiver, self._events = installer, archiver, events

    def run(self, plan: CleanupPlan) -> CleanupResult:
        """Do it; see the module's decision list."""
        done, spared, failed = [], [], []
        for candidate in plan.candidates:
            try:
                done.append(self._do(candidate, plan))
            except _Refusal as refusal:
                spared.append(refusal.spared)
            except XprimError as error:
                _log.warning("%s stays: %s", candidate.name, error.message)
                failed.append(f"{candidate.name} stays: {error.message}")
        return CleanupResult(plan, tuple(done), tuple(spared), tuple(failed))

    def _do(self, candidate: Candidate, plan: CleanupPlan) -> Done:
        path = self._layout.base / candidate.path
        if candidate.kind == "model":
            return self._model(candidate)
        work = {
            "partial": self._partial,
            "leftover": self._leftover,
            "backup": self._backup,
            "archive": self._archive,
        }[candidate.kind]
        return work(candidate, path, plan)

    def _partial(self, candidate: Candidate, path: Path, plan: CleanupPlan) -> Done:
        with self._locked(candidate, self._layout.partial_lock(path.name)):
            if path.name in named_by_intents(self._layout):
                raise _refused(candidate, "busy", "A swap still has to do with it.")
            self._require_idle(candidate, path, plan)
            freed = _freed_by(path)
            remove_tree(path)
        return Done(candidate, freed)

    def _leftover(self, candidate: Candidate, path: Path, plan: CleanupPlan) -> Done:
        lock = self._layout.ref_lock(ModelRef.parse(candidate.ref)) if candidate.ref else None
        with self._locked(candidate, lock) if lock else contextlib.nullcontext():
            if candidate.path.startswith("cache/archive/") and (path / "archive.json").exists():
                raise _refused(candidate, "busy", "The archive was finished meanwhile.")
            if path.name.removesuffix(".ours") in named_by_intents(self._layout):
                raise _refused(candidate, "busy", "A swap or removal still has to do with it.")
            self._require_idle(candidate, path, plan)
            freed = _freed_by(path) + self._freed_above(path, candidate)
            with storage_errors(path, "deleting"):
                if path.is_dir() and not path.is_symlink():
                    remove_tree(path)
                else:
                    path.unlink(missing_ok=True)
            self._tidy_above(path, candidate)
        return Done(candidate, freed)

    def _backup(self, candidate: Candidate, path: Path, plan: CleanupPlan) -> Done:
        ref = ModelRef.parse(candidate.ref)
        with self._locked(candidate, self._layout.ref_lock(ref)):
            self._installer.recover(ref)
            if not path.exists():
                raise _refused(candidate, "busy", "It went meanwhile.")
            if not any(other.parent.name > path.name for other in path.parent.glob("*/tree")):
                raise _refused(candidate, "needed", "It is the newest backup now.")
            if changed := changed_backup(self._layout, ref, path):
                raise _refused(candidate, "changed", f"Holds the last copy of {changed[0]}.")
            freed = _freed_by(path) + self._freed_above(path, candidate)
            kept = None
            if (path / "tree").exists():
                kept = self._installer.discard(ref, path / "tree")
            remove_tree(path)
            self._tidy_above(path, candidate)
        return Done(candidate, freed, kept)

    def _archive(self, candidate: Candidate, path: Path, plan: CleanupPlan) -> Done:
        ref = ModelRef.parse(candidate.ref)
        with self._locked(candidate, self._layout.ref_lock(ref)):
            archived = archive_of(self._layout, ref)
            if archived is None or archived.manifest_hash != candidate.manifest_hash:
                raise _refused(candidate, "busy", "It changed meanwhile.")
            if (pin := pin_in(ref, archived.document.entry)) is not None:
                raise _refused(candidate, "pinned", f"Pinned: {pin.reason}")
            if archived.local_files:
                raise _refused(candidate, "changed", f"Holds the last copy of {archived.local_files[0]}.")
            freed = _freed_by(path) + self._freed_above(path, candidate)
            kept = drop_archive(self._layout, archived, keep_local=True)
        return Done(candidate, freed, kept)

    def _model(self, candidate: Candidate) -> Done:
        ref = ModelRef.parse(candidate.ref)
        with self._locked(candidate, self._layout.ref_lock(ref)):
            self._installer.recover(ref)
            archived = None
            if candidate.action == "archive":
                with gate(self._layout, ref):
                    self._require_free(candidate, ref)
                # Takes minutes: whoever wants to read meanwhile may, and is asked for again afterwards.
                archived = self._archiver.write(ref, self._look.used.get(candidate.ref), time.time())
            with gate(self._layout, ref):
                model = self._require_free(candidate, ref)
                freed = _freed_by(model.path) + self._freed_above(model.path, candidate)
                if archived is not None:
                    kept = self._archiver.take_away(archived)
                    freed -= archived.stored_bytes
                else:
                    kept = self._installer.remove(model).kept
        self._events.publish(ModelRemoved(ref))
        return Done(candidate, freed, kept)

    def _require_free(self, candidate: Candidate, ref: ModelRef) -> InstalledModel:
        """Questions 3 and 4."""
        model = self._store.find(ref)
        if model is None or model.manifest_hash != candidate.manifest_hash:
            raise _refused(candidate, "busy", "It was updated or removed meanwhile.")
        if (pin := pin_of(model)) is not None:
            raise _refused(candidate, "pinned", f"Pinned: {pin.reason}")
        if count := lease_count(self._layout, ref, gated=True):
            raise _refused(candidate, "leased", f"{told_readers(count)} it open.")
        if not model.path.is_symlink() and (changed := changed_files(self._layout, model.path)):
            raise _refused(candidate, "changed", f"Holds the last copy of {changed[0]}.")
        if candidate.action == "remove":
            others = [
                Holding("model", str(each.ref), "", (), ref=str(each.ref), depends_on=needs)
                for each in self._store.list()
                if each.ref != ref and (needs := needs_of(each, self._look.metadata.get(str(each.ref), {})))
            ]
            own = Holding("model", str(ref), "", (), ref=str(ref))
            if needed := dependents(own, others):
                raise _refused(candidate, "needed", f"{needed[0]} depends on it.")
        return model

    @contextlib.contextmanager
    def _locked(self, candidate: Candidate, path: Path) -> Iterator[None]:
        lock = PathLock(path)
        if not lock.try_acquire():
            raise _refused(candidate, "busy", "Somebody works on it now.")
        try:
            yield
        finally:
            lock.release()

    def _require_idle(self, candidate: Candidate, path: Path, plan: CleanupPlan) -> None:
        newest = 0.0
        for each in (path, path / "verified", path / "tree", path / "chunks"):
            with contextlib.suppress(OSError):
                newest = max(newest, each.lstat().st_mtime)
        if newest == 0.0:
            raise _refused(candidate, "busy", "It went meanwhile.")
        if time.time() - newest < plan.policy.partial_idle_hours * 3600.0:
            raise _refused(candidate, "young", "Somebody went on with it meanwhile.")

    def _roots(self) -> tuple[Path, ...]:
        return self._layout.base, self._layout.archives, self._layout.cache / "backup"

    def _freed_above(self, path: Path, candidate: Candidate) -> int:
        """Blocks of the directories that become empty with it."""
        freed, child = 0, path
        while candidate.ref and child.parent not in self._roots():
            child = child.parent
            if len(list(child.iterdir())) > 1:
                break
            facts = child.lstat()
            freed += getattr(facts, "st_blocks", -(-facts.st_size // 512)) * 512
        return freed

    def _tidy_above(self, path: Path, candidate: Candidate) -> None:
        child = path
        while candidate.ref and child.parent not in self._roots():
            child = child.parent
            with contextlib.suppress(OSError):  # not empty: other versions lie there
                child.rmdir()


def _freed_by(path: Path) -> int:
    """Bytes that come back when a tree goes now: the blocks of inodes all of whose names lie in it."""
    return sum(inode.disk_bytes for inode in inodes_of(path) if inode.links <= inode.seen)


def _refused(candidate: Candidate, guard: Guard, reason: str) -> _Refusal:
    return _Refusal(Spared(candidate.kind, candidate.name, candidate.path, guard, reason))
