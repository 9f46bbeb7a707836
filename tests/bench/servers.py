"""Who serves the corpus: nginx where it is installed, else a threaded Python server; with or without TLS."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .corpus import COMMIT, Corpus

REPO = Path(__file__).resolve().parents[2]
START_DEADLINE_S = 10.0  # nginx answers in milliseconds; a Python server in tenths of a second
STOP_DEADLINE_S = 5.0

NGINX_CONF = """\
{user}
worker_processes {workers};
daemon off;
pid {work}/nginx.pid;
error_log {work}/nginx-error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000;
    default_type application/octet-stream;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    map_hash_bucket_size 512;
    map $uri $linked_etag {{
        default "";
{etags}
    }}
    server {{
        listen 127.0.0.1:{port}{ssl};
{certificate}
        root {www};
        add_header X-Repo-Commit {commit};
        add_header X-Linked-Etag $linked_etag;
        location /api/ {{ default_type application/json; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; `ca_file` is what a client must trust, None without TLS."""

    description: str
    host: str
    port: int
    ca_file: Path | None

    @property
    def url(self) -> str:
        """The base URL of the registry and of the hub."""
        return f"{'https' if self.ca_file else 'http'}://{self.host}:{self.port}"


@contextmanager
def serve(corpus: Corpus, work: Path, *, tls: bool, kind: str = "auto") -> Iterator[Server]:
    """Serve the corpus on a free loopback port for the length of the block.

    Args:
        corpus: what to serve.
        work: an empty directory for configuration, certificate and logs.
        tls: serve HTTPS with a certificate made for this run.
        kind: `nginx`, `python`, or `auto` for nginx where it is installed.

    Raises:
        RuntimeError: the server is not installed or did not start, with its log.
    """
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if kind == "nginx" and nginx is None:
        raise RuntimeError("nginx is not installed; leave --server away for the Python server")
    certificate, ca_file = make_certificate(work) if tls else (None, None)
    port = _free_port()
    if nginx is not None and kind != "python":
        workers = os.cpu_count() or 1
        argv, log = _nginx(nginx, corpus, work, port, workers, certificate), work / "nginx-error.log"
        answer = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
        description = f"{answer.split()[-1]}, sendfile on, {workers} workers"
    else:
        argv, log = _python(corpus, port, certificate), work / "python-error.log"
        description = f"Python {sys.version.split()[0]} threaded server, sendfile (nginx not used)"
    with (work / "server-output.log").open("wb") as out:
        process = subprocess.Popen(argv, cwd=REPO, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        _wait_for(port, process, [work / "server-output.log", log])
        yield Server(description + (", TLS" if tls else ""), "127.0.0.1", port, ca_file)
    finally:
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def make_certificate(work: Path) -> tuple[Path, Path]:
    """Return a PEM with the server's key and chain, and the PEM of the authority that clients must trust.

    Raises:
        RuntimeError: trustme is not installed.
    """
    try:
        import trustme
    except ImportError as error:
        raise RuntimeError(
            "--tls needs the package trustme to make a certificate: pip install trustme"
        ) from error
    authority = trustme.CA()
    key, ca_file = work / "server.pem", work / "ca.pem"
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca_file)
    return key, ca_file


def _nginx(
    nginx: str, corpus: Corpus, work: Path, port: int, workers: int, certificate: Path | None
) -> list[str]:
    etags = "\n".join(f"        \"{path}\" '{etag}';" for path, etag in corpus.hub_headers().items())
    keys = f"        ssl_certificate {certificate};\n        ssl_certificate_key {certificate};"
    conf = work / "nginx.conf"
    conf.write_text(
        NGINX_CONF.format(
            user="user root;"
            if os.geteuid() == 0
            else "",  # workers must be able to enter the temp directory
            workers=workers,
            work=work,
            port=port,
            www=corpus.www,
            commit=COMMIT,
            etags=etags,
            ssl=" ssl" if certificate else "",
            certificate=keys if certificate else "",
        )
    )
    return [nginx, "-p", str(work), "-c", str(conf), "-e", str(work / "nginx-error.log")]


def _python(corpus: Corpus, port: int, certificate: Path | None) -> list[str]:
    settings = {
        "port": port,
        "www": str(corpus.www),
        "commit": COMMIT,
        "etags": corpus.hub_headers(),
        "certificate": str(certificate) if certificate else None,
    }
    return [sys.executable, "-m", "tests.bench.fileserver", json.dumps(settings)]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _wait_for(port: int, process: subprocess.Popen[bytes], logs: list[Path]) -> None:
    deadline_s = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    said = "\n".join(log.read_text(errors="replace") for log in logs if log.exists())
    raise RuntimeError(f"the server did not start: {said.strip()}")
