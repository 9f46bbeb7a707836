"""The real `xprim mcp` process, asked by the SDK's own client over stdio; where no process matters, its server alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from xprim_nb.agents import tool_schemas
from xprim_nb.agents.mcp import make_server

from ..cache.rooms import Room

_ROOT = Path(__file__).resolve().parents[2]
# Refuses every socket but those that asyncio is made of, before anything of ours is imported.
_BLOCKED = """
import socket, sys
def refuse(self, *_):
    raise AssertionError("a socket was opened")
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
sys.argv[0] = "xprim"
from xprim_nb.cli.main import main
main()
"""

Fits = Callable[[str, Any], Any]


def _server(room: Room, *args: str, blocked: bool = False) -> StdioServerParameters:
    start = ["-c", _BLOCKED] if blocked else ["-m", "xprim_nb.cli.main"]
    return StdioServerParameters(
        command=sys.executable,
        args=[*start, "mcp", *args],
        env={
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            "XPRIM_MODELS_DIR": str(room.base),
            "XPRIM_MODELS_REGISTRY_URL": room.url,
        },
    )


@asynccontextmanager
async def _connected(room: Room, *args: str, blocked: bool = False) -> AsyncIterator[Client]:
    async with Client(_server(room, *args, blocked=blocked), read_timeout_seconds=60) as client:
        yield client


@pytest.fixture
async def installed(room: Room) -> Room:
    """A base with a model in it."""
    async with room.manager() as manager:
        await manager.pull("demo/tiny v1")
    return room


async def test_tools_are_listed(installed: Room) -> None:
    """Every tool is there with both schemas, and a read-only server says that it is one."""
    async with installed.manager() as manager, Client(make_server(manager)) as client:
        tools = (await client.list_tools()).tools
        assert client.server_info is not None
        assert client.server_info.name == "xprim"
    expected = {each["name"]: each for each in tool_schemas()}
    assert [each.name for each in tools] == list(expected)
    for tool in tools:
        assert tool.input_schema == expected[tool.name]["input_schema"]
        assert tool.output_schema == expected[tool.name]["output_schema"]
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is True
        assert ("only reads" in (tool.description or "")) == expected[tool.name]["changes"]


async def test_reading_and_refusing(installed: Room, fits: Fits) -> None:
    """Status and validation answer in their schemas; what would change something refuses and changes nothing."""
    path = installed.dir("demo/tiny v1") / "model.bin"
    path.unlink()
    async with _connected(installed) as client:
        status = await client.call_tool("get_cache_status", {})
        assert fits("get_cache_status", status.structured_content)["total_models"] == 1
        assert json.loads(_text(status)) == status.structured_content
        checked = await client.call_tool("validate_cache_integrity", {"model_id": "demo/tiny v1"})
        assert fits("validate_cache_integrity", checked.structured_content)["overall_status"] == "failed"
        repair = {"model_id": "demo/tiny v1"}
        for name, arguments in (
            ("repair_corrupted_cache", repair),
            ("manage_cache", {"type": "repair", "payload": repair}),
        ):
            refused = await client.call_tool(name, arguments)
            assert refused.is_error
            assert "--allow-changes" in refused.structured_content["error"]["hint"]
    assert not path.exists()


async def test_changes_when_allowed(installed: Room, fits: Fits) -> None:
    """With --allow-changes the same call mends the model, and the tools say that they change something."""
    path = installed.dir("demo/tiny v1") / "model.bin"
    path.unlink()
    async with _connected(installed, "--allow-changes") as client:
        tools = {each.name: each for each in (await client.list_tools()).tools}
        hints = {name: tool.annotations.read_only_hint for name, tool in tools.items() if tool.annotations}
        assert hints["repair_corrupted_cache"] is False
        assert hints["get_cache_status"] is True
        mended = await client.call_tool("repair_corrupted_cache", {"model_id": "demo/tiny v1"})
        assert not mended.is_error
        assert fits("repair_corrupted_cache", mended.structured_content)["success"]
    assert path.is_file()


async def test_status_with_sockets_blocked(installed: Room) -> None:
    """Status, validation and a planned clean-up answer in a process that can open no socket."""
    installed.url = "https://models.example.org"
    async with _connected(installed, "--offline", blocked=True) as client:
        for name, arguments in (
            ("get_cache_status", {}),
            ("validate_cache_integrity", {"model_id": "demo/tiny v1", "depth": "full"}),
            ("cleanup_cache_storage", {"dry_run": True}),
        ):
            answer = await client.call_tool(name, arguments)
            assert not answer.is_error, (name, _text(answer))


async def test_wrong_calls_are_answered(installed: Room) -> None:
    """An unknown tool, missing arguments and a model that is not here are errors that say what to do."""
    async with installed.manager() as manager, Client(make_server(manager)) as client:
        for name, arguments in (
            ("rm_rf", {}),
            ("validate_cache_integrity", {}),
            ("validate_cache_integrity", {"model_id": "demo/none v1"}),
        ):
            answer = await client.call_tool(name, arguments)
            assert answer.is_error
            assert answer.structured_content["error"]["hint"]


async def test_in_process(installed: Room) -> None:
    """The server of an open manager answers a client in the same process."""
    async with installed.manager() as manager, Client(make_server(manager)) as client:
        answer = await client.call_tool("get_cache_status", {})
        assert answer.structured_content["total_models"] == 1


def _begin(room: Room, *args: str) -> subprocess.Popen[bytes]:
    server = _server(room, *args)
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [server.command, *server.args], env=server.env, stdin=pipe, stdout=pipe, stderr=pipe
    )


_HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def test_stdout_is_the_protocols(room: Room) -> None:
    """Whatever is logged, stdout holds JSON-RPC alone, and the process ends well when stdin is closed."""
    with _begin(room, "--verbose") as process:
        out, err = process.communicate(json.dumps(_HELLO).encode() + b"\n", timeout=60)
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [each["id"] for each in lines] == [1]
    assert lines[0]["result"]["serverInfo"]["name"] == "xprim"


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
def test_an_interrupt_ends_it(room: Room) -> None:
    """SIGINT ends the server within seconds, although stdin stays open."""
    with _begin(room) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(_HELLO).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(60) == 130
        finally:
            process.kill()


def test_without_the_extra(room: Room) -> None:
    """Where the SDK is not installed, one sentence names the extra."""
    code = "import sys; sys.modules['mcp'] = None; from xprim_nb.cli.main import main; sys.argv = ['xprim', 'mcp']; main()"
    server = _server(room)
    done = subprocess.run(
        [sys.executable, "-c", code], env=server.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert 'pip install "xprim-nb[mcp]"' in done.stderr
    assert done.stdout == ""


def _text(answer: Any) -> str:
    return str(answer.content[0].text)
