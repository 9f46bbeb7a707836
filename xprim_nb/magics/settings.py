"""The settings that `%xprim config KEY=VALUE` can change, and how their text is read.

Source: spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from IPython.core.error import UsageError

from xprim_nb.config import Config
from xprim_nb.magics import parsing

__all__ = ["SETTINGS", "changed"]

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _switch(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError("must be 1 or 0")
    return text.lower() in _TRUE


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number") from None


def _urls(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _trust(text: str) -> bool | str:
    return _switch(text) if text.lower() in _TRUE + _FALSE else text


# `headers` is left out: a secret does not belong in a cell.
SETTINGS: dict[str, Callable[[str], object]] = {
    "registry_url": str,
    "mirrors": _urls,
    "data_dir": Path,
    "offline": _switch,
    "concurrency": _whole,
    "app_name": str,
    "proxy": str,
    "verify": _trust,
    "tries": _whole,
    "backoff_s": _number,
    "connect_timeout_s": _number,
    "stall_timeout_s": _number,
    "partial_max_age_s": _number,
}


def changed(config: Config, pairs: Iterable[str]) -> Config:
    """The settings with changes typed as `KEY=VALUE`; an empty value stands for the environment's or the default.

    Raises:
        UsageError: There is no such setting, or its value cannot be read.
        ConfigError: Its value is out of range.
    """
    default = Config.from_env(Config(app_name=config.app_name))
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"%xprim config: {pair!r} is no KEY=VALUE; the keys are {', '.join(SETTINGS)}")
        if key not in SETTINGS:
            meant = parsing.suggestion(key, SETTINGS) or f"; the keys are {', '.join(SETTINGS)}"
            raise UsageError(f"%xprim config: there is no setting {key!r} to change{meant}")
        try:
            values[key] = SETTINGS[key](text) if text else getattr(default, key)
        except ValueError as error:
            raise UsageError(f"%xprim config: {key}={text}: {error}") from error
    return replace(config, **values)  # type: ignore[arg-type]  # each read by its own function
