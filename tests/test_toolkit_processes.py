"""A toolkit in a process of its own: interrupted, left, forked, restarted, and beside patched loops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb import Config, connect
from xprim_nb.testing.faults import Stall
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import make_registry, random_bytes

_ROOT = Path(__file__).resolve().parents[1]
_STARTED_S = 60.0
_REF = "group/model v1"
_CHUNK_BYTES = 50_000

_PULL = """
import os, sys
from xprim_nb import Config, connect
kit = connect(Config(registry_url=sys.argv[1], data_dir=sys.argv[2], concurrency=1))
"""
_INTERRUPTED = (
    _PULL
    + """
import threading, time
def tell_when_waited_for():
    names = []
    while names.count("result") < 2:  # the handle's, and the future's below it
        time.sleep(0.001)
        frame, names = sys._current_frames()[threading.main_thread().ident], []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
    print("waiting", flush=True)
handle = kit.pull("group/model v1")
threading.Thread(target=tell_when_waited_for).start()
try:
    handle.result()
except KeyboardInterrupt:
    print("interrupted", handle.done, kit.pulls(), flush=True)
"""
)
_LEFT = (
    _PULL
    + """
handle = kit.pull("group/model v1")
sys.stdin.readline()
"""
)
_FORKED = (
    _PULL
    + """
kit.list_remote().result(30)
child = os.fork()
if child == 0:
    os._exit(0 if kit.pull("group/model v1").result(30).status == "installed" else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(kit.pull("group/model v1").result(30).status)
kit.close()
"""
)
_RESTARTED = (
    _PULL
    + """
from xprim_nb._bridge import home_loop
kit.list_remote().result(30)
home_loop().stop()
print(kit.pull("group/model v1").result(30).status)
kit.close()
"""
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks through the proxy of whoever runs it."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyRegistry]:
    """A registry with a model of four chunks, served."""
    made = make_registry(
        tmp_path / "registry", {_REF: {"a.bin": random_bytes(1, 4 * _CHUNK_BYTES)}}, chunk_size=_CHUNK_BYTES
    )
    with FaultyRegistry(made.root) as server:
        yield server


def script(code: str, server: FaultyRegistry, tmp_path: Path) -> subprocess.Popen[str]:
    """A process that runs `code` against the server."""
    return subprocess.Popen(
        # Python warns of any fork while threads run; what a fork does here is what the test is about.
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            code,
            server.url,
            str(tmp_path / "models"),
        ],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal for another process")
def test_an_interrupted_pull_keeps_what_it_has(server: FaultyRegistry, tmp_path: Path) -> None:
    """Ctrl-C on a hanging pull ends it at once; the next one fetches only what was missing."""
    server.inject(Stall(5_000), on="chunk", skip=2)
    with script(_INTERRUPTED, server, tmp_path) as process:
        server.wait_for(3, "chunk", timeout_s=_STARTED_S)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 10
    assert (out.strip(), err, process.returncode) == ("interrupted True []", "", 0)
    server.wait_for(3, "chunk", done=True)
    server.heal()
    server.forget_requests()
    with connect(Config(registry_url=server.url, data_dir=tmp_path / "models")) as kit:
        pulled = kit.pull(_REF).result(30)
    assert pulled.receipt.chunks_present == 2
    assert server.count("chunk") == 2


def test_a_script_that_ends_does_not_wait_for_a_silent_server(server: FaultyRegistry, tmp_path: Path) -> None:
    """A process whose pull hangs ends when its script does, long before the server counts as stalled."""
    server.inject(Stall(5_000), on="chunk", times=None)
    with script(_LEFT, server, tmp_path) as process:
        server.wait_for(1, "chunk", timeout_s=_STARTED_S)
        began = time.monotonic()
        out, err = process.communicate("go on\n", timeout=60)
        assert time.monotonic() - began < 10
    assert (out, err, process.returncode) == ("", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_begins_anew(server: FaultyRegistry, tmp_path: Path) -> None:
    """A toolkit made before a fork works in the child and in the parent."""
    with script(_FORKED, server, tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (out.strip(), err, process.returncode) == ("already_installed", "", 0)


def test_a_toolkit_outlives_its_loop(server: FaultyRegistry, tmp_path: Path) -> None:
    """When the loop was stopped, the next verb opens the toolkit again on the new one."""
    with script(_RESTARTED, server, tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (out.strip(), err, process.returncode) == ("installed", "", 0)


_NESTED = """
import asyncio, sys, warnings
import xprim_nb.toolkit
assert "nest_asyncio2" not in sys.modules
async def inner(): return 7
async def cell(): return asyncio.run(inner())
try:
    asyncio.run(cell())
except RuntimeError as error:
    print("before:", error)
async def notebook():
    xprim_nb.allow_nested_loops()
    return await cell()
warnings.simplefilter("ignore")
print("after:", asyncio.run(notebook()))
"""
_UVLOOP = """
import asyncio, sys, types
import xprim_nb
async def main():
    uvloop = types.ModuleType("uvloop")
    uvloop.Loop = type(asyncio.get_running_loop())
    sys.modules["uvloop"] = uvloop
    try:
        xprim_nb.allow_nested_loops()
    except xprim_nb.XprimError as error:
        print(type(error).__name__, "nest_asyncio2" in sys.modules)
asyncio.run(main())
"""


def test_nested_loops_are_allowed_on_request_only() -> None:
    """Nothing is patched until it is asked for; then a cell's `asyncio.run` works inside a running loop."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _NESTED],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    before, after = done.stdout.splitlines()
    assert "cannot be called from a running event loop" in before
    assert after == "after: 7"


def test_a_loop_that_cannot_be_nested_is_refused() -> None:
    """On a uvloop the request is a ConfigError, and nothing was patched."""
    done = subprocess.run(
        [sys.executable, "-c", _UVLOOP], cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("ConfigError False", "")
