"""The cache's commands that keep it in bounds: `cleanup`, `free`, `pin`, `unpin`, `pins`, `why`, `dedupe`.

Source: spec 2 §Clean-up.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import documents, words
from xprim_nb.cli.answers import assent_option, confirm, dry_run_option, lines_of
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.refs import model_arguments, versioned
from xprim_nb.cli.session import Session
from xprim_nb.errors import InsufficientSpaceError, StorageError

if TYPE_CHECKING:
    from xprim_nb.cache.upkeep.cleanup import CleanupPlan, CleanupPolicy
    from xprim_nb.cache.upkeep.execute import CleanupResult

__all__ = ["cleanup", "dedupe", "free", "pin", "pins", "policy_of", "policy_options", "unpin", "why"]

_DAYS = click.FloatRange(min=0)
_GB = 1024**3


def policy_options(function: click.decorators.FC) -> click.decorators.FC:
    """What may go: the options of a `CleanupPolicy`."""
    for option in reversed(
        (
            click.option(
                "--max-size", metavar="SIZE", help='Least recently used models go until it is below: "50GB".'
            ),
            click.option("--max-age-days", type=_DAYS, metavar="N", help="Models installed longer ago go."),
            click.option("--unused-days", type=_DAYS, metavar="N", help="Models not used for longer go."),
            click.option("--compress", is_flag=True, help="Archive unused models instead of removing them."),
            click.option("--dedupe", is_flag=True, help="Let equal files share their blocks afterwards."),
            click.option(
                "--idle-hours",
                type=_DAYS,
                metavar="N",
                default=24.0,
                help="Leftovers untouched for longer go; 24 when not given.",
            ),
            click.option(
                "--min-age-hours",
                type=_DAYS,
                metavar="N",
                default=1.0,
                help="What was used or installed within is spared; 1 when not given.",
            ),
        )
    ):
        function = option(function)
    return function


def policy_of(how: dict[str, Any]) -> CleanupPolicy:
    """The policy that these options name.

    Raises:
        ConfigError: `--max-size` is no size.
    """
    module = importlib.import_module("xprim_nb.cache.upkeep.cleanup")
    size = how["max_size"]
    made: CleanupPolicy = module.CleanupPolicy(
        max_cache_size_gb=None if size is None else module.parse_size(size) / _GB,
        max_model_age_days=how["max_age_days"],
        unused_threshold_days=how["unused_days"],
        compression_enabled=how["compress"],
        deduplication_enabled=how["dedupe"],
        partial_idle_hours=how["idle_hours"],
        min_age_hours=how["min_age_hours"],
    )
    return made


@click.command(cls=DoorCommand)
@policy_options
@dry_run_option
@assent_option
@pass_session
def cleanup(session: Session, /, *, dry_run: bool, yes: bool, **how: Any) -> None:
    """Remove leftovers and superseded backups; models only where an option says so.

    Never what is pinned, in use, needed by another model, or the last copy of what you changed.
    """
    policy = policy_of(how)
    plan = session.run(lambda manager: manager.plan_cleanup(policy))
    _carry_out(session, plan, dry_run=dry_run, yes=yes)


@click.command(cls=DoorCommand)
@click.argument("size", metavar="SIZE")
@policy_options
@dry_run_option
@assent_option
@pass_session
def free(session: Session, /, size: str, *, dry_run: bool, yes: bool, **how: Any) -> None:
    """Free so much ("20GB"), in the order of a clean-up, and no more models than that needs.

    Exits with 7 when nothing else may go and it is not enough.
    """
    policy = policy_of(how)
    plan = session.run(lambda manager: manager.plan_free(size, policy))
    _carry_out(session, plan, dry_run=dry_run, yes=yes)


def _carry_out(session: Session, plan: CleanupPlan, *, dry_run: bool, yes: bool) -> None:
    lines = lines_of(session, plan)
    if dry_run:
        session.answer({"plan": documents.plain(plan)}, *lines)
        return
    count, size = words.count(len(plan.candidates), "thing"), words.size(plan.freed_bytes)
    if plan.candidates:
        confirm(session, f"Let {count} go ({size})?", *lines, yes=yes)
    done = session.run(lambda manager: manager.cleanup(plan))
    session.answer({"cleaned": _cleaned(done)}, *lines_of(session, done))
    if done.failed:
        raise StorageError(f"{words.count(len(done.failed), 'thing')} could not be removed: {done.failed[0]}")
    missing = (plan.target_bytes or 0) - done.freed_bytes
    if missing > 0:
        raise InsufficientSpaceError(
            f"{words.size(done.freed_bytes)} of {words.size(plan.target_bytes)} were freed; nothing else may go.",
            hint="`xprim cache free --dry-run` says what is spared, and why.",
        )


def _cleaned(done: CleanupResult) -> dict[str, Any]:
    return {
        "freed_bytes": done.freed_bytes,
        "removed_models": list(done.removed_models),
        "archived_models": list(done.archived_models),
        "done": [
            {
                **documents.plain(each.candidate),
                "freed_bytes": each.freed_bytes,
                "kept": documents.plain(each.kept),
            }
            for each in done.done
        ],
        "spared": documents.plain(done.spared),
        "failed": list(done.failed),
    }


@click.command(cls=DoorCommand)
@model_arguments
@click.option("--reason", metavar="TEXT", default="", help="Why; shown wherever the model is spared.")
@pass_session
def pin(session: Session, ref: str, version: str | None, *, reason: str) -> None:
    """Keep a model from every clean-up."""
    wanted = versioned(ref, version)
    found = session.run(lambda manager: manager.pin(wanted, reason))
    session.answer({"pinned": documents.plain(found)}, f"Pinned: {found.ref} ({found.reason})")


@click.command(cls=DoorCommand)
@model_arguments
@pass_session
def unpin(session: Session, ref: str, version: str | None) -> None:
    """Take a pin away."""
    wanted = versioned(ref, version)
    was = session.run(lambda manager: manager.unpin(wanted))
    line = f"Unpinned: {wanted}" if was else f"Not pinned: {wanted}"
    session.answer({"unpinned": {**documents.reference(wanted), "was_pinned": was}}, line)


@click.command(cls=DoorCommand)
@pass_session
def pins(session: Session) -> None:
    """List what is pinned, and why."""
    found = session.run(lambda manager: manager.pins())
    rows = [
        (each.ref.name, each.ref.version, words.date(each.at) if each.at else "-", each.reason)
        for each in found
    ]
    session.answer(
        {"pins": documents.plain(found)}, *words.table(("MODEL", "VERSION", "SINCE", "REASON"), rows)
    )


@click.command(cls=DoorCommand)
@click.argument("path", type=click.Path(path_type=Path))
@pass_session
def why(session: Session, path: Path) -> None:
    """Say which model a file belongs to, and why it is kept."""
    found = session.run(lambda manager: manager.why(path))
    document = documents.plain(found)
    if found.ref is not None:
        document["ref"] = str(found.ref)
    session.answer({"why": document}, *lines_of(session, found))


@click.command(cls=DoorCommand)
@click.option("--hard-links", is_flag=True, help="Hard links instead; the files become read-only.")
@dry_run_option
@pass_session
def dedupe(session: Session, *, hard_links: bool, dry_run: bool) -> None:
    """Let equal files of different models share their blocks, where the file system can."""
    plan = session.run(lambda manager: manager.plan_dedupe(hard_links=hard_links))
    if dry_run:
        document = {**documents.plain(plan), "size_bytes": plan.size_bytes}
        session.answer({"plan": document}, *lines_of(session, plan))
        return
    done = session.run(lambda manager: manager.dedupe(plan))
    document = {**documents.plain(done), "size_bytes": done.size_bytes}
    session.answer({"deduplicated": document}, *lines_of(session, done))
