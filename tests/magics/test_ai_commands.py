"""What the commands of `%xprim` about models that run return, and how it looks in a cell."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb import Handle
from xprim_nb.errors import NoCapacityError, NotInstalledError
from xprim_nb.magics.ai_tables import AwakeRows, TimelineRows
from xprim_nb.scheduling.values import EngineSnapshot, ModelView

from ..fake_engine import AWAKE, MODEL, FakeEngine, row
from .conftest import value_of

Line = Callable[[str], Any]


@pytest.fixture
def line(shell: InteractiveShell, engine: FakeEngine) -> Line:
    """What a line of `%xprim` returns, on the engine of this test."""
    return lambda text: value_of(shell.run_cell(f"%xprim {text}", store_history=True))


def test_ps(line: Line, engine: FakeEngine) -> None:
    """A table of what is awake, of all kernels, with a frame of the same."""
    assert "No model is awake" in repr(line("ps"))
    engine.views = [AWAKE, replace(AWAKE, key="b", is_mine=True, in_flight=2, pinned=True, idle_s=0.0)]
    rows = line("ps")
    assert isinstance(rows, AwakeRows)
    assert "4000" in repr(rows).splitlines()[1]
    assert "this one" in repr(rows).splitlines()[2]
    assert "2 answers now" in rows._repr_html_()
    assert list(rows.frame["model"]) == [MODEL, "b"]
    assert rows[1].pinned


def test_load(line: Line, engine: FakeEngine, shell: InteractiveShell) -> None:
    """It is loaded with its settings and the cell that asked; `--background` returns a handle at once."""
    view = line("load demo/tiny-llama v2 --context-tokens 512 --set threads=2")
    assert isinstance(view, ModelView)
    asked = engine.asked("load")
    number = shell.execution_count - 1
    assert asked == {
        "model": "demo/tiny-llama v2", "note": f"In [{number}]", "context_tokens": 512, "threads": 2,
    }  # fmt: skip
    engine.hold_after = 0
    handle = line("load demo/tiny-llama@v2 --background")
    assert isinstance(handle, Handle)
    assert not handle.done
    engine.let_go.set()
    assert handle.result(10).key == MODEL
    engine.fails["load"] = NoCapacityError("It needs 20.0 GB.", subject=MODEL)
    with pytest.raises(NoCapacityError):
        line("load demo/tiny-llama v2")


def test_evict_and_pin(line: Line, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """What this kernel holds is done; what another holds is asked for, and that is said."""
    engine.views = [AWAKE]
    assert line("evict demo/tiny-llama v2").key == MODEL
    assert "process 4000 was asked to let" in capsys.readouterr().err
    assert line(f"pin {MODEL.replace(' ', '@')} --awake").key == MODEL
    assert engine.asked("pin") == {"model": MODEL}
    assert "asked to keep" in capsys.readouterr().err
    assert line(f"unpin {MODEL.replace(' ', '@')} --awake").key == MODEL
    assert "asked to no longer keep" in capsys.readouterr().err
    engine.views = [
        replace(AWAKE, is_mine=True, kernel_pid=os.getpid(), pinned=True),
        replace(AWAKE, key="b"),
    ]
    line("evict demo/tiny-llama v2")
    assert capsys.readouterr().err == ""
    assert [each.key for each in line("pin --awake")] == [MODEL]
    with pytest.raises(NotInstalledError, match="not awake"):
        line("evict no/model")
    with pytest.raises(UsageError, match="no --reason"):
        line("pin demo/tiny-llama v2 --awake --reason because")


def test_pin_without_awake_is_the_caches(line: Line, engine: FakeEngine) -> None:
    """Plain `pin` and `unpin` ask the cache, and no engine is opened for them."""
    with pytest.raises(NotInstalledError):
        line("pin demo/tiny-llama v2")
    assert len(line("pin")) == 0
    assert engine.calls == []


def test_plan_gpu_and_timeline(line: Line, engine: FakeEngine) -> None:
    """The plan as it is; the panel, or what it would show; the timeline with its frame and its chart."""
    assert line("plan demo/tiny-llama v2 --dtype float32") == "Nothing leaves."
    assert engine.asked("plan") == {"model": "demo/tiny-llama v2", "dtype": "float32"}
    assert isinstance(line("gpu"), EngineSnapshot)
    assert "Nothing has happened yet" in repr(line("timeline"))
    engine.rows = [row(float(second), "loading" if second % 2 else "gone") for second in range(50)]
    rows = line("timeline")
    assert isinstance(rows, TimelineRows)
    assert (len(rows), len(repr(rows).splitlines())) == (50, 32)
    assert "20 earlier changes not shown" in repr(rows)
    assert "In [12]" in repr(rows)
    assert len(rows.frame) == 50
    assert {span.state for span in rows.chart.spans} == {"loading"}


def test_why(line: Line, engine: FakeEngine, tmp_path: Path) -> None:
    """A model that the engine knows is explained by it, also without `--awake`; a file is the cache's matter."""
    engine.views = [AWAKE]
    file = tmp_path / "a file"
    file.touch()
    assert line(f"why '{file}'").path == file
    assert engine.calls == []
    assert line("why demo/tiny-llama v2 --awake") == "demo/tiny-llama v2 waits for its turn."
    assert line("why demo/tiny-llama v2") == "demo/tiny-llama v2 waits for its turn."
    assert line(f"why {file}").path == file


def test_new_settings_unload(line: Line, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings are not changed under a model at work; one that is idle is unloaded, and that is said."""
    engine.views = [replace(AWAKE, is_mine=True, in_flight=1)]
    line("ps")
    with pytest.raises(UsageError, match=f"wait for these first, or interrupt them: {MODEL}"):
        line("config max_vram=8GB")
    engine.views = [replace(AWAKE, is_mine=True)]
    config = line("config max_vram=8GB")
    assert config.ai.max_vram_bytes == 8 << 30
    assert f"unloaded, because the settings are new: {MODEL}" in capsys.readouterr().err
