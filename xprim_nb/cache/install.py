"""Put a finished tree in place, take a model away, and finish what a killed process began.

    1. The tree is whole and durable, its manifest inside.
    2. An intent is written: which tree, which place, where the old one goes.
    3. The trees are swapped by rename: at once where the system can, else old out, new in.
    4. `registry.json` names the new one.
    5. The old tree goes; files that somebody had changed or added in it are kept. The unfinished pull goes too. Where
       a backup is wanted, the old tree itself became it in step 3, by rename.
    6. The intent goes.

Putting a backup back (`restore`) is the same, with the backup's tree in the place of the new one.

A process killed between any two of these is finished by the next that holds the version's lock (`recover`). Until
then the tree is left alone: an unfinished pull that an intent names may hold the old version, and is nobody's to
write into or to prune.

Source: spec 1 §Pull, step 6; DESIGN, habit 5.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from xprim_nb._files import (
    PathLock,
    exchange_dirs,
    move_dir,
    read_plain,
    remove_tree,
    storage_errors,
    sync_tree,
    write_atomic,
)
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.intents import BACKUP_FILE, Displacement, Intent, Intents
from xprim_nb.cache.kept import facts_of, retire
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store, read_manifest
from xprim_nb.cache.values import InstalledModel, Removed
from xprim_nb.errors import StorageError, XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import VerifiedManifest

__all__ = ["Installer"]

_log = logging.getLogger("xprim_nb.cache")


class Installer:
    """Steps 1 to 6. The caller holds the version's lock.

    Args:
        layout: Where things lie.
        store: `registry.json`.
        index: Where chunks lie.
    """

    def __init__(self, layout: Layout, store: Store, index: ChunkIndex) -> None:
        self._layout, self._store, self._index = layout, store, index
        self._intents = Intents(layout)

    def install(
        self,
        ref: ModelRef,
        verified: VerifiedManifest,
        tree: Path,
        extra: dict[str, Any],
        note: dict[str, Any],
        displacement: Displacement | None = None,
    ) -> tuple[InstalledModel, Path | None]:
        """Make a tree of verified files durable and put it in place.

        Args:
            ref: The version it becomes.
            verified: Its manifest.
            tree: The files, in an unfinished pull whose lock the caller holds and whose list is closed.
            extra: Further keys for the `registry.json` entry.
            note: What the receipt inside the model says.
            displacement: The tree is a refresh's: what it holds of the user's, and where the old version goes.

        Returns:
            The installed model, and where changed files of the old version were kept.

        Raises:
            StorageError: The disk refused; the old version is in place, or the next operation puts the new one there.
        """
        self.check_place(ref)
        token = secrets.token_hex(8)
        remove_tree(tree / self._layout.metadata_name)  # half of one, if an earlier try was killed here
        local = displacement.local if displacement else {}
        document = {**note, "token": token, "files": facts_of(tree, verified.manifest, local)}
        if local:
            document["local"] = {path: dict(facts) for path, facts in local.items()}
        receipt = orjson.dumps(document, option=orjson.OPT_INDENT_2)
        write_atomic(self._layout.receipt_file(tree), receipt, durable=False)
        write_atomic(self._layout.manifest_file(tree), verified.raw, durable=False)
        with storage_errors(tree, "making the files durable"):
            sync_tree(tree)  # 1
        kind = "refresh" if displacement else "install"
        return self._swap_in(
            Intent(kind, str(ref), token, self._layout.relative(tree), "", extra), displacement
        )

    def restore(
        self, ref: ModelRef, tree: Path, extra: dict[str, Any], displacement: Displacement | None
    ) -> InstalledModel:
        """Put a backup's tree back in place; its directory goes.

        Args:
            ref: The version it becomes.
            tree: `tree` in the backup's directory; its manifest can be read.
            extra: Further keys for the `registry.json` entry.
            displacement: Where what is in place now goes; None to delete it, files kept that `tree` lacks.

        Raises:
            StorageError: The disk refused; what was in place is, or the next operation puts the backup there.
        """
        self.check_place(ref)
        token = _token(self._layout, tree)
        if token is None:  # the original client's: it is known by no token yet
            token = secrets.token_hex(8)
            write_atomic(self._layout.receipt_file(tree), orjson.dumps({"token": token}))
        intent = Intent("restore", str(ref), token, self._layout.relative(tree), "", extra)
        return self._swap_in(intent, displacement)[0]

    def discard(self, ref: ModelRef, tree: Path) -> Path | None:
        """Delete a backup's tree and its directory; where files were put aside that nobody else has.

        Raises:
            StorageError: The disk refused; the backup is whole, or the next operation finishes this.
        """
        out = self._layout.relative(self._layout.new_trash())
        intent = Intent("discard", str(ref), "", self._layout.relative(tree), out)
        return self._finish_discard(intent, self._intents.write(intent))

    def _swap_in(
        self, intent: Intent, displacement: Displacement | None
    ) -> tuple[InstalledModel, Path | None]:
        """Steps 2 to 6."""
        backup = displacement.backup if displacement else None
        out = backup / "tree" if backup else self._layout.new_trash()
        facts = dict(displacement.facts) if displacement and backup else {}
        intent = replace(intent, out=self._layout.relative(out), backup=facts)
        tree = self._layout.base / intent.tree
        path = self._intents.write(intent)  # 2
        try:
            return self._finish_install(intent, path, lambda: remove_tree(tree.parent))
        except XprimError:
            if _token(self._layout, tree) == intent.token and not os.path.lexists(out):
                path.unlink(missing_ok=True)  # nothing has moved: there is nothing to finish
            raise

    def check_place(self, ref: ModelRef) -> None:
        """Return when nothing but a directory of its own, or a link to one, lies where a version should go.

        Raises:
            StorageError: Something else does, or the directory is another version's; the message names it.
        """
        _check_place(self._layout, self._store, ref)

    def remove(self, model: InstalledModel) -> Removed:
        """Take a model away.

        Raises:
            StorageError: The disk refused; the model is whole, or the next operation finishes the removal.
        """
        intent = Intent("remove", str(model.ref), "", "", self._layout.relative(self._layout.new_trash()))
        path = self._intents.write(intent)
        try:
            with storage_errors(model.path, "removing"):
                move_dir(model.path, self._layout.base / intent.out)
        except XprimError:
            path.unlink(missing_ok=True)
            raise
        kept = self._finish_removal(intent, path)
        return Removed(model.ref, model.total_size, kept)

    def recover(self, only: ModelRef | None = None) -> None:
        """Finish what killed processes began; with `only`, of the version whose lock the caller holds.

        Raises:
            StorageError: `only` is given, and the disk refused. Otherwise that is logged: what one version needs
                must not hold up the others.
        """
        for intent, path in self._intents.all():
            if only is None:
                try:
                    self._resume_locked(intent, path)
                except StorageError as error:
                    _log.warning(
                        "%s is left half done: %s", intent.ref, error.message, extra={"path": str(path)}
                    )
            elif ModelRef.parse(intent.ref) == only:
                self._resume(intent, path)

    def is_free(self, tree: Path) -> bool:
        """True when no swap, under whatever name, still has to do with an unfinished pull's tree.

        Those that killed processes began are finished; the caller holds the unfinished pull's lock.

        Raises:
            StorageError: The disk refused to finish one.
        """
        concerned = [each for each in self._intents.all() if self._layout.base / each[0].tree == tree]
        finished = [self._resume_locked(intent, path) for intent, path in concerned]
        return all(finished)

    def _resume_locked(self, intent: Intent, path: Path) -> bool:
        """False when the version's lock is held: its owner lives, and finishes it."""
        lock = PathLock(self._layout.ref_lock(ModelRef.parse(intent.ref)))
        if not lock.try_acquire():
            return False
        try:
            self._resume(intent, path)
        finally:
            lock.release()
        return True

    def _resume(self, intent: Intent, path: Path) -> None:
        if not path.exists():  # its owner finished it while we waited for the lock
            return
        _log.info("finishing an interrupted %s", intent.kind, extra={"ref": intent.ref})
        final, out = self._layout.model_dir(ModelRef.parse(intent.ref)), self._layout.base / intent.out
        if intent.kind == "remove":
            if os.path.lexists(out) or not os.path.lexists(final):
                self._finish_removal(intent, path)
            else:
                path.unlink(missing_ok=True)
            return
        tree = self._layout.base / intent.tree
        if intent.kind == "discard":
            self._finish_discard(intent, path)
            return
        if intent.token in (_token(self._layout, final), _token(self._layout, tree)):
            drop = _drop_backup if intent.kind == "restore" else _drop_list
            self._finish_install(intent, path, lambda: drop(self._layout, tree.parent))
            return
        # Somebody deleted the new tree: the old one comes back.
        if os.path.lexists(out) and not os.path.lexists(final):
            with storage_errors(final, "putting the old version back"):
                move_dir(out, final)
        path.unlink(missing_ok=True)

    def _finish_install(
        self, intent: Intent, path: Path, drop_list: Callable[[], None]
    ) -> tuple[InstalledModel, Path | None]:
        ref = ModelRef.parse(intent.ref)
        final = self._layout.model_dir(ref)
        tree, out = self._layout.base / intent.tree, self._layout.base / intent.out
        swapped = _token(self._layout, final) == intent.token
        verified = read_manifest(self._layout, final if swapped else tree)
        # Before the swap: somebody who looks for a chunk always finds one of the places.
        self._index.add(ref, verified)
        with storage_errors(final, "putting the model in place"):
            if not swapped:  # 3
                _swap(final, tree, out)
            if os.path.lexists(tree):
                move_dir(tree, out)
        if intent.backup and os.path.lexists(out):
            write_atomic(out.parent / BACKUP_FILE, orjson.dumps(intent.backup, option=orjson.OPT_INDENT_2))
        model = self._store.record(ref, verified, intent.extra)  # 4
        self._index.add(ref, verified)  # again, if somebody took it out because it had no name yet
        kept = None
        if not intent.backup:  # 5
            kept = retire(self._layout, ref, out, final if intent.kind != "install" else None)
        drop_list()
        self._intents.forget(path)  # 6
        return model, kept

    def _finish_removal(self, intent: Intent, path: Path) -> Path | None:
        ref = ModelRef.parse(intent.ref)
        self._store.forget(ref)
        self._index.remove(ref)
        kept = retire(self._layout, ref, self._layout.base / intent.out)
        _tidy(self._layout.model_dir(ref), 2)
        self._intents.forget(path)
        return kept

    def _finish_discard(self, intent: Intent, path: Path) -> Path | None:
        kept = _discard(self._layout, intent)
        self._intents.forget(path)
        return kept


def _discard(layout: Layout, intent: Intent) -> Path | None:
    """Delete a backup's tree; files of a user's that do not lie in the installed version are put aside."""
    ref = ModelRef.parse(intent.ref)
    tree, out = layout.base / intent.tree, layout.base / intent.out
    with storage_errors(tree, "dropping a backup"):
        if os.path.lexists(tree):
            move_dir(tree, out)
    kept = retire(layout, ref, out, layout.model_dir(ref))
    _drop_backup(layout, tree.parent)
    return kept


def _drop_backup(_layout: Layout, backup: Path) -> None:
    """Take away what is left of a backup whose tree has gone."""
    if not os.path.lexists(backup / "tree"):
        remove_tree(backup)
        _tidy(backup, 3)


def _tidy(path: Path, levels: int) -> None:
    """Remove so many directories above a path that is gone, where nothing else lies in them."""
    for parent in path.parents[:levels]:
        with contextlib.suppress(OSError):
            parent.rmdir()


def _drop_list(layout: Layout, partial: Path) -> None:
    """Take away what is left of an unfinished pull whose tree has gone to its place."""
    lock = PathLock(layout.partial_lock(partial.name))
    if lock.try_acquire():
        try:
            if not os.path.lexists(partial / "tree"):
                remove_tree(partial)
        finally:
            lock.release()


def _token(layout: Layout, tree: Path) -> str | None:
    """Which installation a tree is; None for the original client's."""
    try:
        return str(orjson.loads(read_plain(layout.receipt_file(tree)))["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_place(layout: Layout, store: Store, ref: ModelRef) -> None:
    final = layout.model_dir(ref)
    for path in (layout.base, final.parent.parent, final.parent, final):
        if os.path.lexists(path) and not path.is_dir() and not (path == final and path.is_symlink()):
            what = "A link that leads nowhere" if path.is_symlink() else "A file"
            raise StorageError(
                f"{what} lies where {ref} should go: {path}",
                subject=str(path),
                hint="Move it away, then run again.",
            )
    if final.is_dir() and not final.is_symlink() and store.find(ref) is None:
        _require_own(store, ref, final)


def _require_own(store: Store, ref: ModelRef, final: Path) -> None:
    """Where "Demo" and "demo" are one directory, by the file system or by a link, only one of the two fits in."""
    for other in store.list():
        same = False
        with contextlib.suppress(OSError):  # listed, and gone
            same = other.ref != ref and other.path.samefile(final)
        if same:
            raise StorageError(
                f"{ref} would lie in the directory of {other.ref}: {final}",
                subject=str(final),
                hint=f"Remove {other.ref} first, or use another data directory for {ref}.",
            )


def _swap(final: Path, tree: Path, out: Path) -> None:
    """Put `tree` at `final`; what lay there is at `tree` or at `out` afterwards. On an error it is where it was."""
    if not os.path.lexists(final):
        move_dir(tree, final)
    elif not exchange_dirs(final, tree):
        move_dir(final, out)
        try:
            move_dir(tree, final)
        except OSError:
            move_dir(out, final)
            raise
