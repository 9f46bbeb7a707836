"""`xprim prompts cache`: what is kept of prompts and answers, and how to forget it.

Source: spec 6 §Caches, §Faces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xprim_nb.cli import documents, words
from xprim_nb.cli.answers import assent_option, confirm, dry_run_option
from xprim_nb.cli.boundary import DoorCommand, DoorGroup, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.config import Config

if TYPE_CHECKING:
    from xprim_nb.prompts.caches import Rotation

__all__ = ["prompts_cache_group"]


@click.command(cls=DoorCommand, short_help="Say what is kept.")
@pass_session
def status(session: Session) -> None:
    """Say what is kept of prompts, answers and calls, each by itself."""
    with session.connected() as kit:
        found = kit.prompts.status().result()
    lines = [
        f"answers    {found.answers:,}",
        f"prompts    {found.scaffolds:,}",
        f"calls      {found.sent:,}",
        f"on disk    {words.size(found.size_bytes)}",
    ]
    if found.damaged:
        lines.append(f"damaged    {found.damaged:,} rows, put aside")
    for path in found.moved_aside:
        session.warn(f"A cache that could not be read lies in {path}.")
    session.answer({"prompts_cache": documents.plain(found)}, *lines)


@click.command(cls=DoorCommand, short_help="Forget what is too old or too much.")
@dry_run_option
@pass_session
def rotate(session: Session, *, dry_run: bool) -> None:
    """Forget what is too old or too much by the limits, the least used first."""
    with session.connected() as kit:
        plan = kit.prompts.plan_rotation().result()
        if not dry_run:
            plan = kit.prompts.rotate(plan).result()
    session.answer(
        {"plan" if dry_run else "rotated": documents.plain(plan)}, _rotation(plan, dry_run=dry_run)
    )


@click.command(cls=DoorCommand, short_help="Erase what is kept of one request.")
@click.argument("request", metavar="REQUEST")
@pass_session
def erase(session: Session, *, request: str) -> None:
    """Erase all that is kept of REQUEST, its bytes in free pages too; `resolve --json` tells its hash."""
    with session.connected() as kit:
        gone = kit.prompts.erase(request).result()
    session.answer({"erased": {"request": request, "rows": gone}}, f"Erased: {words.count(gone, 'row')}")


@click.command(cls=DoorCommand, short_help="Erase everything that is kept of prompts.")
@assent_option
@pass_session
def clear(session: Session, *, yes: bool) -> None:
    """Erase every prompt, answer and call that is kept; checkpoints stay."""
    with session.connected() as kit:
        found = kit.prompts.status().result()
        confirm(session, f"Erase {words.count(found.answers, 'answer')} that were paid for?", yes=yes)
        gone = kit.prompts.clear().result()
    session.answer({"cleared": {"rows": gone}}, f"Erased: {words.count(gone, 'row')}")


def _rotation(plan: Rotation, *, dry_run: bool) -> str:
    what = "would be forgotten" if dry_run else "forgotten"
    return (
        f"{words.count(len(plan.forgotten), 'row')} {what}"
        if plan.forgotten
        else "Nothing is too old or too much."
    )


def prompts_cache_group(config: Config) -> click.Group:
    """The group `cache` within `prompts`."""
    group = DoorGroup(
        "cache",
        config=config,
        help="What is kept of prompts and answers, and how to forget it.",
        short_help="What is kept, and how to forget it.",
    )
    for command in (status, rotate, erase, clear):
        group.add_command(command)
    return group
