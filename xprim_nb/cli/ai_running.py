"""`xprim ai run`: a prompt in, its continuation out, piece by piece.

    stdout      the text, and a line's end; on a terminal control characters are shown instead of obeyed
    stderr      what is waited for, then where the time went

Source: spec 4 §Faces (`xprim ai run MODEL PROMPT …`).
"""

from __future__ import annotations

import contextlib
import math
import queue
import sys
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import click

from xprim_nb.cli import ai_documents, words
from xprim_nb.cli.ai_options import loading_options, model_argument, model_of, read_seconds, settings_of
from xprim_nb.cli.ai_progress import TICK_S, waiting
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.errors import ConfigError, NotInstalledError, XprimError

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.cli.ai_progress import Waiting
    from xprim_nb.scheduling.values import GenerateProgress, Reply
    from xprim_nb.toolkit import Toolkit

__all__ = ["run"]

_PRIORITIES = ("system", "realtime", "default", "batch")
# An answer that does not stop by then has cost its worker; what came is printed all the same.
_CLEANUP_S = 5.0
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
@click.option(
    "--timeout",
    callback=read_seconds,
    metavar="S",
    help="Longest time of the answer itself, in seconds, or none; the setting when not given.",
)
@click.option(
    "--install/--no-install",
    "install",
    default=None,
    help="Whether a model that is not here is installed; the setting when not given.",
)
@loading_options
@pass_session
def run(session: Session, /, model: str, prompt: str, **how: Any) -> None:
    """Run MODEL on PROMPT and print what it writes; "-" reads the prompt from stdin.

    MODEL is group/model@version, a directory, or backend:name. A model that is not here is installed, and it is
    unloaded when the command ends. Ctrl-C ends the answer; what came is printed.
    """
    text = _from_stdin() if prompt == "-" else prompt
    options = _options(how, text)
    with session.connected() as kit:
        reply = _answered(session, kit, model_of(model), options, _Printed(session))
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


def _from_stdin() -> str:
    """What stdin holds, without the last line's end, which `echo` adds and nobody means.

    Raises:
        ConfigError: It is no UTF-8.
    """
    data = sys.stdin.buffer.read()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The prompt on stdin is no UTF-8: {error.reason} at byte {error.start}.", subject="prompt"
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


class _Printed:
    """What was printed of an answer; nothing under `--json`, whose document has all of it."""

    def __init__(self, session: Session) -> None:
        self._is_silent, self._is_terminal = session.as_json, sys.stdout.isatty()
        self._last, self._chars = "", 0

    def add(self, text: str) -> None:
        """Print a piece."""
        if text and not self._is_silent:
            words.stream(text, harmless=self._is_terminal)
            self._last, self._chars = text, self._chars + len(text)

    def catch_up(self, whole: str) -> None:
        """Print what of a text was not printed yet: an interrupt may come between taking a piece and printing it."""
        self.add(whole[self._chars :])

    def end(self, *, is_whole: bool) -> None:
        """End the line. Behind a whole answer a pipe's reader finds exactly one line's end that is not the model's."""
        wanted = (is_whole or bool(self._last)) and not (self._is_terminal and self._last.endswith("\n"))
        if wanted and not self._is_silent:
            words.stream("\n", harmless=False)


def _answered(session: Session, kit: Toolkit, model: str, options: dict[str, Any], out: _Printed) -> Reply:
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


def _streamed(session: Session, kit: Toolkit, model: str, options: dict[str, Any], out: _Printed) -> Reply:
    pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    handle = kit.ai.generate(model, stream=pieces.put, **options)
    try:
        handle.add_done_callback(lambda _: pieces.put(None))
        with waiting(session) as shown:
            while (text := _next(pieces, handle, shown)) is not None:
                shown.end()
                out.add(text)
            reply = handle.result()
    except KeyboardInterrupt:
        _stop(session, handle, out)
        raise
    out.end(is_whole=True)
    return reply


def _next(pieces: queue.SimpleQueue[str | None], handle: Handle[Reply], shown: Waiting) -> str | None:
    """The next piece; None behind the last."""
    while True:
        try:
            return pieces.get(timeout=TICK_S)
        except queue.Empty:
            shown.show(handle.snapshot())


def _stop(session: Session, handle: Handle[Reply], out: _Printed) -> None:
    """End the answer, and print what came until then."""
    handle.cancel()
    with contextlib.suppress(CancelledError, TimeoutError, XprimError):  # what became of it is told below
        handle.result(_CLEANUP_S)
    progress: GenerateProgress | None = handle.snapshot()
    if progress is not None:
        out.catch_up(progress.text)
    out.end(is_whole=False)
    if progress is not None and progress.tokens:
        session.stopped = f"stopped after {words.count(progress.tokens, 'token')}"
        session.answer(ai_documents.stopped(progress))


def _tell(session: Session, reply: Reply) -> None:
    """The document, or on stderr how it came about."""
    if reply.degraded:
        session.warn(f"{reply.model} ran with less than was asked for: {reply.degraded}.")
    told = [reply.stamp]
    told += [f"seed {reply.seed}"] if reply.seed else []
    told += [f"cut at {words.count(reply.tokens, 'token')}"] if reply.finish_reason == "length" else []
    session.answer(ai_documents.reply(reply))
    session.note(", ".join(told))
