"""Cache bar, branch tree and trend in a real JupyterLab: drawn in every theme, by keyboard, and in the saved notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from xprim_nb.reports.cache_bar import BREAK_COLOUR, CACHE_COLOURS

from .axe import violations
from .harness import Lab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from .harness import Pages

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_BAR, _TREE, _TREND = ".xprim-cache-bar", ".xprim-branch-tree", ".xprim-trend"
_SETUP = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
%load_ext xprim_nb
from tests.prompting import asking, explained
from datetime import date, timedelta
from decimal import Decimal
from xprim_nb.reports import BranchNode, BranchTree, TrendChart, TrendDay
found = explained(asking("2026-11-27"), asking())
talk = asking().model_copy(update={{"messages": tuple(
    {{"role": "user", "content": f"Question {{number}}?"}} for number in range(20))}})
nodes = [BranchNode("0" * 64, "", "main", "plan")]
for number in range(1, 40):
    nodes.append(BranchNode(f"{{number:08}}" * 8, nodes[-1].id, "main", "module", number == 39))
nodes.append(BranchNode("f" * 64, nodes[3].id, "what if", "file", True))
days = tuple(
    TrendDay(date(2026, 11, 1) + timedelta(number), 9, Decimal(number), Decimal("0.5"), number / 30, 0.5)
    for number in range(30)
)
"""
_CELLS = (_SETUP, "found", "BranchTree(tuple(nodes), 'review')", "TrendChart('Cost by day', days)")
_NAMES = ("xprim-cache-bar", "xprim-branch-tree", "xprim-trend")
_DRAWN = "async image => { await image.decode(); return image.naturalWidth; }"
_COLOURS = """bar => [...bar.querySelectorAll('[title]')].map(
  block => [getComputedStyle(block).backgroundColor, block.getBoundingClientRect().width])"""


def _rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


def _opened(lab: Lab, page: Page, name: str) -> Notebook:
    """A notebook whose last cells show the bar, the tree and the trend."""
    notebook = new_notebook(cells=[new_code_cell(each) for each in _CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, lab.root / name)
    opened = Notebook.open(lab, page, name)
    opened.run_all()
    assert opened.errors() == []
    return opened


def test_views_are_drawn_in_every_theme(lab: Lab, pages: Pages, artefacts: Path) -> None:
    """Blocks have their colours and are as wide as their tokens; axe-core finds nothing; a keyboard unfolds a run."""
    with pages(height=1100) as page:
        opened = _opened(lab, page, "prompt_views.ipynb")
        bar, tree = page.locator(_BAR), page.locator(_TREE)
        assert "differs from byte" in bar.inner_text()
        assert "breaks here" in bar.inner_text()
        assert bar.get_by_role("img").get_attribute("aria-label")

        assert "tip of what if" in tree.inner_text()
        assert not tree.get_by_text("module 00000020").is_visible()
        summary = tree.locator("summary").first
        summary.focus()
        assert summary.evaluate("one => getComputedStyle(one).outlineStyle") != "none"
        page.keyboard.press("Enter")
        tree.get_by_text("module 00000020").wait_for()

        trend = page.locator(_TREND)
        assert trend.locator("img").evaluate(_DRAWN) == 640
        assert "From 2026-11-01 to 2026-11-30" in str(trend.locator("img").get_attribute("alt"))
        assert not trend.get_by_text("2026-11-01", exact=True).is_visible()
        trend.locator("summary").focus()
        page.keyboard.press("Enter")
        trend.get_by_text("2026-11-01", exact=True).wait_for()

        for theme in opened.in_every_theme():
            blocks: list[list[Any]] = bar.evaluate(_COLOURS)
            assert {colour for colour, _ in blocks} == {
                _rgb(colour) for colour in (BREAK_COLOUR, CACHE_COLOURS["cached"], CACHE_COLOURS["fresh"])
            }, theme
            assert all(width >= 3 for _, width in blocks)
            for each, name in zip((_BAR, _TREE, _TREND), ("cache_bar", "branch_tree", "trend"), strict=True):
                assert violations(page, each) == [], theme
                page.locator(each).scroll_into_view_if_needed()
                page.locator(each).screenshot(path=artefacts / f"{name}_{theme}.png")
        # By now formulas are set; an amount of money is none.
        assert "about $0.0" in bar.inner_text()
        assert bar.locator("mjx-container").count() == 0
        assert trend.locator("mjx-container").count() == 0
        assert opened.errors() == []


def test_a_narrow_page_cuts_nothing(lab: Lab, pages: Pages) -> None:
    """In 420 pixels no view is wider than its cell."""
    with pages(width=520, height=1300) as page:
        _opened(lab, page, "prompt_views_narrow.ipynb")
        for each in (_BAR, _TREE, _TREND):
            assert page.locator(each).evaluate("view => view.scrollWidth <= view.clientWidth")


def test_all_survive_in_the_saved_notebook_trusted_or_not(lab: Lab, pages: Pages, artefacts: Path) -> None:
    """The file holds plain HTML and text; opened again, and opened as a stranger's, it shows words and colours."""
    with pages(height=1100) as page:
        opened = _opened(lab, page, "prompt_views_saved.ipynb")
        opened.save()
        colours = page.locator(_BAR).evaluate(_COLOURS)
        saved: dict[str, Any] = json.loads(
            (lab.root / "prompt_views_saved.ipynb").read_text(encoding="utf-8")
        )
        for cell, name in zip(saved["cells"][1:], _NAMES, strict=True):
            (output,) = cell["outputs"]
            page_html = "".join(output["data"]["text/html"])
            assert f'class="{name} ' in page_html
            assert not any(each in page_html for each in ("<script", "<style", "<link", "onclick"))
        # Written by somebody else, and so not trusted: the front end takes out all but plain HTML.
        saved["cells"][0]["source"] = "1"
        saved["metadata"].pop("kernelspec")
        (lab.root / "a_strangers.ipynb").write_text(json.dumps(saved), encoding="utf-8")
        page.goto(f"{lab.url}/doc/tree/a_strangers.ipynb?token={lab.token}&reset")
        page.locator(_BAR).wait_for()
        trusted = "() => window.jupyterapp.shell.currentWidget.content.model.cells.get(1).trusted"
        assert page.evaluate(trusted) is False
        assert page.locator(_BAR).evaluate(_COLOURS) == colours
        assert "differs from byte" in page.locator(_BAR).inner_text()
        page.locator(f"{_TREE} summary").first.wait_for()  # cells are drawn one after the other
        assert "tip of what if" in page.locator(_TREE).inner_text()
        assert page.locator(f"{_TREND} img").evaluate(_DRAWN) == 640
        assert "$29.00" in page.locator(_TREND).inner_text()
        page.screenshot(path=artefacts / "prompt_views_untrusted.png")
