"""Runs a notebook in a kernel of its own and prints what a reader would see, cell by cell.

Needs the extra `lab`. The models directory and the working directory are temporary.

Source: spec 3 §Notebooks as documentation.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from xprim_nb.cli.lab import demo_environment
from xprim_nb.cli.session import Session
from xprim_nb.errors import XprimError

__all__ = ["run_notebook"]

# A cell that pulls a demo model takes a second; one that takes this long hangs.
_CELL_TIMEOUT_S = 300
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def run_notebook(session: Session, path: Path) -> None:
    """Run every cell; print Markdown, sources and text outputs as they come.

    Raises:
        XprimError: A cell failed; the message has its error.
    """
    notebook = nbformat.read(path, as_version=4)
    shown: list[dict[str, Any]] = []
    session.answer({"executed": {"notebook": path.name, "cells": shown}})
    with tempfile.TemporaryDirectory(prefix="xprim-lab-") as folder:
        environment = {**demo_environment(os.environ), "XPRIM_MODELS_DIR": str(Path(folder) / "models")}
        work = Path(folder) / "work"
        work.mkdir()
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=_own_kernel()),
            timeout=_CELL_TIMEOUT_S,
            extra_arguments=[
                "--log-level=ERROR"
            ],  # how the kernel's sockets are set up is no news for a reader
            resources={"metadata": {"path": str(work)}},
        )
        with client.setup_kernel(env=environment, cleanup_kc=True):
            for index, cell in enumerate(notebook.cells):
                _say_source(session, cell)
                failure = _executed(client, cell, index)
                texts = list(_texts(cell))
                shown.append({"type": cell.cell_type, "source": cell.source, "outputs": texts})
                shown_text = "\n\n".join(text.rstrip("\n") for text in texts)
                if cell.cell_type == "code":
                    session.step(f"{shown_text}\n" if shown_text else "")
                if failure is not None:
                    raise XprimError(
                        f"cell {index + 1} of {path.name} failed: {failure}",
                        subject=path.name,
                        hint=f"xprim lab --notebook {path.stem} opens it in JupyterLab.",
                    )


def _own_kernel() -> KernelSpecManager:
    # Without other directories there is one kernel: this interpreter. A `python3` that somebody
    # registered for another environment would not find this package.
    specs = KernelSpecManager()
    specs.kernel_dirs = []
    return specs


def _executed(client: NotebookClient, cell: nbformat.NotebookNode, index: int) -> str | None:
    """Run one cell; the error in one line when it failed."""
    try:
        client.execute_cell(cell, index)
    except CellExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except CellTimeoutError:
        return f"it did not end within {_CELL_TIMEOUT_S} s"
    except DeadKernelError:
        return "its kernel died"
    return None


def _say_source(session: Session, cell: nbformat.NotebookNode) -> None:
    if not cell.source.strip():
        return
    if cell.cell_type != "code":
        session.step(cell.source + "\n")
        return
    first, *others = cell.source.splitlines()
    session.step("\n".join([f">>> {first}", *(f"... {line}".rstrip() for line in others)]))


def _texts(cell: nbformat.NotebookNode) -> Iterable[str]:
    for output in cell.get("outputs", ()):
        text = _text(output)
        if text:
            yield _ANSI.sub("", text)


def _text(output: Mapping[str, Any]) -> str:
    match output["output_type"]:
        case "stream":
            return str(output["text"])
        case "error":
            return "\n".join(output["traceback"]) or f"{output['ename']}: {output['evalue']}"
        case _:
            return str(output["data"].get("text/plain", ""))
