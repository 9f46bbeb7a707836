"""What a repair would do, and what it did. Frozen, and plain JSON on disk.

Source: spec 2 §Repair; seeds/000 `repair_corrupted_cache`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.health.report import SCHEMA_VERSION, ValidationReport

__all__ = ["RepairAction", "RepairKind", "RepairPlan", "Repaired", "receipt_sentence"]

RepairKind: TypeAlias = Literal["listing", "manifest", "permissions", "rewrite", "rebuild", "put_back"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class RepairAction(_Value):
    """One thing that is mended.

    Attributes:
        path: Relative to the model's directory.
        kind: `listing` (registry.json), `manifest`, `permissions`, `rewrite` (some chunks of a file), `rebuild` (a file
            that is missing or replaced), `put_back` (a file that somebody changed, by request).
        chunks_network: Distinct chunks of it that have to be fetched.
        chunks_local: Distinct chunks of it that this machine holds.
        keeps_old: True when what lies there now is put aside first.
        sentence: The same for a person.
    """

    path: str
    kind: RepairKind
    chunks_network: int = 0
    chunks_local: int = 0
    keeps_old: bool = False
    sentence: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}"


class RepairPlan(_Value):
    """What a repair would do now. Each distinct chunk counts once.

    Attributes:
        schema_version: Of this document.
        model_id: `group/model version`.
        manifest_hash: What it is mended to.
        repairable: True when everything that is damaged can be mended now.
        actions: In order.
        chunks_total: Distinct chunks of the model.
        chunks_network: To be fetched.
        chunks_local: Copied from this machine.
        bytes_network: To be fetched.
        bytes_local: Copied.
        local_sources: Chunks by the place that they are copied from.
        left_alone: Files that somebody changed, which stay as they are.
        remaining_issues: What cannot be mended now, and why.
    """

    schema_version: int = SCHEMA_VERSION
    model_id: str
    manifest_hash: str = ""
    repairable: bool = True
    actions: tuple[RepairAction, ...] = ()
    chunks_total: int = 0
    chunks_network: int = 0
    chunks_local: int = 0
    bytes_network: int = 0
    bytes_local: int = 0
    local_sources: Mapping[str, int] = {}
    left_alone: tuple[str, ...] = ()
    remaining_issues: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Everything in one sentence."""
        if not self.actions and not self.remaining_issues:
            return f"{self.model_id} needs no repair."
        fetched = receipt_sentence(
            self.chunks_total,
            self.chunks_network,
            self.bytes_network,
            self.chunks_local,
            "to be fetched",
            "to be copied",
        )
        things = "thing" if len(self.actions) == 1 else "things"
        return f"{self.model_id}: {len(self.actions)} {things} to mend, {fetched}"

    def __str__(self) -> str:
        lines = [self.verdict, *(f"  {action}" for action in self.actions)]
        lines += [f"  stays as it is: {path}" for path in self.left_alone]
        return "\n".join([*lines, *(f"  cannot be mended now: {issue}" for issue in self.remaining_issues)])


class Repaired(_Value):
    """What a repair did.

    Attributes:
        schema_version: Of this document.
        model_id: `group/model version`.
        repairable: True when everything that was damaged could be mended.
        repair_actions: What was mended, one sentence each.
        success: True when the model is whole now.
        remaining_issues: What could not be mended, and why.
        chunks_total: Distinct chunks of the model.
        chunks_network: Distinct chunks fetched.
        chunks_local: Distinct chunks copied from this machine.
        bytes_network: Bytes fetched, tries that failed included.
        bytes_local: Bytes copied.
        local_sources: Chunks by the place that they came from.
        kept: Where files that had to give way were put; None when none had to.
        left_alone: Files that somebody changed, which stayed as they were.
        seconds: How long it took.
        receipt: What it took, in one sentence.
        validation_report: How the model is now.
    """

    schema_version: int = SCHEMA_VERSION
    model_id: str
    repairable: bool = True
    repair_actions: tuple[str, ...] = ()
    success: bool = True
    remaining_issues: tuple[str, ...] = ()
    chunks_total: int = 0
    chunks_network: int = 0
    chunks_local: int = 0
    bytes_network: int = 0
    bytes_local: int = 0
    local_sources: Mapping[str, int] = {}
    kept: str | None = None
    left_alone: tuple[str, ...] = ()
    seconds: float = 0.0
    receipt: str = ""
    validation_report: ValidationReport | None = None

    @property
    def verdict(self) -> str:
        """Everything in one sentence."""
        if self.remaining_issues:
            return f"{self.model_id} is not whole: {self.remaining_issues[0]}"
        if not self.repair_actions:
            return f"{self.model_id} needed no repair."
        return f"{self.model_id} is whole again: {self.receipt}"

    def __str__(self) -> str:
        lines = [self.verdict, *(f"  {action}" for action in self.repair_actions)]
        lines += [f"  not mended: {issue}" for issue in self.remaining_issues]
        return "\n".join([*lines, *([f"  put aside in {self.kept}"] if self.kept else [])])


def receipt_sentence(
    total: int, network: int, bytes_network: int, local: int, fetched: str = "fetched", copied: str = "copied"
) -> str:
    """What it took, or would take.

    >>> receipt_sentence(1843, 1, 10 * 1024**2, 0)
    '1 of 1,843 chunks fetched (10.0 MB).'
    >>> receipt_sentence(1843, 0, 0, 2)
    '0 of 1,843 chunks fetched, 2 copied from this machine.'
    """
    size = f" ({format_bytes(bytes_network)})" if network else ""
    here = f", {local:,} {copied} from this machine" if local else ""
    return f"{network:,} of {format_count(total, 'chunk')} {fetched}{size}{here}."
