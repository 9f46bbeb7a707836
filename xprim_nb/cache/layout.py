"""Where things lie below the base directory. The names are a contract with the original client.

Source: spec 1 §Disk layout; seeds/002 §Directory Layout.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from xprim_nb.config import Config
from xprim_nb.refs import ModelRef

__all__ = ["Layout"]

# The three parts of a reference may have 384 characters together, a file name has 255.
_MAX_LOCK_NAME = 200


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one base directory. Computes only; touches no disk.

    Attributes:
        base: The absolute base directory.
        metadata_name: Name of our directory inside a model, `.xprim`.
    """

    base: Path
    metadata_name: str

    @classmethod
    def of(cls, config: Config) -> Layout:
        """The layout that a configuration describes."""
        return cls(config.base_dir, config.metadata_dir_name)

    @property
    def registry_file(self) -> Path:
        """What is installed; written last."""
        return self.base / "registry.json"

    @property
    def registry_lock(self) -> Path:
        """Held over every read-modify-write of `registry.json`."""
        return self.base / "registry.json.lock"

    @property
    def state_file(self) -> Path:
        """Derived facts; deleting it loses no model."""
        return self.base / "state.sqlite"

    @property
    def cache(self) -> Path:
        """Everything that is not an installed model."""
        return self.base / "cache"

    @property
    def partials(self) -> Path:
        """Unfinished pulls, by manifest hash."""
        return self.cache / "partial"

    @property
    def chunks(self) -> Path:
        """Loose chunks by digest: what `peek` fetched, what the original client left behind."""
        return self.cache / "chunks"

    @property
    def manifests(self) -> Path:
        """Raw manifests by digest."""
        return self.cache / "manifests"

    @property
    def intents(self) -> Path:
        """Swaps and removals begun and not yet ended."""
        return self.cache / "intents"

    @property
    def trash(self) -> Path:
        """Trees on their way out."""
        return self.cache / "trash"

    def relative(self, path: Path) -> str:
        """A path below the base as intents write it, so that a moved base recovers too."""
        return path.relative_to(self.base).as_posix()

    @property
    def kept(self) -> Path:
        """Files that somebody had changed or added, put aside."""
        return self.cache / "kept"

    @property
    def archives(self) -> Path:
        """Cold models, compressed."""
        return self.cache / "archive"

    @property
    def leases(self) -> Path:
        """Who reads which model now: lock files of living processes."""
        return self.cache / "leases"

    @property
    def adopted_file(self) -> Path:
        """Other programs' files that may serve chunks."""
        return self.cache / "adopted.json"

    def archive_dir(self, ref: ModelRef) -> Path:
        """The directory of an archived version."""
        return self.archives.joinpath(ref.group, ref.model, ref.require_version().version)

    @property
    def info(self) -> Path:
        """Information bundles, by group and model."""
        return self.base / "info"

    def info_lock(self, ref: ModelRef) -> Path:
        """Held while a model's information bundle is being changed."""
        lock = self.ref_lock(ref.with_version(""))
        return lock.with_name(lock.name.replace("ref-", "info-", 1))

    def model_dir(self, ref: ModelRef) -> Path:
        """The directory of an installed version."""
        return self.base.joinpath(ref.group, ref.model, ref.require_version().version)

    def manifest_file(self, model_dir: Path) -> Path:
        """The raw manifest inside a model directory."""
        return model_dir / self.metadata_name / "manifest.json"

    def receipt_file(self, model_dir: Path) -> Path:
        """What the installed files looked like when they were put in place."""
        return model_dir / self.metadata_name / "receipt.json"

    def pin_file(self, model_dir: Path) -> Path:
        """The pin of a model in its own directory, for a list that has to be rebuilt."""
        return model_dir / self.metadata_name / "pin.json"

    def ref_lock(self, ref: ModelRef) -> Path:
        """Held while a version is being pulled or removed."""
        name = f"{ref.group}~{ref.model}~{ref.version}"
        if len(name) > _MAX_LOCK_NAME:
            # Of the lower-case name: where two spellings are one directory, they are one lock too.
            name = f"{name[:_MAX_LOCK_NAME]}~{hashlib.sha256(name.lower().encode()).hexdigest()[:16]}"
        return self.cache / "locks" / f"ref-{name}.lock"

    def partial_lock(self, manifest_hash: str) -> Path:
        """Held while an unfinished pull is being worked on."""
        return self.cache / "locks" / f"partial-{manifest_hash}.lock"

    def chunk_lock(self, digest: str) -> Path:
        """Held while a chunk is being fetched."""
        return self.cache / "locks" / f"chunk-{digest}.lock"

    def kept_dir(self, ref: ModelRef) -> Path:
        """A fresh directory for files that somebody had changed or added."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return self.cache / "kept" / ref.group / ref.model / ref.version / f"{stamp}-{secrets.token_hex(3)}"

    def backups_of(self, ref: ModelRef) -> Path:
        """The directory that holds the backups of a version."""
        return self.cache / "backup" / ref.group / ref.model / ref.require_version().version

    def new_backup(self, ref: ModelRef) -> Path:
        """A free name for a backup; names sort by age."""
        now_ns = time.time_ns()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_ns // 1_000_000_000))
        return self.backups_of(ref) / f"{stamp}.{now_ns % 1_000_000_000:09}-{secrets.token_hex(4)}"

    def new_trash(self) -> Path:
        """A free name for a tree on its way out."""
        return self.trash / secrets.token_hex(8)
