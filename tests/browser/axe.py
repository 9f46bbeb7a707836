"""What axe-core finds wrong in a part of a page."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

_SOURCE = files("axe_playwright_python") / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
_RUN = """async ([selector, rules]) => {
  const found = await axe.run(selector, {runOnly: {type: 'tag', values: rules}});
  return found.violations.map(each => {
    const nodes = each.nodes.map(node => node.html).join(' ');
    return `${each.id}: ${each.help} (${each.nodes.length} nodes) ${nodes}`;
  });
}"""


def violations(page: Page, selector: str) -> list[str]:
    """A line for each rule that `selector` and what is in it break: `id: help (n nodes) html`."""
    if not page.evaluate("() => typeof axe === 'object'"):
        # As an expression: in Lab a module loader would take what a script tag brings.
        page.evaluate(_SOURCE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_RUN, [selector, _RULES])
    return found
