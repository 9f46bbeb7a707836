"""The front-end sources: complete in themselves, and of one mind with Python about traits and words."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import xprim_widgets
from xprim_widgets._assets import STATIC, css, esm
from xprim_widgets._base import View

VIEWS: list[type[View]] = [getattr(xprim_widgets, name) for name in xprim_widgets.__all__]
each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)

_TRAIT = re.compile(r'model\.get\("(\w+)"\)')
_WATCHED = re.compile(r"watch\(model, \[([^\]]*)\]")
_OP = re.compile(r'op: "(\w+)"')


@each_view
def test_the_page_reads_traits_that_exist(view: type[View]) -> None:
    """Every trait that the module reads or watches is one of the view's, and every one of these is read."""
    source = esm(view.asset)
    watched = {name for names in _WATCHED.findall(source) for name in re.findall(r'"(\w+)"', names)}
    used = set(_TRAIT.findall(source)) | watched
    own = {
        name
        for name, trait in view.class_traits(sync=True).items()
        if trait.this_class.__module__.startswith("xprim_widgets")
    }
    assert used == own


@each_view
def test_the_page_says_words_that_are_understood(view: type[View]) -> None:
    """Each `op` that is sent by name has its method."""
    assert all(hasattr(view, f"op_{op}") for op in _OP.findall(esm(view.asset)))


@each_view
def test_a_module_is_complete_in_itself(view: type[View], tmp_path: Path) -> None:
    """No import is left, there is one export, and node finds no mistake in it."""
    source = esm(view.asset)
    assert not re.search(r"^import\b", source, re.MULTILINE)
    assert re.findall(r"^export (.*)$", source, re.MULTILINE) == ["default { render };"]
    assert "innerHTML" not in source.replace("without innerHTML", "")
    if node := shutil.which("node"):
        module = tmp_path / "view.mjs"
        module.write_text(source, encoding="utf-8")
        subprocess.run([node, "--check", str(module)], check=True, timeout=20)
    assert ".xprim-view" in css(view.asset)


def test_no_module_is_too_long() -> None:
    """A view that needs more than 250 lines is two."""
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in STATIC.glob("*.js")}
    assert all(lines <= 250 for lines in lengths.values()), lengths
    assert "shared.js" in lengths
