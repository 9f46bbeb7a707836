"""The cache's commands for what lies compressed or elsewhere: archives and adopted places.

Source: spec 2 §Clean-up ("Compression"), §Adopt.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import documents, words
from xprim_nb.cli.answers import assent_option, confirm, dry_run_option, lines_of
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.progress import watching
from xprim_nb.cli.refs import model_arguments, versioned
from xprim_nb.cli.session import Session
from xprim_nb.config import MAX_CONCURRENCY
from xprim_nb.errors import NotInstalledError

if TYPE_CHECKING:
    from xprim_nb.cache.adopt.installing import Adopted
    from xprim_nb.cache.adopt.scanning import AdoptedPlace
    from xprim_nb.cache.upkeep.archived import Archived
    from xprim_nb.cache.upkeep.restoring import Restored
    from xprim_nb.manager import Manager

__all__ = ["adopt", "adopted", "archive", "archived", "drop_archive", "forget", "restore"]

_CONCURRENCY = click.option(
    "--concurrency",
    type=click.IntRange(1, MAX_CONCURRENCY),
    metavar="N",
    help="Chunks at once; 4 when not given.",
)


@click.command(cls=DoorCommand)
@model_arguments
@dry_run_option
@pass_session
def archive(session: Session, ref: str, version: str | None, *, dry_run: bool) -> None:
    """Store a model compressed, changed files included; `restore` brings it back, byte for byte."""
    wanted = versioned(ref, version)
    if dry_run:
        plan = session.run(lambda manager: manager.plan_archive(wanted))
        session.answer({"plan": {**documents.plain(plan), "fits": plan.fits}}, *lines_of(session, plan))
        return
    done = session.run(lambda manager: manager.archive(wanted))
    session.answer({"archived": _archived(done)}, f"Archived: {done}")


@click.command(cls=DoorCommand)
@model_arguments
@_CONCURRENCY
@dry_run_option
@pass_session
def restore(
    session: Session, ref: str, version: str | None, *, concurrency: int | None, dry_run: bool
) -> None:
    """Put an archived model back, offline too."""
    wanted = versioned(ref, version)
    if dry_run:
        plan = session.run(lambda manager: manager.plan_restore(wanted))
        document = {
            "archived": _archived(plan.archived),
            "pull": documents.plain(plan.pull),
            "local_files": list(plan.local_files),
        }
        session.answer({"plan": document}, *lines_of(session, plan))
        return

    async def bring_back(manager: Manager) -> Restored:
        with watching(session, heading=False, doing="Restoring", transcript=False) as reporter:
            done = await manager.restore(wanted, concurrency=concurrency, progress=reporter.hear)
        session.paused = ""
        return done

    done = session.run(bring_back)
    document = {
        **documents.installed(done.model),
        "receipt": documents.plain(done.receipt),
        "local_files": list(done.local_files),
        "bytes_freed": done.bytes_freed,
    }
    session.answer({"restored": document}, f"Restored: {done.ref} ({words.size(done.model.total_size)})")
    if not session.as_json:
        words.say(f"Path: {done.path}", raw=True)


@click.command(cls=DoorCommand)
@pass_session
def archived(session: Session) -> None:
    """List archived models."""
    found = session.run(lambda manager: manager.archived())
    rows = [
        (
            each.ref.name,
            each.ref.version,
            words.size(each.model_bytes),
            words.size(each.stored_bytes),
            words.date(each.archived_at),
        )
        for each in found
    ]
    headers = ("MODEL", "VERSION", "SIZE", "STORED", "ARCHIVED")
    session.answer({"archives": [_archived(each) for each in found]}, *words.table(headers, rows))


def _archived(value: Archived) -> dict[str, Any]:
    document: dict[str, Any] = documents.plain(value)
    del document["document"]  # how it is stored is no part of the contract
    return document


@click.command("drop-archive", cls=DoorCommand)
@model_arguments
@assent_option
@pass_session
def drop_archive(session: Session, ref: str, version: str | None, *, yes: bool) -> None:
    """Delete an archive; changed files that it holds are put aside."""
    wanted = versioned(ref, version)
    found = next((each for each in session.run(lambda m: m.archived()) if each.ref == wanted), None)
    if found is None:
        raise NotInstalledError(
            f"{wanted} is not archived.", subject=str(wanted), hint="`xprim cache archived` lists what is."
        )
    confirm(session, f"Delete the archive of {wanted} ({words.size(found.stored_bytes)})?", yes=yes)
    kept = session.run(lambda manager: manager.remove_archive(wanted))
    document = {**_archived(found), "kept": documents.plain(kept)}
    session.answer({"dropped": document}, f"Dropped the archive of {wanted}")
    if kept is not None:
        session.note(f"files that were changed or added here were put aside in {kept}")


@click.command(cls=DoorCommand)
@click.argument("where", metavar="WHERE")
@click.option(
    "--as", "install_as", metavar="REF", help="Install a model of it under this name, without a download."
)
@click.option("--model", metavar="NAME", help="Which, where the place has several.")
@_CONCURRENCY
@dry_run_option
@pass_session
def adopt(
    session: Session,
    where: str,
    *,
    install_as: str | None,
    model: str | None,
    concurrency: int | None,
    dry_run: bool,
) -> None:
    """Let files that other programs have here serve pulls and repairs.

    WHERE is hf (the Hugging Face cache), ollama, or a folder. Nothing in it is changed, and none of its names is
    believed.
    """
    wanted = versioned(install_as, None) if install_as is not None else None
    if dry_run:
        place = session.run(lambda manager: manager.scan(where))
        session.answer({"plan": _place(place)}, *_place_lines(session, place))
        return

    async def take_in(manager: Manager) -> Adopted:
        with watching(session, heading=False, doing="Copying", transcript=False) as reporter:
            done = await manager.adopt(
                where, install_as=wanted, model=model, concurrency=concurrency, progress=reporter.hear
            )
        session.paused = ""
        return done

    done = session.run(take_in)
    document = {
        "place": _place(done.place),
        "model": None if done.model is None else documents.installed(done.model),
        "receipt": documents.plain(done.receipt),
    }
    lines = _place_lines(session, done.place)
    if done.model is not None:
        lines.append(f"Installed: {done.model.ref} ({words.size(done.model.total_size)})")
    session.answer({"adopted": document}, *lines)


def _place(place: AdoptedPlace) -> dict[str, Any]:
    return {
        "kind": place.kind,
        "root": place.root,
        "adopted_at": documents.plain(datetime.fromtimestamp(place.adopted_at, UTC)),
        "files": len(place.files),
        "size_bytes": place.size_bytes,
        "models": [{"name": each.name, "files": len(each.files), "size": each.size} for each in place.models],
    }


def _place_lines(session: Session, place: AdoptedPlace) -> list[str]:
    return [*lines_of(session, place), *(f"  {each}" for each in place.models)]


@click.command(cls=DoorCommand)
@pass_session
def adopted(session: Session) -> None:
    """List adopted places."""
    found = session.run(lambda manager: manager.adopted())
    rows = [
        (each.root, each.kind, str(len(each.files)), words.size(each.size_bytes), str(len(each.models)))
        for each in found
    ]
    session.answer(
        {"adopted": [_place(each) for each in found]},
        *words.table(("PLACE", "KIND", "FILES", "SIZE", "MODELS"), rows),
    )


@click.command(cls=DoorCommand)
@click.argument("where", metavar="[WHERE]", required=False)
@click.option("--all", "every", is_flag=True, help="Every adopted place.")
@pass_session
def forget(session: Session, where: str | None, *, every: bool) -> None:
    """Stop using an adopted place; no file of it is touched."""
    if every == (where is not None):
        raise click.UsageError("Name a place, or give --all.")
    gone = session.run(lambda manager: manager.forget_adopted(where))
    session.answer({"forgotten": gone}, *(f"Forgotten: {each}" for each in gone))
    if not gone:
        session.note("nothing was adopted there")
