"""From a configured URL to the source that reads it.

Source: spec 1 §Client (`http(s)://`, a directory path or `file://`).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from xprim_nb.config import Config, mask_url
from xprim_nb.errors import ConfigError
from xprim_nb.registry.sources import Source
from xprim_nb.registry.sources.directory import DirectorySource

if TYPE_CHECKING:
    from xprim_nb.registry.sources.http import AsyncClientLike
else:
    AsyncClientLike = object

__all__ = ["AsyncClientLike", "open_source", "open_sources"]


def open_sources(config: Config, default_url: str, client: AsyncClientLike | None = None) -> list[Source]:
    """The registry and its mirrors, in order.

    Raises:
        ConfigError: A URL cannot be used.
    """
    return [open_source(url, config, client) for url in (config.registry_url or default_url, *config.mirrors)]


def open_source(url: str, config: Config, client: AsyncClientLike | None = None) -> Source:
    """The source for one base URL or directory.

    Raises:
        ConfigError: The scheme is not one we read.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        # By name, so that a directory registry never pays for loading the HTTP client.
        http = importlib.import_module("xprim_nb.registry.sources.http")
        options = http.HttpOptions(
            headers=config.headers,
            proxy=config.proxy,
            verify=config.verify,
            connect_timeout_s=config.connect_timeout_s,
            stall_timeout_s=config.stall_timeout_s,
        )
        source: Source = http.HttpSource(url, options, client)
        return source
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return DirectorySource(Path(url2pathname(parts.path)))
    if "://" in url:
        raise ConfigError(
            f"The registry URL {mask_url(url)!r} has a scheme that is not supported.",
            subject="registry_url",
            hint="Use http://, https://, file:// or a directory.",
        )
    return DirectorySource(Path(url).expanduser().absolute())
