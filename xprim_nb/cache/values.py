"""The values that leave this room.

Source: seeds/002 §Public API; spec 1 §Pull, §Manager.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import FileEntry
from xprim_nb.registry.tensors import TensorFile

__all__ = [
    "Exported",
    "InstalledModel",
    "Peeked",
    "PlanStatus",
    "Pruned",
    "PullPlan",
    "PullStatus",
    "Pulled",
    "Receipt",
    "RemoteDetail",
    "Removed",
    "UpdateCheck",
    "listed_model",
]

PullStatus: TypeAlias = Literal["installed", "updated", "already_installed"]
PlanStatus: TypeAlias = Literal["install", "update", "already_installed"]


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on this machine.

    Attributes:
        ref: Which model and version.
        manifest_hash: SHA-256 of its manifest.
        total_size: In bytes.
        file_count: Files in the model, the metadata directory not counted.
        installed_at: When, in UTC.
        base: The models' directory that it is in, absolute.
        extra: Further keys of its `registry.json` entry (`registry`, `resolved_version`, …).
    """

    ref: ModelRef
    manifest_hash: str
    total_size: int
    file_count: int
    installed_at: datetime
    base: Path
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def path(self) -> Path:
        """Its own directory, absolute. Made when asked for: a path costs as much as the rest of a listed model."""
        return self.base.joinpath(self.ref.group, self.ref.model, self.ref.version)


# A frozen class sets each field by its name; the slots themselves do it at a third of the cost.
_SETTERS: tuple[Callable[[InstalledModel, object], None], ...] = tuple(
    vars(InstalledModel)[each.name].__set__ for each in fields(InstalledModel)
)


def listed_model(
    ref: ModelRef,
    manifest_hash: str,
    total_size: int,
    file_count: int,
    installed_at: datetime,
    base: Path,
    extra: Mapping[str, Any],
) -> InstalledModel:
    """What `InstalledModel(…)` makes, for listings of thousands."""
    made = object.__new__(InstalledModel)
    set_ref, set_hash, set_size, set_count, set_time, set_base, set_extra = _SETTERS
    set_ref(made, ref)
    set_hash(made, manifest_hash)
    set_size(made, total_size)
    set_count(made, file_count)
    set_time(made, installed_at)
    set_base(made, base)
    set_extra(made, extra)
    return made


@dataclass(frozen=True, slots=True)
class RemoteDetail:
    """What a manifest says of a model in the registry.

    Attributes:
        ref: Which model and version.
        manifest_hash: SHA-256 of its manifest.
        alias_of: The version it is another name of; None for a real version.
        metadata: What the publisher added.
        total_size: In bytes.
        chunk_size: The publisher's target, in bytes.
        chunk_count: Chunks in the stream, repeats included.
        files: In stream order.
    """

    ref: ModelRef
    manifest_hash: str
    alias_of: str | None
    metadata: Mapping[str, Any]
    total_size: int
    chunk_size: int
    chunk_count: int
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class PullPlan:
    """What a pull would do. `bytes_present`, `_local`, `_network` and `_repeated` sum to `total_size`.

    Attributes:
        ref: What would be pulled.
        manifest_hash: The manifest it would install.
        status: `install`, `update` or `already_installed`.
        installed_hash: The manifest installed now; None when there is none.
        files: In stream order.
        total_size: Size of the model, in bytes.
        bytes_present: Already in an unfinished pull of this model.
        bytes_local: In other models on this machine: copied, and verified on the way.
        bytes_network: To be fetched; each distinct chunk counts once.
        bytes_repeated: Further places of the chunks to be fetched: written, not fetched again.
        chunks_total: Distinct chunks.
        chunks_present: Of these, in the unfinished pull.
        chunks_local: Of these, on this machine.
        chunks_network: Of these, to be fetched.
        local_models: Bytes by the model they would be copied from.
        disk_needed: Bytes still to be allocated while the old version also exists.
        disk_free: Bytes free on that disk now.
    """

    ref: ModelRef
    manifest_hash: str
    status: PlanStatus
    installed_hash: str | None
    files: tuple[FileEntry, ...]
    total_size: int
    bytes_present: int
    bytes_local: int
    bytes_network: int
    bytes_repeated: int
    chunks_total: int
    chunks_present: int
    chunks_local: int
    chunks_network: int
    local_models: Mapping[str, int]
    disk_needed: int
    disk_free: int

    @property
    def fits(self) -> bool:
        """True when the disk can hold what is still to be written."""
        return self.disk_needed <= self.disk_free


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a pull did, counted as it happened.

    Attributes:
        bytes_network: Body bytes received for chunks, tries that failed included.
        bytes_present: Model bytes that the unfinished pull already held.
        bytes_local: Model bytes copied (or shared by reflink) from this machine.
        bytes_reflinked: Of these, shared without copying.
        bytes_written: Bytes written to the model's files by this pull.
        chunks_network: Distinct chunks fetched.
        chunks_present: Distinct chunks that the unfinished pull already held.
        chunks_local: Distinct chunks found on this machine.
        local_models: Chunks by the model they came from.
        seconds: From the call to the end.
        retries: Tries that failed before a good one.
        kept: Where files that somebody had changed or added in the old version were put aside; None when none.
    """

    bytes_network: int = 0
    bytes_present: int = 0
    bytes_local: int = 0
    bytes_reflinked: int = 0
    bytes_written: int = 0
    chunks_network: int = 0
    chunks_present: int = 0
    chunks_local: int = 0
    local_models: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    retries: int = 0
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of a pull.

    Attributes:
        ref: What was asked for.
        status: `installed`, `updated` or `already_installed`.
        model: The installed model.
        receipt: What it took.
        checked: False when the registry could not be asked whether this is still the current manifest.
        warnings: Sentences a user should read (a rollback in the registry, a stale index).
    """

    ref: ModelRef
    status: PullStatus
    model: InstalledModel
    receipt: Receipt
    checked: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The model's absolute directory."""
        return self.model.path


@dataclass(frozen=True, slots=True)
class Removed:
    """One removed model.

    Attributes:
        ref: Which.
        bytes_freed: Size of its files, in bytes.
        kept: Where files that somebody had changed or added were put aside; None when there were none.
    """

    ref: ModelRef
    bytes_freed: int
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class UpdateCheck:
    """Whether the registry has another manifest for an installed version.

    Attributes:
        ref: The installed version or alias.
        installed_hash: Manifest installed now.
        remote_hash: Manifest offered now.
        installed_version: The real version the installed manifest is, where that is known.
        remote_version: The real version offered.
        notice: A trust notice's sentence; empty when there is none.
    """

    ref: ModelRef
    installed_hash: str
    remote_hash: str
    installed_version: str | None = None
    remote_version: str | None = None
    notice: str = ""

    @property
    def available(self) -> bool:
        """True when the two differ."""
        return self.installed_hash != self.remote_hash


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning removed: unfinished pulls, leftovers of removals, orphaned chunks.

    Attributes:
        partials: Manifest hashes of the unfinished pulls removed.
        bytes_freed: In bytes on disk.
        in_use: Unfinished pulls left alone because a process works on them.
    """

    partials: tuple[str, ...] = ()
    bytes_freed: int = 0
    in_use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """A registry directory made from installed models.

    Attributes:
        to: The directory.
        refs: What it now holds.
        chunks_written: Chunks that were not there before.
        bytes_written: Their bytes.
        notes: Sentences a user should read (a manifest that had to be renamed).
    """

    to: Path
    refs: tuple[ModelRef, ...]
    chunks_written: int
    bytes_written: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peeked:
    """A model judged by its headers.

    Attributes:
        ref: Which.
        manifest_hash: SHA-256 of its manifest.
        total_size: Size of the whole model, in bytes.
        tensor_files: What each safetensors or GGUF file holds, by path.
        bytes_read: Bytes fetched or read to find out.
    """

    ref: ModelRef
    manifest_hash: str
    total_size: int
    tensor_files: Mapping[str, TensorFile]
    bytes_read: int

    @property
    def parameters(self) -> int:
        """Number of parameters in all tensors."""
        return sum(tensor.parameters for file in self.tensor_files.values() for tensor in file.tensors)

    @property
    def dtypes(self) -> dict[str, int]:
        """Bytes by dtype, largest first."""
        found: dict[str, int] = {}
        for file in self.tensor_files.values():
            for tensor in file.tensors:
                found[tensor.dtype] = found.get(tensor.dtype, 0) + tensor.size_bytes
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
