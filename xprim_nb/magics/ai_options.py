"""What `%%generate` and the commands about models that run take, beside the model.

Source: spec 4 §Faces.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

__all__ = ["GENERATE", "LOADING", "PRIORITIES", "settings_of"]

PRIORITIES = ("system", "realtime", "default", "batch")
"""Who is served first where several ask, first to last."""

_Add = Callable[[argparse.ArgumentParser], object]
_SWITCHES = {"true": True, "false": False, "none": None}


def _add(*names: str, **how: Any) -> _Add:
    return lambda parser: parser.add_argument(*names, **how)


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if text.lstrip("-").isdecimal() else least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return number

    return read


def _amount(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
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
        return _amount(0, above=True)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, or none") from None


def _pair(text: str) -> tuple[str, object]:
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


LOADING: tuple[_Add, ...] = (
    _add("--context-tokens", metavar="N", type=_whole(1), help="room for prompt and answer"),
    _add("--dtype", metavar="NAME", help="numbers it computes with: float32, bfloat16 …"),
    _add(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="a setting of the backend's own; may be repeated",
    ),
)
"""How a model is loaded."""

GENERATE: tuple[_Add, ...] = (
    _add(
        "--max-tokens",
        metavar="N",
        type=_whole(1),
        default=256,
        help="most tokens of the answer; 256 when not given",
    ),
    _add(
        "--temperature",
        metavar="T",
        type=_amount(0),
        default=0.0,
        help="0, the default, takes the most likely token each time",
    ),
    _add(
        "--top-p",
        metavar="P",
        type=_amount(0, 1, above=True),
        default=1.0,
        help="only the most likely tokens that together have this probability",
    ),
    _add(
        "--top-k",
        metavar="K",
        type=_whole(0),
        default=0,
        help="only so many of the most likely tokens; 0 for all",
    ),
    _add("--seed", metavar="S", type=int, help="the same seed gives the same text again"),
    _add("--stop", metavar="TEXT", action="append", default=[], help="end before this text; may be repeated"),
    _add(
        "--lora",
        dest="loras",
        metavar="NAME[*WEIGHT]",
        action="append",
        default=[],
        help="a LoRA layer; may be repeated",
    ),
    _add("--chat", action="store_true", help="the cell is a message, laid out by the model's chat template"),
    _add("--system", metavar="TEXT", help="a system message; the cell is then a message too"),
    _add(
        "--messages",
        metavar="NAME",
        help="a conversation so far, in a variable: a list of mappings with role and content",
    ),
    _add("--as", dest="name", metavar="NAME", help="keep the answer in this variable"),
    _add("--priority", choices=PRIORITIES, default="default", help="who is served first where several ask"),
    _add(
        "--timeout", metavar="S", type=_seconds, help="longest time of the answer itself, in seconds, or none"
    ),
    _add(
        "--install",
        action=argparse.BooleanOptionalAction,
        help="whether a model that is not here is installed",
    ),
    *LOADING,
)
"""What is asked of a model, and how."""


def settings_of(asked: argparse.Namespace) -> dict[str, object]:
    """The settings that `LOADING` has read."""
    named = {name: getattr(asked, name) for name in ("context_tokens", "dtype")}
    return {**dict(asked.settings), **{name: value for name, value in named.items() if value is not None}}
