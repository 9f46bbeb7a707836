"""A registry behind `http(s)://`: documents through httpx2, chunks through the lean path.

An injected client carries the chunks too, and so does httpx2 where `http.client` cannot go (SOCKS and TLS proxies).

Source: spec 1 §Client and the issue's section on performance.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2

from xprim_nb._hashing import is_digest
from xprim_nb._text import format_count
from xprim_nb._threads import Lanes, settled
from xprim_nb.config import MAX_CONCURRENCY, mask_url
from xprim_nb.errors import ConfigError, MissingExtraError, RegistryError, XprimError
from xprim_nb.registry.manifest import MAX_DOCUMENT_BYTES
from xprim_nb.registry.sources.answers import (
    MAX_REDIRECTS,
    Body,
    clean_url,
    judge_body,
    origin,
    redirect_target,
    refuse_status,
    request_headers,
    shown_url,
    whole_number,
)
from xprim_nb.registry.sources.contract import ChunkSink, Document, SourceError
from xprim_nb.registry.sources.failures import failure
from xprim_nb.registry.sources.proxies import ProxyChoice
from xprim_nb.registry.sources.wire import StopToken, Wire, WireOptions

__all__ = ["AsyncClientLike", "HttpOptions", "HttpSource"]

# RFC 9110 §5.1, §5.5: a token; printable characters, no space at the ends.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_HEADER_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?)?\Z")
# httpx2 tells a refused CONNECT in words only.
_TUNNEL_REFUSED = re.compile(r"(\d{3})\b")


class AsyncClientLike(Protocol):
    """The one method of `httpx2.AsyncClient` that is used; anything that has it can be injected."""

    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], follow_redirects: bool
    ) -> contextlib.AbstractAsyncContextManager[Any]:
        """Send a request; the response has `status_code`, `headers`, `aiter_bytes()` and `aiter_raw()`.

        What goes wrong is raised as one of `httpx2`'s errors or as an `OSError`.
        """
        ...


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How an `HttpSource` connects; the fields are those of `Config`. What may hold a secret is not in the repr."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
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
        ConfigError: The URL or a header cannot be used; at first use, the proxy or the CA bundle.
        MissingExtraError: The proxy needs the extra `socks` (at first use).
    """

    def __init__(
        self, base_url: str, options: HttpOptions | None = None, client: AsyncClientLike | None = None
    ) -> None:
        self._options = options or HttpOptions()
        self.url = shown_url(base_url).rstrip("/")
        try:
            parts = urlsplit(clean_url(base_url))
        except ValueError as error:
            raise ConfigError(f"{self.url!r} is no usable URL: {error}.", subject="registry_url") from error
        if parts.query:
            raise ConfigError(f"{self.url!r} has a query, and can be no base URL.", subject="registry_url")
        self._base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
        self._headers = _checked_headers(self._options.headers)
        if parts.username is not None and "authorization" not in map(str.lower, self._headers):
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._injected = client
        self._own: dict[str, httpx2.AsyncClient] = {}
        self._lanes: Lanes | None = None
        self._proxy_for = ProxyChoice(self._options.proxy)
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
        return await self.page(f"{self._base}/models.json", etag, last_modified)

    async def page(
        self, url: str, etag: str = "", last_modified: str = "", *, limit_bytes: int | None = None
    ) -> Document:
        """The bytes of any URL, or `raw=None` when they still match the validators.

        The base URL's credentials go along only where the URL has its origin.

        Raises:
            SourceError: The try failed.
            RegistryError: The answer is larger than `limit_bytes`, or `MAX_DOCUMENT_BYTES`.
        """
        validators = (
            {"If-None-Match": etag} if etag else {"If-Modified-Since": last_modified} if last_modified else {}
        )
        async with self._exchange(url, {"User-Agent": "xprim-nb", **validators}) as response:
            if response.status_code == 304 and validators:
                return Document(None, etag, last_modified)
            raw = await _read_small(url, response, self._options.stall_timeout_s, limit_bytes)
            return Document(raw, response.headers.get("etag", ""), response.headers.get("last-modified", ""))

    async def document(self, digest: str) -> bytes:
        """See `Source.document`."""
        url = self._object(digest)
        async with self._exchange(url, request_headers()) as response:
            return await _read_small(url, response, self._options.stall_timeout_s)

    async def chunk(self, digest: str, sink: ChunkSink, lanes: Lanes | None = None) -> None:
        """See `Source.chunk`."""
        url = self._object(digest)
        if sink.received == sink.size_bytes:  # there is no range behind the last byte
            return
        lanes = lanes or self._own_lanes()
        if self.blocks:
            await self._chunk_by_wire(url, sink, lanes)
        else:
            async with lanes.turn:
                await self._chunk_by_client(url, sink)

    @property
    def blocks(self) -> bool:
        """False when an injected client carries the chunks, or a proxy that only httpx2 can use."""
        return self._injected is None and urlsplit(self._proxy_for(self._base)).scheme in ("", "http")

    def read_chunk(self, digest: str, sink: ChunkSink, stop: StopToken) -> None:
        """See `BlockingSource.read_chunk`."""
        self._wire.fetch(self._object(digest), sink, stop)

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
        work = functools.partial(self._wire.fetch, url, sink, stop)
        running = asyncio.get_running_loop().run_in_executor(lanes.threads, work)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.stop()
            running.cancel()  # takes it out of the line, if it still stands there
            raise

    async def _chunk_by_client(self, url: str, sink: ChunkSink) -> None:
        body: Body | None = None
        while body is None:  # at most twice: from the first byte on there is no range to be refused
            async with self._exchange(url, request_headers(sink.received)) as response:
                body = judge_body(url, response.status_code, response.headers, sink.received, sink.size_bytes)
                if (body is None or body.restart) and sink.received:
                    sink.restart()
                if body is not None:
                    await self._read_body(url, response, sink)

    async def _read_body(self, url: str, response: Any, sink: ChunkSink) -> None:  # noqa: ANN401  # no type
        async with contextlib.aclosing(
            _unstalled(response.aiter_raw(), self._options.stall_timeout_s)
        ) as blocks:
            while sink.received < sink.size_bytes:
                block = await anext(blocks, b"")
                if not block:
                    raise SourceError(
                        f"{shown_url(url)} broke off after {sink.received} of {format_count(sink.size_bytes, 'byte')}.",
                        subject=shown_url(url),
                    )
                # Cut off what is too long.
                await settled(sink.write, memoryview(block)[: sink.size_bytes - sink.received])
            if {"content-length", "transfer-encoding"} & set(response.headers):
                # The end, without which the client gives up the connection; the chunk is whole without it.
                with contextlib.suppress(OSError, httpx2.HTTPError):
                    await anext(blocks, None)

    @contextlib.asynccontextmanager
    async def _exchange(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
        """The final response for a URL, redirects followed; foreign errors leave as `SourceError`."""
        try:
            for _ in range(MAX_REDIRECTS + 1):
                async with contextlib.AsyncExitStack() as stack:
                    response = await stack.enter_async_context(self._begun(url, headers))
                    target = redirect_target(url, response.status_code, response.headers)
                    if target is None:
                        yield response
                        return
                url = target
        except XprimError:  # the sink's and the judge's own words; some of them are OSErrors too
            raise
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, UnicodeError) as error:
            raise _translated(url, error) from error
        raise SourceError(f"{shown_url(url)} redirects in circles.", subject=shown_url(url), retryable=False)

    @contextlib.asynccontextmanager
    async def _begun(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
        """One response. Waiting for its head is limited too: an injected client may wait for ever."""
        client = self._injected or self._client(url)
        sent = {**headers, **self._headers_for(url)}
        asked = client.stream("GET", url, headers=sent, follow_redirects=False)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._options.connect_timeout_s + self._options.stall_timeout_s):
                    response = await stack.enter_async_context(asked)
            except (
                ValueError
            ) as error:  # httpx2 follows a redirect in thought, and stumbles over a broken one
                raise failure(url, error, final=True) from error
            yield response

    def _client(self, url: str) -> httpx2.AsyncClient:
        """One client a scheme: loading the trusted certificates takes 50 ms, which plain HTTP need not pay."""
        scheme = urlsplit(url).scheme
        if scheme not in self._own:
            secure = scheme == "https" or self._proxy_for(url).startswith("https")
            context = self._ssl_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            silence = self._options.stall_timeout_s
            try:
                self._own[scheme] = httpx2.AsyncClient(
                    verify=context,
                    proxy=self._options.proxy,
                    timeout=httpx2.Timeout(silence, connect=self._options.connect_timeout_s),
                )
            except ImportError as error:
                raise MissingExtraError.for_extra("socks", "A SOCKS proxy") from error
            except (ValueError, httpx2.InvalidURL) as error:  # its words may hold the proxy's password
                shown = mask_url(self._proxy_for(url))
                raise ConfigError(f"The proxy {shown!r} cannot be used.", subject="proxy") from error
        return self._own[scheme]

    def _own_lanes(self) -> Lanes:
        if self._lanes is None:
            self._lanes = Lanes(MAX_CONCURRENCY)
        return self._lanes

    def _object(self, digest: str) -> str:
        if not is_digest(digest):
            raise RegistryError(
                f"{digest!r:.100} is no digest, and so no object's name.", subject=digest[:100]
            )
        return f"{self._base}/data/{digest}"

    def _headers_for(self, url: str) -> Mapping[str, str]:
        """Credentials stay with the registry's own origin, whatever it redirects to."""
        return self._headers if origin(url) == origin(self._base) else {}

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        verify = self._options.verify
        try:
            if isinstance(verify, str):
                return ssl.create_default_context(cafile=verify)
            return httpx2.create_ssl_context(verify)
        except OSError as error:
            named = repr(verify) if isinstance(verify, str) else "that SSL_CERT_FILE or SSL_CERT_DIR names"
            raise ConfigError(f"The CA bundle {named} cannot be read: {error}.", subject="verify") from error

    def _ssl_context(self) -> ssl.SSLContext:
        return self._context


async def _read_small(
    url: str,
    response: Any,  # noqa: ANN401  # injected clients have no type
    stall_timeout_s: float,
    limit_bytes: int | None = None,
) -> bytes:
    refuse_status(url, response.status_code, response.headers)
    limit_bytes = limit_bytes or MAX_DOCUMENT_BYTES
    parts: list[bytes] = []
    size = whole_number(response.headers.get("content-length", "")) or 0
    if size <= limit_bytes:
        size = 0
        async with contextlib.aclosing(_unstalled(response.aiter_bytes(), stall_timeout_s)) as blocks:
            async for block in blocks:
                size += len(block)
                if size > limit_bytes:
                    break
                parts.append(block)
    if size > limit_bytes:
        shown = shown_url(url)
        raise RegistryError(f"{shown} is larger than {limit_bytes} bytes.", subject=shown)
    return b"".join(parts)


async def _unstalled(blocks: AsyncIterator[bytes], stall_timeout_s: float) -> AsyncGenerator[bytes]:
    """The blocks, or `TimeoutError` when none comes for too long (injected clients may wait for ever)."""
    while True:
        async with asyncio.timeout(stall_timeout_s):
            block = await anext(blocks, None)
        if block is None:
            return
        if block:
            yield block


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, fit to be sent: a client's own complaint would quote the value, which is a secret.

    Raises:
        ConfigError: A name or a value has characters that cannot stand in a header.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.match(name):
            raise ConfigError(f"{name!r} is no name of a header.", subject="headers")
        if not _HEADER_VALUE.match(value):
            raise ConfigError(
                f"The value of the header {name} cannot be sent.",
                subject="headers",
                hint="Only printable ASCII can: does it end in a line break, or a space?",
            )
    return dict(headers)


def _translated(url: str, error: Exception) -> SourceError:
    refused = _TUNNEL_REFUSED.match(str(error)) if isinstance(error, httpx2.ProxyError) else None
    return failure(
        url,
        error,
        stalled=isinstance(error, (httpx2.TimeoutException, TimeoutError)),
        final=isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError)),
        proxy_status=int(refused[1]) if refused else None,
    )
