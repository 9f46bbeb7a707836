"""The chapter of the windows in a real JupyterLab: it runs, all of them live, and README's pictures are made here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .harness import Lab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def test_the_chapter_runs_and_its_windows_live(lab: Lab, page: Page, shipped: Path, artefacts: Path) -> None:
    """Every cell runs; a browser, panels and a health view are on the page, and no static form beside a live one."""
    page.set_viewport_size({"width": 1100, "height": 2400})
    notebook = Notebook.open(lab, page, f"{shipped.name}/60_widgets.ipynb")
    notebook.run_all()
    assert notebook.errors() == []
    for name in ("browser", "pulls", "health"):
        view = page.locator(f".xprim-view.xprim-{name}").last
        view.wait_for()
        view.scroll_into_view_if_needed()
        view.screenshot(path=artefacts / f"picture_{name}.png")
    assert page.locator(".xprim-twin").locator("visible=true").count() == 0
