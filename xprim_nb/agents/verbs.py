"""The six operations on a manager, each answering in the seed's shape.

Which thing a `model_id` means:

    1. `info/group/model`: the information bundle.
    2. `group/model version`: the installed version; the bundle about that version, where only that is here.
    3. `group/model`: the bundle, where there is one; otherwise the only installed version.

Source: seeds/000 §Tools; spec 2 §For agents.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel

from xprim_nb._text import format_bytes
from xprim_nb.agents import shapes
from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.errors import ConfigError, NotInstalledError
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef

__all__ = ["Answer", "Target", "cleanup", "initialize", "refresh", "repair", "resolve", "status", "validate"]

_BUNDLE = "info/"
_GB = 1024**3


class Answer(NamedTuple):
    """A result and the report beside it, both plain JSON."""

    result: dict[str, Any]
    report: dict[str, Any] | None = None


class Target(NamedTuple):
    """What a `model_id` means: an installed version, or the bundle of a model."""

    ref: ModelRef
    is_bundle: bool


async def resolve(manager: Manager, model_id: str) -> Target:
    """What is meant; see the module's list.

    Raises:
        InvalidRefError: It is no reference.
        ConfigError: Several versions could be meant.
        NotInstalledError: Nothing of that name is here.
    """
    if model_id.startswith(_BUNDLE) and model_id.count("/") == 2:  # 1
        return Target(ModelRef.parse(model_id.removeprefix(_BUNDLE)), is_bundle=True)
    ref = ModelRef.parse(model_id)
    bundle = manager.bundle(ref)
    if ref.version:  # 2
        try:
            await manager.get_installed(ref)
        except NotInstalledError:
            if bundle.exists and bundle.manifest().version == ref.version:
                return Target(ref, is_bundle=True)
        return Target(ref, is_bundle=False)  # the verb says what is wrong with it
    if bundle.exists:  # 3
        return Target(ref, is_bundle=True)
    versions = [each.ref for each in await manager.list_installed() if each.ref.name == ref.name]
    if len(versions) == 1:
        return Target(versions[0], is_bundle=False)
    if not versions:
        raise NotInstalledError(f"{ref} is not installed, and has no information bundle.", subject=str(ref))
    raise ConfigError(
        f"{ref} names no version, and {len(versions)} are installed.",
        subject=str(ref),
        hint=f"Name one: {', '.join(str(each) for each in versions)}.",
    )


async def initialize(manager: Manager, payload: shapes.InitializePayload) -> Answer:
    """Make a bundle from URLs, or from what is installed."""
    request = payload.request()
    made = await (manager.derive(payload.model_id) if request is None else manager.initialize(request))
    report = _report(made.validation_report)
    result = shapes.InitializeResult(
        success=made.success, cache_path=made.cache_path, manifest=made.manifest, validation_report=report
    )
    return _answer(result, report)


async def validate(manager: Manager, payload: shapes.ValidatePayload) -> Answer:
    """Check a version or a bundle."""
    target = await resolve(manager, payload.model_id)
    if target.is_bundle:
        report = _report(await manager.validate_bundle(target.ref, payload.depth))
    else:
        report = _report(await manager.validate(target.ref, payload.depth))
    return _answer(report, report)


async def refresh(manager: Manager, payload: shapes.RefreshPayload) -> Answer:
    """Bring a version or a bundle up to date."""
    target = await resolve(manager, payload.model_id)
    if target.is_bundle:
        made = await manager.refresh_bundle(target.ref)
        report = _report(made.validation_report)
        result = shapes.RefreshResult(
            success=made.success,
            updated_files=made.updated,
            validation_report=report,
            rollback_available=False,
        )
        return _answer(result, report)
    done = await manager.refresh(target.ref, payload.strategy)
    found = done.validation_report
    # A strategy without a validation still gets its report: what the recorded verdicts and a quick look tell.
    whole = found if isinstance(found, ValidationReport) else await manager.validate(target.ref, "quick")
    report = _report(whole)
    result = shapes.RefreshResult(
        success=done.success,
        updated_files=tuple(done.updated_files),
        validation_report=report,
        rollback_available=done.rollback_available,
    )
    return _answer(result, report)


async def cleanup(manager: Manager, payload: shapes.CleanupPayload) -> Answer:
    """Free disk space, or say what would go."""
    plan = await manager.plan_cleanup(payload.policy)
    if payload.dry_run:
        models = tuple(
            each.ref for each in plan.candidates if each.kind == "model" and each.action == "remove"
        )
        told = f"Nothing was done. {format_bytes(plan.freed_bytes)} would be freed:\n{plan}"
        result = shapes.CleanupResult(
            freed_space_gb=plan.freed_bytes / _GB, removed_models=models, optimization_report=told
        )
        return _answer(result)
    done = await manager.cleanup(plan)
    return _answer(
        shapes.CleanupResult(
            freed_space_gb=done.freed_space_gb,
            removed_models=tuple(done.removed_models),
            optimization_report=done.optimization_report,
        )
    )


async def status(manager: Manager, payload: shapes.StatusPayload) -> Answer:
    """How everything is, or one model; bundles are listed when they are asked for by name."""
    if payload.model_id is None:
        return _answer(_status(await manager.status()))
    target = await resolve(manager, payload.model_id)
    if not target.is_bundle:
        return _answer(_status(await manager.status(target.ref)))
    report = _report(await manager.validate_bundle(target.ref, "quick"))
    size = manager.bundle(target.ref).manifest().size_bytes
    advice = report.recommendations
    result = shapes.StatusResult(
        total_models=1,
        total_size_gb=size / _GB,
        health_summary={f"{_BUNDLE}{target.ref.name}": report},
        recommendations=(advice.details,) if advice.action != "none" else (),
    )
    return _answer(result, report)


async def repair(manager: Manager, payload: shapes.RepairPayload) -> Answer:
    """Mend a version or a bundle."""
    target = await resolve(manager, payload.model_id)
    done = await (manager.repair_bundle(target.ref) if target.is_bundle else manager.repair(target.ref))
    result = shapes.RepairResult(
        repairable=done.repairable,
        repair_actions=tuple(done.repair_actions),
        success=done.success,
        remaining_issues=tuple(done.remaining_issues),
    )
    found = done.validation_report
    return _answer(result, None if found is None else _report(found))


def _status(found: Any) -> shapes.StatusResult:  # noqa: ANN401  # a CacheStatus, whose reports are built on look-up
    return shapes.StatusResult(
        total_models=found.total_models,
        total_size_gb=found.total_size_gb,
        health_summary={name: _report(report) for name, report in found.health_summary.items()},
        recommendations=(*found.recommendations, found.contact_line),
    )


def _report(found: ValidationReport) -> shapes.Report:
    """The seed's report, without what ours has beside it."""
    return shapes.Report(
        model_id=found.model_id,
        validation_timestamp=found.validation_timestamp,
        overall_status=found.overall_status,
        checks=found.checks,
        recommendations=found.recommendations,
    )


def _answer(result: BaseModel, report: shapes.Report | None = None) -> Answer:
    told = None if report is None else report.model_dump(mode="json", exclude_none=True)
    return Answer(result.model_dump(mode="json", exclude_none=True), told)
