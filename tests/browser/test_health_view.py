"""The health view in a real JupyterLab: damage is found, mended and told; readable in every theme; keyboard and all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import make_registry, random_bytes

from .axe import violations
from .harness import Lab, Notebook, chromium, jupyterlab

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_THEMES = "@jupyterlab/apputils-extension:themes"
_VIEW = ".xprim-view.xprim-health"
_MODELS = {
    "demo/tiny-llama v1": {"model.safetensors": random_bytes("llama", 400_000), "config.json": b"{}"},
    "demo/embed v2": {"weights.bin": random_bytes("embed", 250_000), "config.json": b"{}"},
    "other/base latest": {"weights.bin": random_bytes("base", 100_000), "config.json": b"{}"},
}
_NEWER = {"weights.bin": random_bytes("base 2", 120_000), "config.json": b'{"new": 1}'}
_SETUP = """
import os
from pathlib import Path
os.environ["XPRIM_MODELS_DIR"], os.environ["XPRIM_MODELS_REGISTRY_URL"] = {models!r}, {url!r}
%load_ext xprim_nb

def flip(path, at):
    facts, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
"""
_PULL = "{name} = %xprim pull {ref} --wait"


class Opened:
    """A notebook with three models installed and the view on screen."""

    def __init__(self, lab: Lab, page: Page, folder: Path, name: str) -> None:
        self.page = page
        self.registry = folder / "registry"
        make_registry(self.registry, _MODELS)
        self.server = FaultyRegistry(self.registry)
        self.models = folder / "models"
        pulls = [f"p{at} = %xprim pull {ref} --wait" for at, ref in enumerate(_MODELS)]
        cells = [_SETUP.format(models=str(self.models), url=self.server.url), "\n".join(pulls), "%xprim health"]
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, lab.root / name)
        self.notebook = Notebook.open(lab, page, name)
        self.notebook.run_all()
        assert self.notebook.errors() == []
        self.view = page.locator(_VIEW)
        self.view.wait_for()
        self.verdict = self.view.locator(".xprim-verdict")

    def damage(self, model: str, version: str, name: str) -> Path:
        """Flip a bit of a file on disk, as a disk does it: its times stay."""
        import os

        path = next(self.models.rglob(f"{model}/{version}/**/{name}"))
        facts, data = path.stat(), bytearray(path.read_bytes())
        data[1500] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return path

    def row(self, ref: str) -> Locator:
        """The rows of one model."""
        return self.view.locator("tbody").filter(has=self.page.get_by_role("button", name=f"Details of {ref}"))

    def press(self, name: str) -> None:
        """Press a button of the view."""
        self.view.get_by_role("button", name=name, exact=True).click()

    def reads(self, text: str) -> None:
        """Wait until the sentence on top says so."""
        self.verdict.filter(has_text=text).wait_for()
