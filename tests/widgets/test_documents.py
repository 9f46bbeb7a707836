"""Notebooks that a program runs and converts show the last state of a window, as HTML and as text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from nbconvert import HTMLExporter, MarkdownExporter
from nbformat import NotebookNode

from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import make_registry, random_bytes

from ..magics.kernels import ROOT

_CELLS = (
    "%load_ext xprim_nb",
    "h = %xprim pull demo/big v1",
    "pulled = await h",
    "%xprim pulls",
    "other = %xprim pull demo/small v1 --wait",
)
_LIVE = "application/vnd.jupyter.widget-view+json"


def _executed(tmp_path: Path, static: str) -> NotebookNode:
    """A notebook after its cells have run; the pull of the second is still running when that one ends."""
    big, small = random_bytes("big", 10_000), random_bytes("small", 1_024)
    made = make_registry(
        tmp_path / "registry", {"demo/big v1": {"model.bin": big}, "demo/small v1": {"model.bin": small}}
    )
    cells = [nbformat.v4.new_code_cell(each) for each in _CELLS]
    notebook: NotebookNode = nbformat.v4.new_notebook(cells=cells)
    kept = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    with FaultyRegistry(made.root) as server, server.hold(on="chunk") as gate:

        def ended(cell: NotebookNode, cell_index: int, execute_reply: Any) -> None:
            if cell_index == 1:
                assert "installed" not in str(cell.outputs)
                gate.release()

        client = nbclient.NotebookClient(notebook, timeout=25, kernel_name="python3", on_cell_executed=ended)
        client.execute(
            env={
                **kept,
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "widgets")]),
                "XPRIM_MODELS_DIR": str(tmp_path / "models"),
                "XPRIM_MODELS_REGISTRY_URL": server.url,
                "XPRIM_NB_STATIC": static,
            }
        )
    return notebook


def _faces(notebook: NotebookNode) -> list[dict[str, Any]]:
    return [output.data for cell in notebook.cells for output in cell.outputs if "data" in output]


def test_static_form_alone(tmp_path: Path) -> None:
    """With XPRIM_NB_STATIC=1 there is HTML and text and no widget; both exports say how the pull ended, not how it began."""
    notebook = _executed(tmp_path, static="1")
    faces = _faces(notebook)
    assert len(faces) == 3
    assert all(set(each) == {"text/html", "text/plain"} for each in faces)
    assert "widgets" not in notebook.metadata
    for text in ("installed, 9.8 KB in ", "installed, 1.0 KB in "):
        assert text in str(faces)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    plain, _ = MarkdownExporter().from_notebook_node(notebook)
    for shown in (page, plain):
        assert shown.count("demo/small v1") >= 2
        assert "installed, 9.8 KB in " in shown
        assert "<strong>demo/big v1</strong> · done" in shown
        assert "· running" not in shown
        assert _LIVE not in shown


def test_static_form_beside_the_live_one(tmp_path: Path) -> None:
    """Without it the live form is there too, and what stands beside it is the last state all the same."""
    notebook = _executed(tmp_path, static="")
    faces = _faces(notebook)
    assert all({"text/html", "text/plain", _LIVE} <= set(each) for each in faces)
    assert faces[0]["text/plain"].startswith("pull demo/big v1: installed, 9.8 KB in ")
    plain, _ = MarkdownExporter().from_notebook_node(notebook)
    assert "· running" not in plain
    assert "<strong>demo/big v1</strong> · done" in plain
