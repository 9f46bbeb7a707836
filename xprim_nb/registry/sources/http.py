"""A registry behind `http(s)://`: documents through httpx2, chunks through the lean path.

An injected client carries the chunks too, and so does httpx2 where `http.client` cannot go (SOCKS and TLS proxies).

Source: spec 1 §Client and the issue's section on performance.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2

from xprim_nb._hashing import is_digest
from xprim_nb._threads import Lanes, settled
from xprim_nb.config import MAX_CONCURRENCY, mask_url
from xprim_nb.errors import ConfigError, RegistryError
from xprim_nb.registry.manifest import MAX_DOCUMENT_BYTES
from xprim_nb.registry.sources.answers import (
    MAX_REDIRECTS,
    judge_body,
    origin,
    redirect_target,
    refuse_status,
    request_headers,
)
from xprim_nb.registry.sources.contract import ChunkSink, Document, SourceError, SourceStalledError
from xprim_nb.registry.sources.wire import StopToken, Wire, WireOptions

__all__ = ["AsyncClientLike", "HttpOptions", "HttpSource"]


class AsyncClientLike(Protocol):
    """The one method of `httpx2.AsyncClient` that is used; anything that has it can be injected."""

    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], follow_redirects: bool
    ) -> contextlib.AbstractAsyncContextManager[Any]:
        """Send a request; the response has `status_code`, `headers`, `aiter_bytes()` and `aiter_raw()`."""
        ...


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How an `HttpSource` connects; the fields are those of `Config`."""

    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = None
    verify: bool | str | ssl.SSLContext = True
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 30.0


class HttpSource:
    """One base URL. Owns its connections until `aclose`; an injected client stays its owner's.

    Args:
        base_url: What `/models.json` and `/data/<sha256>` are appended to. Credentials in it are sent as Basic auth.
        options: How to connect.
        client: Carries everything, chunks included, when given.

    Raises:
        ConfigError: The URL has no host, or the CA bundle cannot be read (at first use).
    """

    def __init__(self, base_url: str, options: HttpOptions | None = None, client: AsyncClientLike | None = None) -> None:
        self._options = options or HttpOptions()
        self.url = mask_url(base_url).rstrip("/")
        parts = urlsplit(base_url)
        if not parts.hostname:
            raise ConfigError(f"{self.url!r} names no host.", subject="registry_url")
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
        self._base = urlunsplit(bare).rstrip("/")
        self._headers = dict(self._options.headers)
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers.setdefault("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
        self._injected = client
        self._own: dict[str, httpx2.AsyncClient] = {}
        self._lanes: Lanes | None = None
        self._wire = Wire(
            WireOptions(
                headers_for=self._headers_for,
                proxy_for=self._proxy_for,
                ssl_context=self._ssl_context,
                connect_timeout_s=self._options.connect_timeout_s,
                stall_timeout_s=self._options.stall_timeout_s,
            )
        )

    @property
    def needs_network(self) -> bool:
        """True: asking opens a socket."""
        return True

    async def index(self, etag: str = "", last_modified: str = "") -> Document:
        """See `Source.index`; the validators are HTTP's own."""
        validators = {"If-None-Match": etag} if etag else {"If-Modified-Since": last_modified} if last_modified else {}
        url = f"{self._base}/models.json"
        async with self._exchange(url, {"User-Agent": "xprim-nb", **validators}) as response:
            if response.status_code == 304 and validators:
                return Document(None, etag, last_modified)
            raw = await self._read_small(url, response)
            return Document(raw, response.headers.get("etag", ""), response.headers.get("last-modified", ""))

    async def document(self, digest: str) -> bytes:
        """See `Source.document`."""
        url = self._object(digest)
        async with self._exchange(url, request_headers()) as response:
            return await self._read_small(url, response)

    async def chunk(self, digest: str, sink: ChunkSink, lanes: Lanes | None = None) -> None:
        """See `Source.chunk`."""
        url = self._object(digest)
        lanes = lanes or self._own_lanes()
        if self._injected is None and urlsplit(self._proxy_for(url)).scheme in ("", "http"):
            await self._chunk_by_wire(url, sink, lanes)
        else:
            async with lanes.turn:
                await self._chunk_by_client(url, sink)

    async def aclose(self) -> None:
        """Close the own connections. Idempotent."""
        own, self._own = self._own, {}
        for client in own.values():
            await client.aclose()
        lanes, self._lanes = self._lanes, None
        if lanes is not None:
            lanes.close()
        self._wire.close()

    async def _chunk_by_wire(self, url: str, sink: ChunkSink, lanes: Lanes) -> None:
        stop = StopToken()
        headers = request_headers(sink.received)
        work = functools.partial(self._wire.fetch, url, headers, sink, stop)
        running = asyncio.get_running_loop().run_in_executor(lanes.threads, work)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.stop()
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def _chunk_by_client(self, url: str, sink: ChunkSink) -> None:
        async with self._exchange(url, request_headers(sink.received)) as response:
            body = judge_body(url, response.status_code, response.headers, sink.received, sink.size_bytes)
            if body.restart and sink.received:
                sink.restart()
            async for block in self._unstalled(url, response.aiter_raw()):
                if sink.received + len(block) > sink.size_bytes:
                    block = block[: sink.size_bytes - sink.received]  # noqa: PLW2901  # cut off what is too long
                await settled(sink.write, memoryview(block))
                if sink.received == sink.size_bytes:
                    return
        raise SourceError(
            f"{mask_url(url)} broke off after {sink.received} of {sink.size_bytes} bytes.", subject=mask_url(url)
        )

    @contextlib.asynccontextmanager
    async def _exchange(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
        """The final response for a URL, redirects followed; foreign errors leave as `SourceError`."""
        try:
            for _ in range(MAX_REDIRECTS + 1):
                client = self._injected or self._client(urlsplit(url).scheme)
                sent = {**headers, **self._headers_for(url)}
                async with client.stream("GET", url, headers=sent, follow_redirects=False) as response:
                    target = redirect_target(url, response.status_code, response.headers)
                    if target is None:
                        yield response
                        return
                url = target
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, ssl.SSLError) as error:
            raise _translated(url, error) from error
        raise SourceError(f"{mask_url(url)} redirects in circles.", subject=mask_url(url), retryable=False)

    async def _read_small(self, url: str, response: Any) -> bytes:  # noqa: ANN401  # injected clients have no type
        refuse_status(url, response.status_code, response.headers)
        parts: list[bytes] = []
        size = 0
        async for block in self._unstalled(url, response.aiter_bytes()):
            size += len(block)
            if size > MAX_DOCUMENT_BYTES:
                raise RegistryError(f"{mask_url(url)} is larger than {MAX_DOCUMENT_BYTES} bytes.", subject=mask_url(url))
            parts.append(block)
        return b"".join(parts)

    async def _unstalled(self, url: str, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The blocks, or `SourceStalledError` when none comes for too long (injected clients may wait for ever)."""
        while True:
            try:
                async with asyncio.timeout(self._options.stall_timeout_s):
                    block = await anext(blocks, None)
            except TimeoutError as error:
                raise SourceStalledError(f"{mask_url(url)}: nothing came for too long.", subject=mask_url(url)) from error
            if block is None:
                return
            yield block

    def _client(self, scheme: str) -> httpx2.AsyncClient:
        """One client a scheme: loading the trusted certificates takes 50 ms, which plain HTTP need not pay."""
        if scheme not in self._own:
            silence = self._options.stall_timeout_s
            self._own[scheme] = httpx2.AsyncClient(
                verify=self._ssl_context() if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                proxy=self._options.proxy,
                timeout=httpx2.Timeout(silence, connect=self._options.connect_timeout_s),
            )
        return self._own[scheme]

    def _own_lanes(self) -> Lanes:
        if self._lanes is None:
            self._lanes = Lanes(MAX_CONCURRENCY)
        return self._lanes

    def _object(self, digest: str) -> str:
        if not is_digest(digest):
            raise RegistryError(f"{digest!r:.100} is no digest, and so no object's name.", subject=digest[:100])
        return f"{self._base}/data/{digest}"

    def _headers_for(self, url: str) -> Mapping[str, str]:
        """Credentials stay with the registry's own origin, whatever it redirects to."""
        return self._headers if origin(url) == origin(self._base) else {}

    def _proxy_for(self, url: str) -> str:
        if self._options.proxy is not None:
            return self._options.proxy
        parts = urlsplit(url)
        known = urllib.request.getproxies()
        proxy = known.get(parts.scheme) or known.get("all") or ""
        if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        verify = self._options.verify
        if isinstance(verify, str):
            try:
                return ssl.create_default_context(cafile=verify)
            except OSError as error:
                raise ConfigError(f"The CA bundle {verify!r} cannot be read: {error}.", subject="verify") from error
        return httpx2.create_ssl_context(verify)

    def _ssl_context(self) -> ssl.SSLContext:
        return self._context


def _translated(url: str, error: Exception) -> SourceError:
    shown = mask_url(url)
    if isinstance(error, httpx2.TimeoutException):
        return SourceStalledError(f"{shown}: nothing came for too long.", subject=shown)
    final = isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)) or "CERTIFICATE" in str(error).upper()
    return SourceError(
        f"{shown} could not be fetched: {str(error) or type(error).__name__}.", subject=shown, retryable=not final
    )
