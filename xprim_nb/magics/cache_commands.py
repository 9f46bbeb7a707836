"""What the cache's commands of `%xprim` do: call the toolkit, return the value.

Source: spec 2; spec 3 §Magics.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from xprim_nb.cache.renewal.strategy import UpdatePolicy, UpdateStrategy
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy, parse_size
from xprim_nb.magics import cache_tables, waiting
from xprim_nb.magics.naming import named, versioned

if TYPE_CHECKING:
    from xprim_nb.cache.health.report import Depth, ValidationReport
    from xprim_nb.magics.extension import Extension
    from xprim_nb.magics.views import View
    from xprim_nb.refs import ModelRef
    from xprim_nb.reports import HealthReport

__all__ = ["COMMANDS"]

_GB = 1024**3


def _status(extension: Extension, asked: argparse.Namespace) -> object:
    return extension.kit.status(None if asked.ref is None else named(asked)).result()


def _health(extension: Extension, asked: argparse.Namespace) -> HealthReport:
    if asked.quick and asked.full:
        raise UsageError("%xprim health: give --quick or --full, not both")
    wanted = None if asked.ref is None else named(asked)
    status = extension.kit.status(wanted).result()  # also says so when that is not installed
    models = [
        each
        for each in extension.kit.list_installed().result()
        if wanted is None or each.ref == wanted or (not wanted.version and each.ref.name == wanted.name)
    ]
    view = extension.views.open("health", None if wanted is None else [each.ref for each in models])
    if view is not None:  # before anything is checked, so that it shows how far that is
        view._ipython_display_()
    found = list(status.health_summary.values())
    if asked.quick or asked.full:
        found = _checked(
            extension, _depth(asked), None if wanted is None else [each.ref for each in models], view
        )
    # With pandas, and so not before somebody looks at it.
    made: HealthReport = importlib.import_module("xprim_nb.reports").HealthReport(
        tuple(found), tuple(models), command="%xprim repair {ref}"
    )
    if view is not None:
        extension.views.told(made)
    return made


def _checked(
    extension: Extension, depth: Depth, refs: Sequence[ModelRef] | None, view: View | None
) -> list[ValidationReport]:
    """Look again at some models, or at all."""
    if refs is None:
        return waiting.wait_quietly(extension.shell, extension.kit.validate_all(depth), view)
    return [waiting.wait_quietly(extension.shell, extension.kit.validate(ref, depth), view) for ref in refs]


def _depth(asked: argparse.Namespace) -> Depth:
    return "full" if asked.full else "quick"


def _validate(extension: Extension, asked: argparse.Namespace) -> object:
    if asked.ref is not None:
        return waiting.wait_quietly(extension.shell, extension.kit.validate(versioned(asked), _depth(asked)))
    found = waiting.wait_quietly(extension.shell, extension.kit.validate_all(_depth(asked)))
    return cache_tables.reports(found)


def _repair(extension: Extension, asked: argparse.Namespace) -> object:
    ref, over = versioned(asked), asked.overwrite_modified
    if asked.dry_run:
        return waiting.wait_quietly(extension.shell, extension.kit.plan_repair(ref, overwrite_modified=over))
    return waiting.wait_quietly(extension.shell, extension.kit.repair(ref, overwrite_modified=over))


def _refresh(extension: Extension, asked: argparse.Namespace) -> object:
    ref = versioned(asked)
    policy = UpdatePolicy(
        preserve_local_modifications=not asked.discard_changes, backup_before_update=not asked.no_backup
    )
    strategy = UpdateStrategy(update_policy=policy)
    extension.tell_demo()
    if asked.dry_run:
        return extension.kit.plan_refresh(ref, strategy).result()
    handle = extension.kit.refresh(ref, strategy, concurrency=asked.concurrency)
    return waiting.wait_for(extension.shell, handle)


def _rollback(extension: Extension, asked: argparse.Namespace) -> object:
    ref = versioned(asked)
    if asked.dry_run:
        return extension.kit.plan_rollback(ref, asked.to).result()
    return extension.kit.rollback(ref, asked.to, force=asked.force).result()


def _backups(extension: Extension, asked: argparse.Namespace) -> object:
    wanted = None if asked.ref is None else versioned(asked)
    return cache_tables.backups(extension.kit.backups(wanted).result())


def _policy(asked: argparse.Namespace) -> CleanupPolicy:
    return CleanupPolicy(
        max_cache_size_gb=None if asked.max_size is None else parse_size(asked.max_size) / _GB,
        max_model_age_days=asked.max_age_days,
        unused_threshold_days=asked.unused_days,
        compression_enabled=asked.compress,
        deduplication_enabled=asked.dedupe,
        partial_idle_hours=asked.idle_hours,
        min_age_hours=asked.min_age_hours,
    )


def _cleanup(extension: Extension, asked: argparse.Namespace) -> object:
    if asked.apply and asked.dry_run:
        raise UsageError("%xprim cleanup: --dry-run changes nothing that --apply could do")
    plan = extension.kit.plan_cleanup(_policy(asked)).result()
    return waiting.wait_quietly(extension.shell, extension.kit.cleanup(plan)) if asked.apply else plan


def _free(extension: Extension, asked: argparse.Namespace) -> object:
    plan = extension.kit.plan_free(asked.size, _policy(asked)).result()
    return plan if asked.dry_run else waiting.wait_quietly(extension.shell, extension.kit.cleanup(plan))


def _pin(extension: Extension, asked: argparse.Namespace) -> object:
    if asked.awake:
        return _models().pin(extension, asked)
    if asked.ref is None:
        return cache_tables.pins(extension.kit.pins().result())
    return extension.kit.pin(versioned(asked), asked.reason).result()


def _unpin(extension: Extension, asked: argparse.Namespace) -> object:
    if asked.awake:
        return _models().unpin(extension, asked)
    return extension.kit.unpin(versioned(asked)).result()


def _why(extension: Extension, asked: argparse.Namespace) -> object:
    is_open = extension.kit.engine is not None
    if asked.awake or (is_open and _models().is_about_models(extension, asked)):
        return _models().why(extension, asked)
    return extension.kit.why(" ".join(asked.path)).result()


def _models() -> Any:  # noqa: ANN401  # the module of the commands about models, which brings the engine
    return importlib.import_module("xprim_nb.magics.ai_commands")


def _archive(extension: Extension, asked: argparse.Namespace) -> object:
    if asked.ref is None:
        return cache_tables.archives(extension.kit.archived().result())
    ref = versioned(asked)
    if asked.dry_run:
        return extension.kit.plan_archive(ref).result()
    return waiting.wait_quietly(extension.shell, extension.kit.archive(ref))


def _restore(extension: Extension, asked: argparse.Namespace) -> object:
    ref = versioned(asked)
    if asked.dry_run:
        return extension.kit.plan_restore(ref).result()
    handle = extension.kit.restore(ref, concurrency=asked.concurrency)
    return waiting.wait_for(extension.shell, handle)


def _adopt(extension: Extension, asked: argparse.Namespace) -> object:
    install_as = getattr(asked, "as")
    if asked.where is None:
        return cache_tables.places(extension.kit.adopted().result())
    if asked.dry_run:
        return extension.kit.scan(asked.where).result()
    handle = extension.kit.adopt(asked.where, install_as=install_as, model=asked.model)
    if install_as is None:
        return waiting.wait_quietly(extension.shell, handle)
    return waiting.wait_for(extension.shell, handle)


def _maintain(extension: Extension, asked: argparse.Namespace) -> object:
    schedule = None if asked.schedule == "never" else asked.schedule
    if asked.dry_run:
        return extension.kit.plan_maintenance(_policy(asked), schedule=schedule).result()
    if asked.schedule is not None:
        record = extension.kit.schedule_maintenance(schedule).result()
        if schedule is None:
            return record
    handle = extension.kit.maintain(
        _policy(asked), if_due=asked.if_due, depth=_depth(asked), scrub_s=asked.scrub
    )
    return waiting.wait_quietly(extension.shell, handle)


COMMANDS: Mapping[str, Callable[[Extension, argparse.Namespace], Any]] = {
    "status": _status,
    "health": _health,
    "validate": _validate,
    "repair": _repair,
    "refresh": _refresh,
    "rollback": _rollback,
    "backups": _backups,
    "cleanup": _cleanup,
    "free": _free,
    "pin": _pin,
    "unpin": _unpin,
    "why": _why,
    "archive": _archive,
    "restore": _restore,
    "adopt": _adopt,
    "maintain": _maintain,
}
