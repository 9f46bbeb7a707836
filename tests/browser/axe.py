"""What axe-core has against a part of a page: the rules of WCAG 2.2 A and AA, and the best practices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Page


def violations(page: Page, selector: str) -> list[str]:
    """A line for each violation in what `selector` names: the rule, what is wrong, the element; empty when all is well."""
    found = Axe().run(page, context=selector).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]} ({node.get('failureSummary', '')[:300]})"
        for each in found
        for node in each["nodes"]
    ]
