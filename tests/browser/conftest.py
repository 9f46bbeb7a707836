"""One JupyterLab and one Chromium for all browser tests; they run in a pytest process of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .harness import CHROMIUM, Lab, chromium, fresh_page, jupyterlab

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from .harness import Pages


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab that shows an empty directory; tests put their notebooks there."""
    if not CHROMIUM.exists():
        if os.environ.get("XPRIM_REQUIRE_BROWSER"):
            pytest.fail(f"no browser at {CHROMIUM}, and XPRIM_REQUIRE_BROWSER asks for one")
        pytest.skip(f"no browser at {CHROMIUM}: install chromium, or name one in $CHROMIUM")
    with jupyterlab(tmp_path_factory.mktemp("notebooks")) as running:
        yield running


@pytest.fixture(scope="session")
def pages(lab: Lab) -> Iterator[Pages]:
    """Opens fresh pages, `width` by `height`, in the one headless Chromium."""
    with chromium() as browser:
        yield partial(fresh_page, browser)


@pytest.fixture
def page(pages: Pages) -> Iterator[Page]:
    """A fresh page."""
    with pages() as opened:
        yield opened


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: `$XPRIM_ARTEFACTS`, or a temporary directory."""
    folder = Path(os.environ.get("XPRIM_ARTEFACTS") or tmp_path_factory.mktemp("artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shipped(lab: Lab) -> Path:
    """A copy of the project's notebooks below the Lab's root, so that running them changes no file."""
    source = Path(__file__).resolve().parents[2] / "notebooks"
    return Path(shutil.copytree(source, lab.root / "notebooks"))
