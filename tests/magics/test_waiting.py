"""Pulls in a real kernel: a panel that shows at once and moves, an interrupt that pauses, a pull that others join."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.gates import Hold

from .kernels import Kernel, Outcome

_REF = "demo/big v1"
# What the stop button may take, and a button of a panel.
_AT_ONCE_S = 1.0


def _require_calm(server: FaultyRegistry, timeout_s: float = 5.0) -> None:
    """The connection of every chunk has ended; the one that asked for the index is kept for the next question."""
    deadline = time.monotonic() + timeout_s
    while server.open_connections > 1 and time.monotonic() < deadline:
        time.sleep(0.02)  # the server is told by its own sockets, and tells nobody
    assert server.open_connections <= 1
    server.wait_for(server.count("chunk"), on="chunk", done=True)
    assert server.count("chunk") == 5


def test_one_panel_follows_the_pull(kernel: Kernel, gate: Hold) -> None:
    """The panel is one output that follows by its comm, its static form says how it ended, the result is the value."""
    cell = kernel.start(f"%xprim pull {_REF} --wait")
    so_far = kernel.watch(cell, r"running: .*4/10 chunks")
    gate.release()
    outcome = kernel.finish(cell, so_far)
    assert outcome.reply["status"] == "ok"
    panel = kernel.panel(outcome)
    assert panel.lines[-1].startswith("done: installed, 9.8 KB in ")
    assert len(panel.updates) >= 2
    shown = [*outcome.of("display_data"), *outcome.of("update_display_data")]
    assert len(outcome.of("display_data")) == 1
    assert len(outcome.of("update_display_data")) == 1
    assert len({each["transient"]["display_id"] for each in shown}) == 1
    assert all('role="progressbar"' in each["data"]["text/html"] for each in shown)
    assert shown[-1]["data"]["text/plain"].startswith("pull demo/big v1: installed, 9.8 KB in ")
    (result,) = outcome.of("execute_result")
    assert "Status:   installed" in result["data"]["text/plain"]
    assert outcome.text() + outcome.text("stderr") == ""


@pytest.mark.alone
def test_interrupt_pauses_cleanly(kernel: Kernel, gate: Hold, server: FaultyRegistry) -> None:
    """The stop button ends the cell within a second with one line that says how to go on; nothing runs behind it.

    The panel says that it is paused, the server sees every connection end, and running it again fetches only the rest.
    """
    cell = kernel.start(f"%xprim pull {_REF} --wait")
    so_far = kernel.watch(cell, r"running: .*4/10 chunks")
    gate.wait_reached()  # the fifth is asked for after the fourth is shown
    assert server.open_connections == 2
    begun = time.monotonic()
    kernel.interrupt()
    outcome = kernel.finish(cell, so_far)
    assert time.monotonic() - begun < _AT_ONCE_S
    assert outcome.reply["status"] == "error"
    (error,) = outcome.of("error")
    line = "pull demo/big v1: paused at 40 %; run again to resume"
    assert (error["ename"], error["traceback"]) == ("KeyboardInterrupt", [line])
    panel = kernel.panel(outcome)
    assert panel.lines[-1] == "paused: paused at 40 %; 3.9 KB are kept"
    assert panel.state["rows"][0]["buttons"] == ["resume", "cancel"]
    assert outcome.of("update_display_data")[-1]["data"]["text/plain"].endswith(
        panel.state["rows"][0]["line"]
    )
    gate.release()
    _require_calm(server)
    server.forget_requests()
    again = kernel.run(f"%xprim pull {_REF} --wait")
    assert again.reply["status"] == "ok"
    assert server.count("chunk") == 6


def test_interrupt_while_the_panel_opens_pauses_too(kernel: Kernel, gate: Hold) -> None:
    """The first panel takes a moment to open: the stop button means the pull then as well."""
    kernel.run(
        "from xprim_nb.magics.extension import _loaded\n"
        "extension = _loaded[get_ipython()]\n"
        "def stopped(handle):\n    raise KeyboardInterrupt\n"
        "extension.views.show_pull = stopped"
    )
    outcome = kernel.run(f"%xprim pull {_REF} --wait")
    (error,) = outcome.of("error")
    assert error["ename"] == "KeyboardInterrupt"
    assert error["traceback"][0].startswith("pull demo/big v1: paused")
    assert kernel.run("del extension.views.show_pull\nprint(extension.kit.pulls())").text() == "[]\n"


@pytest.mark.parametrize(
    ("waits", "name"), [("await h", "CancelledError"), ("h.result()", "KeyboardInterrupt")]
)
def test_interrupt_of_a_cell_that_waits_for_a_handle(
    kernel: Kernel, gate: Hold, waits: str, name: str
) -> None:
    """It says in one line how far the pull came and how it goes on, as `--wait` does; the pull has stopped."""
    kernel.run(f"h = %xprim pull {_REF}")
    gate.wait_reached()
    kernel.until(lambda: kernel.run("print(h.snapshot().chunks_completed)").text() == "4\n")
    if waits == "await h":  # one that comes before the `await` is heard by it
        cell = kernel.start("display('waiting')\nawait h")
        so_far = kernel.watch(cell, "waiting")
    else:
        cell, so_far = kernel.start_waiting(waits), None
    kernel.interrupt()
    outcome = kernel.finish(cell, so_far)
    assert outcome.reply["status"] == "error"
    (error,) = outcome.of("error")
    line = "pull demo/big v1: paused at 40 %; run again to resume"
    assert (error["ename"], error["traceback"]) == (name, [line])
    assert kernel.run("print(h.done)").text() == "True\n"


@pytest.mark.alone
def test_interrupted_await_pauses_too(kernel: Kernel, gate: Hold, server: FaultyRegistry) -> None:
    """A cell that awaits the handle stops within a second as well, and so does the pull."""
    started = kernel.run(f"h = %xprim pull {_REF}")
    gate.wait_reached()
    cell = kernel.start("display('waiting')\nawait h")
    so_far = kernel.watch(cell, "waiting")  # a kernel that runs no cell yet ignores the stop button
    begun = time.monotonic()
    kernel.interrupt()
    outcome = kernel.finish(cell, so_far)
    assert time.monotonic() - begun < _AT_ONCE_S
    assert outcome.reply["status"] == "error"
    panel = kernel.panel(started)
    kernel.until(lambda: panel.lines[-1] == "paused: paused at 40 %; 3.9 KB are kept", _AT_ONCE_S)
    gate.release()
    _require_calm(server)
    assert kernel.run("print(h.done)").text() == "True\n"


def shown_by(outcome: Outcome) -> list[str]:
    """The kinds of a cell's outputs; a panel's own messages, and what brings its static form up to date, are none."""
    kinds = [kind for kind, _ in outcome.outputs]
    return [kind for kind in kinds if not kind.startswith("comm_") and kind != "update_display_data"]


def test_handle_is_fresh_when_shown_again(kernel: Kernel, gate: Hold) -> None:
    """Without `--wait` the cell ends at once; the handle shows how far it is each time, and nothing is printed."""
    started = kernel.run(f"h = %xprim pull {_REF}\nh")
    assert started.reply["status"] == "ok"
    assert shown_by(started) == ["display_data"]
    first = kernel.panel(started)
    gate.wait_reached()
    kernel.until(lambda: "4/10 chunks" in first.lines[-1])
    again = kernel.run("h")
    assert (len(again.of("display_data")), again.of("execute_result")) == (1, [])
    assert "4/10 chunks" in again.of("display_data")[0]["data"]["text/plain"]
    second = kernel.panel(again)
    assert second is not first
    assert kernel.run("print(repr(h))").text().startswith("<Handle: pull demo/big v1, 4")
    gate.release()
    kernel.until(lambda: first.lines[-1][:4] == second.lines[-1][:4] == "done")
    ended = kernel.run("h.result(20)\nh")
    assert ended.of("display_data")[0]["data"]["text/plain"].startswith("pull demo/big v1: installed")
    assert ended.text() + ended.text("stderr") == ""


def test_command_alone_shows_one_panel(kernel: Kernel, gate: Hold) -> None:
    """`%xprim pull` as a cell's last line returns the handle and shows its panel once."""
    outcome = kernel.run(f"%xprim pull {_REF}")
    assert shown_by(outcome) == ["display_data"]
    assert kernel.run("print(type(_).__name__)").text() == "Handle\n"
    gate.release()
    panel = kernel.panel(outcome)
    kernel.until(lambda: panel.lines[-1].startswith("done"))


def test_later_cell_joins_the_pull(kernel: Kernel, gate: Hold, server: FaultyRegistry) -> None:
    """A cell that waits for a model which is being pulled joins that pull, with a panel of its own; chunks come once."""
    first = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    cell = kernel.start(f"pulled = %xprim pull {_REF} --wait")
    so_far = kernel.watch(cell, r"/10 chunks")
    gate.release()
    joined = kernel.finish(cell, so_far)
    assert joined.reply["status"] == "ok"
    second = kernel.panel(joined)
    assert second is not first
    kernel.until(lambda: first.lines[-1] == second.lines[-1] != "" and second.lines[-1].startswith("done"))
    assert server.count("chunk") == 10
    assert kernel.run("print(h.done, h.result().status)").text() == "True installed\n"


def test_running_pull_keeps_its_settings(kernel: Kernel, gate: Hold) -> None:
    """While a pull runs the settings cannot be changed under it; the refusal names the pull."""
    kernel.run(f"h = %xprim pull {_REF}")
    gate.wait_reached()
    refused = kernel.run("%xprim config offline=1")
    assert "pull demo/big v1" in refused.text("stderr")
    assert refused.reply["status"] == "error"
    gate.release()
    assert kernel.run("h.result(20)\nconfig = %xprim config offline=1").reply["status"] == "ok"


def test_cancelled_pull_is_a_card(kernel: Kernel, gate: Hold) -> None:
    """A pull that is cancelled while a cell waits for it ends that cell with a card, not with a bare exception."""
    with socket.create_server(("127.0.0.1", 0)) as signal:
        address = signal.getsockname()
        kernel.run(
            f"import socket, threading\nh = %xprim pull {_REF}\nsignal = socket.create_connection({address})\n"
            "threading.Thread(target=lambda: signal.recv(1) and h.cancel()).start()"
        )
        gate.wait_reached()
        cell = kernel.start(f"pulled = %xprim pull {_REF} --wait")
        so_far = kernel.watch(cell, r"/10 chunks")
        connection, _ = signal.accept()
        with connection:
            connection.sendall(b"x")
            outcome = kernel.finish(cell, so_far)
    assert outcome.reply["ename"] == "XprimError"
    assert "was stopped" in outcome.of("display_data")[-1]["data"]["text/plain"]


def test_failed_pull_is_a_card(kernel: Kernel, server: FaultyRegistry) -> None:
    """A pull that fails while it is waited for ends with the panel's last word, its hint, and the card."""
    outcome = kernel.run("%xprim pull demo/nothing v1 --wait")
    assert outcome.reply["ename"] == "ModelNotFoundError"
    panel = kernel.panel(outcome)
    assert panel.lines[-1].startswith("failed: The registry has no model demo/nothing.")
    assert panel.state["rows"][0]["hint"]
    # Whatever it said when it was first shown, what is saved says how it ended.
    ended = [*outcome.of("display_data")[:1], *outcome.of("update_display_data")][-1]
    assert "The registry has no model demo/nothing." in str(ended["data"]["text/html"])
    assert "What to do: " in outcome.of("display_data")[-1]["data"]["text/html"]


def test_unloading_stops_a_pull_that_can_be_resumed(
    kernel: Kernel, gate: Hold, server: FaultyRegistry
) -> None:
    """`%unload_ext` ends what runs; after loading again the pull goes on where it was."""
    kernel.run(f"h = %xprim pull {_REF}")
    gate.wait_reached()
    assert kernel.run("%unload_ext xprim_nb").reply["status"] == "ok"
    assert kernel.run("print(h.done)").text() == "True\n"
    gate.release()
    server.forget_requests()
    kernel.run(f"%load_ext xprim_nb\nconfig = %xprim config registry_url={server.url}")
    assert kernel.run(f"pulled = %xprim pull {_REF} --wait").reply["status"] == "ok"
    assert server.count("chunk") <= 7


def test_an_adoption_that_installs_has_a_bar(kernel: Kernel, tmp_path: Path) -> None:
    """It is waited for as a pull is: one display, which ends with how it went."""
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "x.gguf").write_bytes(b"x" * 5000)
    outcome = kernel.run(f"adopted = %xprim adopt {place} --as mine/x@v1")
    assert (outcome.reply["status"], len(outcome.of("display_data"))) == ("ok", 1)
    last = outcome.of("update_display_data")[-1]["data"]
    assert 'role="progressbar"' in last["text/html"]
    assert last["text/plain"] == f"adopt {place}: done"


def test_what_takes_long_is_shown_and_what_does_not_is_quiet(
    kernel: Kernel, server: FaultyRegistry, data_dir: Path
) -> None:
    """A repair that waits for a chunk has one display that ends with it; one that has nothing to do has none."""
    assert kernel.run(f"pulled = %xprim pull {_REF} --wait").reply["status"] == "ok"
    weights = data_dir / "demo" / "big" / "v1" / "model.bin"
    facts, right = weights.stat(), weights.read_bytes()
    weights.write_bytes(b"\x00" + right[1:])
    os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with server.hold(on=lambda request: request.kind == "chunk") as gate:
        cell = kernel.start(f"%xprim repair {_REF}")
        so_far = kernel.watch(cell, r"^repair demo/big v1: ")
        gate.release()
        outcome = kernel.finish(cell, so_far)
    assert outcome.reply["status"] == "ok"
    assert len(outcome.of("display_data")) == 1
    (result,) = outcome.of("execute_result")
    assert "1 of 10 chunks fetched" in result["data"]["text/plain"]
    assert weights.read_bytes() == right
    assert kernel.run("%xprim status").of("display_data") == []
