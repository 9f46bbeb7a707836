"""`xprim prompts ask`: a prompt in, its answer out, from the cache where it was asked before.

    stdout      the answer, piece by piece
    stderr      what is waited for, then where the answer is from, why, and what it cost

Source: spec 6 §Faces.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from xprim_nb._text import format_seconds
from xprim_nb.cli import prompts_documents, words
from xprim_nb.cli.ai_options import answering_options
from xprim_nb.cli.ai_printing import Printed, streamed
from xprim_nb.cli.ai_progress import waited
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.prompts_options import cache_option, prompt_options, said
from xprim_nb.cli.session import Session

if TYPE_CHECKING:
    from xprim_nb.prompts.asked import Asked

__all__ = ["ask"]

_NOTE = "xprim prompts ask"


@click.command(cls=DoorCommand, short_help="Answer a prompt, from the cache where it can be.")
@prompt_options
@cache_option
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="So many answers; each is kept.")
@answering_options
@pass_session
def ask(session: Session, /, **how: Any) -> None:
    """Answer PROMPT, from the cache where it was asked before, and print the answer.

    Without PROMPT, or with "-", stdin is read. An answer that was refused or cut is not kept. Secrets are taken out of
    what is sent and kept.
    """
    samples, timeout = how.pop("samples"), how.pop("timeout")
    options = {"install": how.pop("install"), "note": _NOTE}
    if timeout is not None:
        options["timeout"] = None if math.isinf(timeout) else timeout
    fields = said(how)
    with session.connected() as kit:
        if samples is not None:
            handle = kit.prompts.ask_samples(fields, samples=samples, **options)
            several = waited(session, handle)
            answers = [prompts_documents.answered(each) for each in several]
            session.answer({"answers": answers}, *_samples(several))
            session.note(_counted(several))
            return
        asked = streamed(
            session, lambda stream: kit.prompts.ask(fields, stream=stream, **options), Printed(session)
        )
        session.answer(prompts_documents.answered(asked))
        for line in _lines(asked):
            session.note(line)


def _lines(asked: Asked) -> list[str]:
    """How an answer came about, for people."""
    usage = asked.answer.usage
    if asked.hit:
        saved = f"; {prompts_documents.money(asked.saved)} saved" if asked.saved is not None else ""
        return [f"from the cache in {1000 * asked.looked_up_s:.1f} ms{saved}"]
    told = [f"{asked.answer.model or asked.asked.model}: {format_seconds(asked.total_s)}"]
    told.append(f"{words.count(usage.input_tokens, 'token')} in, {usage.output_tokens:,} out")
    if usage.cache_read_tokens:
        told.append(f"{usage.cache_read_tokens:,} read from the provider's cache")
    if asked.cost is not None:
        told.append(f"{prompts_documents.money(asked.cost)} {asked.cost.kind}")
    lines = [", ".join(told)]
    if asked.reason is not None:
        lines.append(f"not from the cache: {asked.reason.sentence}")
    if asked.waited:
        lines.append(asked.waited)
    if asked.not_kept:
        lines.append(f"not kept: {asked.not_kept}")
    return lines


def _samples(several: tuple[Asked, ...]) -> list[str]:
    """Each answer under its number."""
    lines = []
    for each in several:
        lines += [f"── {each.asked.sample_index} ({each.source})", each.answer.text]
    return lines


def _counted(several: tuple[Asked, ...]) -> str:
    cached = sum(each.hit for each in several)
    lost = sum(bool(each.not_kept) for each in several)
    told = f"{words.count(len(several), 'answer')}, {cached} of them from the cache"
    return f"{told}, {lost} not kept" if lost else told
