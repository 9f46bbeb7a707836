"""Whoever wonders later why a model was loaded finds the cell, or the line of the script."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xprim_nb import Config, connect
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.toolkit.asker import asker

_CELLS = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("from xprim_nb.toolkit.asker import asker", store_history=True)
shell.run_cell("print(asker())", store_history=True)
"""


def test_a_line_of_a_script_is_named() -> None:
    """By the name of its file, without the directories."""
    line = inspect.currentframe()
    assert line is not None
    assert asker() == f"test_toolkit_asker.py:{line.f_lineno}"


def test_what_the_library_calls_itself_is_passed_over() -> None:
    """The line is that of whoever called the library; what was typed in has none."""
    ours: dict[str, Any] = {"__name__": "xprim_nb.anything", "asker": asker}
    exec("def verb(): return asker()", ours)  # a function of a module of ours
    verb: Callable[[], str] = ours["verb"]
    assert verb().startswith("test_toolkit_asker.py:")
    typed: dict[str, Any] = {"__name__": "__main__", "verb": verb}
    exec("found = verb()", typed)  # as at a prompt
    assert typed["found"] == ""


def test_a_cell_is_named_by_its_number() -> None:
    """As a reader of the notebook sees it."""
    ran = subprocess.run(
        [sys.executable, "-c", _CELLS], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.split("\n")[0] == "In [2]"


def test_a_model_knows_which_line_loaded_it(tmp_path: Path) -> None:
    """`ps` and the timeline say it; whoever gives a note of their own is taken at their word."""
    settings = AICapabilities(ledger_dir=tmp_path / "ledger")
    with connect(Config(data_dir=tmp_path / "models", ai=settings)) as kit:
        view = kit.ai.load("demo/tiny-llama v2").result(60)
        assert view.note.startswith("test_toolkit_asker.py:")
        assert {each.note for each in kit.ai.timeline().result(60)} == {view.note}
        assert kit.ai.load("demo/tiny-llama v1", note="a test").result(60).note == "a test"
