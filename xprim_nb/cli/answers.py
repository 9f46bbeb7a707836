"""What the cache's commands share: lines of a value, a question before a deletion, and damage as an exit code.

Source: spec 1 §CLI; spec 2 §Validation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from xprim_nb.cli import words
from xprim_nb.cli.session import Session
from xprim_nb.errors import HashMismatchError

__all__ = ["assent_option", "confirm", "dry_run_option", "lines_of", "require_sound"]

# Models that a sentence names before it counts the rest.
_NAMED = 3


def dry_run_option(function: click.decorators.FC) -> click.decorators.FC:
    """`--dry-run`, for whatever has a plan."""
    return click.option("--dry-run", is_flag=True, help="Show the plan; change nothing.")(function)


def assent_option(function: click.decorators.FC) -> click.decorators.FC:
    """`--yes`, for whatever deletes."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(function)


def lines_of(session: Session, *values: object) -> list[str]:
    """What values say of themselves, line by line, in the words of whoever mounted the commands."""
    return [line for value in values for line in session.worded(str(value)).splitlines()]


def confirm(session: Session, question: str, *lines: str, yes: bool) -> None:
    """Return when it may be done: a person at a terminal is asked, a script has said what it wants.

    Args:
        session: The call.
        question: What is asked.
        lines: What is shown before.
        yes: `--yes` was given.

    Raises:
        click.exceptions.Exit: The person said no.
    """
    if yes or session.as_json or not sys.stdin.isatty():
        return
    if lines:
        words.say("\n".join(lines), err=True)
    if not click.confirm(question, err=True):
        session.note("nothing was changed")
        raise click.exceptions.Exit(1)


def require_sound(damaged: Sequence[str], total: int, *, hint: str = "") -> None:
    """Return when nothing is damaged.

    Args:
        damaged: Names of what is.
        total: How much was looked at.
        hint: What to do; a repair when empty.

    Raises:
        HashMismatchError: Something is: exit code 6, with the answer given all the same.
    """
    if not damaged:
        return
    told = f"Run `xprim cache repair {damaged[0]}`."
    if total == 1:
        raise HashMismatchError(f"{damaged[0]} is damaged.", subject=damaged[0], hint=hint or told)
    more = len(damaged) - _NAMED
    names = ", ".join(damaged[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    are = "is" if len(damaged) == 1 else "are"
    raise HashMismatchError(
        f"{len(damaged)} of {total} {are} damaged: {names}.",
        subject=damaged[0],
        hint=hint or told,
    )
