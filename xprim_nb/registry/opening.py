"""From a configured URL to the source that reads it.

Source: spec 1 §Client (`http(s)://`, a directory path or `file://`).
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from xprim_nb.config import Config, expand_home, mask_url
from xprim_nb.errors import ConfigError
from xprim_nb.registry.sources import Source
from xprim_nb.registry.sources.answers import origin
from xprim_nb.registry.sources.directory import DirectorySource

if TYPE_CHECKING:
    from xprim_nb.registry.sources.http import AsyncClientLike
else:
    AsyncClientLike = object

__all__ = ["AsyncClientLike", "open_source", "open_sources"]


def open_sources(config: Config, default_url: str, client: AsyncClientLike | None = None) -> list[Source]:
    """The registry and its mirrors, in order.

    Mirrors get `Config.headers` only where they share the registry's origin: what they serve is verified, and so they
    need not be trusted with its credentials.

    Raises:
        ConfigError: A URL cannot be used.
    """
    first = config.registry_url or default_url
    sources = [open_source(first, config, client)]
    for url in config.mirrors:
        trusted = config if _share_origin(first, url) else replace(config, headers={})
        sources.append(open_source(url, trusted, client))
    return sources


def open_source(url: str, config: Config, client: AsyncClientLike | None = None) -> Source:
    """The source for one base URL or directory.

    Raises:
        ConfigError: The URL cannot be used, or has a scheme that we do not read.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{mask_url(url)!r} is no usable URL: {error}.", subject="registry_url") from error
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
        # By name for the same reason: it brings an HTTP client of its own.
        request = importlib.import_module("urllib.request")
        return DirectorySource(Path(request.url2pathname(parts.path)))
    if parts.scheme == "file":
        raise ConfigError(
            f"The registry URL {mask_url(url)!r} names a file on another host, {parts.hostname or ''!r}.",
            subject="registry_url",
            hint="A file on this machine has three slashes, file:///path; a network drive is named by its path.",
        )
    if "://" in url:
        raise ConfigError(
            f"The registry URL {mask_url(url)!r} has a scheme that is not supported.",
            subject="registry_url",
            hint="Use http://, https://, file:// or a directory.",
        )
    return DirectorySource(expand_home(url, "registry_url").absolute())


def _share_origin(first: str, second: str) -> bool:
    try:
        return origin(first) == origin(second) and urlsplit(first).scheme in ("http", "https")
    except ValueError:  # `open_source` says what is wrong with it
        return False
