"""The harness itself: a notebook that works passes, and one that fails is seen to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from .harness import Lab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def _write(lab: Lab, name: str, *cells: str) -> str:
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, lab.root / name)
    return name


def test_a_notebook_that_works(lab: Lab, page: Page) -> None:
    """Every cell runs in order and its output can be read."""
    notebook = Notebook.open(lab, page, _write(lab, "works.ipynb", "x = 6", "", "print(x * 7)"))
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.outputs()[-1][0]["text"] == "42\n"


def test_a_notebook_that_fails(lab: Lab, page: Page) -> None:
    """The error of a cell is seen, though the cells after it never run."""
    notebook = Notebook.open(lab, page, _write(lab, "fails.ipynb", "x = 1", "x / 0", "print('never')"))
    notebook.run_all()
    assert notebook.errors() == ["ZeroDivisionError: division by zero"]
    assert notebook.outputs()[-1] == []
