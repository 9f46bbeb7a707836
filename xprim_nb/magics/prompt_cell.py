"""`%%prompt`: the cell is the turn; the answer comes from the cache where the same was asked before.

While it is generated it is shown as `%%generate` shows one. With `--explain` nothing is sent: what is returned says what the
provider's cache would do. `%xprim prompts ask` does the same with a prompt that a variable holds.

Source: spec 6 §Faces (`%%prompt`).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.error import UsageError

from xprim_nb.magics import prompt_tables, waiting
from xprim_nb.magics.ai_options import treatment_of
from xprim_nb.magics.live import answered, live_for
from xprim_nb.magics.naming import cell_named, check_variable
from xprim_nb.magics.prompt_faces import asked_bundle
from xprim_nb.magics.prompt_saying import Said, said_in_cell
from xprim_nb.magics.tables import Rows
from xprim_nb.prompts.asked import Asked

if TYPE_CHECKING:
    from xprim_nb.magics.extension import Extension
    from xprim_nb.prompts.explain import Explanation

__all__ = ["ask", "prompt"]

_T = TypeVar("_T")


def prompt(extension: Extension, asked: argparse.Namespace, cell: str) -> Asked | Rows[Asked] | Explanation:
    """What a cell that begins with `%%prompt` asks for.

    Raises:
        UsageError: The options contradict each other.
        KeyboardInterrupt: The cell was interrupted; what came is shown, and nothing of it is kept.
        XprimError: See `Prompts.ask`.
    """
    check_variable("%%prompt", asked.name)
    if not cell.strip() and asked.prompt is None:
        raise UsageError("%%prompt: the cell is empty; what stands below the first line is the turn")
    turn, fields = said_in_cell(extension.shell, asked, cell)
    if not asked.explain:
        return ask(extension, asked, turn, fields)
    if asked.samples is not None:
        raise UsageError("%%prompt: --explain sends nothing that could have --samples")
    found: Explanation = waiting.wait_quietly(extension.shell, extension.kit.prompts.explain(turn, **fields))
    return _kept(extension, asked, found)


def ask(
    extension: Extension, asked: argparse.Namespace, turn: Said, fields: dict[str, Any]
) -> Asked | Rows[Asked]:
    """The answer, shown while it comes; with `--samples` a table of several.

    Raises:
        KeyboardInterrupt, XprimError: As `prompt`.
    """
    desk, shell = extension.kit.prompts, extension.shell
    treated = {**treatment_of(asked), "note": cell_named(shell), "checkpoint": asked.checkpoint}
    if asked.samples is not None:
        several = waiting.wait_quietly(
            shell, desk.ask_samples(turn, samples=asked.samples, **treated, **fields)
        )
        return _kept(extension, asked, prompt_tables.samples(several))
    live = live_for(shell)
    found = answered(desk.ask(turn, **treated, **fields), live)
    live.end(found.answer.text, asked_bundle(found))
    extension.views.told(found)
    return _kept(extension, asked, found)


def _kept(extension: Extension, asked: argparse.Namespace, value: _T) -> _T:
    if asked.name is not None:
        extension.shell.user_ns[asked.name] = value
    return value
