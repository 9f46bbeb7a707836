"""The residency panel in a real JupyterLab, over the real engine: real workers on a simulated GPU of 8 GB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from .axe import violations
from .harness import Lab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .harness import Pages

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_VIEW = ".xprim-view.xprim-residency"
# The demo model and a copy of it, each of which is said to take five of eight gigabytes: only one can be loaded.
_SETUP = """
import os, shutil, signal
from pathlib import Path
from xprim_nb import connect
from xprim_nb.config import Config
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.scheduling.devices import SimulatedDevice
from xprim_widgets.views import residency
root, GB = Path({root!r}), 1 << 30
%load_ext xprim_nb
kit = connect(Config(data_dir=root / "models", ai=AICapabilities(ledger_dir=root / "ledger")),
              devices=[SimulatedDevice("sim:8gb", total_bytes=8 * GB, external_bytes=GB)])
kit.pull("demo/tiny-llama v2").result()
shutil.copytree(kit.list_installed().result()[0].path, root / "copy")
ONE, TWO = "demo/tiny-llama v2", str(root / "copy")
def ask(model, **options):
    return kit.generate(model, "Once upon a time", footprint_bytes=5 * GB, **options)
"""
_SHOW = "panel = residency(kit)\npanel"


class Opened:
    """A notebook with the panel on screen, and nothing loaded."""

    def __init__(self, lab: Lab, page: Page, folder: Path, name: str) -> None:
        self.page, self.copy = page, str(folder / "copy")
        notebook = new_notebook(
            cells=[new_code_cell(each) for each in (_SETUP.format(root=str(folder)), _SHOW)]
        )
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

    def run(self, code: str) -> None:
        """Run code in the kernel without a cell of its own, and wait for its end."""
        failed: str = self.page.evaluate(
            """async code => {
              const context = jupyterapp.shell.currentWidget.context;
              const reply = await context.sessionContext.session.kernel.requestExecute({code}).done;
              return reply.content.status === 'ok' ? '' : reply.content.evalue;
            }""",
            code,
        )
        assert failed == ""

    def start(self, code: str) -> None:
        """Run code in the kernel, and do not wait."""
        self.page.evaluate(
            """code => { jupyterapp.shell.currentWidget.context.sessionContext.session.kernel
              .requestExecute({code}); }""",
            code,
        )

    def row(self, name: str, text: str) -> Locator:
        """The row of a model that holds a text, when it does."""
        found = (
            self.view.locator("tbody")
            .filter(has=self.page.get_by_text(name, exact=True))
            .filter(has_text=text)
        )
        found.wait_for()
        return found

    def button(self, name: str) -> Locator:
        """A button of the panel."""
        return self.view.get_by_role("button", name=name, exact=True)

    def hears(self, text: str) -> None:
        """Wait until something is read out."""
        self.view.locator(".xprim-said").filter(has_text=text).wait_for(state="attached")

    def look(self, path: Path) -> None:
        """axe-core finds nothing; a picture for people."""
        assert violations(self.page, _VIEW) == []
        self.view.scroll_into_view_if_needed()
        self.view.screenshot(path=path)

    def look_in_every_theme(self, artefacts: Path, name: str) -> None:
        """The same in each of Lab's themes."""
        for theme in self.notebook.in_every_theme():
            self.look(artefacts / f"{name}_{theme}.png")

    def close(self) -> None:
        """No worker outlives the test."""
        self.run("kit.close()")


def test_a_model_is_loaded_answers_is_evicted_and_crashes_in_every_theme(
    lab: Lab, pages: Pages, tmp_path: Path, artefacts: Path
) -> None:
    """The bar, the row, the plan that says who leaves, the eviction that is read out, and the card of a crash."""
    with pages(height=1100) as page:
        opened = Opened(lab, page, tmp_path, "residency.ipynb")
        view = opened.view
        view.get_by_text("No model is awake.").wait_for()
        opened.look_in_every_theme(artefacts, "residency_empty")

        opened.run("ask(TWO, max_tokens=4).result(); ask(ONE, max_tokens=4).result()")
        opened.row(opened.copy, "not loaded")
        opened.row("demo/tiny-llama v2", "1 served")
        assert "5.0 GB given on sim:8gb" in opened.row("demo/tiny-llama v2", "loaded").inner_text()
        bar = view.get_by_role("meter", name="Memory of sim:8gb")
        assert bar.get_attribute("aria-valuenow") == "75"
        assert "other programs: 1.0 GB" in (bar.get_attribute("aria-valuetext") or "")
        assert "simulated" in view.locator(".xprim-device").first.inner_text()

        opened.button(f"Load {opened.copy}").click()
        plan = view.locator(".xprim-plan")
        plan.filter(has_text="demo/tiny-llama v2 leaves: ").wait_for()
        opened.look_in_every_theme(artefacts, "residency_plan")
        opened.button(f"Load {opened.copy} now").click()
        opened.row(opened.copy, "loaded for the residency panel")
        opened.row("demo/tiny-llama v2", "not loaded")
        opened.hears("is loaded on sim:8gb")

        opened.button(f"Evict {opened.copy}").click()
        opened.hears(f"{opened.copy} was evicted: ")
        opened.row(opened.copy, "not loaded")

        # Long enough for a memory curve.
        opened.run("os.kill(ask(ONE, max_tokens=400).result().worker_pid, signal.SIGKILL)")
        card = view.locator(".xprim-crash")
        card.filter(has_text="demo/tiny-llama v2: killed from outside").wait_for()
        assert card.locator("svg polyline").count() == 1
        view.get_by_text("No model is awake.").wait_for()
        opened.look_in_every_theme(artefacts, "residency_crash")
        card.get_by_role("button", name="Dismiss").click()
        card.wait_for(state="detached")
        assert opened.notebook.errors() == []
        opened.close()


def test_busy_models_say_why_not_and_the_queue_who_waits(
    lab: Lab, pages: Pages, tmp_path: Path, artefacts: Path
) -> None:
    """In 420 pixels, by keyboard, while a cell blocks the kernel: pin, a disabled Evict with its reason, the queue."""
    with pages(width=520, height=1300) as page:
        opened = Opened(lab, page, tmp_path, "residency_busy.ipynb")
        view = opened.view
        opened.run("ask(ONE, max_tokens=4).result()")
        opened.row("demo/tiny-llama v2", "1 served")
        opened.button("Pin demo/tiny-llama v2").focus()
        page.keyboard.press("Enter")
        opened.row("demo/tiny-llama v2", "pinned")
        opened.button("Unpin demo/tiny-llama v2").wait_for()
        assert opened.button("Evict demo/tiny-llama v2").is_disabled()
        why = opened.button("Evict demo/tiny-llama v2").get_attribute("aria-describedby")
        assert "pinned" in view.locator(f"#{why}").inner_text()
        opened.button("Unpin demo/tiny-llama v2").click()
        opened.button("Pin demo/tiny-llama v2").wait_for()

        opened.start(
            "import time\n"
            "answers = [ask(ONE, max_tokens=900) for _ in range(8)]; other = ask(TWO, max_tokens=4)\n"
            "while not Path(root / 'go').exists(): time.sleep(0.05)\n"
            "for each in answers: each.cancel()"
        )
        view.get_by_role("region", name="Queue").get_by_text(opened.copy).first.wait_for()
        opened.row("demo/tiny-llama v2", "in flight")
        evict = opened.button("Evict demo/tiny-llama v2")
        assert evict.is_disabled()
        assert view.locator(f"#{evict.get_attribute('aria-describedby')}").inner_text().startswith("Evict: ")
        opened.look(artefacts / "residency_busy_narrow.png")
        box = view.bounding_box()
        assert box is not None
        assert box["width"] <= 420
        assert view.evaluate("view => view.scrollWidth <= view.clientWidth")
        (tmp_path / "go").touch()
        opened.row(opened.copy, "1 served")
        opened.close()


def test_it_acts_while_a_cell_blocks_is_there_after_a_reload_and_says_when_it_is_old(
    lab: Lab, pages: Pages, tmp_path: Path, artefacts: Path
) -> None:
    """A model that nobody has used is named by keyboard, planned and loaded while a cell sleeps; the page comes back."""
    with pages(width=520, height=1300) as page:
        opened = Opened(lab, page, tmp_path, "residency_blocked.ipynb")
        view = opened.view
        opened.start("import time\nwhile not Path(root / 'go').exists(): time.sleep(0.05)")
        field = view.get_by_label("Model to load")
        field.focus()
        page.keyboard.type("demo/tiny-llama v2")
        page.keyboard.press("Enter")
        now = opened.button("Load demo/tiny-llama v2 now")
        now.wait_for()
        opened.look(artefacts / "residency_named_narrow.png")
        now.focus()
        page.keyboard.press("Enter")
        opened.row("demo/tiny-llama v2", "loaded for the residency panel")
        view.locator(".xprim-news").get_by_text("demo/tiny-llama v2 is loaded").wait_for()
        assert view.evaluate("view => view.scrollWidth <= view.clientWidth")
        assert page.evaluate("() => jupyterapp.shell.currentWidget.content.widgets.length") == 2
        opened.button("Pin demo/tiny-llama v2").click()
        opened.button("Unpin demo/tiny-llama v2").wait_for()
        (tmp_path / "go").touch()
        opened.notebook.save()
        opened.notebook.reload()
        assert not view.locator(".xprim-stale").is_visible()
        opened.button("Unpin demo/tiny-llama v2").click()
        opened.button("Pin demo/tiny-llama v2").wait_for()
        opened.close()
        view.locator(".xprim-stale").get_by_text("This is the picture of").wait_for()
        opened.look(artefacts / "residency_stale.png")


def test_a_saved_notebook_shows_the_static_form(lab: Lab, pages: Pages, tmp_path: Path) -> None:
    """After the kernel has gone the bars, the table and the words are there, without a button."""
    with pages(height=1100) as page:
        opened = Opened(lab, page, tmp_path, "residency_saved.ipynb")
        opened.run("ask(ONE, max_tokens=4).result()")
        opened.row("demo/tiny-llama v2", "1 served")
        opened.run("panel.close()")
        opened.view.wait_for(state="detached")
        static = page.locator("table.xprim-residency")
        static.filter(has_text="demo/tiny-llama v2").wait_for()
        opened.notebook.save()
        opened.close()
        saved: dict[str, Any] = json.loads((lab.root / "residency_saved.ipynb").read_text(encoding="utf-8"))
        (twin,) = [
            output["data"]
            for output in saved["cells"][1]["outputs"]
            if "xprim-residency" in "".join(output.get("data", {}).get("text/html", ""))
        ]
        assert "5.0 GB of 8.0 GB taken by models" in "".join(twin["text/plain"])
        assert "<button" not in "".join(twin["text/html"])
