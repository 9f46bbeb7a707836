"""What agents send and get, as the seed has it: closed shapes, no key more.

Source: seeds/000 §Tools; spec 2 §For agents.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from xprim_nb.cache.bundles.manifest import CacheInitRequest, CacheManifest, SourceUrls, ValidationRules
from xprim_nb.cache.health.report import Checks, Depth, OverallStatus, Recommendation
from xprim_nb.cache.renewal.strategy import UpdateStrategy
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy

__all__ = [
    "CleanupPayload",
    "CleanupResult",
    "ErrorDocument",
    "InitializePayload",
    "InitializeResult",
    "Operation",
    "OperationType",
    "RefreshPayload",
    "RefreshResult",
    "RepairPayload",
    "RepairResult",
    "Report",
    "StatusPayload",
    "StatusResult",
    "ValidatePayload",
]

OperationType: TypeAlias = Literal["initialize", "validate", "refresh", "cleanup", "status", "repair"]

_MODEL_ID = (
    'Which model: "group/model version" is an installed version, "group/model" its information bundle '
    '(or the only installed version), "info/group/model" the bundle for sure.'
)


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Report(_Shape):
    """The seed's ValidationReport."""

    model_id: str
    validation_timestamp: datetime
    overall_status: OverallStatus
    checks: Checks
    recommendations: Recommendation


class InitializePayload(_Shape):
    """An information bundle from URLs; without URLs it is derived, offline, from the installed model."""

    model_id: str = Field(description='"group/model", or "group/model version".')
    source_urls: SourceUrls | None = None
    validation_rules: ValidationRules | None = None

    def request(self) -> CacheInitRequest | None:
        """The request; None when there are no URLs."""
        if self.source_urls is None:
            return None
        rules = self.validation_rules or ValidationRules(
            required_files=("metadata/model_card.json",), max_age_days=30, checksum_validation=True
        )
        return CacheInitRequest(model_id=self.model_id, source_urls=self.source_urls, validation_rules=rules)


class ValidatePayload(_Shape):
    """One model or bundle to be checked."""

    model_id: str = Field(description=_MODEL_ID)
    depth: Depth = Field(
        default="quick", description="quick: what changed since the last check; full: every byte."
    )


class RefreshPayload(_Shape):
    """One model or bundle to be brought up to date."""

    model_id: str = Field(description=_MODEL_ID)
    strategy: UpdateStrategy = UpdateStrategy()


class CleanupPayload(_Shape):
    """What may go."""

    policy: CleanupPolicy = CleanupPolicy()
    dry_run: bool = Field(default=False, description="Only say what would go.")


class StatusPayload(_Shape):
    """One model, or all of them."""

    model_id: str | None = Field(default=None, description=f"{_MODEL_ID} Everything when left out.")


class RepairPayload(_Shape):
    """One model or bundle to be mended."""

    model_id: str = Field(description=_MODEL_ID)


class Operation(_Shape):
    """One call of the dispatcher."""

    type: OperationType
    payload: dict[str, Any] | None = None


class InitializeResult(_Shape):
    """What became of an information bundle."""

    success: bool
    cache_path: str
    manifest: CacheManifest
    validation_report: Report


class RefreshResult(_Shape):
    """What a refresh did."""

    success: bool
    updated_files: tuple[str, ...]
    validation_report: Report
    rollback_available: bool


class CleanupResult(_Shape):
    """What a clean-up did."""

    freed_space_gb: float
    removed_models: tuple[str, ...]
    optimization_report: str


class StatusResult(_Shape):
    """How everything is. Nobody was asked and no model file was read for it."""

    total_models: int
    total_size_gb: float
    health_summary: dict[str, Report]
    recommendations: tuple[str, ...]


class RepairResult(_Shape):
    """What a repair did."""

    repairable: bool
    repair_actions: tuple[str, ...]
    success: bool
    remaining_issues: tuple[str, ...]


class ErrorBody(_Shape):
    """What went wrong, and what to do."""

    type: str
    message: str
    subject: str
    hint: str
    exit_code: int


class ErrorDocument(_Shape):
    """The answer when a call failed."""

    error: ErrorBody
