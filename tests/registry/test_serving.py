"""`xprim_nb.registry.serving`: a real server, and what it gives away."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from xprim_nb.errors import ConfigError, MissingExtraError
from xprim_nb.registry.publisher import publish, set_alias
from xprim_nb.registry.serving import RegistryServer, make_app, serve

ROOT = Path(__file__).resolve().parents[2]
FILES = {"model.bin": bytes(range(256)) * 4000, "config.json": b'{"a": 1}'}


def make_registry(folder: Path) -> Path:
    """A published model, and other things that lie around in the directory."""
    source, to = folder / "source", folder / "registry"
    source.mkdir()
    for name, data in FILES.items():
        (source / name).write_bytes(data)
    publish(source, "demo/tiny v1", to=to, chunk_size=100_000, alias=["latest"])
    (to / "secret.txt").write_text("secret")
    (to / "data" / "notes.txt").write_text("secret")
    (to / "data" / ".aaaa.tmp").write_text("secret")
    (to / "data" / ("d" * 64)).mkdir()
    (folder / ("e" * 64)).write_text("secret")
    return to


@contextlib.contextmanager
def served(directory: Path) -> Iterator[httpx2.Client]:
    """A client of a server that runs in another thread."""
    server = RegistryServer(directory, port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with httpx2.Client(base_url=server.url, trust_env=False) as client:
            yield client
    finally:
        server.stop()
        thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that no test changes."""
    return make_registry(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(registry: Path) -> Iterator[httpx2.Client]:
    """A client of its server."""
    with served(registry) as client:
        yield client


def test_a_model_is_installed_over_http(client: httpx2.Client) -> None:
    """Index, manifest and chunks come as they were published, so that the original's algorithm has its files."""
    entry = client.get("/models.json").json()["demo"]["tiny"]["latest"]
    manifest = client.get(f"/data/{entry['hash']}").json()
    stream = b""
    for digest in manifest["chunks"]:
        body = client.get(f"/data/{digest}").content
        assert hashlib.sha256(body).hexdigest() == digest
        stream += body
    for file in manifest["files"]:
        assert stream[: file["size"]] == FILES[file["path"]]
        stream = stream[file["size"] :]
    assert stream == b""


def test_the_index_is_asked_for_again(client: httpx2.Client, registry: Path) -> None:
    """It is JSON with validators, and while it is the same the answer is 304 without a body."""
    first = client.get("/models.json")
    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-control"] == "no-cache"
    assert first.content == (registry / "models.json").read_bytes()
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    for headers in (
        {"if-none-match": etag},
        {"if-none-match": f'"other", W/{etag}'},
        {"if-none-match": "*"},
        {"if-modified-since": modified},
        {"if-none-match": etag, "if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    ):
        again = client.get("/models.json", headers=headers)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get("/models.json", headers={"if-none-match": '"x"'}).status_code == 200
    # The tag decides where both are sent: a clock may stand still, content does not.
    both = {"if-none-match": '"x"', "if-modified-since": modified}
    assert client.get("/models.json", headers=both).status_code == 200


def test_an_index_that_changes(tmp_path: Path) -> None:
    """The old tag gets the new index; without any the server says it is at fault, and recovers."""
    registry = make_registry(tmp_path)
    with served(registry) as client:
        etag = client.get("/models.json").headers["etag"]
        set_alias(registry, "demo/tiny v1", "stable")
        changed = client.get("/models.json", headers={"if-none-match": etag})
        assert changed.status_code == 200
        assert "stable" in changed.json()["demo"]["tiny"]
        (registry / "models.json").unlink()
        assert client.get("/models.json").status_code == 503
        (registry / "models.json").write_bytes(changed.content)
        assert client.get("/models.json").content == changed.content


def test_chunks_are_kept_for_ever(client: httpx2.Client) -> None:
    """A chunk is bytes of no type, may be cached for ever, and has its digest as its tag."""
    digest = client.get("/models.json").json()["demo"]["tiny"]["v1"]["hash"]
    answer = client.get(f"/data/{digest}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["etag"] == f'"{digest}"'
    assert client.get(f"/data/{digest}", headers={"if-none-match": f'"{digest}"'}).status_code == 304


def test_ranges(client: httpx2.Client) -> None:
    """A client resumes a chunk where it stopped; beyond its end there is nothing."""
    digest = client.get("/models.json").json()["demo"]["tiny"]["v1"]["hash"]
    whole = client.get(f"/data/{digest}").content
    rest = client.get(f"/data/{digest}", headers={"range": "bytes=100-", "if-range": f'"{digest}"'})
    assert (rest.status_code, rest.content) == (206, whole[100:])
    assert rest.headers["content-range"] == f"bytes 100-{len(whole) - 1}/{len(whole)}"
    assert client.get(f"/data/{digest}", headers={"range": "bytes=2-5"}).content == whole[2:6]
    assert client.get(f"/data/{digest}", headers={"range": f"bytes={len(whole)}-"}).status_code == 416
    other = client.get(f"/data/{digest}", headers={"range": "bytes=100-", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, whole)


@pytest.mark.parametrize("what", ["/models.json", "manifest"])
def test_head(what: str, client: httpx2.Client) -> None:
    """HEAD has the headers of GET and no body."""
    if what == "manifest":
        what = f"/data/{client.get('/models.json').json()['demo']['tiny']['v1']['hash']}"
    head, get = client.head(what), client.get(what)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "cache-control", "last-modified"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/data",
        "/data/",
        "/secret.txt",
        "/models.json/",
        "/.models.json.lock",
        "/data/notes.txt",
        "/data/.aaaa.tmp",
        "/data/" + "d" * 64,
        "/data/" + "0" * 64,
        "/data/" + "A" * 64,
        "/data/../secret.txt",
        "/data/..%2fsecret.txt",
        "/data/%2e%2e/secret.txt",
        "/data/..%2f..%2f" + "e" * 64,
        "/../" + "e" * 64,
        "/data//" + "e" * 64,
        "/data/%00",
        "/data/..\\secret.txt",
        "//etc/hostname",
    ],
)
def test_nothing_else_is_served(target: str, client: httpx2.Client) -> None:
    """No listing, no other file, nothing hidden, no way out: sent raw, because clients tidy such paths."""
    parts = urlsplit(str(client.base_url))
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        assert answer.status == 404
        assert b"secret" not in answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("target", ["/models.json", "/data/" + "0" * 64])
def test_nothing_can_be_changed(method: str, target: str, client: httpx2.Client) -> None:
    """Other methods than GET and HEAD are refused."""
    assert client.request(method, target, content=b"x").status_code == 405


@pytest.mark.parametrize("missing", ["everything", "models.json", "data"])
def test_a_directory_that_is_no_registry(missing: str, tmp_path: Path) -> None:
    """Serving the wrong directory is refused, instead of answering 404 for ever."""
    if missing != "data":
        (tmp_path / "data").mkdir()
    if missing != "models.json":
        (tmp_path / "models.json").write_text("{}")
    directory = tmp_path / "nothing" if missing == "everything" else tmp_path
    with pytest.raises(ConfigError, match="no registry") as caught:
        make_app(directory)
    assert "publish" in caught.value.hint


def test_a_port_that_is_taken(registry: Path) -> None:
    """The message names the port, the hint the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken") as caught:
            serve(registry, port=port)
    assert "port" in caught.value.hint


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("192.0.2.1", 0), ("no such host", 0)])
def test_an_address_that_cannot_be_had(host: str, port: int, registry: Path) -> None:
    """A port out of range, another machine's address, and a name that is none."""
    with pytest.raises(ConfigError, match="port"):
        RegistryServer(registry, host, port)


@pytest.mark.parametrize("absent", ["starlette.applications", "uvicorn"])
def test_without_the_extra(absent: str, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra and how to install it."""
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtraError) as caught:
        serve(registry, port=0)
    assert "xprim-nb[serve]" in caught.value.hint


def test_stopped_before_it_ran(registry: Path) -> None:
    """A server that was told to stop gives its port back at once."""
    server = RegistryServer(registry, port=0)
    port = urlsplit(server.url).port
    server.stop()
    server.run()
    assert port is not None
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_ctrl_c_ends_it(registry: Path) -> None:
    """`serve` tells its URL, answers, and ends on SIGINT with a KeyboardInterrupt, as a CLI expects."""
    code = (
        "import sys; from pathlib import Path; from xprim_nb.registry.serving import serve\n"
        "try: serve(Path(sys.argv[1]), port=0, ready=lambda url: print(url, flush=True))\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(registry)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx2.Client(trust_env=False) as client:
            assert "demo" in client.get(f"{url}/models.json").json()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=15)[0] == "interrupted\n"
        assert process.returncode == 0
