"""`--wait` in a real kernel: one display that moves, an interrupt that pauses cleanly, a pull that others join."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.gates import Hold
from xprim_nb.testing.registries import MadeRegistry

from .conftest import Kernel

_REF = "demo/big v1"


@pytest.fixture
def server(registry: MadeRegistry, kernel: Kernel) -> Iterator[FaultyRegistry]:
    """The registry over HTTP, known to the kernel."""
    with FaultyRegistry(registry.root) as running:
        configured = kernel.run(f"config = %xprim config registry_url={running.url} concurrency=1")
        assert configured.reply["status"] == "ok"
        yield running


@pytest.fixture
def gate(server: FaultyRegistry) -> Iterator[Hold]:
    """Whoever asks for a fifth of the ten chunks waits."""
    with server.hold(on=lambda request: request.kind == "chunk" and server.count("chunk") > 4) as gate:
        yield gate


def test_one_display_follows_the_pull(kernel: Kernel, gate: Hold) -> None:
    """The bar is one output that is changed in place, as text and HTML, and the result is the cell's value."""
    cell = kernel.start(f"%xprim pull {_REF} --wait")
    so_far = kernel.watch(cell, r"4/10 chunks")
    gate.release()
    outcome = kernel.finish(cell, so_far)
    assert outcome.reply["status"] == "ok"
    shown = [*outcome.of("display_data"), *outcome.of("update_display_data")]
    assert len(outcome.of("display_data")) == 1
    assert len(outcome.of("update_display_data")) >= 1
    assert len({each["transient"]["display_id"] for each in shown}) == 1
    assert all('role="progressbar"' in each["data"]["text/html"] for each in shown[1:])
    assert shown[-1]["data"]["text/plain"].startswith("demo/big v1: installed, 9.8 KB in ")
    (result,) = outcome.of("execute_result")
    assert "Status:   installed" in result["data"]["text/plain"]
    assert outcome.text() + outcome.text("stderr") == ""


def test_interrupt_pauses_cleanly(kernel: Kernel, gate: Hold, server: FaultyRegistry) -> None:
    """The stop button ends the cell with one line that says how to go on; running it again fetches only the rest."""
    cell = kernel.start(f"%xprim pull {_REF} --wait")
    so_far = kernel.watch(cell, r"4/10 chunks")
    kernel.interrupt()
    outcome = kernel.finish(cell, so_far)
    assert outcome.reply["status"] == "error"
    (error,) = outcome.of("error")
    line = "pull demo/big v1: paused at 40 %; run again to resume"
    assert (error["ename"], error["traceback"]) == ("KeyboardInterrupt", [line])
    assert outcome.of("update_display_data")[-1]["data"]["text/plain"] == line
    gate.release()
    server.forget_requests()
    again = kernel.run(f"%xprim pull {_REF} --wait")
    assert again.reply["status"] == "ok"
    assert server.count("chunk") == 6


@pytest.mark.parametrize(
    ("waits", "name"), [("await h", "CancelledError"), ("h.result()", "KeyboardInterrupt")]
)
def test_interrupt_of_a_cell_that_waits_for_a_handle(
    kernel: Kernel, gate: Hold, waits: str, name: str
) -> None:
    """It says in one line how far the pull came and how it goes on, as `--wait` does; the pull has stopped."""
    kernel.run(f"h = %xprim pull {_REF}")
    gate.wait_reached()
    for _ in range(200):  # ten times a second there is news
        if kernel.run("print(h.snapshot().chunks_completed)").text() == "4\n":
            break
    cell = kernel.start(f"display('waiting')\n{waits}")
    so_far = kernel.watch(cell, "waiting")
    kernel.interrupt()
    outcome = kernel.finish(cell, so_far)
    assert outcome.reply["status"] == "error"
    (error,) = outcome.of("error")
    line = "pull demo/big v1: paused at 40 %; run again to resume"
    assert (error["ename"], error["traceback"]) == (name, [line])
    assert kernel.run("print(h.done)").text() == "True\n"


def test_handle_is_fresh_when_shown_again(kernel: Kernel, gate: Hold) -> None:
    """Without `--wait` the cell ends at once; the handle shows how far it is each time, and nothing is printed."""
    started = kernel.run(f"h = %xprim pull {_REF}\nh")
    assert started.reply["status"] == "ok"
    assert [kind for kind, _ in started.outputs] == ["execute_result"]
    gate.wait_reached()
    for _ in range(200):  # ten times a second there is news
        seen = kernel.run("h").of("execute_result")[0]["data"]
        if "4/10 chunks" in seen["text/plain"]:
            break
    assert "4/10 chunks" in seen["text/plain"]
    assert 'role="progressbar"' in seen["text/html"]
    gate.release()
    ended = kernel.run("h.result(20)\nh")
    assert ended.of("execute_result")[0]["data"]["text/plain"].startswith("demo/big v1: installed")
    assert ended.text() + ended.text("stderr") == ""


def test_later_cell_joins_the_pull(kernel: Kernel, gate: Hold, server: FaultyRegistry) -> None:
    """A cell that waits for a model which is being pulled joins that pull; each chunk is fetched once."""
    kernel.run(f"h = %xprim pull {_REF}")
    gate.wait_reached()
    cell = kernel.start(f"pulled = %xprim pull {_REF} --wait")
    so_far = kernel.watch(cell, r"/10 chunks")
    gate.release()
    assert kernel.finish(cell, so_far).reply["status"] == "ok"
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
    """A pull that fails while it is waited for ends with the bar's last line and the card."""
    outcome = kernel.run("%xprim pull demo/nothing v1 --wait")
    assert outcome.reply["ename"] == "ModelNotFoundError"
    assert "failed: The registry has no model demo/nothing." in str(
        outcome.of("update_display_data")[-1]["data"]
    )
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
