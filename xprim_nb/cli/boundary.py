"""Flags anywhere on the line, and every failure as a sentence and an exit code.

A failure never leaves our commands as an exception, so that they behave alike under a Click parent, under a Typer
parent (which has its own copy of Click and cannot catch ours) and alone:

    1. click's own way out (`--help`, a finished call): unchanged.
    2. A usage error: click's text, exit 2.
    3. An `XprimError`: `error: …` and `hint: …`, its own exit code.
    4. Ctrl-C: what was kept and how to go on, exit 130.
    5. Nobody reads stdout any more: silence, exit 141.
    6. Anything else: one sentence, exit 1; the traceback only with `--verbose`.

Under `--json` cases 2, 3, 4 and 6 are a document with the key `error`.

Source: spec 1 §CLI; seeds/002 §Exit Codes, §Global Flags.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from xprim_nb.cli import words
from xprim_nb.cli.session import Session
from xprim_nb.config import Config
from xprim_nb.errors import NotInstalledError, XprimError

__all__ = ["DoorCommand", "DoorGroup", "explain", "pass_session", "tell_error"]

# What a shell reports for a process ended by SIGINT and by SIGPIPE.
_INTERRUPTED, _PIPE_CLOSED = 130, 141
# Exceptions that have a case of their own in the list above, 6 excepted.
_EXPLAINED = (click.exceptions.Exit, click.ClickException, click.Abort, XprimError, BrokenPipeError)

_NAMING = "REF is group/model; the version may also be part of it: group/model@version."

pass_session = click.make_pass_decorator(Session)


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    session = ctx.find_object(Session)
    if value and session is not None and param.name is not None:
        setattr(session, param.name, value)


def _flag(*names: str, help: str) -> click.Option:
    return click.Option(names, is_flag=True, expose_value=False, help=help, callback=_remember)


# Accepted before and after the name of a command, because both are typed.
_FLAGS = (
    _flag("--json", "as_json", help="Answer with one JSON document on stdout."),
    _flag("--quiet", "-q", help="No progress and no notes."),
    _flag("--verbose", "-v", help="Write the log to stderr."),
)
# These too where the commands belong to us; a parent's commands have the parent's settings.
_SETTINGS = (
    click.Option(
        ["--registry", "registries"],
        metavar="URL",
        multiple=True,
        expose_value=False,
        callback=_remember,
        help="Registry URL or directory; further ones are mirrors. Default: $XPRIM_MODELS_REGISTRY_URL.",
    ),
    click.Option(
        ["--data-dir"],
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_remember,
        help="Where models are installed.",
    ),
    _flag("--offline", help="Open no socket."),
)


def _with_globals(ctx: click.Context, params: list[click.Parameter]) -> list[click.Parameter]:
    session = ctx.find_object(Session)
    settings = _SETTINGS if session is None or session.owns_settings else ()
    return [*params[:-1], *settings, *_FLAGS, *params[-1:]]


class DoorCommand(click.Command):
    """A command that also takes the global flags; it answers when it has ended."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters, the global ones, and `--help` last."""
        return _with_globals(ctx, super().get_params(ctx))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """How a model is named, where one is."""
        super().format_epilog(ctx, formatter)
        if any(param.name == "ref" for param in self.params):
            formatter.write_paragraph()
            formatter.write_text(_NAMING)

    def invoke(self, ctx: click.Context) -> object:
        """Run it, then give out its document and its warnings."""
        session = ctx.find_object(Session)
        assert session is not None
        with session.logging():
            result = super().invoke(ctx)
        session.flush()
        return result


class DoorGroup(click.Group):
    """A group of our commands, wherever it is mounted.

    Args:
        config: The settings; the environment goes on top of them.
        owns_settings: Offer `--registry`, `--data-dir` and `--offline`.
        holds_models: This is the group that hints mean by `xprim models`.
        holds_cache: This is the group that hints mean by `xprim cache`.
        holds_ai: This is the group that hints mean by `xprim ai`.
        holds_prompts: This is the group that hints mean by `xprim prompts`.
        **attrs: As for `click.Group`.
    """

    command_class = DoorCommand

    def __init__(
        self,
        *args: Any,
        config: Config,
        owns_settings: bool = False,
        holds_models: bool = False,
        holds_cache: bool = False,
        holds_ai: bool = False,
        holds_prompts: bool = False,
        **attrs: Any,
    ) -> None:
        super().__init__(*args, **attrs)
        self._config, self._owns_settings = config, owns_settings
        self._holds_models, self._holds_cache = holds_models, holds_cache
        self._holds_ai, self._holds_prompts = holds_ai, holds_prompts

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters, the global ones, and `--help` last."""
        return _with_globals(ctx, super().get_params(ctx))

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the line up to the command's name, or end the call with the reason why not."""
        session = parent.find_object(Session) if parent is not None else None
        if session is None:
            session = Session(self._config, owns_settings=self._owns_settings)
        # A line that does not parse must be answered in JSON too, so this flag is looked for by hand.
        session.as_json |= "--json" in (args[: args.index("--")] if "--" in args else args)
        with _boundary(session, parent):
            ctx = super().make_context(info_name, args, parent, obj=session, **extra)
        if self._holds_models:
            session.program = ctx.command_path
        if self._holds_cache:
            session.cache_program = ctx.command_path
        if self._holds_ai:
            session.ai_program = ctx.command_path
        if self._holds_prompts:
            session.prompts_program = ctx.command_path
        return ctx

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that the line names."""
        session = ctx.find_object(Session)
        assert session is not None
        with _boundary(session, ctx.parent):
            return super().invoke(ctx)


@contextmanager
def _boundary(session: Session, parent: click.Context | None) -> Iterator[None]:
    def leave(code: int) -> NoReturn:
        if parent is None or isinstance(parent, click.Context):
            raise click.exceptions.Exit(code)
        raise SystemExit(code)  # a parent with its own Click

    try:
        try:
            yield
        except (*_EXPLAINED, KeyboardInterrupt):
            raise
        except Exception as error:  # noqa: BLE001  # the last resort of a command line
            if session.verbose:
                traceback.print_exc()
            _report(session, _unexpected(error))
            leave(1)
    except click.exceptions.Exit as end:  # 1
        leave(end.exit_code)
    except click.ClickException as error:  # 2
        _report_usage(session, error)
        leave(error.exit_code)
    except XprimError as error:  # 3
        if session.verbose:
            traceback.print_exc()
        _report(session, explain(session, error))
        leave(error.exit_code)
    except (KeyboardInterrupt, click.Abort):  # 4
        _report_interrupt(session)
        leave(_INTERRUPTED)
    except BrokenPipeError:  # 5
        _silence_stdout()
        leave(_PIPE_CLOSED)


def _report(session: Session, error: dict[str, Any]) -> None:
    """Tell a failure: on stderr for a person, as the document's `error` for a program."""
    if error["subject"] == "stdout":  # it takes no document either
        _silence_stdout()
        session.as_json = False
    session.flush(error=error)
    tell_error(session, error)


def tell_error(session: Session, error: Mapping[str, Any]) -> None:
    """The two lines for a person."""
    if not session.as_json:
        words.say(f"error: {error['message']}", err=True)
        if error["hint"]:
            words.say(f"hint: {error['hint']}", err=True)


def explain(session: Session, error: XprimError) -> dict[str, Any]:
    """The error as a document has it, in the words of whoever mounted the commands."""
    told: dict[str, Any] = dict(error.to_dict())
    missing = isinstance(error, NotInstalledError) and error.message.endswith(" installed.")
    if missing and error.subject and not session.as_json:  # and not a backup, an archive or a document
        told["message"] = f"model not installed: {error.subject}"  # the seed's words
    # The core names the commands as this package installs them; a parent may have mounted them elsewhere.
    told["message"], told["hint"] = session.worded(told["message"]), session.worded(error.hint)
    return told


def _unexpected(error: Exception) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": f"unexpected {type(error).__name__}: {error}".rstrip(": "),
        "subject": "",
        "hint": "This is a bug: run again with --verbose to see where it happened.",
        "exit_code": 1,
    }


def _report_usage(session: Session, error: click.ClickException) -> None:
    if not session.as_json:
        session.flush()
        error.show()
        return
    ctx = getattr(error, "ctx", None)
    hint = f"{ctx.command_path} --help" if ctx is not None else ""
    message = error.format_message()
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is the whole help text
        message = "No command was given."
    _report(
        session,
        {"type": "UsageError", "message": message, "subject": "", "hint": hint, "exit_code": error.exit_code},
    )


def _report_interrupt(session: Session) -> None:
    message, hint = session.paused or session.stopped or "interrupted", ""
    if session.paused:
        hint = "run the same command again to resume"
    if session.as_json:
        error = {
            "type": "Interrupted",
            "message": message,
            "subject": "",
            "hint": hint,
            "exit_code": _INTERRUPTED,
        }
        session.flush(error=error)
    else:
        session.flush()
        words.say("; ".join(each for each in (message, hint) if each), err=True)


def _silence_stdout() -> None:
    # Python flushes stdout once more at exit, and would complain then.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
