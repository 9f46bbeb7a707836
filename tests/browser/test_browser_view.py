"""The model browser in a real JupyterLab: it lists, filters, pulls, removes, and reads well in every theme."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

from .axe import violations
from .harness import Lab, Notebook, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_VIEW = ".xprim-browser"
_THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
_HOSTILE = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>\x1b[31m\u202egnp.exe"
_README = f"""---
license: apache-2.0
---
# A *small* model

It [answers](https://example.org/a) and [does not](javascript:alert(1)). ![a chart](https://example.org/x.png)

## Use

```python
print("hello")
```

| text | score |
|---|---|
| prose | 1.6 |

{_HOSTILE}
"""
_METADATA = {
    "demo/tiny-llama v1": {"license": "apache-2.0", "quantization": "fp16"},
    "demo/tiny-llama v2": {"license": "apache-2.0", "quantization": "fp16"},
    "hostile/model v1": {"license": _HOSTILE, "quantization": _HOSTILE, "description": _HOSTILE * 100},
    "other/base q4_k_m": {"license": "mit"},
}
_SETUP = """
from pathlib import Path
from xprim_nb import connect
from xprim_nb.config import Config
from xprim_widgets import ModelBrowser
kit = connect(Config(registry_url={url!r}, data_dir=Path({data!r}), backoff_s=0.01))
browser = ModelBrowser(kit)
browser
"""


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A few models; one has a card, one is hostile in all that it says."""
    shared = random_bytes("shared", 600_000)
    readme = _README.encode()
    made = make_registry(
        tmp_path / "registry",
        {
            "demo/tiny-llama v1": {"model.bin": shared + random_bytes("v1", 200_000), "README.md": readme},
            "demo/tiny-llama v2": {"model.bin": shared + random_bytes("v2", 200_000), "README.md": readme},
            "fast-whisper/tiny fp16": {"model.bin": random_bytes("w", 300_000)},
            "hostile/model v1": {"model.bin": random_bytes("h", 9_000)},
            "other/base q4_k_m": {"model.bin": random_bytes("base", 120_000)},
        },
        alias={"demo/tiny-llama latest": "v2"},
        chunk_size=100_000,
    )
    for ref, metadata in _METADATA.items():
        made.put_entry(ref, {**made.entry(ref), "metadata": metadata})
    return made


@pytest.fixture
def served(made: MadeRegistry) -> Iterator[FaultyRegistry]:
    """The same over HTTP."""
    with FaultyRegistry(made.root) as server:
        yield server


def _open(lab: Lab, page: Page, url: str, data: Path, *further: str) -> tuple[Notebook, Locator]:
    name = f"{data.parent.name}.ipynb"
    cells = [new_code_cell(cell) for cell in (_SETUP.format(url=url, data=str(data)), *further)]
    document = new_notebook(cells=cells)
    document.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(document, lab.root / name)
    notebook = Notebook.open(lab, page, name)
    notebook.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")
    view = page.locator(_VIEW).first
    view.locator("tbody").first.wait_for()
    return notebook, view


def _row(view: Locator, ref: str) -> Locator:
    return view.locator("tbody").filter(has=view.page.get_by_role("checkbox", name=f"Select {ref}", exact=True))


def _button(view: Locator, name: str) -> Locator:
    return view.get_by_role("button", name=name, exact=True)


def _theme(page: Page, name: str) -> None:
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
    page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)


def test_it_lists_filters_pulls_and_removes(
    lab: Lab, page: Page, served: FaultyRegistry, tmp_path: Path
) -> None:
    """A model that is searched and pulled becomes usable without a reload, and goes only after a second yes."""
    _, view = _open(lab, page, served.url, tmp_path / "models")
    assert view.locator("tbody").count() == 6
    page.keyboard.press("Escape")
    view.locator(".xprim-frame").focus()
    page.keyboard.press("/")
    page.keyboard.type("whisper")
    assert view.locator("tbody").count() == 1
    _button(view, "Pull fast-whisper/tiny fp16").click()
    _button(view, "Use fast-whisper/tiny fp16").wait_for()
    assert (tmp_path / "models" / "fast-whisper" / "tiny" / "fp16" / "model.bin").stat().st_size == 300_000
    assert _row(view, "fast-whisper/tiny fp16").locator('td[data-label="Installed"]').inner_text() == "yes"
    _button(view, "Use fast-whisper/tiny fp16").click()
    code = view.locator(".xprim-panel input.xprim-code")
    assert code.input_value() == "path = %xprim path fast-whisper/tiny@fp16"
    _button(view, "Remove fast-whisper/tiny fp16").click()
    question = view.locator(".xprim-question")
    question.wait_for()
    assert "frees 2" in question.inner_text()
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Keep fast-whisper/tiny fp16"
    page.keyboard.press("Enter")
    question.wait_for(state="detached")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Remove fast-whisper/tiny fp16"
    page.keyboard.press("Enter")
    _button(view, "Yes, remove fast-whisper/tiny fp16").click()
    _button(view, "Pull fast-whisper/tiny fp16").wait_for()
    assert not (tmp_path / "models" / "fast-whisper" / "tiny" / "fp16").exists()
