"""The front door: the first notebook, in a real JupyterLab, as a reader would run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .harness import Lab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def test_first_light_runs_without_an_error(lab: Lab, page: Page, shipped: Path, artefacts: Path) -> None:
    """Every cell of `00_first_light` runs and none shows an error; a screenshot is kept."""
    assert (shipped / "00_first_light.ipynb").exists()
    notebook = Notebook.open(lab, page, f"{shipped.name}/00_first_light.ipynb")
    notebook.run_all()
    page.screenshot(path=artefacts / "00_first_light.png", full_page=True)
    assert notebook.errors() == []
    assert any(notebook.outputs())
