"""What each command of `%xprim` takes, beside the model it is about.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from xprim_nb.config import MAX_CONCURRENCY
from xprim_nb.magics.ai_options import GENERATE, LOADING
from xprim_nb.magics.prompt_options import PROMPT, VERBS

__all__ = ["MODEL", "NAMING", "OPTIONS"]

# Whether a command must, may or cannot be told a model.
MODEL: Mapping[str, str] = {
    **dict.fromkeys("pull remove info path repair refresh rollback unpin restore".split(), "required"),
    **dict.fromkeys("load evict plan generate".split(), "required"),
    **dict.fromkeys("update status health validate backups pin archive".split(), "optional"),
}
# Models that run may be a server's, or a directory of one's own.
NAMING: Mapping[str, str] = dict.fromkeys(
    "load evict plan generate".split(), "group/model, a directory, or backend:name"
)

_Add = Callable[[argparse.ArgumentParser], object]


def _concurrency(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= MAX_CONCURRENCY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_CONCURRENCY}")
    return number


def _amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return number


def _flag(name: str, help: str) -> _Add:
    return lambda parser: parser.add_argument(name, action="store_true", help=help)


def _text(name: str, metavar: str, help: str) -> _Add:
    return lambda parser: parser.add_argument(name, metavar=metavar, default=None, help=help)


def _number(name: str, metavar: str, default: float | None, help: str) -> _Add:
    return lambda parser: parser.add_argument(name, metavar=metavar, type=_amount, default=default, help=help)


def _words(name: str, metavar: str, nargs: str | None, help: str) -> _Add:
    return lambda parser: parser.add_argument(name, metavar=metavar, nargs=nargs, help=help)


_DRY_RUN = _flag("--dry-run", "return the plan; change nothing")
_AT_ONCE: _Add = lambda parser: parser.add_argument(  # noqa: E731  # a row of the table below
    "--concurrency", metavar="N", type=_concurrency, help="chunks at once, 1 to 16"
)
_DEPTHS = (
    _flag("--quick", "look again, and hash what changed"),
    _flag("--full", "hash every byte"),
)
_POLICY = (
    _text("--max-size", "SIZE", "least recently used models go until it is below: 50GB"),
    _number("--max-age-days", "N", None, "models installed longer ago go"),
    _number("--unused-days", "N", None, "models not used for longer go"),
    _flag("--compress", "archive unused models instead of removing them"),
    _flag("--dedupe", "let equal files share their blocks afterwards"),
    _number("--idle-hours", "N", 24.0, "leftovers untouched for longer go; 24 when not given"),
    _number("--min-age-hours", "N", 1.0, "what was used within is spared; 1 when not given"),
)

OPTIONS: Mapping[str, tuple[_Add, ...]] = {
    "models": (
        _flag("--remote", "what the registry has"),
        lambda parser: parser.add_argument(
            "--filter", metavar="TEXT", default="", help="only names that contain it"
        ),
    ),
    "pull": (
        _flag("--wait", "return when it is installed"),
        _flag("--force", "verify what is installed, fetch what is wrong"),
        _flag("--dry-run", "show what would be fetched"),
        lambda parser: parser.add_argument(
            "--concurrency", metavar="N", type=_concurrency, help="chunks fetched at once, 1 to 16"
        ),
    ),
    "remove": (_flag("--all", "every version of the model"),),
    "info": (_flag("--remote", "what the registry says of it"),),
    "update": (_flag("--apply", "pull what has an update"),),
    "config": (_words("settings", "KEY=VALUE", "*", "an empty value is the default"),),
    "help": (
        lambda parser: parser.add_argument("topic", metavar="COMMAND", nargs="?", help="a command"),
        lambda parser: parser.add_argument("of", metavar="VERB", nargs="?", help="a verb of `prompts`"),
    ),
    "health": _DEPTHS,
    "validate": (_DEPTHS[1],),
    "repair": (
        _flag("--overwrite-modified", "put files back that you changed; yours are put aside"),
        _DRY_RUN,
    ),
    "refresh": (
        _flag("--discard-changes", "do not carry over what you changed; the backup has it"),
        _flag("--no-backup", "keep no backup"),
        _AT_ONCE,
        _DRY_RUN,
    ),
    "rollback": (
        _text("--to", "BACKUP", "its id, or the first digits of its manifest; the newest when not given"),
        _flag("--force", "also when files in the backup are damaged or missing"),
        _DRY_RUN,
    ),
    "cleanup": (*_POLICY, _flag("--apply", "do it; without, the plan is returned"), _DRY_RUN),
    "free": (_words("size", "SIZE", None, "how much: 20GB"), *_POLICY, _DRY_RUN),
    "pin": (
        lambda parser: parser.add_argument("--reason", metavar="TEXT", default="", help="why"),
        _flag("--awake", "keep it loaded: it is never evicted for another model"),
    ),
    "unpin": (_flag("--awake", "let it be evicted again"),),
    "why": (
        _words("path", "PATH", "+", "a file, a directory, or a model that is awake"),
        _flag("--awake", "it is a model: why does it wait, why was it evicted?"),
    ),
    "load": (
        *LOADING,
        _flag("--background", "return a handle at once"),
    ),
    "plan": LOADING,
    "generate": GENERATE,
    "prompt": PROMPT,
    **{f"prompts {verb}": adds for verb, adds in VERBS.items()},
    "archive": (_DRY_RUN,),
    "restore": (_AT_ONCE, _DRY_RUN),
    "adopt": (
        _words("where", "WHERE", "?", "hf, ollama, or a folder; without, what is adopted"),
        _text("--as", "REF", "install a model of it under this name, without a download"),
        _text("--model", "NAME", "which, where the place has several"),
        _DRY_RUN,
    ),
    "maintain": (
        _flag("--if-due", "only when the schedule says so"),
        lambda parser: parser.add_argument(
            "--schedule",
            choices=("daily", "weekly", "monthly", "never"),
            help="remember when it is due; never forgets it, and runs nothing",
        ),
        _flag("--full", "hash every byte"),
        _number("--scrub", "SECONDS", 60.0, "spent on what was verified longest ago; 60 when not given"),
        *_POLICY,
        _DRY_RUN,
    ),
}
