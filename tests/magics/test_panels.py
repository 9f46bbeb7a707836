"""Words from a panel: at once while the kernel idles or awaits, at the latest when a cell that blocks has ended."""

from __future__ import annotations

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.gates import Hold

from .kernels import Kernel, Panel

_REF = "demo/big v1"
_AT_ONCE_S = 1.0


def _state(panel: Panel) -> str:
    rows = panel.state["rows"]
    return str(rows[0]["state"]) if rows else ""


@pytest.mark.alone
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
    assert panel.state["error"] == {}


@pytest.mark.alone
def test_words_act_at_once_while_a_cell_awaits(kernel: Kernel, gate: Hold) -> None:
    """Pause in the middle of `await handle` ends the pull, and the cell with it, within a second."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    cell = kernel.start("await h")
    kernel.send(panel, "pause", ref=_REF)
    kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)
    assert kernel.finish(cell).reply["status"] in ("error", "aborted")


@pytest.mark.alone
def test_words_act_at_the_latest_when_a_blocking_cell_ends(kernel: Kernel, gate: Hold) -> None:
    """A cell that blocks the kernel delays a word, and does not lose it."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    with kernel.blocked():
        kernel.send(panel, "pause", ref=_REF)
    kernel.until(lambda: _state(panel) == "paused", _AT_ONCE_S)


def test_unknown_words_change_nothing(kernel: Kernel, gate: Hold) -> None:
    """What no button says, or says of nonsense, ends neither the pull nor the kernel; the panel tells what was wrong."""
    panel = kernel.panel(kernel.run(f"h = %xprim pull {_REF}"))
    gate.wait_reached()
    kernel.send(panel, "explode", ref=_REF)
    kernel.send(panel, "pause", ref=["../.."])
    kernel.until(lambda: bool(panel.state["error"]))
    kernel.until(lambda: _state(panel) == "running")  # an error is shown at once, a row five times a second
    kernel.send(panel, "dismiss")
    kernel.until(lambda: not panel.state["error"])
    gate.release()
    kernel.until(lambda: _state(panel) == "done")


def test_pulls_opens_the_panel_of_every_pull(kernel: Kernel, gate: Hold) -> None:
    """`%xprim pulls` is a window with a row for each pull, those to come too; the cell returns it and shows it once."""
    kernel.run(f"h = %xprim pull {_REF}")
    outcome = kernel.run("%xprim pulls")
    panel = kernel.panel(outcome)
    assert [row["ref"] for row in panel.state["rows"]] == [_REF]
    gate.wait_reached()
    kernel.until(lambda: "4/10 chunks" in panel.state["rows"][0]["line"])  # from here on it stands still
    assert outcome.of("execute_result") == []
    assert kernel.run("print(type(_).__name__)").text() == "PullPanel\n"
    quiet = kernel.run("v = %xprim pulls")
    assert quiet.of("display_data") == []
    again = kernel.panel(kernel.run("v"))
    assert [(row["ref"], row["state"]) for row in again.state["rows"]] == [(_REF, "running")]
    gate.release()
    kernel.run("h.result(20)\nother = %xprim pull other/base v1 --wait")
    kernel.until(lambda: [row["state"] for row in panel.state["rows"]] == ["done", "done"])


def test_browse_shows_one_thing(kernel: Kernel) -> None:
    """`%xprim browse` shows a window, or the table of models where nobody has hung one; once, either way."""
    outcome = kernel.run("%xprim browse")
    assert outcome.reply["status"] == "ok"
    assert len(outcome.of("display_data")) + len(outcome.of("execute_result")) == 1
    assert "demo/big" in str(outcome.outputs) + str(kernel.panels)


def test_closed_panel_can_be_shown_again_as_text(kernel: Kernel, server: FaultyRegistry) -> None:
    """A panel that was closed shows its static form: the last state, without a front end part."""
    kernel.run("pulled = %xprim pull other/base v1 --wait\nv = %xprim pulls\nv.close()")
    (shown,) = kernel.run("v").of("display_data")
    assert set(shown["data"]) == {"text/html", "text/plain"}
    assert "pull other/base v1: installed" in shown["data"]["text/plain"]


_TRACES = """
import comm, ipywidgets, logging, threading
from IPython import get_ipython
from ipywidgets.widgets.widget import _instances
def traces():
    shell = get_ipython()
    return {
        "magics": sorted(shell.magics_manager.magics["line"]),
        "matchers": len(shell.Completer.custom_matchers),
        "errors": shell.custom_exceptions,
        "handler": shell.CustomTB,
        "events": {name: len(heard) for name, heard in shell.events.callbacks.items()},
        "log": len(logging.getLogger("xprim_nb").handlers),
        "faces": {name: sorted(map(str, (*each.type_printers, *each.deferred_printers)))
                  for name, each in shell.display_formatter.formatters.items()},
        "own": sorted(map(str, shell.display_formatter.ipython_display_formatter.type_printers)),
        "comms": len(comm.get_comm_manager().comms),
        "widgets": len(_instances),
    }
def names():
    # The loop belongs to the process: toolkits that a user has made run there too.
    return sorted({each.name for each in threading.enumerate()} - {"xprim-loop"}
                  - {f"asyncio_{number}" for number in range(64)})
"""


def test_unloading_closes_and_removes_everything(kernel: Kernel, gate: Hold) -> None:
    """After `%unload_ext` the shell is as it was: windows closed, formatters, matchers, handlers and threads gone."""
    kernel.run(f"%unload_ext xprim_nb\n{_TRACES}\nbefore, threads = traces(), names()")
    kernel.run("%load_ext xprim_nb")
    opened = [kernel.panel(kernel.run(code)) for code in (f"%xprim pull {_REF}", "%xprim pulls")]
    kernel.run("d = %xprim doctor\n%xprim path demo/nothing v1")
    assert kernel.run("%unload_ext xprim_nb\nh = _ = None").reply["status"] == "ok"
    kernel.until(lambda: all(each.closed for each in opened))
    gate.release()
    told = kernel.run(
        "print([(name, seen, before[name]) for name, seen in traces().items() if seen != before[name]])"
    )
    assert told.text() == "[]\n"
    kernel.until(lambda: kernel.run("print(set(names()) - set(threads))").text() == "set()\n")
