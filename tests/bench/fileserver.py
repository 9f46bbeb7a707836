"""The fallback where nginx is not installed: a threaded static server, `python -m tests.bench.fileserver`.

It knows what a pull needs and no more: GET and HEAD of whole files over keep-alive connections, sendfile
without TLS, and the header that names a model file's digest. It is a process of its own, so its CPU time is
charged to no case.
"""

from __future__ import annotations

import json
import ssl
import sys
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileHandler(BaseHTTPRequestHandler):
    """Answers with the file whose path under `www` is the URL path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the header waits for the acknowledgement of the previous body

    def __init__(self, *args: object, www: Path, commit: str, etags: dict[str, str]) -> None:
        self.www, self.commit, self.etags = www, commit, etags
        super().__init__(*args)  # type: ignore[arg-type]  # the three positional arguments of socketserver

    def do_HEAD(self) -> None:
        """Answer with the header alone."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Answer with the header and the file."""
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line per chunk would be measured."""

    def _answer(self, *, body: bool) -> None:
        url_path = self.path.partition("?")[0]
        path = (self.www / url_path.lstrip("/")).resolve()
        if not path.is_relative_to(self.www) or not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header(
            "Content-Type", "application/json" if "." not in path.name else "application/octet-stream"
        )
        self.send_header("Content-Length", str(path.stat().st_size))
        self.send_header("X-Repo-Commit", self.commit)
        if url_path in self.etags:
            self.send_header("X-Linked-Etag", self.etags[url_path])
        self.end_headers()
        self.wfile.flush()
        if body:
            with path.open("rb") as file:
                self.connection.sendfile(file)


def main() -> None:
    """Serve until killed; the argument is a JSON object: port, www, commit, etags, certificate (or null)."""
    settings = json.loads(sys.argv[1])
    www = Path(settings["www"]).resolve()
    handler = partial(FileHandler, www=www, commit=settings["commit"], etags=settings["etags"])
    server = ThreadingHTTPServer(("127.0.0.1", settings["port"]), handler)
    if settings["certificate"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["certificate"])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
