"""The commands that change what is installed: `pull`, `remove`, `update`, `prune`.

Source: seeds/002 §CLI Command Interface; spec 1 §CLI.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import documents, words
from xprim_nb.cli.boundary import DoorCommand, explain, pass_session, tell_error
from xprim_nb.cli.progress import watching
from xprim_nb.cli.refs import model_arguments, named, versioned
from xprim_nb.cli.session import Session
from xprim_nb.config import MAX_CONCURRENCY
from xprim_nb.errors import XprimError
from xprim_nb.refs import ModelRef

if TYPE_CHECKING:
    from pathlib import Path

    from xprim_nb.cache.values import Pulled, PullPlan, Removed, UpdateCheck
    from xprim_nb.manager import Manager

__all__ = ["prune", "pull", "remove", "update"]

_CONCURRENCY = click.IntRange(1, MAX_CONCURRENCY)


@click.command(cls=DoorCommand)
@model_arguments
@click.option("--force", is_flag=True, help="Verify what is installed byte by byte, and fetch what is wrong.")
@click.option(
    "--concurrency", type=_CONCURRENCY, metavar="N", help="Chunks fetched at once; 4 when not given."
)
@click.option("--dry-run", is_flag=True, help="Show what would be fetched, from where; change nothing.")
@pass_session
def pull(
    session: Session, ref: str, version: str | None, *, force: bool, concurrency: int | None, dry_run: bool
) -> None:
    """Install a version, or go on where an earlier pull stopped."""
    wanted = versioned(ref, version)
    session.announce_registry()
    if dry_run:
        plan = session.run(lambda manager: manager.plan_pull(wanted, force=force))
        session.answer({"plan": {**documents.plain(plan), "fits": plan.fits}}, *_plan_lines(plan))
        return
    pulled = session.run(
        lambda manager: _pull(session, manager, wanted, force=force, concurrency=concurrency)
    )
    document = {"pulled": documents.pulled(pulled)}
    size = words.size(pulled.model.total_size)
    if pulled.status == "already_installed":
        session.answer(document, f"Model already installed: {wanted}", "Use --force to re-download")
    elif force:  # the seed's transcript ends here
        session.answer(document, f"Model installed: {wanted} ({size})")
    else:
        session.answer(document, f"Model {pulled.status}: {wanted} ({size})")
        if not session.as_json:
            words.say(f"Path: {pulled.path}", raw=True)


async def _pull(
    session: Session,
    manager: Manager,
    ref: ModelRef,
    *,
    force: bool = False,
    concurrency: int | None = None,
    heading: bool = True,
) -> Pulled:
    with watching(session, heading=heading) as reporter:
        pulled = await manager.pull(ref, force=force, concurrency=concurrency, progress=reporter.hear)
        receipt = pulled.receipt
        if pulled.status != "already_installed":
            chunks = receipt.chunks_network + receipt.chunks_local + receipt.chunks_present
            reporter.end(chunks, pulled.model.total_size)
    session.paused = ""
    session.warn_for_pull(pulled.warnings)
    if pulled.status != "already_installed":
        session.step("")
        reused = receipt.bytes_present + receipt.bytes_local
        if reused:
            whole = words.size(pulled.model.total_size)
            session.note(f"reused {words.size(reused)} of {whole}, which were already on this machine")
    _note_kept(session, receipt.kept)
    return pulled


def _plan_lines(plan: PullPlan) -> list[str]:
    if plan.status == "already_installed":
        return [f"Model already installed: {plan.ref}", "Nothing would be fetched."]
    others = f", from {', '.join(plan.local_models)}" if plan.local_models else ""
    lines = [
        f"Would {plan.status}: {plan.ref} ({words.size(plan.total_size)}, {words.count(len(plan.files), 'file')})",
        f"  {'To fetch:':<14}{words.size(plan.bytes_network):<11}{words.count(plan.chunks_network, 'chunk')}",
        f"  {'Unfinished:':<14}{words.size(plan.bytes_present):<11}{words.count(plan.chunks_present, 'chunk')}",
        f"  {'This machine:':<14}{words.size(plan.bytes_local):<11}{words.count(plan.chunks_local, 'chunk')}{others}",
        f"  {'Disk:':<14}{words.size(plan.disk_needed):<11}needed, {words.size(plan.disk_free)} free",
    ]
    if not plan.fits:
        lines.append(f"It does not fit: {words.size(plan.disk_needed - plan.disk_free)} short.")
    return lines


@click.command(cls=DoorCommand)
@model_arguments
@click.option("--all", "every", is_flag=True, help="Remove every version of the model.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before removing every version.")
@pass_session
def remove(session: Session, ref: str, version: str | None, *, every: bool, yes: bool) -> None:
    """Remove a version, or all versions of a model."""
    model = named(ref, version)
    if every and model.version:
        raise click.UsageError("Name a version or give --all, not both.")
    if every:
        removed = _remove_all(session, model, ask=not yes)
    else:
        model.require_version()
        removed = [session.run(lambda manager: manager.remove(model))]
    lines = [f"Removed: {each.ref}" for each in removed]
    if every:
        lines.append(f"Removed {words.count(len(removed), 'version')}")
    session.answer({"removed": documents.plain(removed)}, *lines)
    for each in removed:
        _note_kept(session, each.kept)


def _remove_all(session: Session, model: ModelRef, *, ask: bool) -> Sequence[Removed]:
    # Only a person at a terminal can answer; a script has said what it wants.
    if ask and sys.stdin.isatty() and not session.as_json:
        listed = session.run(lambda manager: manager.list_installed())
        found = [each for each in listed if each.ref.name == model.name]
        freed = words.size(sum(each.total_size for each in found))
        if found:
            question = f"Remove {words.count(len(found), 'version')} of {model} ({freed})?"
            if not click.confirm(question, err=True):
                session.note("nothing was removed")
                raise click.exceptions.Exit(1)
    return session.run(lambda manager: manager.remove_all(model.group, model.model))


def _note_kept(session: Session, kept: Path | None) -> None:
    if kept is not None:
        session.note(f"files that were changed or added here were put aside in {kept}")


@click.command(cls=DoorCommand)
@click.argument("ref", required=False)
@click.argument("version", required=False)
@click.option("--apply", is_flag=True, help="Pull what has an update.")
@pass_session
def update(session: Session, ref: str | None, version: str | None, *, apply: bool) -> None:
    """Ask the registry whether installed versions are current."""
    wanted = str(named(ref, version)) if ref is not None else None
    session.announce_registry()
    if not apply:
        session.step("Checking for updates...\n")
    checks = session.run(lambda manager: manager.check_updates(wanted))
    for each in checks:
        session.warn(each.notice)
    named_once = Counter(each.ref.name for each in checks)
    shown = {each.ref: each.ref.name if named_once[each.ref.name] == 1 else str(each.ref) for each in checks}
    document: dict[str, Any] = {
        "checks": [{**documents.plain(each), "available": each.available} for each in checks],
    }
    if apply:
        _apply(session, [each for each in checks if each.available], shown, document)
        if session.as_json or any(each.available for each in checks):
            return
    lines = [f"{shown[each.ref]}: {_verdict(each)}" for each in checks]
    session.answer(document, *(lines or ["Nothing to update: no installed version is in the registry."]))


def _verdict(check: UpdateCheck) -> str:
    if not check.available:
        return "up to date"
    before, after = check.installed_version, check.remote_version
    if before is None or after is None or before == after:  # the same name, other bytes
        before, after = check.installed_hash[:12], check.remote_hash[:12]
    return f"update available ({before} → {after})"


def _apply(
    session: Session, checks: Sequence[UpdateCheck], shown: dict[ModelRef, str], document: dict[str, Any]
) -> None:
    updated, failed = document.setdefault("updated", []), document.setdefault("failed", [])
    first: XprimError | None = None
    for check in checks:
        name = shown[check.ref]
        session.step(f"Downloading update for {name}...")
        try:
            pulled = session.run(lambda manager: _pull(session, manager, check.ref, heading=False))  # noqa: B023  # run now
        except XprimError as error:  # the others can still be had
            told = explain(session, error)
            failed.append({**documents.reference(check.ref), "error": told})
            if first is None:
                first = error
            else:
                tell_error(session, told)
            continue
        updated.append(documents.pulled(pulled))
        session.answer({}, f"Updated: {name} ({words.size(pulled.model.total_size)})")
    session.answer(document)
    if first is not None:
        raise first


@click.command(cls=DoorCommand)
@pass_session
def prune(session: Session) -> None:
    """Remove unfinished pulls and other leftovers."""
    pruned = session.run(lambda manager: manager.prune())
    freed = words.size(pruned.bytes_freed)
    if pruned.partials:
        lines = [f"Removed {words.count(len(pruned.partials), 'unfinished pull')} ({freed})"]
    else:
        lines = [f"Removed leftovers ({freed})" if pruned.bytes_freed else "Nothing to prune"]
    if pruned.in_use:
        lines.append(f"Left alone: {words.count(len(pruned.in_use), 'pull')} at work")
    session.answer({"pruned": documents.plain(pruned)}, *lines)
