"""What comes before a model's files can be mended: its name, its manifest, its permissions.

Source: spec 2 §Repair; issue: "damaged `manifest.json`, damaged `registry.json`, wrong permissions".
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from xprim_nb._files import make_dirs, storage_errors, write_atomic
from xprim_nb._threads import settled
from xprim_nb.cache.health.examine import Examined, Examiner
from xprim_nb.cache.health.replace import let_read
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.progress import Meter
from xprim_nb.cache.store import Store
from xprim_nb.errors import HashMismatchError, NetworkError, RegistryError, StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import RegistryClient
from xprim_nb.registry.manifest import VerifiedManifest

__all__ = ["Groundwork", "RepairWork"]

_log = logging.getLogger("xprim_nb.cache")


@dataclass(slots=True)
class RepairWork:
    """One repair under way.

    Attributes:
        ref: What is mended.
        meter: What is counted.
        kept: Where what has to give way is put; created when it is needed.
        actions: What was done, one sentence each.
        issues: What could not be done, and why.
        aside: Whether something was put in `kept`.
    """

    ref: ModelRef
    meter: Meter
    kept: Path
    actions: list[str] = field(default_factory=list)
    issues: list[str] = field(default_factory=list)
    aside: bool = False


class Groundwork:
    """Steps 1 and 2 of a repair. The caller holds the version's lock.

    Args:
        layout: Where things lie.
        store: What is installed.
        examiner: Knows what is wrong.
        client: The registry.
    """

    def __init__(self, layout: Layout, store: Store, examiner: Examiner, client: RegistryClient) -> None:
        self._layout, self._store, self._examiner, self._client = layout, store, examiner, client

    def put_back_name(self, work: RepairWork) -> None:
        """`registry.json` is written anew where it is damaged, and names the model."""
        model, problems = self._examiner.require(work.ref)
        self._store.mend()
        if self._store.find(work.ref) is None:
            manifest = self._examiner.manifest_of(model)
            if manifest is not None and model.path.is_dir() and self._examiner.is_unnamed(work.ref):
                self._store.record(work.ref, manifest, {})
        if problems:
            work.actions.append(f"{problems[0].path} was written anew.")

    async def put_back_manifest(self, work: RepairWork) -> None:
        """The manifest in the model is what was installed again, if a copy of it can be had.

        Raises:
            StorageError: The disk refused.
        """
        model, _ = await settled(self._examiner.require, work.ref)
        problem = await settled(self._examiner.manifest_problem, model)
        if problem is None:
            return
        try:
            manifest = await self._client.manifest(model.manifest_hash)
        except (NetworkError, HashMismatchError, RegistryError) as error:
            _log.info("a manifest could not be had", extra={"ref": str(work.ref), "why": error.message})
            return  # what this means is found out by looking
        await settled(self._write_manifest, model.path, manifest)
        work.actions.append(f"{problem.path} was put back.")

    def _write_manifest(self, root: Path, manifest: VerifiedManifest) -> None:
        path = self._layout.manifest_file(root)
        if path.is_dir() and not path.is_symlink():
            raise StorageError(
                f"A directory lies where a manifest should be: {path}",
                subject=str(path),
                hint="Move it away, then run again.",
            )
        with storage_errors(path, "putting a manifest back"):
            make_dirs(path.parent)
        write_atomic(path, manifest.raw)

    def let_read(self, work: RepairWork, found: Examined) -> list[str]:
        """The files that can be read now and could not."""
        changed = []
        for finding in found.report.findings:
            if finding.status == "unreadable":
                try:
                    let_read(self._layout, found.model.path, finding.path)
                except StorageError as error:
                    work.issues.append(f"{finding.path} cannot be read: {error.message}")
                    continue
                work.actions.append(f"{finding.path} can be read again.")
                changed.append(finding.path)
        return changed
