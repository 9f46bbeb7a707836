"""The pull panel in a real JupyterLab: it moves, its buttons act, it outlives a blocked kernel and a reload."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xprim_nb.testing.faults import Drip
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

from .axe import violations
from .harness import Lab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CHUNK = 64 * 1024
REF = "demo/big v1"


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A model of forty chunks, and a small one."""
    return make_registry(
        tmp_path / "registry",
        {REF: {"model.bin": random_bytes("big", 40 * CHUNK)}, "demo/small v1": {"a": b"small"}},
        chunk_size=CHUNK,
    )


@pytest.fixture
def server(made: MadeRegistry) -> Iterator[FaultyRegistry]:
    """The registry over HTTP."""
    with FaultyRegistry(made.root) as running:
        yield running


def cells(lab: Lab, name: str, server: FaultyRegistry, base: Path, *sources: str) -> str:
    """Write a notebook whose first cell loads the extension; the result is its name."""
    first = (
        f"import os\nos.environ.update(XPRIM_MODELS_REGISTRY_URL={server.url!r}, XPRIM_MODELS_DIR={str(base)!r})\n"
        "%load_ext xprim_nb"
    )
    made: list[dict[str, object]] = [
        {
            "cell_type": "code",
            "id": f"c{at}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for at, source in enumerate((first, *sources))
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    document = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (lab.root / name).write_text(json.dumps(document), encoding="utf-8")
    return name


def sleep_until(file: Path) -> str:
    """A cell that blocks the kernel until there is that file."""
    return f"import pathlib, time\nwhile not pathlib.Path({str(file)!r}).exists(): time.sleep(0.05)"


def panel(page: Page) -> Locator:
    """The first live panel on the page."""
    return page.locator(".xprim-pulls").first


def width(page: Page) -> float:
    """How long the bar is, in percent."""
    found: float = (
        panel(page)
        .locator(".xprim-trough")
        .first.evaluate(
            "bar => [...bar.children].reduce((sum, each) => sum + parseFloat(each.style.width || '0'), 0)"
        )
    )
    return found


def wait_for_width(page: Page, more_than: float, timeout_s: float = 20) -> float:
    """Return when the bar is longer than that."""
    page.wait_for_function(
        """least => [...document.querySelectorAll('.xprim-pulls .xprim-trough')].some(bar =>
          [...bar.children].reduce((sum, each) => sum + parseFloat(each.style.width || '0'), 0) > least)""",
        arg=more_than,
        timeout=timeout_s * 1000,
    )
    return width(page)


def wait_for_state(page: Page, state: str, timeout_s: float = 20) -> None:
    """Return when the first row is in that state."""
    panel(page).locator(f".xprim-row[data-state='{state}']").first.wait_for(timeout=timeout_s * 1000)


def test_the_bar_moves_while_a_cell_blocks(
    lab: Lab, page: Page, server: FaultyRegistry, tmp_path: Path, artefacts: Path
) -> None:
    """A pull is drawn while another cell sleeps; what is asked for again joins; no byte comes twice."""
    server.inject(Drip(15_000), on="chunk", times=None)
    name = cells(
        lab,
        "pull.ipynb",
        server,
        tmp_path / "models",
        f"h = %xprim pull {REF}",
        sleep_until(tmp_path / "go"),
        f"again = %xprim pull {REF} --wait\nassert (await h).path == again.path",
    )
    notebook = Notebook.open(lab, page, name)
    notebook.start_all()
    wait_for_width(page, 0.0)
    notebook.wait_busy()
    was = width(page)
    now = wait_for_width(page, was + 5)
    assert now > was
    assert notebook.is_busy(), "the bar has moved while the cell blocked"
    page.screenshot(path=artefacts / "60_pull_running.png")
    (tmp_path / "go").touch()
    page.locator(".xprim-pulls").nth(1).wait_for()
    server.heal()
    notebook.wait_ended()
    assert notebook.errors() == []
    for number in (0, 1):
        page.locator(".xprim-pulls").nth(number).locator("[data-state='done']").wait_for()
    assert server.count("chunk") == 40
    assert (tmp_path / "models/demo/big/v1/model.bin").stat().st_size == 40 * CHUNK


def test_buttons_act_while_a_cell_blocks(
    lab: Lab, page: Page, server: FaultyRegistry, tmp_path: Path, artefacts: Path
) -> None:
    """Pause acts before the cell has ended, Resume goes on with what is there."""
    server.inject(Drip(15_000), on="chunk", times=None)
    sleep = sleep_until(tmp_path / "go")
    name = cells(lab, "buttons.ipynb", server, tmp_path / "models", f"h = %xprim pull {REF}", sleep)
    notebook = Notebook.open(lab, page, name)
    notebook.start_all()
    wait_for_width(page, 5.0)
    panel(page).get_by_role("button", name=f"Pause {REF}").click()
    wait_for_state(page, "paused")
    assert notebook.is_busy(), "the cell still sleeps"
    page.screenshot(path=artefacts / "60_pull_paused.png")
    paused, fetched = width(page), server.count("chunk")
    server.heal()
    panel(page).get_by_role("button", name=f"Resume {REF}").click()
    wait_for_state(page, "done")
    page.screenshot(path=artefacts / "60_pull_done.png")
    # What was verified is not fetched again.
    assert server.count("chunk") - fetched <= 40 - int(paused / 100 * 40)
    assert (tmp_path / "models/demo/big/v1/model.bin").stat().st_size == 40 * CHUNK
    (tmp_path / "go").touch()


def test_a_page_that_is_loaded_anew_shows_the_pull_live(
    lab: Lab, page: Page, server: FaultyRegistry, tmp_path: Path
) -> None:
    """Nothing stops while the page is away, and its buttons act again when it is back; Cancel leaves nothing behind."""
    server.inject(Drip(5_000), on="chunk", times=None)  # so that it goes on for two minutes
    name = cells(lab, "reload.ipynb", server, tmp_path / "models", f"%xprim pull {REF}")
    notebook = Notebook.open(lab, page, name)
    notebook.run_all()
    was = wait_for_width(page, 0.0)
    notebook.save()
    notebook.reload()
    wait_for_width(page, was)
    panel(page).get_by_role("button", name=f"Cancel {REF}").click()
    wait_for_state(page, "cancelled")
    expect_gone(tmp_path / "models/cache/partial")
    expect_silence(server)
    assert not (tmp_path / "models/demo").exists()


def expect_silence(server: FaultyRegistry) -> None:
    """Nothing is sent any more; an idle connection may be kept for the next request."""
    before = server.bytes_sent()
    time.sleep(1.0)  # the observation itself: the drip would have sent thousands of bytes
    assert server.bytes_sent() == before


def expect_gone(folder: Path) -> None:
    """Return when a directory is empty or missing."""
    for _ in range(100):
        if not folder.exists() or not any(folder.iterdir()):
            return
        time.sleep(0.1)  # another process's clean-up can only be polled
    raise AssertionError(f"{folder} still has {[each.name for each in folder.iterdir()]}")


def test_a_click_acts_at_once_while_the_kernel_awaits(
    lab: Lab, page: Page, server: FaultyRegistry, tmp_path: Path
) -> None:
    """The kernel waits for something else, and a pull pauses all the same."""
    server.inject(Drip(20_000), on="chunk", times=None)
    name = cells(
        lab,
        "await.ipynb",
        server,
        tmp_path / "models",
        f"h = %xprim pull {REF}",
        "import asyncio; await asyncio.sleep(600)",
    )
    notebook = Notebook.open(lab, page, name)
    notebook.start_all()
    wait_for_width(page, 0.0)
    panel(page).get_by_role("button", name=f"Pause {REF}").click()
    wait_for_state(page, "paused")
    assert notebook.is_busy(), "the cell still waits"


@pytest.mark.alone
def test_an_interrupted_wait_pauses_the_pull(
    lab: Lab, page: Page, server: FaultyRegistry, tmp_path: Path
) -> None:
    """The stop button ends the wait within a second or so, nothing runs behind, and a second pull of it joins."""
    server.inject(Drip(20_000), on="chunk", times=None)
    name = cells(lab, "wait.ipynb", server, tmp_path / "models", f"%xprim pull {REF} --wait")
    notebook = Notebook.open(lab, page, name)
    notebook.start_all()
    wait_for_width(page, 0.0)
    began = time.monotonic()
    notebook.interrupt()
    wait_for_state(page, "paused", timeout_s=10)
    assert time.monotonic() - began < 3.0, "a second for the pull, the rest for the page"
    notebook.wait_ended()
    expect_silence(server)
    assert [error.split(":")[0] for error in notebook.errors()] == ["KeyboardInterrupt"]
    shown = notebook.outputs()[1]
    assert "paused at" in str(shown)


def test_a_saved_notebook_without_a_kernel_shows_the_static_form(
    lab: Lab, page: Page, server: FaultyRegistry, tmp_path: Path, artefacts: Path
) -> None:
    """Live, one form is seen; when kernel and page have gone, the other one, as it was last."""
    name = cells(lab, "saved.ipynb", server, tmp_path / "models", f"%xprim pull {REF} --wait")
    notebook = Notebook.open(lab, page, name)
    notebook.run_all()
    wait_for_state(page, "done")
    page.locator(".xprim-twin").first.wait_for(state="hidden")
    notebook.save()
    page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:shutdown-kernel'); }")
    # Trusted, with a new kernel that knows nothing of the view; and untrusted, with none at all.
    page.reload()
    expect_the_twin_alone(page, artefacts / "60_saved_trusted.png")
    saved = json.loads((lab.root / name).read_text(encoding="utf-8"))
    saved["metadata"]["kernelspec"] = {"name": "no-such-kernel", "display_name": "none", "language": "python"}
    (lab.root / "alone.ipynb").write_text(json.dumps(saved), encoding="utf-8")
    page.goto(f"{lab.url}/doc/tree/alone.ipynb?token={lab.token}&reset")
    expect_the_twin_alone(page, artefacts / "60_saved_untrusted.png")


def expect_the_twin_alone(page: Page, picture: Path) -> None:
    """The static form is seen, as it was last; what Lab says of a widget it does not know is not."""
    twin = page.locator(".xprim-twin").first
    twin.wait_for(state="visible")
    # The manager looks for the model for two seconds before it says that there is none.
    page.wait_for_function("() => !document.body.innerText.includes('Loading widget')", timeout=20_000)
    page.screenshot(path=picture)
    assert "done" in twin.inner_text()
    assert page.get_by_text("Error displaying widget").locator("visible=true").count() == 0
    # The cell's own result, which comes after both, is seen as well.
    page.locator(".xprim-facts").first.wait_for(state="visible")


def test_it_is_readable_in_every_theme_and_by_keyboard(
    lab: Lab, page: Page, server: FaultyRegistry, tmp_path: Path, artefacts: Path
) -> None:
    """axe-core finds nothing in three themes; a narrow page folds it; a pull is paused and resumed without a mouse."""
    server.inject(Drip(5_000), on="chunk", times=None)
    name = cells(
        lab,
        "themes.ipynb",
        server,
        tmp_path / "models",
        f"%xprim pull demo/small v1 --wait\nh = %xprim pull {REF}",
        "gone = %xprim pull demo/none v1\ntry:\n    gone.result()\nexcept Exception:\n    pass",
        "%xprim pulls",
    )
    notebook = Notebook.open(lab, page, name)
    notebook.run_all()
    assert notebook.errors() == []
    every = page.locator(".xprim-pulls").last
    every.locator(".xprim-row[data-state='failed']").wait_for()
    every.locator("summary").nth(1).click()
    for theme in notebook.in_every_theme():
        every.scroll_into_view_if_needed()
        every.screenshot(path=artefacts / f"60_pulls_{theme}.png")
        assert violations(page, ".xprim-pulls") == []
    pause = every.get_by_role("button", name=f"Pause {REF}")
    pause.focus()
    page.keyboard.press("Enter")
    every.locator(".xprim-row[data-state='paused']").first.wait_for()
    # The focus is on what took the button's place.
    page.wait_for_function("() => document.activeElement?.textContent === 'Resume'")
    page.keyboard.press("Space")
    every.locator(".xprim-row[data-state='running']").first.wait_for()
    page.set_viewport_size({"width": 560, "height": 900})
    page.evaluate(
        "() => document.querySelectorAll('.xprim-pulls').forEach(each => { each.style.width = '420px'; })"
    )
    every.screenshot(path=artefacts / "60_pulls_narrow.png")
    assert every.evaluate("view => view.scrollWidth <= view.clientWidth"), "nothing sticks out"
    assert violations(page, ".xprim-pulls") == []
