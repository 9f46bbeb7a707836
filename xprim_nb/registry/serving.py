"""Serves a registry directory over HTTP: for a classroom, an air gap, a try at home.

Only `models.json` and `data/<sha256>` are served, whatever else lies in the directory. Any static web server
does as well; this one is at hand.

Source: spec 1 §Publisher (`xprim serve`); RFC 9110 §13 (conditional requests), §14 (ranges); RFC 8246 (immutable).
"""

from __future__ import annotations

import email.utils
import errno
import hashlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from xprim_nb._hashing import is_digest
from xprim_nb.errors import ConfigError, MissingExtraError
from xprim_nb.registry.naming import INDEX_NAME

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["RegistryServer", "make_app", "serve"]

# What a digest names never changes: a year is the most that caches keep anything.
_FOR_EVER = "public, max-age=31536000, immutable"
# The index may change at any time, and a client that asks whether it did gets a short answer.
_ASK_AGAIN = "no-cache"
# Starlette reads 64 KiB at a time, and spends most of its time between the reads.
_READ_BYTES = 1 << 20
# Who is still downloading when the server is stopped can resume elsewhere.
_GOODBYE_S = 3
# A classroom that is told to start at once: each pull opens several connections.
_BACKLOG = 512
_BIND_FAULTS = {
    errno.EADDRINUSE: ("is taken by another program", "Choose another port; 0 takes a free one."),
    errno.EACCES: ("is not allowed", "Choose a port above 1023."),
    errno.EADDRNOTAVAIL: (
        "is not an address of this machine",
        "Use 127.0.0.1, or 0.0.0.0 for all addresses.",
    ),
}


def make_app(directory: Path) -> Starlette:
    """The ASGI application that serves a registry directory.

    Raises:
        ConfigError: The directory is no registry.
        MissingExtraError: The extra `serve` is not installed.
    """
    try:
        from starlette.applications import Starlette  # noqa: PLC0415  # an optional package
        from starlette.routing import Route  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError.for_extra("serve", "Serving a registry") from error
    if not (directory / INDEX_NAME).is_file() or not (directory / "data").is_dir():
        raise ConfigError(
            f"{directory} is no registry: it has no {INDEX_NAME} and data directory.",
            subject=str(directory),
            hint="`xprim publish` makes one.",
        )
    files = _Files(directory)
    routes = [Route(f"/{INDEX_NAME}", files.index), Route("/data/{digest}", files.chunk)]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


class _Files:
    """The two kinds of answers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def index(self, request: Request) -> Response:
        """`models.json`. It is replaced under running requests, so length and content come from one read."""
        from starlette.responses import PlainTextResponse, Response  # noqa: PLC0415  # an optional package

        try:
            with (self._directory / INDEX_NAME).open("rb") as file:
                raw, modified = file.read(), os.fstat(file.fileno()).st_mtime
        except OSError:
            return PlainTextResponse("The registry has no index now.", 503)
        headers = {
            "etag": f'"{hashlib.sha256(raw).hexdigest()}"',
            "last-modified": email.utils.formatdate(modified, usegmt=True),
            "cache-control": _ASK_AGAIN,
        }
        if _is_known(request, headers):
            return Response(status_code=304, headers=headers)
        return Response(raw, headers=headers, media_type="application/json")

    def chunk(self, request: Request) -> Response:
        """A chunk or a manifest, whole or in ranges."""
        from starlette.responses import FileResponse, PlainTextResponse, Response  # noqa: PLC0415  # the same

        digest = request.path_params["digest"]
        path = self._directory / "data" / digest
        # Nothing else can name a file: no parent directory, no hidden file, no half-written one.
        facts = _facts(path) if is_digest(digest) else None
        if facts is None:
            return PlainTextResponse("Not in this registry.", 404)
        headers = {"etag": f'"{digest}"', "cache-control": _FOR_EVER}
        if _is_known(request, headers):
            return Response(status_code=304, headers=headers)
        answer = FileResponse(path, headers=headers, media_type="application/octet-stream", stat_result=facts)
        answer.chunk_size = _READ_BYTES
        return answer


def _facts(path: Path) -> os.stat_result | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def _is_known(request: Request, headers: dict[str, str]) -> bool:
    """True when the caller's copy is still right (RFC 9110 §13.2.2: the entity tag decides, if it sent one)."""
    known = request.headers.get("if-none-match")
    if known is not None:
        tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
        return headers["etag"] in tags or tags == ["*"]
    since = request.headers.get("if-modified-since")
    return since is not None and since == headers.get("last-modified")


class RegistryServer:
    """A server that holds its port from construction on, and answers while `run` runs.

    Args:
        directory: The registry.
        host: The address to listen on.
        port: 0 takes a free one.

    Raises:
        ConfigError: The directory is no registry, or the address cannot be had.
        MissingExtraError: The extra `serve` is not installed.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
        try:
            import uvicorn  # noqa: PLC0415  # an optional package
        except ImportError as error:
            raise MissingExtraError.for_extra("serve", "Serving a registry") from error
        app = make_app(directory)
        self._socket = _listen(host, port)
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,  # logging is the caller's to set up
            access_log=False,
            timeout_graceful_shutdown=_GOODBYE_S,
        )
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        """The registry's base URL; listening on all addresses, the one for this machine."""
        host, port = self._socket.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Answer requests until `stop`, or Ctrl-C in the main thread; then close the port."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Let `run` return soon. Thread-safe; before `run` it makes `run` return at once."""
        self._server.should_exit = True


def serve(
    directory: Path, host: str = "127.0.0.1", port: int = 8000, *, ready: Callable[[str], None] | None = None
) -> None:
    """Serve a registry directory until Ctrl-C.

    Args:
        directory: The registry.
        host: The address to listen on; `0.0.0.0` lets other machines in.
        port: 0 takes a free one.
        ready: Called with the base URL when requests are accepted.

    Raises:
        ConfigError: The directory is no registry, or the address cannot be had.
        MissingExtraError: The extra `serve` is not installed.
    """
    server = RegistryServer(directory, host, port)
    if ready is not None:
        ready(server.url)
    server.run()


def _listen(host: str, port: int) -> socket.socket:
    try:
        if not 0 <= port <= 0xFFFF:
            raise OSError("ports are 0 to 65535")
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        unknown = f"cannot be had: {error}", "Choose another address or port."
        fault, hint = _BIND_FAULTS.get(error.errno or 0, unknown)
        raise ConfigError(f"{host} port {port} {fault}.", subject=f"{host}:{port}", hint=hint) from error
