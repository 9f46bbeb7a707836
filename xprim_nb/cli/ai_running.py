"""`xprim ai run`: a prompt in, its continuation out, piece by piece.

    stdout      the text, and a line's end; on a terminal control characters are shown instead of obeyed
    stderr      what is waited for, then where the time went

Source: spec 4 §Faces (`xprim ai run MODEL PROMPT …`).
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import ai_documents, words
from xprim_nb.cli.ai_options import answering_options, loading_options, model_argument, model_of, settings_of
from xprim_nb.cli.ai_printing import Printed, prompt_from_stdin, streamed
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.errors import NotInstalledError

if TYPE_CHECKING:
    from xprim_nb.scheduling.values import Reply
    from xprim_nb.toolkit import Toolkit

__all__ = ["run"]

_PRIORITIES = ("system", "realtime", "default", "batch")
_NOTE = "xprim ai run"


@click.command(cls=DoorCommand, short_help="Continue a prompt, or answer a message.")
@model_argument
@click.argument("prompt", metavar="PROMPT")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="N",
    help="Most tokens of the answer.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="T",
    help="0 takes the most likely token each time.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=1.0,
    metavar="P",
    help="Only the most likely tokens that together have this probability.",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=0),
    default=0,
    metavar="K",
    help="Only so many of the most likely tokens; 0 for all.",
)
@click.option(
    "--seed",
    type=int,
    metavar="S",
    help="The same seed gives the same text again; one is made up and told when not given.",
)
@click.option("--stop", "stops", multiple=True, metavar="TEXT", help="End before this text; may be repeated.")
@click.option(
    "--lora", "loras", multiple=True, metavar="NAME[*WEIGHT]", help="A LoRA layer; may be repeated."
)
@click.option("--system", metavar="TEXT", help="A system message; the prompt is then a message too.")
@click.option("--chat", is_flag=True, help="Lay the prompt out as a message, by the model's chat template.")
@click.option(
    "--priority",
    type=click.Choice(_PRIORITIES),
    default="default",
    show_default=True,
    help="Who is served first where several ask.",
)
@answering_options
@loading_options
@pass_session
def run(session: Session, /, model: str, prompt: str, **how: Any) -> None:
    """Run MODEL on PROMPT and print what it writes; "-" reads the prompt from stdin.

    MODEL is group/model@version, a directory, or backend:name. A model that is not here is installed, and it is
    unloaded when the command ends. Ctrl-C ends the answer; what came is printed.
    """
    text = prompt_from_stdin() if prompt == "-" else prompt
    options = _options(how, text)
    with session.connected() as kit:
        reply = _answered(session, kit, model_of(model), options, Printed(session))
        _tell(session, reply)


def _options(how: dict[str, Any], text: str) -> dict[str, Any]:
    """The options of `Engine.generate` that these make, the prompt among them."""
    settings = settings_of(how)
    timeout, system, chat = how.pop("timeout"), how.pop("system"), how.pop("chat")
    if timeout is not None:
        settings["timeout"] = None if math.isinf(timeout) else timeout
    if chat or system is not None:
        told = [{"role": "system", "content": system}] if system is not None else []
        settings["messages"] = [*told, {"role": "user", "content": text}]
    else:
        settings["prompt"] = text
    return {**settings, "stop": how.pop("stops"), "note": _NOTE, **how}


def _answered(session: Session, kit: Toolkit, model: str, options: dict[str, Any], out: Printed) -> Reply:
    """The answer, printed; where the setting is to ask before an installation, a person at a terminal is asked."""
    try:
        return _streamed(session, kit, model, options, out)
    except NotInstalledError as error:
        asks = kit.config.ai.auto_install_models == "ask" and options["install"] is None
        if not asks or session.as_json or not sys.stdin.isatty():
            raise
        if not click.confirm(f"{error.message} Install it?", err=True):
            raise
    return _streamed(session, kit, model, {**options, "install": True}, out)


def _streamed(session: Session, kit: Toolkit, model: str, options: dict[str, Any], out: Printed) -> Reply:
    return streamed(session, lambda stream: kit.ai.generate(model, stream=stream, **options), out)


def _tell(session: Session, reply: Reply) -> None:
    """The document, or on stderr how it came about."""
    if reply.degraded:
        session.warn(f"{reply.model} ran with less than was asked for: {reply.degraded}.")
    told = [reply.stamp]
    told += [f"seed {reply.seed}"] if reply.seed else []
    told += [f"cut at {words.count(reply.tokens, 'token')}"] if reply.finish_reason == "length" else []
    session.answer(ai_documents.reply(reply))
    session.note(", ".join(told))
