"""One document by URL: conditional, retried, bounded; `http(s)://` through the house's client, `file://` from disk.

Source: spec 2 §Information bundle ("download with retry and conditional requests"); spec 1 §Client.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import random
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from xprim_nb._threads import settled
from xprim_nb.config import Config
from xprim_nb.errors import NetworkError, OfflineError, RegistryError
from xprim_nb.events import EventHub, FetchRetried
from xprim_nb.registry.opening import AsyncClientLike
from xprim_nb.registry.retry import RetryPolicy, is_final
from xprim_nb.registry.sources.answers import clean_url, shown_url
from xprim_nb.registry.sources.contract import Document, SourceError

if TYPE_CHECKING:
    from xprim_nb.registry.sources.http import HttpSource

__all__ = ["Fetcher"]

_log = logging.getLogger("xprim_nb.cache")

# No registry: nothing has this origin, so no credentials go anywhere.
_NOWHERE = "https://registry.invalid"


class Fetcher:
    """Fetches documents. Owns its connections until `aclose`; opens none before it is asked for an `http` URL.

    Args:
        config: How to connect, how often to try, whether to go out at all.
        client: Carries the requests when given; stays its owner's.
        events: Where retries are told.
        sleep: Waits between two tries.
    """

    def __init__(
        self,
        config: Config,
        client: AsyncClientLike | None = None,
        events: EventHub | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config, self._injected, self._sleep = config, client, sleep
        self._events = events or EventHub()
        self._policy = RetryPolicy(config.tries, config.backoff_s)
        self._source: HttpSource | None = None

    @property
    def offline(self) -> bool:
        """True when only `file://` URLs can be fetched."""
        return self._config.offline

    async def fetch(self, url: str, etag: str = "", last_modified: str = "", *, limit_bytes: int) -> Document:
        """The bytes of a URL, or `raw=None` when those of the validators are still right.

        Raises:
            OfflineError: Offline mode, and it is an `http(s)` URL.
            NetworkError: It could not be had.
            RegistryError: It is larger than `limit_bytes`.
        """
        parts = urlsplit(url)
        if parts.scheme == "file":
            return await settled(_read_file, Path(url2pathname(parts.path)), etag, limit_bytes)
        if self._config.offline:
            raise OfflineError(
                f"Offline, and {shown_url(url)} is not on this machine.", subject=shown_url(url)
            )
        attempt, source, cleaned = 0, self._opened(), clean_url(url)
        while True:
            attempt += 1
            try:
                return await source.page(cleaned, etag, last_modified, limit_bytes=limit_bytes)
            except NetworkError as error:
                delay_s = self._policy.delay_s(attempt, random.random(), [error])  # jitter
                if is_final(error) or delay_s is None:
                    raise
                _log.info("a document is tried again", extra={"url": shown_url(url), "why": error.message})
                self._events.publish(
                    FetchRetried("a document", shown_url(url), attempt + 1, error.message, delay_s)
                )
                await self._sleep(delay_s)

    async def aclose(self) -> None:
        """Close the own connections. Idempotent."""
        source, self._source = self._source, None
        if source is not None:
            await source.aclose()

    def _opened(self) -> HttpSource:
        if self._source is None:
            # By name, so that who fetches nothing never pays for loading the HTTP client.
            http = importlib.import_module("xprim_nb.registry.sources.http")
            registry = self._config.registry_url or ""
            at_registry = registry.startswith(("http://", "https://"))
            options = http.HttpOptions(
                headers=self._config.headers if at_registry else {},
                proxy=self._config.proxy,
                verify=self._config.verify,
                connect_timeout_s=self._config.connect_timeout_s,
                stall_timeout_s=self._config.stall_timeout_s,
            )
            source: HttpSource = http.HttpSource(
                registry if at_registry else _NOWHERE, options, self._injected
            )
            self._source = source
        return self._source


def _read_file(path: Path, etag: str, limit_bytes: int) -> Document:
    try:
        # O_NONBLOCK: opening a named pipe would wait for somebody who writes into it.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise SourceError(f"{path} is not a plain file.", subject=str(path), retryable=False)
            identity = f"{facts.st_ino}-{facts.st_size}-{facts.st_mtime_ns}"
            if etag == identity:
                return Document(None, etag)
            raw = file.read(limit_bytes + 1)
    except OSError as error:
        if isinstance(error, NetworkError):
            raise
        raise SourceError(
            f"{path} cannot be read: {error.strerror or error}.", subject=str(path), retryable=False
        ) from error
    if len(raw) > limit_bytes:
        raise RegistryError(f"{path} is larger than {limit_bytes} bytes.", subject=str(path))
    return Document(raw, identity)
