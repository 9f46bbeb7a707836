"""`%%generate`: the cell is the prompt, and what the model writes is shown as it comes.

In a notebook one output changes in place, at most ten times a second; in a terminal the text is printed. Before the
first token it says what is waited for. The answer is drawn by the cell's own thread, so that an interrupt finds it.

Source: spec 4 §Faces (`%%generate MODEL [options]`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.magics import ai_faces
from xprim_nb.magics.ai_options import settings_of, treatment_of
from xprim_nb.magics.live import answered, live_for
from xprim_nb.magics.naming import cell_named, check_variable, model_named
from xprim_nb.scheduling.values import GenerateProgress, Reply, Timings

if TYPE_CHECKING:
    from xprim_nb.magics.extension import Extension

__all__ = ["generate"]


def generate(extension: Extension, asked: argparse.Namespace, cell: str) -> Reply:
    """The answer that a cell asks for, shown while it comes.

    Raises:
        UsageError: The options contradict each other.
        KeyboardInterrupt: The cell was interrupted; what came is shown, and the model stays loaded.
        XprimError: See `Engine.generate`.
    """
    shell = extension.shell
    check_variable("%%generate", asked.name)
    options = _options(shell, asked, cell)
    handle = extension.kit.ai.generate(model_named(asked), **options)
    live = live_for(shell)

    def keep_part(progress: GenerateProgress) -> None:
        if asked.name is not None and progress.tokens:
            shell.user_ns[asked.name] = Reply(
                progress.text,
                progress.model,
                "cancelled",
                tokens=progress.tokens,
                timings=Timings(total_s=progress.elapsed_s),
            )

    reply = answered(handle, live, on_stop=keep_part)
    live.end(
        reply.text,
        {
            "text/plain": ai_faces.reply_text(reply),
            "text/html": ai_faces.reply_html(reply),
            "text/markdown": ai_faces.reply_markdown(reply),
        },
    )
    if asked.name is not None:
        shell.user_ns[asked.name] = reply
    extension.views.told(reply)
    return reply


def _options(shell: InteractiveShell, asked: argparse.Namespace, cell: str) -> dict[str, Any]:
    """The options of `Engine.generate`."""
    text = cell.removesuffix("\n")  # every cell ends its last line, and nobody means it
    settings = settings_of(asked)
    names = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "loras")
    options = {name: getattr(asked, name) for name in names} | treatment_of(asked)
    if asked.chat or asked.system is not None or asked.messages is not None:
        options["messages"] = _messages(shell, asked, text)
    else:
        options["prompt"] = text
    return {**settings, **options, "note": cell_named(shell)}


def _messages(shell: InteractiveShell, asked: argparse.Namespace, text: str) -> list[Any]:
    """The conversation: the system's message, what was said before, and the cell, where there is something in it."""
    before: Sequence[Any] = ()
    if asked.messages is not None:
        if asked.messages not in shell.user_ns:
            raise UsageError(f"%%generate: --messages {asked.messages}: there is no variable of that name")
        before = shell.user_ns[asked.messages]
        if isinstance(before, str | bytes | Mapping) or not isinstance(before, Sequence):
            raise UsageError(
                f"%%generate: --messages {asked.messages}: it is no list of messages, but {type(before).__name__}"
            )
    system = [{"role": "system", "content": asked.system}] if asked.system is not None else []
    said = [{"role": "user", "content": text}] if text.strip() or not before else []
    return [*system, *before, *said]
