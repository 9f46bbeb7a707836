"""Where notices go: the log, the notebook, a webhook, a file of JSON lines, a callable.

Source: spec 2 §Refresh (notification channels).
"""

from __future__ import annotations

import html
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from xprim_nb._files import append_line
from xprim_nb.errors import ConfigError
from xprim_nb.notify.notices import Notice

__all__ = ["Channel", "Sink", "open_channel"]

_log = logging.getLogger("xprim_nb.notify")

Channel: TypeAlias = str | Callable[[Notice], object]

_LEVELS: dict[str, int] = {
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class Sink(Protocol):
    """Delivers. Called in one thread at a time."""

    def __call__(self, notice: Notice, closing: threading.Event) -> None:
        """Deliver, or raise; once `closing` is set no time is spent on waiting."""
        ...


def open_channel(channel: Channel, options: Mapping[str, Any] | None = None) -> Sink:
    """What delivers to a channel: `log`, `notebook`, `webhook:URL`, `file:PATH`, or a callable that takes the notice.

    Args:
        channel: Which.
        options: Further arguments of the HTTP client (`proxy`, `verify`).

    Raises:
        ConfigError: It is none of these; the message says why.
    """
    if callable(channel):
        return _Call(channel)
    text = str(channel)
    kind, _, rest = text.partition(":")
    if text == "log":
        return _to_log
    if text == "notebook":
        return _to_notebook
    if kind == "webhook":
        return _open_webhook(rest, options or {})
    if kind == "file" and rest.strip():
        return _JsonLines(Path(rest).expanduser().absolute())
    shown = f"{kind}:***" if kind == "file" or "://" in text else repr(text)
    raise ConfigError(
        f"{shown} is no notification channel.",
        subject="notification_channels",
        hint="There are log, notebook, webhook:URL, file:PATH, and in Python a callable that takes a notice.",
    )


def _open_webhook(url: str, options: Mapping[str, Any]) -> Sink:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            "A webhook channel needs an http or https URL with a host.",
            subject="notification_channels",
            hint="Write it as webhook:https://host/path.",
        )
    # By name, so that nobody else pays for loading the HTTP client.
    sink: Sink = importlib.import_module("xprim_nb.notify.webhook").Webhook(url, options)
    return sink


def _to_log(notice: Notice, closing: threading.Event) -> None:
    fields = {"kind": notice.kind, "ref": notice.ref, "next_step": notice.next_step}
    _log.log(_LEVELS[notice.severity], "%s", notice, extra=fields)


def _to_notebook(notice: Notice, closing: threading.Event) -> None:
    """Shown in the cell that runs; where there is no notebook, it is logged."""
    module: Any = sys.modules.get("IPython")  # a shell that runs has loaded it
    shell = module.get_ipython() if module is not None else None
    if shell is None:
        _to_log(notice, closing)
        return
    step = f"<br><code>{html.escape(notice.next_step)}</code>" if notice.next_step else ""
    text = f"<b>{html.escape(notice.severity)}</b> {html.escape(notice.message)}{step}"
    data = {"text/plain": f"{notice.severity}: {notice}", "text/html": text}
    sys.modules["IPython"].display.display(data, raw=True)


class _Call:
    """Whatever takes a notice."""

    def __init__(self, target: Callable[[Notice], object]) -> None:
        self._target = target

    def __call__(self, notice: Notice, closing: threading.Event) -> None:
        self._target(notice)

    def __repr__(self) -> str:
        return str(getattr(self._target, "__qualname__", type(self._target).__name__))


class _JsonLines:
    """One JSON document a line, on the medium before the next one is begun."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, notice: Notice, closing: threading.Event) -> None:
        append_line(self._path, notice.model_dump_json().encode())

    def __repr__(self) -> str:
        return f"file:{self._path}"
