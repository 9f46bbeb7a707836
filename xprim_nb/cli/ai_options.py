"""How a model that runs is named on a command line, and with which options it is loaded.

Source: spec 4 §Faces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import ModelRef

__all__ = [
    "NO_LIMIT",
    "answering_options",
    "loading_options",
    "model_argument",
    "model_of",
    "settings_of",
]

NO_LIMIT = "none"
"""What a limit of time is called that there is not."""

_SWITCHES: Mapping[str, object] = {"true": True, "false": False, "none": None}


def _read_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A number of seconds above 0; `none`, for no limit, becomes `math.inf`.

    Raises:
        click.BadParameter: It is neither.
    """
    if value is None:
        return None
    if value.lower() == NO_LIMIT:
        return math.inf
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise click.BadParameter(
            f"{value!r} is not a number of seconds above 0, or {NO_LIMIT!r}.", ctx, param
        )
    return number


def model_argument(function: click.decorators.FC) -> click.decorators.FC:
    """The argument MODEL."""
    return click.argument("model", metavar="MODEL")(function)


def model_of(text: str) -> str:
    """The model's name as the engine has it: `group/model@version` with a space.

    >>> model_of("demo/tiny-llama@v2"), model_of("ollama:llama3.2:3b")
    ('demo/tiny-llama v2', 'ollama:llama3.2:3b')
    """
    before, colon, name = text.partition(":")
    try:
        return f"{before}{colon}{ModelRef.parse(name)}" if colon else str(ModelRef.parse(text))
    except InvalidRefError:  # a server's name, or a path: the engine says when it is neither
        return text


def answering_options(function: click.decorators.FC) -> click.decorators.FC:
    """What holds for every answer: `--timeout`, and whether a model may be installed for it."""
    for option in reversed(
        (
            click.option(
                "--timeout",
                callback=_read_seconds,
                metavar="S",
                help="Longest time of the answer itself, in seconds, or none; the setting when not given.",
            ),
            click.option(
                "--install/--no-install",
                "install",
                default=None,
                help="Whether a model that is not here is installed; the setting when not given.",
            ),
        )
    ):
        function = option(function)
    return function


def loading_options(function: click.decorators.FC) -> click.decorators.FC:
    """How a model is loaded: `--context-tokens`, `--dtype`, `--set`."""
    for option in reversed(
        (
            click.option(
                "--context-tokens",
                type=click.IntRange(min=1),
                metavar="N",
                help="Room for prompt and answer; the setting when not given.",
            ),
            click.option("--dtype", metavar="NAME", help="Numbers it computes with: float32, bfloat16 …"),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="KEY=VALUE",
                help="A setting of the backend's own; may be repeated.",
            ),
        )
    ):
        function = option(function)
    return function


def settings_of(how: dict[str, Any]) -> dict[str, object]:
    """The settings that `loading_options` has read, taken out of `how`.

    Raises:
        click.UsageError: `--set` has no `KEY=VALUE`.
    """
    found = _pairs(how.pop("settings"))
    for name in ("context_tokens", "dtype"):
        value = how.pop(name)
        if value is not None:
            found[name] = value
    return found


def _pairs(texts: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--set {text!r} is no KEY=VALUE.")
        found[key.strip().replace("-", "_")] = _value(value)
    return found


def _value(text: str) -> object:
    """What a text means: a number, a switch, or itself."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return _SWITCHES.get(text.lower(), text)
