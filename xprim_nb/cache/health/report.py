"""What a validation found: the report of the seed, and the findings it rests on. Frozen, and plain JSON on disk.

Source: seeds/000 §Cache Validation & Integrity Checks (`ValidationReport`); spec 2 §Validation.
"""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

__all__ = [
    "SCHEMA_VERSION",
    "Action",
    "Checks",
    "CompletenessCheck",
    "DependencyCheck",
    "Depth",
    "FileFinding",
    "FindingStatus",
    "FreshnessCheck",
    "IntegrityCheck",
    "Priority",
    "Recommendation",
    "ValidationReport",
]

# Of a stored report; a newer one is refused by whoever reads it.
SCHEMA_VERSION: Literal[1] = 1

Depth: TypeAlias = Literal["quick", "full"]
OverallStatus: TypeAlias = Literal["healthy", "degraded", "failed"]
Action: TypeAlias = Literal["none", "refresh", "rebuild", "remove"]
Priority: TypeAlias = Literal["low", "medium", "high", "critical"]
FindingStatus: TypeAlias = Literal["corrupted", "missing", "replaced", "unreadable", "modified", "extra"]

_Moment = Annotated[AwareDatetime, AfterValidator(lambda when: when.astimezone(UTC))]


class _Value(BaseModel):
    """Frozen; keys of a later version are ignored on read."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class FileFinding(_Value):
    """One file that is not as it was installed.

    Attributes:
        path: Relative to the model's directory, `/`-separated; `.xprim/manifest.json` for our own manifest.
        status: `corrupted` (damage), `missing`, `replaced` (no plain file lies there), `unreadable` (permissions),
            `modified` (somebody's work) or `extra` (somebody's file). The last two are no damage.
        chunks: Numbers, in the model's stream, of the chunks that are wrong in this file.
        bytes_wrong: The bytes of the file in these chunks, or all that are not there.
        sentence: What is wrong, for a person.
        holds: The file of the model whose bytes lie here instead, where that is so (swapped files).
        certain: False when the damage could as well be somebody's edit: the old bytes are put aside when it is mended.
    """

    path: str
    status: FindingStatus
    chunks: tuple[int, ...] = ()
    bytes_wrong: int = 0
    sentence: str = ""
    holds: str | None = None
    certain: bool = True

    @property
    def is_damage(self) -> bool:
        """True when the model is not whole because of it."""
        return self.status not in ("modified", "extra")

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence or self.status}"


class IntegrityCheck(_Value):
    """Whether the bytes are the publisher's.

    Attributes:
        status: `fail` when a file is damaged or missing.
        corrupted_files: Files that are there and wrong, or cannot be read.
        missing_files: Files that are not there, or in whose place something else lies.
    """

    status: Literal["pass", "fail"] = "pass"
    corrupted_files: tuple[str, ...] = ()
    missing_files: tuple[str, ...] = ()


class FreshnessCheck(_Value):
    """Whether it is still what the registry offers.

    Attributes:
        status: `stale` when it is older than the policy allows, or the registry is known to offer another manifest;
            `expired` when it is twice as old, or past its expiry date.
        age_days: Since it was installed, or since the registry last confirmed it.
        recommended_refresh: True unless fresh.
    """

    status: Literal["fresh", "stale", "expired"] = "fresh"
    age_days: float = 0.0
    recommended_refresh: bool = False


class CompletenessCheck(_Value):
    """Whether everything the model needs is there.

    Attributes:
        status: `partial` when components are missing, `minimal` when nothing but our own metadata is there.
        missing_components: Files that the model, or one of its own indexes, names.
        impact_assessment: What that means, in a sentence.
    """

    status: Literal["complete", "partial", "minimal"] = "complete"
    missing_components: tuple[str, ...] = ()
    impact_assessment: str = ""


class DependencyCheck(_Value):
    """Whether the models it builds on are installed.

    Attributes:
        status: `missing` when one is not.
        unresolved: The names of those, as the model gives them.
    """

    status: Literal["satisfied", "missing"] = "satisfied"
    unresolved: tuple[str, ...] = ()


class Checks(_Value):
    """The seed's four checks."""

    file_integrity: IntegrityCheck = Field(default_factory=IntegrityCheck)
    freshness: FreshnessCheck = Field(default_factory=FreshnessCheck)
    completeness: CompletenessCheck = Field(default_factory=CompletenessCheck)
    dependencies: DependencyCheck = Field(default_factory=DependencyCheck)


class Recommendation(_Value):
    """What to do next.

    Attributes:
        action: `none`, `refresh`, `rebuild` or `remove`.
        priority: How soon.
        details: A sentence that names the command to run.
    """

    action: Action = "none"
    priority: Priority = "low"
    details: str = ""


class ValidationReport(_Value):
    """What was found, and what to do about it.

    Attributes:
        schema_version: Of this document.
        model_id: `group/model version`.
        validation_timestamp: When, in UTC.
        overall_status: `healthy`, `degraded` or `failed`.
        checks: The four checks.
        recommendations: What to do next.
        depth: `quick` (sizes, times and recorded verdicts; only what changed was hashed) or `full` (every byte).
        manifest_hash: SHA-256 of the manifest it was compared with; empty when there is none.
        findings: What is wrong with which file, sorted by path.
        notes: Sentences about what could not be known (the registry was not asked, say).
        bytes_hashed: Bytes read to find out.
        seconds: How long that took.
        verdict: One sentence that names the command to run.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model_id: str
    validation_timestamp: _Moment
    overall_status: OverallStatus = "healthy"
    checks: Checks = Field(default_factory=Checks)
    recommendations: Recommendation = Field(default_factory=Recommendation)
    depth: Depth = "quick"
    manifest_hash: str = ""
    findings: tuple[FileFinding, ...] = ()
    notes: tuple[str, ...] = ()
    bytes_hashed: int = 0
    seconds: float = 0.0
    verdict: str = ""

    @property
    def is_healthy(self) -> bool:
        """True when there is nothing to mend and nothing to refresh."""
        return self.overall_status == "healthy"

    @property
    def damaged(self) -> tuple[FileFinding, ...]:
        """The findings that make the model fail."""
        return tuple(finding for finding in self.findings if finding.is_damage)

    @property
    def modified_files(self) -> tuple[str, ...]:
        """Files that somebody changed."""
        return tuple(finding.path for finding in self.findings if finding.status == "modified")

    @property
    def extra_files(self) -> tuple[str, ...]:
        """Files that somebody added."""
        return tuple(finding.path for finding in self.findings if finding.status == "extra")

    def __str__(self) -> str:
        return "\n".join([self.verdict, *(f"  {finding}" for finding in self.findings), *self.notes])
