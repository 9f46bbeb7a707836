"""The same cells on every generation of ipykernel that we support: 6.31, 7.3, and the one that is installed.

`XPRIM_KERNELS` names folders that hold the older ones (made by `pip install --no-deps --target`); without it they are made.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.gates import Hold
from xprim_nb.testing.registries import MadeRegistry

from .kernels import ROOT, Kernel, Panel

# Where the older kernels have to be fetched, the first test waits for that.
pytestmark = pytest.mark.kernels

_REF = "demo/big v1"
_AT_ONCE_S = 1.0
# What each needs beside what is installed anyway: 6.31 nests loops with a library that 7.x has replaced.
_PACKAGES = {"6.31": ("ipykernel==6.31.*", "nest-asyncio"), "7.3": ("ipykernel==7.3.*",)}
_PIP = [
    sys.executable,
    "-m",
    "pip",
    "install",
    "--quiet",
    "--disable-pip-version-check",
    "--no-deps",
    "--target",
]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with each of the older kernels."""
    given = [Path(each) for each in os.environ.get("XPRIM_KERNELS", "").split(os.pathsep) if each]
    if given:
        found = {
            version: folder
            for folder in given
            for version in _PACKAGES
            if next(folder.glob(f"ipykernel-{version}.*.dist-info"), None) is not None
        }
        if set(found) != set(_PACKAGES):
            pytest.fail(f"XPRIM_KERNELS has {sorted(found)}, and {sorted(_PACKAGES)} are needed")
        return found
    made = {version: tmp_path_factory.mktemp("kernels") / version for version in _PACKAGES}
    for version, folder in made.items():
        done = subprocess.run(
            [*_PIP, str(folder), *_PACKAGES[version]],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(
                f"ipykernel {version} cannot be fetched; make it elsewhere and name its folder in XPRIM_KERNELS, "
                f"separated by {os.pathsep!r}: {done.stderr[-1000:]}"
            )
    return made


@pytest.fixture(scope="module", params=["6.31", "7.3", "current"])
def generation(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[tuple[str, Kernel]]:
    """A kernel of one generation, with its name."""
    first = [str(folders[request.param])] if request.param in folders else []
    path = os.pathsep.join([*first, str(ROOT), str(ROOT / "widgets")])
    with Kernel({**os.environ, "PYTHONPATH": path}) as running:
        yield request.param, running


@pytest.fixture
def kernel(generation: tuple[str, Kernel], registry: MadeRegistry, data_dir: Path) -> Iterator[Kernel]:
    """That kernel with the extension loaded, and a home of this test's own."""
    _, running = generation
    loaded = running.run(f"import os\nos.environ['XPRIM_MODELS_DIR'] = {str(data_dir)!r}\n%load_ext xprim_nb")
    assert (loaded.reply["status"], loaded.outputs) == ("ok", [])
    yield running
    running.run("%unload_ext xprim_nb\n%reset -f")


def _state(panel: Panel) -> str:
    rows = panel.state["rows"]
    return str(rows[0]["state"]) if rows else ""


def test_commands_return_values_and_say_which_kernel_it_is(
    generation: tuple[str, Kernel], kernel: Kernel, server: FaultyRegistry
) -> None:
    """Each command returns its value, a mistake is one line, an error a card; the doctor knows the way of buttons."""
    name, _ = generation
    version = kernel.run("import ipykernel\nprint(ipykernel.__version__)").text().strip()
    assert name == "current" or version.startswith(f"{name}.")
    rows = kernel.run("rows = %xprim models --remote\nprint(len(rows))")
    assert rows.text() == "5\n"
    assert "UsageError" in kernel.run("%xprim pull demo/big --nope").text("stderr")
    assert kernel.run("%xprim path demo/big v1").reply["ename"] == "NotInstalledError"
    told = kernel.run("d = %xprim doctor\nprint(d.of('kernel').text, '|', d.of('buttons').verdict)").text()
    assert told.startswith(f"ipykernel {version}: ")
    assert told.endswith("look at this\n" if name == "6.31" else "ok\n")
    assert any(match.endswith("pulls") for match in kernel.complete("%xprim pul")["matches"])


def test_handle_and_panel_follow_a_pull(kernel: Kernel, gate: Hold) -> None:
    """The panel shows at once and moves while a cell awaits; the handle's value is the cell's; a later cell joins."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    kernel.until(lambda: "4/10 chunks" in panel.state["rows"][0]["line"])
    cell = kernel.start("(await h).status")
    gate.release()
    (result,) = kernel.finish(cell).of("execute_result")
    assert result["data"]["text/plain"] == "'installed'"
    kernel.until(lambda: _state(panel) == "done")
    joined = kernel.run(f"pulled = %xprim pull {_REF} --wait")
    assert joined.reply["status"] == "ok"
    assert kernel.panel(joined).lines[-1] == "done: already installed"


@pytest.mark.parametrize("waiting", ["%xprim pull demo/big v1 --wait", "await h", "h.result()"])
def test_interrupt_pauses(kernel: Kernel, gate: Hold, server: FaultyRegistry, waiting: str) -> None:
    """However a cell waits, the stop button ends it within a second; the panel says paused, nothing runs behind it."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    kernel.until(lambda: "4/10 chunks" in panel.state["rows"][0]["line"])
    if waiting == "await h":  # a kernel that runs no cell yet ignores the stop button
        cell = kernel.start("display('waiting')\nawait h")
        so_far = kernel.watch(cell, "waiting")
    else:
        cell, so_far = kernel.start_waiting(waiting), None
    begun = time.monotonic()
    kernel.interrupt()
    outcome = kernel.finish(cell, so_far)
    assert time.monotonic() - begun < _AT_ONCE_S
    assert outcome.reply["status"] in ("error", "aborted")
    kernel.until(lambda: panel.lines[-1] == "paused: paused at 40 %; 3.9 KB are kept", _AT_ONCE_S)
    gate.release()
    server.wait_for(server.count("chunk"), on="chunk", done=True)
    assert server.count("chunk") == 5
    assert kernel.run("print(h.done)").text() == "True\n"


def test_words_are_heard(generation: tuple[str, Kernel], kernel: Kernel, gate: Hold) -> None:
    """A button works at once while the kernel idles; while a cell blocks, at the latest when it has ended."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    kernel.send(panel, "pause", ref=_REF)
    kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)
    kernel.send(panel, "resume", ref=_REF)
    kernel.until(lambda: _state(panel) == "running", _AT_ONCE_S)
    with kernel.blocked():
        kernel.send(panel, "pause", ref=_REF)
    kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)


def test_words_while_a_cell_awaits(generation: tuple[str, Kernel], kernel: Kernel, gate: Hold) -> None:
    """Newer kernels hear a button in the middle of an `await`; 6.31 and 7.3 hear it when the cell has ended."""
    name, _ = generation
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    cell = kernel.start("await h")
    kernel.send(panel, "pause", ref=_REF)
    if name in ("6.31", "7.3"):
        gate.release()
        assert kernel.finish(cell).reply["status"] == "ok"
        assert _state(panel) == "done" or kernel.until(lambda: _state(panel) == "done") >= 0
    else:
        kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)
        assert kernel.finish(cell).reply["status"] == "error"
    kernel.run("print('alive')")


def test_words_on_a_subshell(generation: tuple[str, Kernel], kernel: Kernel, gate: Hold) -> None:
    """As JupyterLab sends them: 7.3 hears a button while a cell blocks, in a thread of its own; 7.4 after it.

    Either way it is heard once, and the pull pauses.
    """
    name, _ = generation
    if name == "6.31":
        pytest.skip("6.x has no subshells")
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    subshell = kernel.new_subshell()
    with socket.create_server(("127.0.0.1", 0)) as signal:
        cell = kernel.start(f"import socket\nprint(socket.create_connection({signal.getsockname()}).recv(1))")
        connection, _ = signal.accept()
        with connection:
            kernel.send(panel, "pause", subshell=subshell, ref=_REF)
            if name == "7.3":
                kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)
            connection.sendall(b"x")
            assert kernel.finish(cell).text() == "b'x'\n"
    kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)
    assert panel.state["error"] == {}
