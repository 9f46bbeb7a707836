"""The settings that `%xprim config KEY=VALUE` can change, and how their text is read.

Source: spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path

from IPython.core.error import UsageError

from xprim_nb.config import Config
from xprim_nb.config.capabilities import AICapabilities, parse_bytes
from xprim_nb.config.database import database_password
from xprim_nb.errors import ConfigError
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


def _span(text: str) -> float | None:
    return None if text.lower() == "none" else _number(text)


def _size(text: str) -> int:
    try:
        return parse_bytes(text, "the setting")
    except ConfigError:
        raise ValueError("must be a size like 8GB or 512MB") from None


# `headers` and the keys of servers are left out: a secret does not belong in a cell; nor does a database's password.
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
    "database_url": str,
    # What models may use: these are `Config.ai`'s.
    "max_vram": _size,
    "max_ram": _size,
    "max_concurrent_workers": _whole,
    "max_ram_per_worker": _size,
    "auto_install_models": str.lower,
    "max_model_cache_size": _size,
    "model_storage_path": Path,
    "context_tokens": _whole,
    "timeout_s": _span,
    "queue_timeout_s": _number,
    "load_stall_timeout_s": _number,
    "first_token_timeout_s": _number,
    "between_tokens_timeout_s": _number,
    "allow_smaller_context": _switch,
    "allow_cpu": _switch,
    "hot_spare": _switch,
    "worker_python": Path,
    "ledger_dir": Path,
}
_AI_FIELDS: Mapping[str, str] = {
    each.name.removesuffix("_bytes"): each.name for each in fields(AICapabilities)
}
# `endpoint.ollama=http://localhost:11434`; any other name is an OpenAI-compatible server's.
_ENDPOINT = "endpoint."


def changed(config: Config, pairs: Iterable[str]) -> Config:
    """The settings with changes typed as `KEY=VALUE`; an empty value stands for the environment's or the default.

    Raises:
        UsageError: There is no such setting, or its value cannot be read.
        ConfigError: Its value is out of range.
    """
    default = Config.from_env(Config(app_name=config.app_name))
    values: dict[str, object] = {}
    of_models: dict[str, object] = {}
    endpoints = dict(config.ai.endpoints)
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"%xprim config: {pair!r} is no KEY=VALUE; the keys are {', '.join(SETTINGS)}")
        if key.startswith(_ENDPOINT):
            _set_endpoint(endpoints, default, key.removeprefix(_ENDPOINT), text)
            continue
        _check(key, text)
        try:
            read = SETTINGS[key](text) if text else _default(default, key)
        except ValueError as error:
            raise UsageError(f"%xprim config: {key}={text}: {error}") from error
        if key in _AI_FIELDS:
            of_models[_AI_FIELDS[key]] = read
        else:
            values[key] = read
    if (
        "model_storage_path" in of_models
    ):  # the same directory, by the name that the engine's settings have for it
        values.setdefault("data_dir", of_models["model_storage_path"] or default.data_dir)
    ai = replace(config.ai, **of_models, endpoints=endpoints)  # type: ignore[arg-type]  # each read by its own function
    return replace(config, **values, ai=ai)  # type: ignore[arg-type]  # the same


def _check(key: str, text: str) -> None:
    if key in ("keys", "key") or key.startswith(("keys.", "key.")):
        raise UsageError(
            "%xprim config: a key does not belong in a notebook; set OPENAI_API_KEY, ANTHROPIC_API_KEY or "
            "XPRIM_OPENAI_COMPATIBLE_KEY in the environment that Jupyter is started from"
        )
    if key == "database_url" and database_password(text):
        raise UsageError(
            "%xprim config: a password does not belong in a notebook; set XPRIM_DATABASE_URL in the environment that "
            "Jupyter is started from, or keep the password in ~/.pgpass and leave it out here"
        )
    if key not in SETTINGS:
        meant = parsing.suggestion(key, SETTINGS) or f"; the keys are {', '.join(SETTINGS)}"
        raise UsageError(f"%xprim config: there is no setting {key!r} to change{meant}")


def _default(default: Config, key: str) -> object:
    return getattr(default.ai, _AI_FIELDS[key]) if key in _AI_FIELDS else getattr(default, key)


def _set_endpoint(endpoints: dict[str, str], default: Config, name: str, url: str) -> None:
    """Name a server, or forget it; the environment's comes back."""
    if not name or ":" in name:
        raise UsageError(
            f"%xprim config: {_ENDPOINT}{name} names no server; write {_ENDPOINT}ollama=http://…"
        )
    endpoints.pop(name, None)
    wanted = url or default.ai.endpoints.get(name, "")
    if wanted:
        endpoints[name] = wanted
