"""A small model served from its directory and from memory, and a client that shows every byte."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

_REF = "group/model v1"
_CHUNK_BYTES = 100_000
_DATA = random_bytes(7, 2 * _CHUNK_BYTES + 50)
_TIMEOUT_S = 20.0


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """One model of three chunks."""
    return make_registry(tmp_path, {_REF: {"w.bin": _DATA}}, chunk_size=_CHUNK_BYTES)


@pytest.fixture(params=["directory", "mapping"])
def server(made: MadeRegistry, request: pytest.FixtureRequest) -> Iterator[FaultyRegistry]:
    """The model served from its directory, and from memory."""
    content: Path | dict[str, bytes] = made.root
    if request.param == "mapping":
        content = {
            path.relative_to(made.root).as_posix(): path.read_bytes()
            for path in made.root.rglob("*")
            if path.is_file()
        }
    with FaultyRegistry(content) as server:
        yield server


@pytest.fixture
def chunk(made: MadeRegistry) -> str:
    """The path of the first chunk."""
    return f"/data/{made.chunks(_REF)[0]}"


@pytest.fixture
def ask_raw() -> Callable[[FaultyRegistry, str, str], tuple[bytes, str]]:
    """A function from server, path and header lines to every byte that comes, and how the connection ended."""

    def ask(server: FaultyRegistry, path: str, headers: str) -> tuple[bytes, str]:
        received = bytearray()
        with socket.create_connection(("127.0.0.1", server.port), _TIMEOUT_S) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
            while True:
                try:
                    block = sock.recv(65536)
                except ConnectionResetError:
                    return bytes(received), "reset"
                if not block:
                    return bytes(received), "closed"
                received += block

    return ask
