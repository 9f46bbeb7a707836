"""`xprim prompts resolve`, `explain` and `lint`: what would be sent, what its provider has of it, and what is wrong with it.

None of them asks anybody, or installs a model.

Source: spec 6 §Faces.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import prompts_documents, words
from xprim_nb.cli.answers import lines_of
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.prompts_options import UNSAID, prompt_options, said
from xprim_nb.cli.session import Session
from xprim_nb.errors import PromptError

if TYPE_CHECKING:
    from xprim_nb.prompts.resolve import ResolvedScaffold

__all__ = ["explain", "lint", "resolve"]


@click.command(cls=DoorCommand, short_help="Show what would be sent, its tokens and its price.")
@prompt_options
@pass_session
def resolve(session: Session, /, **how: Any) -> None:
    """Show what would be sent for PROMPT, in the order that a provider's cache sees, with its tokens, price and hash.

    Asks nobody. Without PROMPT, or with "-", stdin is read.
    """
    fields = said(how)
    with session.connected() as kit:
        found = kit.prompts.resolve(fields).result()
    for note in found.notes:
        session.warn(note)
    session.answer({"resolved": prompts_documents.resolved(found)}, *_segments(found))
    session.note(_summary(found))


@click.command(cls=DoorCommand, short_help="Say what is cached of a prompt, and where that breaks.")
@prompt_options
@pass_session
def explain(session: Session, /, **how: Any) -> None:
    """Say what of PROMPT is cached before it is sent: its answer here, its beginning at its provider, and where that breaks.

    Asks nobody. Without PROMPT, or with "-", stdin is read.
    """
    fields = said(how)
    with session.connected() as kit:
        found = kit.prompts.explain(fields).result()
    session.answer({"explained": found.document()}, *lines_of(session, found.text()))


@click.command(cls=DoorCommand, short_help="Find what changes from call to call and should not.")
@prompt_options
@click.option("--fix", is_flag=True, help="Print the mended prompt, for --input; no file is touched.")
@click.option(
    "--write", is_flag=True, help="With --fix: into the file of --input; what it was is kept beside it."
)
@click.option("--strict", is_flag=True, help="End with 9 when anything is found.")
@pass_session
def lint(session: Session, /, *, fix: bool, write: bool, strict: bool, **how: Any) -> None:
    """Find dates, ids, paths and the like in the blocks that a provider should keep; each has a whole prefix written anew.

    What would be changed is shown as a diff, and done with --fix alone. Asks nobody. PROMPT may be left out.
    """
    path: Path | None = how["whole"]
    if write and (not fix or path is None):
        raise click.UsageError("--write needs --fix, and --input FILE to write to.")
    fields = said(how, needs_prompt=False)
    with session.connected() as kit:
        found = kit.prompts.mending(fields).result()
    findings = found.findings
    document: dict[str, Any] = {"findings": [each.document() for each in findings], "diff": found.diff}
    lines = [*map(str, findings), *(found.diff.split("\n") if found.diff else ())]
    if fix:
        told = found.after.model_dump(mode="json", exclude_defaults=True)
        document["mended"] = {name: value for name, value in told.items() if UNSAID.get(name) != value}
        for line in lines:
            session.note(line)
        mended = json.dumps(document["mended"], ensure_ascii=False, indent=2)
        lines = mended.split("\n")
        if write and path is not None and found.diff:
            kept = _replaced(path, f"{mended}\n")
            document["kept"] = str(kept)
            lines = [f"Mended: {path}; what it was is {kept}"]
    session.answer(document, *lines)
    if not findings:
        session.note("nothing volatile in what should be kept")
    if strict and findings:
        raise PromptError(
            f"{words.count(len(findings), 'finding')} in what should be kept.",
            subject=findings[0].label,
            hint="`xprim prompts lint --fix` moves them behind what stays the same.",
        )


def _replaced(path: Path, text: str) -> Path:
    """A copy of the file that now holds `text`, under a name that nothing had: `prompt.json.bak`, then `prompt.json.bak1`.

    Raises:
        StorageError: It cannot be written.
    """
    from xprim_nb._files import write_atomic  # noqa: PLC0415  # house: asyncio, which `--help` need not load

    numbers = itertools.count(1)
    kept = path.with_name(f"{path.name}.bak")
    while kept.exists():
        kept = path.with_name(f"{path.name}.bak{next(numbers)}")
    write_atomic(kept, path.read_bytes())
    write_atomic(path, text.encode())
    return kept


def _segments(found: ResolvedScaffold) -> list[str]:
    """Each part under its name, as it is sent."""
    lines = []
    counts = found.segment_tokens or (None,) * len(found.rendered.segments)
    for each, count in zip(found.rendered.segments, counts, strict=True):
        tokens = "" if count is None else f", {words.count(count, 'token')}"
        mark = ", kept up to here" if each.breakpoint else ""
        lines += [f"── {each.label} ({each.kind}{tokens}{mark})", *each.text.removesuffix("\n").split("\n")]
    return lines


def _summary(found: ResolvedScaffold) -> str:
    told = [f"{found.rendered.provider}/{found.rendered.model} as {found.provider_format}"]
    if found.token_count is not None:
        bound = f" ±{found.token_bound:,}" if found.token_bound else ""
        told.append(f"{found.token_count:,}{bound} tokens")
    if found.estimated_cost is not None:
        told.append(f"{prompts_documents.money(found.estimated_cost)} {found.estimated_cost.kind}")
    known = {True: "answered before", False: "not answered before", None: "not looked up"}
    told.append(known[found.cache_hit])
    return f"{', '.join(told)}; request {found.request_hash[:12]}"
