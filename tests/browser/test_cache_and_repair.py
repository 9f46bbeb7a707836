"""The cache's chapter in a real JupyterLab: it runs, and health is readable in every theme."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .harness import Lab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .harness import Pages

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

# The contrast that WCAG 2.1 asks for text of normal size.
_LEAST_CONTRAST = 4.5
_TO_THE_MIDDLE = "element => element.scrollIntoView({block: 'center'})"
_CONTRAST = """element => {
  const channel = value => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parts = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  let ground = element;
  while (ground && (parts(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
  const style = getComputedStyle(element);
  const ink = parts(element instanceof SVGElement ? style.fill : style.color);
  const paper = ground ? parts(getComputedStyle(ground).backgroundColor) : [255, 255, 255];
  const [more, less] = [light(ink), light(paper)].sort((a, b) => b - a);
  return (more + 0.05) / (less + 0.05);
}"""


@pytest.fixture
def opened(pages: Pages) -> Iterator[Page]:
    """A page high enough for a whole report."""
    with pages(height=1500) as page:
        yield page


def _contrast(shown: Locator) -> float:
    found: float = shown.evaluate(_CONTRAST)
    return found


def test_health_reads_well_in_every_theme(lab: Lab, opened: Page, artefacts: Path) -> None:
    """Every cell runs; the report's words, its table and the chart's labels stand out from the page; one is drawn."""
    source = Path(__file__).resolve().parents[2] / "notebooks" / "20_cache_and_repair.ipynb"
    (lab.root / source.name).write_bytes(source.read_bytes())
    notebook = Notebook.open(lab, opened, source.name)
    notebook.run_all()
    assert notebook.errors() == []
    report, chart = opened.locator(".xprim-health").first, opened.locator(".vega-embed").first
    for theme in notebook.in_every_theme():
        report.evaluate(_TO_THE_MIDDLE)
        opened.screenshot(path=artefacts / f"20_health_{theme}.png")
        for shown in (
            report.locator("th").first,
            report.locator("td").nth(1),
            opened.locator(".xprim-facts td").first,
        ):
            assert _contrast(shown) >= _LEAST_CONTRAST, theme
        chart.evaluate(_TO_THE_MIDDLE)
        chart.locator("svg, canvas").first.wait_for()
        opened.screenshot(path=artefacts / f"20_chart_{theme}.png")
    assert opened.evaluate("() => document.querySelectorAll('.vega-embed').length") >= 1
