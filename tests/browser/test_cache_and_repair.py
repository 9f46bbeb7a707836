"""The cache's chapter in a real JupyterLab: it runs, and health is readable in the light and in the dark theme."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .harness import Lab, Notebook, chromium, jupyterlab

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_THEMES = "@jupyterlab/apputils-extension:themes"
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


@pytest.fixture(scope="module", params=["light", "dark"])
def themed(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A JupyterLab in the theme; the shared one is the light one."""
    if request.param == "light":
        yield lab
        return
    settings = {_THEMES: {"theme": "JupyterLab Dark"}}
    with jupyterlab(tmp_path_factory.mktemp("dark"), settings) as dark:
        yield dark


@pytest.fixture
def opened(themed: Lab) -> Iterator[Page]:
    """A page high enough for a whole report."""
    with chromium(height=1500) as page:
        yield page


def _contrast(shown: Locator) -> float:
    found: float = shown.evaluate(_CONTRAST)
    return found


def test_health_reads_well(themed: Lab, opened: Page, artefacts: Path) -> None:
    """Every cell runs; the report's words, its table and the chart's labels stand out from the page; one is drawn."""
    source = Path(__file__).resolve().parents[2] / "notebooks" / "20_cache_and_repair.ipynb"
    (themed.root / source.name).write_bytes(source.read_bytes())
    notebook = Notebook.open(themed, opened, source.name)
    notebook.run_all()
    assert notebook.errors() == []
    theme = opened.evaluate("() => document.body.dataset.jpThemeLight")
    name = "light" if theme == "true" else "dark"
    report = opened.locator(".xprim-health").first
    report.evaluate(_TO_THE_MIDDLE)
    opened.screenshot(path=artefacts / f"20_health_{name}.png")
    for shown in (
        report.locator("th").first,
        report.locator("td").nth(1),
        opened.locator(".xprim-facts td").first,
    ):
        assert _contrast(shown) >= _LEAST_CONTRAST
    chart = opened.locator(".vega-embed").first
    chart.evaluate(_TO_THE_MIDDLE)
    chart.locator("svg, canvas").first.wait_for()
    opened.screenshot(path=artefacts / f"20_chart_{name}.png")
    assert opened.evaluate("() => document.querySelectorAll('.vega-embed').length") >= 1
