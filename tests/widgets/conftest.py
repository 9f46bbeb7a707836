"""A registry over HTTP, a toolkit with an empty cache, and a model browser on it, without a kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from xprim_nb.config import Config
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.toolkit import Toolkit, connect
from xprim_widgets.browser import ModelBrowser

from .browsing import until

_HOSTILE = "<script>alert(1)</script>\x1b[31m\u202egnp" + "A" * 10_000


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """Two versions with most chunks in common, an alias, an adapter that needs one of them, and a hostile entry."""
    shared = random_bytes("shared", 8_000)
    config = json.dumps({"base_model_name_or_path": "demo/tiny v1"}).encode()
    made = make_registry(
        tmp_path / "registry",
        {
            "demo/tiny v1": {
                "model.bin": shared + random_bytes("v1", 2_000),
                "README.md": b"# Tiny\n\n<b>*x*</b>",
            },
            "demo/tiny v2": {"model.bin": shared + random_bytes("v2", 2_000)},
            "demo/lora v1": {"adapter_config.json": config},
            "evil/model v1": {"model.bin": b"x" * 500},
        },
        alias={"demo/tiny latest": "v2"},
    )
    made.put_entry(
        "evil/model v1", {**made.entry("evil/model v1"), "metadata": {"license": _HOSTILE, "about": _HOSTILE}}
    )
    return made


@pytest.fixture
def served(made: MadeRegistry) -> Iterator[FaultyRegistry]:
    """The same over HTTP."""
    with FaultyRegistry(made.root) as server:
        yield server


@pytest.fixture
def kit(served: FaultyRegistry, tmp_path: Path) -> Iterator[Toolkit]:
    """A toolkit with an empty cache."""
    with connect(
        Config(registry_url=served.url, data_dir=tmp_path / "models", tries=1, backoff_s=0.0)
    ) as opened:
        yield opened


@pytest.fixture
def view(kit: Toolkit) -> Iterator[ModelBrowser]:
    """A browser that knows the list."""
    made = ModelBrowser(kit)
    until(made, lambda: bool(made.catalogue.get("names")) and not made.registry["asking"])
    yield made
    made.close()
