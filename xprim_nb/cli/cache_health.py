"""The cache's commands that look and mend: `status`, `validate`, `scrub`, `repair`.

Source: spec 2 §Status, §Validation, §Repair.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from xprim_nb._text import STATUS_WORDS
from xprim_nb.cli import documents, words
from xprim_nb.cli.answers import dry_run_option, lines_of, require_sound
from xprim_nb.cli.boundary import DoorCommand, explain, pass_session, tell_error
from xprim_nb.cli.progress import checking
from xprim_nb.cli.refs import named, versioned
from xprim_nb.cli.session import Session
from xprim_nb.errors import HashMismatchError, XprimError

if TYPE_CHECKING:
    from collections.abc import Callable

    from xprim_nb.cache.health.glance import Glance
    from xprim_nb.cache.health.repaired import Repaired
    from xprim_nb.cache.health.report import ValidationReport
    from xprim_nb.cache.health.status import CacheStatus
    from xprim_nb.manager import Manager
    from xprim_nb.manager.due import MaintenanceRecord
    from xprim_nb.refs import ModelRef

__all__ = ["optional_model", "repair", "scrub", "status", "validate"]


def optional_model(function: click.decorators.FC) -> click.decorators.FC:
    """The arguments `[REF [VERSION]]` of a command that can take all models."""
    return click.argument("ref", required=False)(click.argument("version", required=False)(function))


@click.command(cls=DoorCommand)
@optional_model
@pass_session
def status(session: Session, ref: str | None, version: str | None) -> None:
    """Show how every model is, as of its last check; reads no model file and asks nobody."""
    wanted = named(ref, version) if ref is not None else None

    found = None if session.as_json or wanted is not None else _glance(session)
    if found is None or found.concerns:  # whose reports say what to do
        _answer_status(session, *session.run(lambda manager: _ask_status(manager, wanted)))
    else:
        session.answer({}, *_status_lines(session, found))


def _glance(session: Session) -> Glance | None:
    """The answer without a manager, in a third of the time, where that can be had."""
    found: Glance | None = importlib.import_module("xprim_nb.cache.health.glance").glance(session.config)
    return found


async def _ask_status(manager: Manager, ref: ModelRef | None) -> tuple[CacheStatus, MaintenanceRecord]:
    return await manager.status(ref), await manager.maintenance_record()


def _status_lines(session: Session, found: Glance, *recommendations: str) -> list[str]:
    rows = [
        (
            each.ref.rpartition(" ")[0],
            each.ref.rpartition(" ")[2],
            words.size(each.size_bytes),
            STATUS_WORDS.get(each.status, each.status),
            f"{words.duration(each.age_s(found.checked_at))} ago ({each.depth})",
        )
        for each in found.rows
    ]
    table = [*words.table(("MODEL", "VERSION", "SIZE", "HEALTH", "CHECKED"), rows), ""] if rows else []
    return [*table, *lines_of(session, found.verdict, *recommendations, found.contact_line)]


def _answer_status(session: Session, found: CacheStatus, record: MaintenanceRecord) -> None:
    models = [
        {
            "ref": each.ref,
            "size_bytes": each.size_bytes,
            "status": each.status,
            "depth": each.depth,
            "checked_at": _when(each.checked_at),
            "action": each.action,
            "priority": each.priority,
            "manifest_hash": each.manifest_hash,
        }
        for each in found.rows
    ]
    document = {**found.to_json(), "models": models, "maintenance": documents.plain(record)}
    session.answer({"status": document}, *_status_lines(session, found, *found.recommendations))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@click.command(cls=DoorCommand)
@optional_model
@click.option("--all", "every", is_flag=True, help="Every installed model; so it is without REF.")
@click.option("--full", is_flag=True, help="Hash every byte, not only what changed since the last check.")
@pass_session
def validate(session: Session, ref: str | None, version: str | None, *, every: bool, full: bool) -> None:
    """Check models: are they whole, fresh, complete? Exits with 6 when one is damaged."""
    if every and ref is not None:
        raise click.UsageError("Name a model or give --all, not both.")
    wanted = versioned(ref, version) if ref is not None else None

    async def ask(manager: Manager) -> list[ValidationReport]:
        if wanted is not None:
            return [await manager.validate(wanted, "full" if full else "quick")]
        return await manager.validate_all("full" if full else "quick")

    with checking(session):
        reports = session.run(ask)
    lines = lines_of(session, *reports)
    if wanted is None:
        size, spent = sum(each.bytes_hashed for each in reports), sum(each.seconds for each in reports)
        told = f"{words.count(len(reports), 'model')} checked, {words.size(size)} hashed in {spent:.1f} s."
        lines += ["", told] if reports else ["Nothing is installed."]
    validated = documents.plain(reports)
    # Of one model the document is its report too: whoever names a model asks for that one report.
    session.answer({**(validated[0] if wanted is not None else {}), "validated": validated}, *lines)
    require_sound([each.model_id for each in reports if each.overall_status == "failed"], len(reports))


@click.command(cls=DoorCommand)
@click.option(
    "--budget",
    "budget_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long.",
)
@pass_session
def scrub(session: Session, *, budget_s: float) -> None:
    """Hash what was verified longest ago, for so many seconds. Exits with 6 when damage is found."""
    with checking(session):
        done = session.run(lambda manager: manager.scrub(budget_s))
    session.answer({"scrubbed": documents.plain(done)}, *lines_of(session, done))
    require_sound([each.model_id for each in done.damaged], len(done.models_checked))


@click.command(cls=DoorCommand)
@optional_model
@click.option("--all", "every", is_flag=True, help="Every installed model.")
@click.option(
    "--overwrite-modified", is_flag=True, help="Put files back that you changed; yours are put aside."
)
@dry_run_option
@pass_session
def repair(
    session: Session,
    ref: str | None,
    version: str | None,
    *,
    every: bool,
    overwrite_modified: bool,
    dry_run: bool,
) -> None:
    """Mend a model: only what is wrong is obtained, from the nearest source.

    Exits with 6 when something stays damaged; the same command goes on from there.
    """
    if every == (ref is not None):
        raise click.UsageError("Name a model, or give --all.")
    refs = [versioned(ref, version)] if ref is not None else _installed(session)

    def verb(manager: Manager) -> Callable[..., Any]:
        return manager.plan_repair if dry_run else manager.repair

    async def mend(manager: Manager, one: ModelRef) -> Any:  # noqa: ANN401  # a plan, or what was done
        return await verb(manager)(one, overwrite_modified=overwrite_modified)

    found, failed, first = _each(session, refs, mend, alone=not every)
    key = "plans" if dry_run else "repaired"
    document = {key: documents.plain(found), **({"failed": failed} if every else {})}
    session.answer(document, *(lines_of(session, *found) if refs else ["Nothing is installed."]))
    if first is not None:
        raise first
    if not dry_run:
        _require_whole(found, len(refs))


def _installed(session: Session) -> list[ModelRef]:
    return [each.ref for each in session.run(lambda manager: manager.list_installed())]


def _each(
    session: Session, refs: Sequence[ModelRef], work: Callable[[Manager, ModelRef], Any], *, alone: bool
) -> tuple[list[Any], list[dict[str, Any]], XprimError | None]:
    """What `work` returns for each; of several, one that fails does not keep it from the others."""
    found: list[Any] = []
    failed: list[dict[str, Any]] = []
    first: XprimError | None = None
    for ref in refs:
        try:
            with checking(session):
                found.append(session.run(lambda manager: work(manager, ref)))  # noqa: B023  # run now
        except XprimError as error:
            if alone:
                raise
            told = explain(session, error)
            failed.append({**documents.reference(ref), "error": told})
            if first is None:
                first = error
            else:
                tell_error(session, told)
    return found, failed, first


def _require_whole(done: Sequence[Repaired], total: int) -> None:
    broken = [each for each in done if not each.success]
    if len(broken) == 1:
        raise HashMismatchError(
            broken[0].verdict,
            subject=broken[0].model_id,
            hint=f"Run `xprim cache repair {broken[0].model_id}` again when the registry can be reached, "
            f"or `xprim cache rollback {broken[0].model_id}`.",
        )
    require_sound([each.model_id for each in broken], total)
