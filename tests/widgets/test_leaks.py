"""Windows come and go in a real kernel: two hundred of each leave nothing behind, and none floods its front end."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

from ..magics.kernels import ROOT, Kernel

_TIMES = 200
# Messages of one window in any second; a front end draws no more often, and a kernel may publish 1000 in all.
_MOST_A_SECOND = 10

_COUNT = """
import comm, gc, threading
from IPython import get_ipython
from ipywidgets.widgets.widget import _instances
from xprim_nb.magics.extension import _loaded
from xprim_widgets import _base, _pullbook
extension = _loaded[get_ipython()]
def count():
    gc.collect()
    hub = extension.kit.events
    return {
        "subscribers": len(hub._subscribers),
        "listeners": len(_pullbook.book_of(extension.kit)._listeners),
        "comms": len(comm.get_comm_manager().comms),
        "widgets": len(_instances),
        "views": sum(isinstance(each, _base.View) for each in gc.get_objects()),
        "classes": sum(isinstance(each, type) and issubclass(each, _base.View) for each in gc.get_objects()),
        "opened": len(extension.views._open),
        "threads": len([each for each in threading.enumerate() if not each.name.startswith("asyncio_")]),
        "faces": sum(len(each.type_printers) + len(each.deferred_printers)
                     for each in get_ipython().display_formatter.formatters.values()),
        "heard": sum(len(each) for each in get_ipython().events.callbacks.values()),
    }
def open_and_close(name, times):
    for _ in range(times):
        view = extension.views.open(name)
        view._ipython_display_()
        view.close()
"""

# Far more than a pull tells by itself: that one is held back already.
_FLOOD = """
import dataclasses, time
from IPython import get_ipython
from xprim_nb.magics.extension import _loaded
kit = _loaded[get_ipython()].kit
while h.snapshot() is None or not h.snapshot().bytes_total:
    time.sleep(0.01)
last, stop, count = h.snapshot(), time.monotonic() + 2, 0
while time.monotonic() < stop or count <= 200:
    count += 1
    kit.events.publish(dataclasses.replace(last, bytes_in_flight=count))
    time.sleep(0.0005)
print(count)
"""


@pytest.fixture
def registry(tmp_path: Path) -> MadeRegistry:
    """A small model, and one of four hundred chunks."""
    return make_registry(
        tmp_path / "registry",
        {
            "demo/small v1": {"model.bin": random_bytes("small", 2_000)},
            "demo/many v1": {"model.bin": random_bytes("many", 400_000)},
        },
    )


@pytest.fixture
def kernel(registry: MadeRegistry, tmp_path: Path) -> Iterator[Kernel]:
    """A kernel of its own with the extension loaded."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "widgets")]),
        "XPRIM_MODELS_DIR": str(tmp_path / "models"),
        "XPRIM_MODELS_REGISTRY_URL": str(registry.root),
    }
    with Kernel(environment) as running:
        assert running.run("%load_ext xprim_nb").reply["status"] == "ok"
        yield running


@pytest.mark.parametrize("name", ["browser", "health", "pulls", "residency"])
def test_windows_leave_nothing_behind(kernel: Kernel, name: str) -> None:
    """Subscribers, listeners, comms, views, threads and formatters are as many after two hundred as after ten."""
    kernel.run("pulled = %xprim pull demo/small v1 --wait")
    kernel.run(_COUNT)
    kernel.run(f"open_and_close({name!r}, 10)")  # what is made once is made now
    before = ast.literal_eval(kernel.run("print(count())").text())
    done = kernel.run(f"open_and_close({name!r}, {_TIMES})")
    assert done.reply["status"] == "ok"
    after = ast.literal_eval(kernel.run("print(count())").text())
    # One more or less may be on its way out at the time of the first count.
    assert {name: (before[name], after[name]) for name in before if after[name] > before[name]} == {}
    assert all(each.closed for each in list(kernel.panels.values())[-_TIMES:])
    assert len(kernel.panels) > _TIMES


def test_collector_ends_no_window(kernel: Kernel) -> None:
    """A closed window may be collected in the middle of anything, also while a lock is held that closing would need."""
    kernel.run(_COUNT)
    told = kernel.run(
        "open_and_close('pulls', 5)\n"
        "with _pullbook.book_of(extension.kit)._lock:\n    gc.collect()\n"
        "print(count()['views'])"
    )
    assert told.text() == "0\n"


def test_fast_pull_does_not_flood_the_front_end(kernel: Kernel, registry: MadeRegistry) -> None:
    """However fast a pull tells how far it is, each of its windows sends no more than ten messages a second."""
    with (
        FaultyRegistry(registry.root) as server,
        server.hold(on=lambda asked: server.count("chunk") > 50) as gate,
    ):
        kernel.run(f"config = %xprim config registry_url={server.url}")
        every = kernel.panel(kernel.run("%xprim pulls"))
        own = kernel.panel(kernel.run("h = %xprim pull demo/many v1"))
        gate.wait_reached()
        assert int(kernel.run(_FLOOD).text()) > 200
        gate.release()
        kernel.until(lambda: all(each.state["rows"][-1]["state"] == "done" for each in (every, own)))
    for panel in (every, own):
        assert len(panel.updates) >= 3  # one a second at the least, so that there is something to measure
        assert max(_in_one_second(panel.updates)) <= _MOST_A_SECOND


def test_lively_engine_does_not_flood_the_front_end(kernel: Kernel) -> None:
    """However often models change, the residency panel sends no more than ten messages a second."""
    kernel.run("from xprim_nb.events import ResidencyChanged\nimport time\n" + _COUNT)
    panel = kernel.panel(kernel.run("%xprim gpu"))
    kernel.run(
        "stop, count = time.monotonic() + 2, 0\nwhile time.monotonic() < stop:\n    count += 1\n"
        "    extension.kit.events.publish(ResidencyChanged(f'm:{count}', 'broken', '', 'again'))\n"
        "    time.sleep(0.001)\n"
    )
    kernel.run("extension.kit.events.publish(ResidencyChanged('m:a', 'broken', '', 'the last'))")
    kernel.until(lambda: "the last" in panel.state["said"])
    assert len(panel.updates) >= 3
    assert max(_in_one_second(panel.updates)) <= _MOST_A_SECOND


def _in_one_second(moments: list[float]) -> list[int]:
    """For each message, how many came within the second that it begins."""
    return [sum(first <= each < first + 1.0 for each in moments) for first in moments]
