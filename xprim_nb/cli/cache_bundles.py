"""The cache's commands for information bundles: `bundle derive | init | refresh | validate | repair | show | list`.

Source: spec 2 §Information bundle.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import documents, words
from xprim_nb.cli.answers import dry_run_option, lines_of, require_sound
from xprim_nb.cli.boundary import DoorCommand, DoorGroup, pass_session
from xprim_nb.cli.refs import model_arguments, named
from xprim_nb.cli.session import Session
from xprim_nb.config import Config
from xprim_nb.errors import ConfigError, HashMismatchError, XprimError

if TYPE_CHECKING:
    from xprim_nb.cache.bundles.initialize import Initialized
    from xprim_nb.cache.bundles.manifest import CacheInitRequest

__all__ = ["bundle_group"]


@click.command(cls=DoorCommand)
@model_arguments
@pass_session
def derive(session: Session, ref: str, version: str | None) -> None:
    """Make a bundle from an installed model, asking nobody. Without a version, from the one installed last."""
    wanted = named(ref, version)
    _answer(session, session.run(lambda manager: manager.derive(wanted)))


@click.command(cls=DoorCommand)
@click.argument("file", metavar="FILE.json", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@dry_run_option
@pass_session
def init(session: Session, file: Path, *, dry_run: bool) -> None:
    """Make a bundle from the URLs of a request; what could be had is kept, and the same command goes on from there.

    FILE.json has model_id, source_urls {model_card, documentation, examples, papers} and validation_rules
    {required_files, max_age_days, checksum_validation}.
    """
    request = _request(file)
    if dry_run:
        plan = session.run(lambda manager: manager.plan_initialize(request))
        session.answer({"plan": documents.plain(plan)}, *lines_of(session, plan))
        return
    _answer(session, session.run(lambda manager: manager.initialize(request)))


def _request(file: Path) -> CacheInitRequest:
    module = importlib.import_module("xprim_nb.cache.bundles.manifest")
    try:
        made: CacheInitRequest = module.CacheInitRequest.model_validate_json(file.read_bytes())
    except ValueError as error:  # pydantic's own is one: a line for each field that is wrong
        raise ConfigError(
            f"{file} is no request: {'; '.join(_told(error))}.",
            subject=str(file),
            hint="`xprim cache bundle init --help` names what it must have.",
        ) from error
    return made


def _told(error: ValueError) -> list[str]:
    problems: list[Any] = getattr(error, "errors", list)()
    return [f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg'].lower()}" for each in problems[:3]] or [
        str(error)
    ]


def _answer(session: Session, done: Initialized) -> None:
    session.answer({"bundle": documents.plain(done)}, *lines_of(session, done))
    if done.success:
        return
    report = done.validation_report
    if report.overall_status == "failed":
        require_sound([done.manifest.model_id], 1, hint=report.recommendations.details)
    raise XprimError(
        f"The bundle of {done.manifest.model_id} is {done.manifest.validation_status}.",
        subject=done.manifest.model_id,
        hint="Run the same command again: what could be had is kept.",
    )


@click.command(cls=DoorCommand)
@model_arguments
@dry_run_option
@pass_session
def refresh(session: Session, ref: str, version: str | None, *, dry_run: bool) -> None:
    """Ask upstream for what changed; documents that you edited stay, upstream's are put beside."""
    wanted = named(ref, version)
    if dry_run:
        plan = session.run(lambda manager: manager.plan_refresh_bundle(wanted))
        session.answer({"plan": documents.plain(plan)}, *lines_of(session, plan))
        return
    _answer(session, session.run(lambda manager: manager.refresh_bundle(wanted)))


@click.command(cls=DoorCommand)
@model_arguments
@click.option("--quick", is_flag=True, help="Leave checksums alone where the request said so.")
@pass_session
def validate(session: Session, ref: str, version: str | None, *, quick: bool) -> None:
    """Check a bundle. Exits with 6 when a document is damaged."""
    wanted = named(ref, version)
    report = session.run(lambda manager: manager.validate_bundle(wanted, "quick" if quick else "full"))
    session.answer({"validated": [documents.plain(report)]}, *lines_of(session, report))
    damaged = [report.model_id] if report.overall_status == "failed" else []
    require_sound(damaged, 1, hint=report.recommendations.details)


@click.command(cls=DoorCommand)
@model_arguments
@dry_run_option
@pass_session
def repair(session: Session, ref: str, version: str | None, *, dry_run: bool) -> None:
    """Fetch or derive again just what is damaged or missing; the old bytes are put aside."""
    wanted = named(ref, version)
    if dry_run:
        plan = session.run(lambda manager: manager.plan_repair_bundle(wanted))
        session.answer({"plan": documents.plain(plan)}, *lines_of(session, plan))
        return
    done = session.run(lambda manager: manager.repair_bundle(wanted))
    session.answer({"repaired": documents.plain(done)}, *lines_of(session, done))
    if not done.success:
        raise HashMismatchError(
            f"The bundle of {wanted.name} is not whole: {'; '.join(done.remaining_issues)}",
            subject=wanted.name,
            hint="Run the same command again when its sources can be reached.",
        )


@click.command(cls=DoorCommand)
@click.argument("ref")
@click.argument("document", required=False)
@pass_session
def show(session: Session, ref: str, document: str | None) -> None:
    """Show what a bundle holds, or print one of its documents."""
    wanted = named(ref, None)
    bundle = session.run(lambda manager: _at_once(manager.bundle(wanted)))
    if document is not None:
        text = bundle.read(document)
        session.answer({"document": {"path": str(bundle.path_of(document)), "text": text}}, text.rstrip("\n"))
        return
    manifest = bundle.manifest()
    facts = {
        "Bundle": bundle.ref.name,
        "Of": manifest.version,
        "Status": manifest.validation_status,
        "Size": words.size(manifest.size_bytes),
        "Checked": words.stamp(manifest.last_validated),
        "Path": str(bundle.path),
    }
    lines = [f"{name + ':':<10}{value}" for name, value in facts.items()]
    shown = {"manifest": documents.plain(manifest), "path": str(bundle.path), "documents": bundle.documents()}
    session.answer({"bundle": shown}, *lines, "", *(f"  {each}" for each in bundle.documents()))


@click.command("list", cls=DoorCommand)
@pass_session
def list_bundles(session: Session) -> None:
    """List bundles."""
    found = session.run(lambda manager: manager.list_bundles())
    rows = [(each.ref.name, str(len(each.documents())), str(each.path)) for each in found]
    told: list[dict[str, Any]] = [
        {"model": each.ref.name, "documents": each.documents(), "path": str(each.path)} for each in found
    ]
    session.answer({"bundles": told}, *words.table(("MODEL", "DOCUMENTS", "PATH"), rows))


async def _at_once(value: Any) -> Any:  # noqa: ANN401  # whatever needs no waiting, for `session.run`
    return value


def bundle_group(config: Config) -> DoorGroup:
    """The group `bundle` for the cache's commands."""
    text = "What is known of a model beside its weights: card, documentation, examples, benchmarks, papers."
    group = DoorGroup("bundle", config=config, help=text, short_help="Information beside the weights.")
    for command in (derive, init, refresh, validate, repair, show, list_bundles):
        group.add_command(command)
    return group
