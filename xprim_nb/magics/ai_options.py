"""What `%%generate` and the commands about models that run take, beside the model.

Source: spec 4 §Faces.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

__all__ = [
    "GENERATE",
    "LOADING",
    "PRIORITIES",
    "RUNNING",
    "Add",
    "amount",
    "option",
    "pair",
    "settings_of",
    "treatment_of",
    "whole",
]

PRIORITIES = ("system", "realtime", "default", "batch")
"""Who is served first where several ask, first to last."""

Add = Callable[[argparse.ArgumentParser], object]
"""Adds an argument to a parser."""
_SWITCHES = {"true": True, "false": False, "none": None}


def option(*names: str, **how: Any) -> Add:
    """An argument, as `add_argument` takes it."""
    return lambda parser: parser.add_argument(*names, **how)


def whole(least: int) -> Callable[[str], int]:
    """Reads a whole number that is not below `least`."""

    def read(text: str) -> int:
        number = int(text) if text.lstrip("-").isdecimal() else least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return number

    return read


def amount(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Reads a number from `least`, or above it, to `most`."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (least < number if above else least <= number) or not number <= most or math.isinf(number):
            bounds = f"{'above' if above else 'from'} {least:g}" + (
                f" to {most:g}" if most < math.inf else ""
            )
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bounds}")
        return number

    return read


def _seconds(text: str) -> float:
    if text.lower() == "none":
        return math.inf
    try:
        return amount(0, above=True)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, or none") from None


def pair(text: str) -> tuple[str, object]:
    """Reads KEY=VALUE; a value that looks like a number or a switch is one."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no KEY=VALUE")
    return key.strip().replace("-", "_"), _value(value)


def _value(text: str) -> object:
    """What a text means: a number, a switch, or itself."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return _SWITCHES.get(text.lower(), text)


LOADING: tuple[Add, ...] = (
    option("--context-tokens", metavar="N", type=whole(1), help="room for prompt and answer"),
    option("--dtype", metavar="NAME", help="numbers it computes with: float32, bfloat16 …"),
    option(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        type=pair,
        action="append",
        default=[],
        help="a setting of the backend's own; may be repeated",
    ),
)
"""How a model is loaded."""

RUNNING: tuple[Add, ...] = (
    option("--priority", choices=PRIORITIES, default="default", help="who is served first where several ask"),
    option(
        "--timeout", metavar="S", type=_seconds, help="longest time of the answer itself, in seconds, or none"
    ),
    option(
        "--install",
        action=argparse.BooleanOptionalAction,
        help="whether a model that is not here is installed",
    ),
)
"""How a request to a model is treated."""

GENERATE: tuple[Add, ...] = (
    option(
        "--max-tokens",
        metavar="N",
        type=whole(1),
        default=256,
        help="most tokens of the answer; 256 when not given",
    ),
    option(
        "--temperature",
        metavar="T",
        type=amount(0),
        default=0.0,
        help="0, the default, takes the most likely token each time",
    ),
    option(
        "--top-p",
        metavar="P",
        type=amount(0, 1, above=True),
        default=1.0,
        help="only the most likely tokens that together have this probability",
    ),
    option(
        "--top-k",
        metavar="K",
        type=whole(0),
        default=0,
        help="only so many of the most likely tokens; 0 for all",
    ),
    option("--seed", metavar="S", type=int, help="the same seed gives the same text again"),
    option(
        "--stop", metavar="TEXT", action="append", default=[], help="end before this text; may be repeated"
    ),
    option(
        "--lora",
        dest="loras",
        metavar="NAME[*WEIGHT]",
        action="append",
        default=[],
        help="a LoRA layer; may be repeated",
    ),
    option(
        "--chat", action="store_true", help="the cell is a message, laid out by the model's chat template"
    ),
    option("--system", metavar="TEXT", help="a system message; the cell is then a message too"),
    option(
        "--messages",
        metavar="NAME",
        help="a conversation so far, in a variable: a list of mappings with role and content",
    ),
    option("--as", dest="name", metavar="NAME", help="keep the answer in this variable"),
    *RUNNING,
    *LOADING,
)
"""What is asked of a model, and how."""


def treatment_of(asked: argparse.Namespace) -> dict[str, Any]:
    """The options that `RUNNING` has read, as `Engine.generate` calls them."""
    told: dict[str, Any] = {"priority": asked.priority, "install": asked.install}
    if asked.timeout is not None:
        told["timeout"] = None if math.isinf(asked.timeout) else asked.timeout
    return told


def settings_of(asked: argparse.Namespace) -> dict[str, object]:
    """The settings that `LOADING` has read."""
    named = {name: getattr(asked, name) for name in ("context_tokens", "dtype")}
    return {**dict(asked.settings), **{name: value for name, value in named.items() if value is not None}}
