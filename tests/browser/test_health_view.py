"""The health view in a real JupyterLab: damage is found, mended and told; readable in every theme; keyboard and all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import make_registry, random_bytes

from .axe import violations
from .harness import Lab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .harness import Pages

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_VIEW = ".xprim-view.xprim-health"
_MODELS = {
    "demo/tiny-llama v1": {"model.safetensors": random_bytes("llama", 400_000), "config.json": b"{}"},
    "demo/embed v2": {"weights.bin": random_bytes("embed", 250_000), "config.json": b"{}"},
    "other/base latest": {"weights.bin": random_bytes("base", 100_000), "config.json": b"{}"},
}
_NEWER = {"weights.bin": random_bytes("base 2", 120_000), "config.json": b'{"new": 1}'}
_SETUP = """
import os
os.environ["XPRIM_MODELS_DIR"], os.environ["XPRIM_MODELS_REGISTRY_URL"] = {models!r}, {url!r}
%load_ext xprim_nb
"""


class Opened:
    """A notebook with three models installed and the view on screen."""

    def __init__(self, lab: Lab, page: Page, folder: Path, name: str) -> None:
        self.page = page
        self.registry = folder / "registry"
        make_registry(self.registry, _MODELS)
        self.server = FaultyRegistry(self.registry)
        self.models = folder / "models"
        pulls = [f"p{at} = %xprim pull {ref} --wait" for at, ref in enumerate(_MODELS)]
        cells = [
            _SETUP.format(models=str(self.models), url=self.server.url),
            "\n".join(pulls),
            "%xprim health",
        ]
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, lab.root / name)
        self.notebook = Notebook.open(lab, page, name)
        self.notebook.run_all()
        assert self.notebook.errors() == []
        self.view = page.locator(_VIEW)
        self.view.wait_for()
        self.verdict = self.view.locator(".xprim-verdict")

    def damage(self, model: str, version: str, name: str) -> Path:
        """Flip a bit of a file on disk, as a disk does it: its times stay."""
        path = next(self.models.rglob(f"{model}/{version}/**/{name}"))
        facts, data = path.stat(), bytearray(path.read_bytes())
        data[1500] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return path

    def row(self, ref: str) -> Locator:
        """The rows of one model."""
        return self.view.locator("tbody").filter(
            has=self.page.get_by_role("button", name=f"Details of {ref}")
        )

    def press(self, name: str) -> None:
        """Press a button of the view."""
        self.view.get_by_role("button", name=name, exact=True).click()

    def look_in_every_theme(self, artefacts: Path, name: str) -> None:
        """axe-core finds nothing in any of Lab's themes; pictures for people."""
        for theme in self.notebook.in_every_theme():
            assert violations(self.page, _VIEW) == [], theme
            self.page.screenshot(path=artefacts / f"{name}_{theme}.png")

    def reads(self, text: str) -> None:
        """Wait until the sentence on top says so."""
        self.verdict.filter(has_text=text).wait_for()


def _kernel(opened: Opened, code: str) -> None:
    """Run code in the kernel without a cell of its own, and wait for its end."""
    opened.page.evaluate(
        """async code => {
          const context = jupyterapp.shell.currentWidget.context;
          await context.sessionContext.session.kernel.requestExecute({code}).done;
        }""",
        code,
    )


def test_damage_is_found_repaired_and_told_in_every_theme(
    lab: Lab, pages: Pages, tmp_path: Path, artefacts: Path
) -> None:
    """Full check, the sentence changes; Repair, it is healthy and the receipt is there; axe-core finds nothing."""
    with pages(height=1100) as page:
        opened = Opened(lab, page, tmp_path, "health.ipynb")
        try:
            assert opened.verdict.inner_text() == "All 3 models healthy."
            assert page.locator(".jp-OutputArea-executeResult").count() == 0  # the report is not shown twice
            path = opened.damage("tiny-llama", "v1", "model.safetensors")
            opened.press("Full check")
            opened.reads("2 of 3 models healthy; 1 corrupt chunk: repair it.")
            opened.press("Details of demo/tiny-llama v1")
            opened.view.scroll_into_view_if_needed()
            opened.look_in_every_theme(artefacts, "health_damage")
            opened.press("Repair demo/tiny-llama v1")
            opened.reads("All 3 models healthy.")
            note = opened.row("demo/tiny-llama v1").locator(".xprim-note")
            note.filter(has_text="1 of 401 chunks fetched (1000 B)").wait_for()
            assert f"1000 B fetched from {opened.server.url}" in note.inner_text()
            assert path.read_bytes() == _MODELS["demo/tiny-llama v1"]["model.safetensors"]
            opened.look_in_every_theme(artefacts, "health_receipt")
            assert opened.notebook.errors() == []
        finally:
            opened.server.close()


def test_a_refresh_asks_in_place_by_keyboard_alone(
    lab: Lab, pages: Pages, tmp_path: Path, artefacts: Path
) -> None:
    """In 420 pixels of view: tab and Enter lead through a refresh and back again; the focus is never lost."""
    with pages(width=520, height=1100) as page:
        opened = Opened(lab, page, tmp_path, "refresh.ipynb")
        try:
            make_registry(opened.registry, {"other/base latest": _NEWER})
            _kernel(opened, "get_ipython().run_line_magic('xprim', 'update')")
            opened.view.get_by_role("button", name="Quick check", exact=True).focus()
            page.keyboard.press("Enter")
            opened.reads("1 degraded: refresh it.")
            opened.view.get_by_role("button", name="Refresh other/base latest").focus()
            page.keyboard.press("Enter")
            ask = opened.row("other/base latest").locator('.xprim-note[data-kind="ask"]')
            ask.wait_for()
            assert violations(page, _VIEW) == []
            page.screenshot(path=artefacts / "health_confirm_narrow.png")
            assert "other/base latest" in _focused(page)
            for _ in range(8):
                page.keyboard.press("Tab")
                if _focused(page) == "go|other/base latest":
                    break
            page.keyboard.press("Enter")
            opened.reads("All 3 models healthy.")
            opened.row("other/base latest").locator('.xprim-note[data-kind="done"]').wait_for()
            assert "other/base latest" in _focused(page)
            # The row is read anew after the receipt has come.
            opened.view.get_by_role("button", name="Roll back other/base latest", disabled=False).wait_for()
            box = opened.view.bounding_box()
            assert box is not None
            assert box["width"] <= 420
            assert opened.view.evaluate("view => view.scrollWidth <= view.clientWidth")
        finally:
            opened.server.close()


def _focused(page: Page) -> str:
    found = page.evaluate("() => document.activeElement?.getAttribute('data-key') ?? ''")
    return str(found)


def test_it_filters_while_the_kernel_is_busy_and_survives_a_reload(
    lab: Lab, pages: Pages, tmp_path: Path
) -> None:
    """Search and ticks need no kernel; after a reload of the page the view is there again, with what was ticked."""
    with pages(height=1100) as page:
        opened = Opened(lab, page, tmp_path, "busy.ipynb")
        try:
            opened.view.get_by_role("checkbox", name="Select demo/embed v2").check()
            page.evaluate(
                """() => { jupyterapp.shell.currentWidget.context.sessionContext.session.kernel
                  .requestExecute({code: 'import time; time.sleep(4)'}); }"""
            )
            opened.view.get_by_role("searchbox", name="Search models").fill("base")
            opened.view.locator("tbody").nth(1).wait_for(state="detached")
            assert opened.view.locator("tbody .xprim-open").all_text_contents() == ["other/base"]
            page.wait_for_function(
                "() => jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.status === 'idle'"
            )
            page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
            page.reload()
            opened.view.wait_for()
            ticked = opened.view.get_by_role("checkbox", name="Select demo/embed v2")
            ticked.wait_for()
            assert ticked.is_checked()
        finally:
            opened.server.close()
