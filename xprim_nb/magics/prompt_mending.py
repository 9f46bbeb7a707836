"""A mended prompt in a notebook: in a variable that its user names, or in a cell below, to be read before it is run.

What the user wrote stays as it is, in its variable, its file, or its line.

Source: spec 6 §Caches (`lint_volatility` … "and offers the fix").
"""

from __future__ import annotations

from pprint import pformat
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

if TYPE_CHECKING:
    from xprim_nb.prompts.mending import Mending

__all__ = ["mended_cell", "put_mended"]

# A longer cell is nothing that a person reads, and a burden to each page that shows it.
_MOST_CHARS = 200_000


def put_mended(shell: InteractiveShell, found: Mending, prompt: str, name: str | None) -> None:
    """Put the mended prompt where its user wants it.

    Args:
        shell: Whose next cell it is.
        found: What would be changed.
        prompt: What the prompt was called in the line.
        name: The variable; None for a cell.

    Raises:
        UsageError: It is too long for a cell.
    """
    if name is not None:
        shell.user_ns[name] = found.after
        return
    cell = mended_cell(found, f"{prompt}_mended" if prompt.isidentifier() else "mended")
    if len(cell) > _MOST_CHARS:
        raise UsageError(
            f"%xprim prompts lint: a cell of {len(cell):,} characters is nothing to read; --as NAME keeps it in a variable"
        )
    shell.set_next_input(cell)  # below: the cell that holds the user's own text is left alone


def mended_cell(found: Mending, name: str) -> str:
    """A cell that makes the mended prompt.

    Args:
        found: What would be changed.
        name: The variable that it is assigned to.
    """
    told = found.after.model_dump(mode="json", exclude_defaults=True)
    value = pformat(told, width=100, sort_dicts=False)
    return f"from xprim_nb.prompts.values import ResolveInput\n\n{name} = ResolveInput.model_validate(\n{value}\n)\n"
