"""`http`: lines and events as servers send them, and what is no address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from xprim_nb.errors import ProviderError
from xprim_nb.workers.backends import http
from xprim_nb.workers.backends.http import Server, events

Blocks = list[bytes]


@pytest.fixture
async def sending() -> AsyncIterator[Callable[[Blocks], Server]]:
    """A function from blocks to a server that answers with them, one write each, and closes the connection."""
    async with contextlib.AsyncExitStack() as stack:
        blocks: Blocks = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            for block in blocks:
                writer.write(block)
                await writer.drain()
            writer.close()

        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        stack.push_async_callback(listening.wait_closed)
        stack.callback(listening.close)
        port = listening.sockets[0].getsockname()[1]

        def server(sent: Blocks) -> Server:
            blocks[:] = sent
            made = Server("lab", f"http://127.0.0.1:{port}")
            stack.push_async_callback(made.aclose)
            return made

        yield server


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_lines_are_cut_at_their_ends_alone(sending: Callable[[Blocks], Server], size: int) -> None:
    """LF and CR LF end a line, however the bytes arrive; U+2028, U+0085 and a form feed do not."""
    text = "one\r\ntwo \u2028 \u0085 \f three\n\nlast".encode()
    server = sending([text[at : at + size] for at in range(0, len(text), size)])
    got = [line.decode() async for line in server.lines("/", {})]
    assert got == ["one", "two \u2028 \u0085 \f three", "", "last"]


async def test_a_line_without_end_is_refused(
    sending: Callable[[Blocks], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server cannot fill the memory with one line."""
    monkeypatch.setattr(http, "_LONGEST_LINE", 1000)
    with pytest.raises(ProviderError, match="a line of more than"):
        _ = [line async for line in sending([b"x" * 600] * 3).lines("/", {})]


async def test_events_are_data_alone(sending: Callable[[Blocks], Server]) -> None:
    """Comments, names and ids are dropped, several data lines are one event, and the last needs no empty line."""
    sent = b": hello\n\nevent: x\nid: 3\ndata: one\ndata:two\n\n\n\ndata: [DONE]\n"
    got = [data async for data in events(sending([sent]), "/", {}, model="m")]
    assert got == [b"one\ntwo", b"[DONE]"]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"<html>", b"\xff"])
def test_what_is_no_json_object_is_said_to_be_none(line: bytes) -> None:
    """A line that is no JSON object is an error that shows its beginning."""
    with pytest.raises(ProviderError, match="where JSON should be"):
        Server("lab", "http://127.0.0.1:1").parsed(line)


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("lab.localhost", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("[2001:db8::1]", False),
    ],
)
def test_this_machine_is_known_by_its_names(host: str, is_here: bool) -> None:
    """Offline mode and proxies depend on what is loopback, and nothing that only looks like it is."""
    assert Server("lab", f"http://{host}:8000").address.is_here == is_here
