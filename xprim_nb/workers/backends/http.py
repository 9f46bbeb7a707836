"""One server that runs models, over httpx2: questions with one answer, and answers that come line by line.

Foreign errors become ours here, and nowhere else (`failures` says which). No key is in a header of the client, in a URL
or in an error.

Source: spec 4 §Install on first use; the NDJSON and SSE (WHATWG HTML §9.2) forms of the servers' documentation.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2
import orjson

from xprim_nb.config import mask_url
from xprim_nb.errors import ConfigError, OfflineError, XprimError
from xprim_nb.workers.backends.failures import Peer, answer_failure, garbled, status_failure

__all__ = ["CONNECT_S", "QUESTION_S", "Address", "Server", "checked_key", "events"]

# A server that is there accepts a connection at once; across an ocean and TLS, in a second or two.
CONNECT_S = 10.0
# Lists of models and the like: computed from what the server has in memory. Answers have no limit here: the
# scheduler has its own for the first token, between tokens and in total.
QUESTION_S = 30.0
# Far above any event of any server, and below what hurts: a line is held in memory until it ends.
_LONGEST_LINE = 8 << 20
# Of a refusal; what it says stands at its beginning.
_LONGEST_REFUSAL = 64 << 10
# RFC 9110 §5.5: what may stand in a header's value. A client's own complaint would quote it.
_SENDABLE = re.compile(r"[\x21-\x7e]+\Z")


def checked_key(key: str, name: str) -> str:
    """The key without the line break that files end with, fit to be sent.

    Raises:
        ConfigError: It has characters that cannot stand in a header; the message does not quote it.
    """
    key = key.strip()
    if key and not _SENDABLE.match(key):
        raise ConfigError(
            f"The key of {name} has characters that cannot be sent.",
            subject=name,
            hint="Only printable ASCII without spaces can: was more than the key copied?",
        )
    return key


class Address:
    """Where a server is: `url` to ask, `shown` to say, and the password that the address held, apart.

    Args:
        name: The backend, which errors name.
        url: With a scheme; credentials in it are sent as Basic authentication.

    Raises:
        ConfigError: It is no address.
    """

    def __init__(self, name: str, url: str) -> None:
        self.shown = mask_url(url).rstrip("/")
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise ConfigError(
                f"{mask_url(url)!r} is no address of a server.",
                subject=name,
                hint="Write it like http://127.0.0.1:8000/v1.",
            )
        self.is_here = is_loopback(host)
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
        self.user = unquote(parts.username or "")
        self.password = unquote(parts.password or "")

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def is_loopback(host: str) -> bool:
    """True for this machine by its loopback names and addresses.

    >>> is_loopback("localhost"), is_loopback("127.0.0.9"), is_loopback("::1"), is_loopback("10.0.0.1")
    (True, True, True, False)
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Bearer(httpx2.Auth):
    """Adds the key to each request; unlike a header of the client it shows in no repr."""

    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


class Server:
    """One base URL and its connections, until `aclose`.

    Args:
        name: The backend, which errors name.
        url: The base; paths are appended to it.
        key: Sent as a bearer token when there is one.
        offline: Refuse whatever is not on this machine.

    Raises:
        ConfigError: The address or the key cannot be used.
    """

    def __init__(self, name: str, url: str, *, key: str = "", offline: bool = False) -> None:
        self.address = Address(name, url)
        self.peer = Peer(name, self.address.shown, checked_key(key, name))
        self._offline = offline
        self._client: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"Server({self.address.shown!r})"

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float | None = QUESTION_S,
    ) -> object:
        """What the server answers, parsed; an empty or unparsable answer is None.

        Args:
            method: `GET` or `POST`.
            path: Appended to the base; a full URL is taken as it is.
            body: Sent as JSON.
            timeout_s: Longest silence; None where the server has work to do first.

        Raises:
            ProviderError: It answered with an error, could not be reached, or was silent for too long.
            OfflineError: It is elsewhere.
        """
        async with self._exchange(method, path, body, timeout_s=timeout_s) as response:
            raw = await response.aread()
        try:
            parsed: object = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None
        return parsed

    async def question(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Mapping[str, object]:
        """As `ask`, for answers that are JSON objects.

        Raises:
            ProviderError: As there, or it is no object.
        """
        answer = await self.ask(method, path, body)
        if not isinstance(answer, Mapping):
            raise garbled(self.peer, "something else than a JSON object")
        return answer

    async def lines(
        self, path: str, body: Mapping[str, object], *, model: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """The lines of the answer as they come, without their ends; empty ones too.

        Lines end with LF, or CR LF. (httpx2 would also cut at U+2028 and its like, which JSON may hold as they are.)

        Raises:
            NotInstalledError: The server does not have `model`.
            ProviderError: It answered with an error, could not be reached, or broke off.
            OfflineError: It is elsewhere.
        """
        waiting = b""
        async with self._exchange("POST", path, body, timeout_s=None, model=model) as response:
            async for block in response.aiter_bytes():
                *whole, waiting = (waiting + block).split(b"\n")
                for line in whole:
                    yield line.removesuffix(b"\r")
                if len(waiting) > _LONGEST_LINE:
                    raise garbled(self.peer, f"a line of more than {_LONGEST_LINE >> 20} MiB")
        if waiting:
            yield waiting

    def parsed(self, line: bytes) -> Mapping[str, object]:
        """A line of JSON.

        Raises:
            ProviderError: It is none, or no object.
        """
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, Mapping):
            raise garbled(self.peer, f"{line[:60].decode(errors='replace')!r} where JSON should be")
        return value

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    @contextlib.asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        *,
        timeout_s: float | None,
        model: str = "",
    ) -> AsyncIterator[httpx2.Response]:
        self.refuse_elsewhere()
        url = path if "://" in path else f"{self.address.url}{path}"
        timeout = httpx2.Timeout(timeout_s, connect=CONNECT_S)
        try:
            async with self._opened().stream(
                method, url, json=None if body is None else dict(body), timeout=timeout
            ) as response:
                if not response.is_success:
                    told = await _beginning(response)
                    raise status_failure(self.peer, response.status_code, response.headers, told, model=model)
                yield response
        except XprimError:
            raise
        except httpx2.TimeoutException as error:
            raise answer_failure(self.peer, error, timed_out=True) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, UnicodeError) as error:
            raise answer_failure(self.peer, error) from error

    def refuse_elsewhere(self) -> None:
        """Raise in offline mode unless the server is on this machine.

        Raises:
            OfflineError: It is elsewhere; no socket was opened.
        """
        if self._offline and not self.address.is_here:
            raise OfflineError(f"{self.peer} is not on this machine.", subject=self.address.shown)

    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            auth: httpx2.Auth | None = None
            if self.peer.key:
                auth = _Bearer(self.peer.key)
            elif self.address.user:
                auth = httpx2.BasicAuth(self.address.user, self.address.password)
            # Loading the trusted certificates takes 50 ms, which plain HTTP to this machine need not pay.
            secure = not self.address.is_here or self.address.url.startswith("https:")
            self._client = httpx2.AsyncClient(
                auth=auth,
                verify=True if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                trust_env=not self.address.is_here,  # a proxy could not reach this machine's loopback
                headers={"User-Agent": "xprim-nb"},
            )
        return self._client


async def events(
    server: Server, path: str, body: Mapping[str, object], *, model: str
) -> AsyncGenerator[bytes, None]:
    """The data of each server-sent event; comments, names and ids are dropped. `[DONE]` is one of them.

    Raises:
        NotInstalledError, ProviderError, OfflineError: See `Server.lines`.
    """
    data: list[bytes] = []
    async with contextlib.aclosing(server.lines(path, body, model=model)) as lines:
        async for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data.clear()
    if data:  # the standard drops what no empty line ends; servers that forget it are understood
        yield b"\n".join(data)


async def _beginning(response: httpx2.Response) -> bytes:
    told = b""
    async for block in response.aiter_bytes():
        told += block
        if len(told) > _LONGEST_REFUSAL:
            break
    return told
