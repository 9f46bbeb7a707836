"""The cache's commands that renew and take back: `refresh`, `rollback`, `backups`, `drop-backup`.

Source: spec 2 §Refresh.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import documents, words
from xprim_nb.cli.answers import assent_option, confirm, dry_run_option, lines_of
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.progress import watching
from xprim_nb.cli.refs import model_arguments, versioned
from xprim_nb.cli.session import Session
from xprim_nb.config import MAX_CONCURRENCY
from xprim_nb.errors import HashMismatchError

if TYPE_CHECKING:
    from xprim_nb.cache.renewal.strategy import UpdateStrategy
    from xprim_nb.cache.renewal.values import Backup, Dropped, DropPlan, Refreshed
    from xprim_nb.manager import Manager

__all__ = ["backups", "drop_backup", "refresh", "rollback"]

_TRIGGERS = ("manual", "scheduled", "on_demand", "version_change")


@click.command(cls=DoorCommand)
@model_arguments
@click.option(
    "--discard-changes", is_flag=True, help="Do not carry over what you changed; the backup has it."
)
@click.option("--no-backup", is_flag=True, help="Keep no backup; what you changed is put aside all the same.")
@click.option("--fetch-all", is_flag=True, help="Use no byte that this machine has.")
@click.option("--no-rollback", is_flag=True, help="Leave the new version in place even when it is wrong.")
@click.option("--no-validate", is_flag=True, help="Do not read the new version again.")
@click.option("--trigger", type=click.Choice(_TRIGGERS), default="manual", help="Why; only recorded.")
@click.option(
    "--notify",
    "channels",
    metavar="CHANNEL",
    multiple=True,
    help="Who is told: log, notebook, webhook:URL or file:PATH; may be repeated.",
)
@click.option("--concurrency", type=click.IntRange(1, MAX_CONCURRENCY), metavar="N", help="As for `pull`.")
@dry_run_option
@pass_session
def refresh(
    session: Session,
    /,
    ref: str,
    version: str | None,
    *,
    concurrency: int | None,
    dry_run: bool,
    **how: Any,
) -> None:
    """Bring an installed version up to date; what you changed in it stays, the old version is a backup."""
    wanted, strategy = versioned(ref, version), _strategy(how)
    session.announce_registry()
    if dry_run:
        plan = session.run(lambda manager: manager.plan_refresh(wanted, strategy))
        session.answer({"plan": documents.plain(plan)}, *lines_of(session, plan))
        return

    async def renew(manager: Manager) -> Refreshed:
        with watching(session, heading=False, transcript=False) as reporter:
            done = await manager.refresh(wanted, strategy, concurrency=concurrency, progress=reporter.hear)
        session.paused = ""
        return done

    done = session.run(renew)
    document = {**documents.plain(done), "success": done.success, "model": documents.installed(done.model)}
    session.answer({"refreshed": document}, *lines_of(session, done))
    if not done.success:
        raise HashMismatchError(
            f"{wanted} was not refreshed: the new version is wrong.",
            subject=str(wanted),
            hint="The old version is in place; ask the publisher, or run again later."
            if done.status == "rolled_back"
            else f"Run `xprim cache rollback {wanted}` to put the old version back.",
        )


def _strategy(how: dict[str, Any]) -> UpdateStrategy:
    # With pydantic, and so not before a command needs it.
    module = importlib.import_module("xprim_nb.cache.renewal.strategy")
    made: UpdateStrategy = module.UpdateStrategy(
        trigger=how["trigger"],
        update_policy=module.UpdatePolicy(
            preserve_local_modifications=not how["discard_changes"],
            backup_before_update=not how["no_backup"],
            incremental_updates=not how["fetch_all"],
            rollback_on_failure=not how["no_rollback"],
        ),
        validation_after_update=not how["no_validate"],
        notification_channels=how["channels"],
    )
    return made


@click.command(cls=DoorCommand)
@model_arguments
@click.option(
    "--to", "backup", metavar="BACKUP", help="Its id, or the first digits of its manifest; the newest."
)
@click.option("--force", is_flag=True, help="Also when files in the backup are damaged or missing.")
@dry_run_option
@pass_session
def rollback(
    session: Session, ref: str, version: str | None, *, backup: str | None, force: bool, dry_run: bool
) -> None:
    """Put a backup back, by rename; what was in place becomes a backup itself."""
    wanted = versioned(ref, version)
    if dry_run:
        plan = session.run(lambda manager: manager.plan_rollback(wanted, backup))
        session.answer({"plan": documents.plain(plan)}, *lines_of(session, plan))
        return
    done = session.run(lambda manager: manager.rollback(wanted, backup, force=force))
    document = {**documents.plain(done), "model": documents.installed(done.model)}
    session.answer({"rolled_back": document}, *lines_of(session, done))


@click.command(cls=DoorCommand)
@click.argument("ref", required=False)
@click.argument("version", required=False)
@pass_session
def backups(session: Session, ref: str | None, version: str | None) -> None:
    """List the backups of a version, or all of them, the newest last."""
    wanted = versioned(ref, version) if ref is not None else None
    found = session.run(lambda manager: manager.backups(wanted))
    rows = [
        (
            each.ref.name,
            each.ref.version,
            each.id,
            words.stamp(each.made_at),
            words.size(each.size_bytes),
            each.problem or each.manifest_hash[:12],
        )
        for each in found
    ]
    headers = ("MODEL", "VERSION", "BACKUP", "MADE", "SIZE", "MANIFEST")
    session.answer({"backups": [_backup(each) for each in found]}, *words.table(headers, rows))
    if not rows:
        session.note("there are no backups; `refresh` and `rollback` make them")


@click.command("drop-backup", cls=DoorCommand)
@model_arguments
@click.option("--which", metavar="BACKUP", help="Its id; all of the version but the newest when not given.")
@dry_run_option
@assent_option
@pass_session
def drop_backup(
    session: Session, ref: str, version: str | None, *, which: str | None, dry_run: bool, yes: bool
) -> None:
    """Delete a backup, or all of a version but the newest."""
    wanted = versioned(ref, version)
    plan: DropPlan = session.run(lambda manager: manager.plan_drop_backup(wanted, which))
    if dry_run or not plan.backups:
        key = "plan" if dry_run else "dropped"
        told = {**documents.reference(wanted), "backups": [_backup(each) for each in plan.backups]}
        session.answer({key: told if dry_run else []}, *lines_of(session, plan))
        return
    count = words.count(len(plan.backups), "backup")
    confirm(session, f"Delete {count} ({words.size(plan.size_bytes)})?", *lines_of(session, plan), yes=yes)
    done: tuple[Dropped, ...] = session.run(lambda manager: manager.drop_backup(wanted, which))
    lines = [f"Dropped: {each.backup.ref} {each.backup.id}" for each in done]
    session.answer(
        {"dropped": [{**_backup(each.backup), "kept": documents.plain(each.kept)} for each in done]}, *lines
    )
    for each in done:
        if each.kept is not None:
            session.note(f"files that were changed or added here were put aside in {each.kept}")


def _backup(backup: Backup) -> dict[str, Any]:
    document: dict[str, Any] = documents.plain(backup)
    del document["extra"]
    return document
