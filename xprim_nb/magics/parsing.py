"""One line of `%xprim`, read as argparse reads a command line; a mistake is one line back, not a traceback.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import shlex
from collections.abc import Iterable
from functools import cache
from typing import Any, NoReturn

from IPython.core.error import UsageError

__all__ = [
    "CELLS",
    "COMMANDS",
    "GROUPS",
    "HelpShownError",
    "help_text",
    "options_of",
    "parse",
    "parse_cell",
    "split",
    "suggestion",
    "takes_model",
]

COMMANDS = {
    "models": "List installed models, or what the registry has.",
    "pull": "Install a version in the background, or go on where an earlier pull stopped.",
    "remove": "Remove a version, or all versions of a model.",
    "info": "Show one version in detail.",
    "path": "The directory of an installed version.",
    "update": "Ask the registry whether installed versions are current.",
    "status": "How every model is, as of its last check; reads no model file.",
    "health": "The same as a report: a sentence, a table, `.frame` and `.chart`.",
    "validate": "Check a model, or all of them: whole, fresh, complete?",
    "repair": "Mend a model: only what is wrong is obtained.",
    "refresh": "Bring a version up to date; what you changed in it stays.",
    "rollback": "Put a backup back; what was in place becomes a backup.",
    "backups": "List the versions that were put aside whole.",
    "cleanup": "Plan what would go, or let it go with --apply.",
    "free": "Free so much: least recently used models go, and no more than that needs.",
    "pin": "Keep a model from every clean-up, or list what is kept; --awake keeps it loaded.",
    "unpin": "Take a pin away.",
    "why": "Which model a file belongs to, and why it is kept; or why a model waits, or was evicted.",
    "archive": "Store a model compressed, or list what is.",
    "restore": "Put an archived model back, byte for byte.",
    "adopt": "Let files that other programs have here serve pulls and repairs.",
    "maintain": "Check, mend, clean up, and say what was done.",
    "ps": "List every model that is awake, of all notebooks.",
    "load": "Load a model, so that the first answer need not wait for it.",
    "evict": "Unload a model as soon as it is idle.",
    "plan": "Show what loading a model would do: who leaves, how much that frees.",
    "gpu": "Open the panel of what is awake: devices, models, queue, timeline.",
    "timeline": "What happened to models, and which cell caused it; has `.frame` and `.chart`.",
    "browse": "Open the browser: find, pull, update and remove models by hand.",
    "pulls": "Open the panel of every pull: pause, resume, retry, cancel.",
    "prompts": "Prompts: what would be sent, what it would cost, what was answered before.",
    "doctor": "Look at what pulls and panels stand on, and say what to do about it.",
    "config": "Show the settings, or change them: registry_url=… max_vram=8GB offline=1.",
    "help": "Show the commands, or one of them in detail.",
}
CELLS = {
    "generate": "Run a model on the rest of the cell, and show what it writes as it comes.",
    "prompt": "Ask with the cell as the turn, through the cache; --explain only says what the cache would do.",
}
GROUPS = {
    "prompts": {
        "resolve": "What would be sent: its parts, tokens, price, and whether an answer is kept.",
        "explain": "What the provider's cache would do with it, and where it breaks; sends nothing.",
        "ask": "The answer, from the cache where the same was asked before.",
        "lint": "What in its beginning changes from call to call, and what would mend it; --fix puts that into a cell.",
        "checkpoint": "Keep a state that a variable holds, at the end of a branch.",
        "restore": "A checkpoint that is kept, with its state.",
        "branch": "Begin another branch at a checkpoint.",
        "list": "The checkpoints that are kept, as a tree of branches.",
        "analyze": "What prompts took and what the caches saved; of a checkpoint, or of all; has `.frame` and `.chart`.",
        "export": "Tell OpenTelemetry each call from now on; without a word of what is said, unless --content.",
    }
}
"""Commands that have commands of their own."""
_NAMING = "group/model, group/model@version"


class HelpShownError(Exception):
    """Help was asked for and has been printed; there is nothing else to do."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _, unknown, words = message.partition("unrecognized arguments: ")
        meant = suggestion(words.split()[0], self._option_string_actions) if unknown else ""
        raise UsageError(f"{self.prog}: {message}{meant} (`{self.prog} --help` shows what it takes)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise HelpShownError(message or "")


def split(line: str) -> list[str]:
    """The words of a line; quotes hold words together, a backslash is part of a path.

    >>> split('pull "demo/tiny v1" --force')
    ['pull', 'demo/tiny v1', '--force']

    Raises:
        UsageError: A quote is not closed.
    """
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    try:
        return list(lexer)
    except ValueError as error:
        raise UsageError(f"%xprim: {error}") from error


def parse(words: list[str]) -> argparse.Namespace:
    """What a line asks for: `command`, of those in `GROUPS` a `verb`, and that command's options.

    Raises:
        UsageError: It asks for nothing that exists.
        HelpShownError: It asked for help.
    """
    command, *rest = words or ["help"]
    if command in ("-h", "--help"):
        command = "help"
    _check(command)
    if command in GROUPS and rest and not rest[0].startswith("-"):
        verb, *rest = rest
        _check_verb(command, verb)
        return _parser(f"{command} {verb}").parse_args(rest, argparse.Namespace(command=command, verb=verb))
    if command in GROUPS:
        rest = ["--help"]
    return _parser(command).parse_args(rest, argparse.Namespace(command=command))


def parse_cell(command: str, words: list[str]) -> argparse.Namespace:
    """What the first line of a cell asks for, `%%generate …` say.

    Raises:
        UsageError: It asks for nothing that exists.
        HelpShownError: It asked for help.
    """
    return _parser(command).parse_args(words, argparse.Namespace(command=command))


def takes_model(command: str) -> bool:
    """True when a command is, or may be, about one model."""
    return command in importlib.import_module("xprim_nb.magics.options").MODEL


def help_text(command: str | None = None) -> str:
    """What `%xprim help` shows.

    Raises:
        UsageError: There is no such command.
    """
    if command is None:
        lines = [f"  %xprim {name:<10}{what}" for name, what in COMMANDS.items()]
        cells = [f"  %%{name:<13}{what}" for name, what in CELLS.items()]
        said = "`%xprim COMMAND --help` shows what a command takes."
        return "\n".join(["%xprim COMMAND …", *lines, *cells, said])
    name, _, verb = command.partition(" ")
    if name not in CELLS:
        _check(name)
    if verb and name in GROUPS:
        _check_verb(name, verb)
    return _parser(command if name in GROUPS else name).format_help()


def suggestion(word: str, known: Iterable[str]) -> str:
    """What may have been meant, ready to stand behind a message; empty when nothing is close.

    >>> suggestion("pul", ["pull", "path"])
    '; did you mean pull?'
    """
    names = {name.lstrip("-"): name for name in known}  # two dashes in common make no two options alike
    near = difflib.get_close_matches(word.lstrip("-"), names, n=1)
    return f"; did you mean {names[near[0]]}?" if near else ""


def _check(command: str) -> None:
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UsageError(
            f"%xprim has no command {command!r}{suggestion(command, COMMANDS) or f'; it has {known}'}"
        )


def _check_verb(command: str, verb: str) -> None:
    verbs = GROUPS[command]
    if verb not in verbs:
        known = ", ".join(verbs)
        meant = suggestion(verb, verbs) or f"; it has {known}"
        raise UsageError(f"%xprim {command} has no command {verb!r}{meant}")


def options_of(command: str) -> dict[str, str]:
    """A command's options, each with its help; of one in `GROUPS`, named with its verb."""
    actions = _parser(command)._actions
    return {name: action.help or "" for action in actions for name in action.option_strings if len(name) > 2}


def _named(command: str) -> dict[str, Any]:
    """What a parser is called, and what its help says of it."""
    if command in CELLS:
        return {"prog": f"%%{command}", "description": CELLS[command]}
    name, _, verb = command.partition(" ")
    if verb:
        return {"prog": f"%xprim {command}", "description": GROUPS[name][verb]}
    said: dict[str, Any] = {"prog": f"%xprim {command}", "description": COMMANDS[command]}
    if command in GROUPS:
        verbs = "\n".join(f"  {each:<12}{what}" for each, what in GROUPS[command].items())
        said["usage"] = f"%%xprim {command} VERB …"  # a % of argparse's own
        said["epilog"] = f"{verbs}\n\n`%xprim {command} VERB --help` shows what a verb takes."
        said["formatter_class"] = argparse.RawDescriptionHelpFormatter
    return said


@cache
def _parser(command: str) -> argparse.ArgumentParser:
    parser = _Parser(allow_abbrev=False, **_named(command))
    # Loaded with the first line: `%load_ext` shall cost next to nothing.
    options = importlib.import_module("xprim_nb.magics.options")
    if command in options.MODEL:
        optional = "?" if options.MODEL[command] == "optional" else None
        parser.add_argument("ref", metavar="REF", nargs=optional, help=options.NAMING.get(command, _NAMING))
        parser.add_argument("version", metavar="VERSION", nargs="?", help="the version, where REF has none")
    for add in options.OPTIONS.get(command, ()):
        add(parser)
    return parser
