"""Words from a panel: at once while the kernel idles or awaits, at the latest when a cell that blocks has ended."""

from __future__ import annotations

import socket

from xprim_nb.testing.gates import Hold

from .kernels import Kernel, Panel

_REF = "demo/big v1"
_AT_ONCE_S = 1.0


def _state(panel: Panel) -> str:
    rows = panel.state["rows"]
    return str(rows[0]["state"]) if rows else ""


def test_words_act_at_once_while_the_kernel_idles(kernel: Kernel, gate: Hold) -> None:
    """Pause, Resume and Cancel do what they say within a second; cancelling leaves nothing on the disk."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    kernel.send(panel, "pause", ref=_REF)
    kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)
    kernel.send(panel, "resume", ref=_REF)
    kernel.until(lambda: _state(panel) == "running", _AT_ONCE_S)
    kernel.send(panel, "cancel", ref=_REF)
    kernel.until(lambda: _state(panel) == "cancelled", _AT_ONCE_S)
    left = (
        "import os, pathlib\nprint(any(pathlib.Path(os.environ['XPRIM_MODELS_DIR']).glob('cache/partial/*')))"
    )
    kernel.until(lambda: kernel.run(left).text() == "False\n")
    gate.release()


def test_words_act_at_once_while_a_cell_awaits(kernel: Kernel, gate: Hold) -> None:
    """Pause in the middle of `await handle` ends the pull, and the cell with it, within a second."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    cell = kernel.start("await h")
    kernel.send(panel, "pause", ref=_REF)
    kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)
    assert kernel.finish(cell).reply["status"] in ("error", "aborted")


def test_words_act_at_the_latest_when_a_blocking_cell_ends(kernel: Kernel, gate: Hold) -> None:
    """A cell that blocks the kernel delays a word, and does not lose it."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    with socket.create_server(("127.0.0.1", 0)) as signal:
        cell = kernel.start(f"import socket\nprint(socket.create_connection({signal.getsockname()}).recv(1))")
        connection, _ = signal.accept()
        with connection:
            kernel.send(panel, "pause", ref=_REF)
            connection.sendall(b"x")
            assert kernel.finish(cell).text() == "b'x'\n"
    kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)


def test_unknown_words_change_nothing(kernel: Kernel, gate: Hold) -> None:
    """What no button says, or says of nonsense, ends neither the pull nor the kernel; the panel tells what was wrong."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    kernel.send(panel, "explode", ref=_REF)
    kernel.send(panel, "pause", ref=["../.."])
    kernel.until(lambda: bool(panel.state["error"]))
    assert _state(panel) == "running"
    kernel.send(panel, "dismiss")
    kernel.until(lambda: not panel.state["error"])
    gate.release()
    kernel.until(lambda: _state(panel) == "done")
