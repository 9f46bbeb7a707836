"""`xprim prompts checkpoint`, `branch`, `list`, `restore`, `delete` and `compact`: a tree of states with named branches.

Source: spec 6 §Checkpoints, §Faces.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xprim_nb._text import format_bytes
from xprim_nb.cli import documents, words
from xprim_nb.cli.ai_printing import prompt_from_stdin
from xprim_nb.cli.answers import assent_option, confirm
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.errors import ConfigError

if TYPE_CHECKING:
    from xprim_nb.prompts.checkpoints.saved import TreeNode

__all__ = ["branch", "checkpoint", "compact", "delete", "list_saved", "restore"]

# Digits of an id that tell a few thousand checkpoints apart, and that the store takes.
_SHORT = 12
_scaffold = click.option("--scaffold", metavar="NAME", help="Of this scaffold alone: its hash, or a name.")


@click.command(cls=DoorCommand, short_help="Keep a state.")
@click.argument("scaffold", metavar="SCAFFOLD")
@click.argument("state", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option(
    "--branch", "name", default="main", show_default=True, metavar="NAME", help="It ends here then."
)
@click.option("--parent", metavar="ID", help="What it follows; the branch's end when not given.")
@click.option("--label", default="", metavar="TEXT", help="What people call it.")
@pass_session
def checkpoint(session: Session, /, scaffold: str, state: Path | None, **how: Any) -> None:
    """Keep a state of SCAFFOLD, which is its hash or a name: a JSON object in the file STATE, or on stdin."""
    said = _object(prompt_from_stdin() if state is None else state.read_text(encoding="utf-8"))
    with session.connected() as kit:
        found = kit.prompts.save(scaffold, said, **how).result()
    session.answer({"checkpoint": documents.plain(found)}, f"Saved: {found.id[:_SHORT]} on {found.name}")


@click.command(cls=DoorCommand, short_help="Begin a branch at a checkpoint.")
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.argument("name", metavar="NAME")
@_scaffold
@pass_session
def branch(session: Session, /, checkpoint: str, name: str, scaffold: str | None) -> None:
    """Begin the branch NAME at CHECKPOINT, which is an id (its first 8 digits suffice) or another branch."""
    with session.connected() as kit:
        found = kit.prompts.branch(checkpoint, name, scaffold=scaffold).result()
    session.answer({"checkpoint": documents.plain(found)}, f"{name} begins at {found.id[:_SHORT]}")


@click.command("list", cls=DoorCommand, short_help="List checkpoints, newest first.")
@_scaffold
@click.option("--branch", metavar="NAME", help="Only what led to this branch's end.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@pass_session
def list_saved(session: Session, /, scaffold: str | None, branch: str | None, limit: int) -> None:
    """List checkpoints, newest first, with the branches that end in them."""
    with session.connected() as kit:
        found = kit.prompts.saved(limit, scaffold=scaffold, branch=branch).result()
    if not found:
        is_all = branch is None and scaffold is None
        session.note("no checkpoint was saved yet" if is_all else "there is none in that scaffold or branch")
    headers = ("CHECKPOINT", "PARENT", "SCAFFOLD", "LABEL", "SAVED", "BRANCHES")
    session.answer({"checkpoints": documents.plain(found)}, *words.table(headers, map(_row, found)))


@click.command(cls=DoorCommand, short_help="Print what a checkpoint holds.")
@click.argument("checkpoint", metavar="CHECKPOINT")
@_scaffold
@pass_session
def restore(session: Session, /, checkpoint: str, scaffold: str | None) -> None:
    """Print the state that CHECKPOINT holds, as JSON; it is an id (its first 8 digits suffice) or a branch."""
    with session.connected() as kit:
        found = kit.prompts.restore(checkpoint, scaffold=scaffold).result()
    state = json.dumps(documents.plain(found.state), ensure_ascii=False, indent=2)
    session.answer({"checkpoint": documents.plain(found)}, *state.split("\n"))


@click.command(cls=DoorCommand, short_help="Delete a checkpoint.")
@click.argument("checkpoint", metavar="CHECKPOINT")
@_scaffold
@assent_option
@pass_session
def delete(session: Session, /, checkpoint: str, scaffold: str | None, *, yes: bool) -> None:
    """Delete CHECKPOINT, an id (its first 8 digits suffice) or a branch, whose end is its parent then.

    One that others follow stays. The audit trail tells of it, and still verifies.
    """
    with session.connected() as kit:
        found = kit.prompts.restore(checkpoint, scaffold=scaffold).result()
        confirm(
            session, f"Delete {found.label or found.name} {found.id[:_SHORT]} of {found.scaffold}?", yes=yes
        )
        kit.prompts.delete(found.id, scaffold=scaffold).result()
    session.answer({"deleted": {"checkpoint": found.id}}, f"Deleted: {found.id[:_SHORT]}")


@click.command(cls=DoorCommand, short_help="Give back the room of deleted checkpoints.")
@pass_session
def compact(session: Session) -> None:
    """Give back the room of what was deleted: a file is written anew, a PostgreSQL server vacuums its tables."""
    with session.connected() as kit:
        less = kit.prompts.compact().result()
    session.answer({"compacted": {"bytes": less}}, f"{format_bytes(max(0, less))} given back")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"The state is no JSON: {error}", subject="state", hint="Give an object."
        ) from error
    if not isinstance(found, dict):
        raise ConfigError("The state is no object.", subject="state", hint='{"plan": ["read", "write"]}')
    return found


def _row(node: TreeNode) -> tuple[str, ...]:
    return (
        node.id[:_SHORT],
        (node.parent or "-")[:_SHORT],
        node.scaffold[:_SHORT],
        node.label or "-",
        words.stamp(datetime.fromtimestamp(node.at, UTC)),
        ", ".join(node.branches) or "-",
    )
