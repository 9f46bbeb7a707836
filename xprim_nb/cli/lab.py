"""`xprim lab`: the first notebook in JupyterLab, or run here and printed, against the embedded demo registry.

Source: spec 3 §Notebooks as documentation.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

import xprim_nb
from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.session import Session
from xprim_nb.errors import ConfigError, MissingExtraError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["copy_notebooks", "lab", "notebooks_folder"]

_FIRST = "00_first_light.ipynb"
# What was copied, so that a notebook nobody changed can be brought up to date.
_RECORD = ".xprim-notebooks.json"


@click.command(cls=DoorCommand, context_settings={"ignore_unknown_options": True})
@click.option("--execute", is_flag=True, help="Run the notebook here and print what it shows.")
@click.option("--notebook", default=_FIRST, metavar="NAME", show_default=True, help="Which notebook.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("xprim-notebooks"),
    show_default=True,
    help="Where the notebooks are copied to; what you changed there is kept.",
)
@click.argument("jupyter_args", nargs=-1, type=click.UNPROCESSED)
@pass_session
def lab(
    session: Session, *, execute: bool, notebook: str, folder: Path, jupyter_args: tuple[str, ...]
) -> None:
    """Open JupyterLab on the first notebook.

    JUPYTER_ARGS go to JupyterLab: `xprim lab -- --no-browser --port 9999`.
    """
    name = notebook if notebook.endswith(".ipynb") else f"{notebook}.ipynb"
    source = notebooks_folder()
    if not (source / name).is_file():
        known = ", ".join(path.stem for path in sorted(source.glob("*.ipynb")))
        raise ConfigError(
            f"There is no notebook {notebook!r}.", subject=notebook, hint=f"There are: {known}."
        )
    if execute:
        _require("nbclient", "ipykernel", needed_for="Running a notebook")
        from xprim_nb.cli import running  # noqa: PLC0415  # house: needs the optional extra `lab`

        running.run_notebook(session, source / name)
        return
    _require("jupyterlab", needed_for="xprim lab")
    for kept in copy_notebooks(source, folder):
        session.note(f"kept your {kept}: it differs from the one in this version")
    session.note(f"opening {folder / name}")
    raise click.exceptions.Exit(_open(folder / name, jupyter_args))


def notebooks_folder() -> Path:
    """Where the notebooks are: inside an installed package, or beside it in a checkout.

    Raises:
        ConfigError: Neither has any.
    """
    package = Path(xprim_nb.__file__).parent
    for folder in (package / "_notebooks", package.parent / "notebooks"):
        if any(folder.glob("*.ipynb")):
            return folder
    raise ConfigError(
        "This installation has no notebooks.", subject=str(package), hint="Install the package again."
    )


def copy_notebooks(source: Path, target: Path) -> list[str]:
    """Copy every notebook whose copy is absent, or as it was copied; returns the names of those left alone.

    Raises:
        StorageError: The target cannot be written.
    """
    record_file, kept = target / _RECORD, []
    try:
        target.mkdir(parents=True, exist_ok=True)
        record: dict[str, str] = _read_record(record_file)
        for notebook in sorted(source.glob("*.ipynb")):
            copy, digest = target / notebook.name, _digest(notebook)
            if copy.exists() and _digest(copy) not in (digest, record.get(notebook.name)):
                kept.append(notebook.name)
                continue
            shutil.copyfile(notebook, copy)
            record[notebook.name] = digest
        record_file.write_text(json.dumps(record, indent=2), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"The notebooks cannot be copied to {target}: {error}", subject=str(target)
        ) from error
    return kept


def _read_record(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # without a record every copy that differs counts as changed
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def demo_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a kernel that shall use the embedded demo registry."""
    return {name: value for name, value in environ.items() if name != "XPRIM_MODELS_REGISTRY_URL"}


def _require(*modules: str, needed_for: str) -> None:
    if any(importlib.util.find_spec(module) is None for module in modules):
        raise MissingExtraError.for_extra("lab", needed_for)


def _open(notebook: Path, arguments: Sequence[str]) -> int:
    command = [sys.executable, "-m", "jupyterlab", str(notebook), *arguments]
    server = subprocess.Popen(command, env=demo_environment(os.environ))
    # Ctrl-C is JupyterLab's to answer: it asks whether to stop, and then this process ends with it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return server.wait()
    finally:
        signal.signal(signal.SIGINT, before)
