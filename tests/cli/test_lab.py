"""`xprim lab`: notebooks are found, copied without harm, opened in JupyterLab, or run here and printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from xprim_nb.cli import lab
from xprim_nb.cli.main import xprim
from xprim_nb.errors import ConfigError

from .conftest import Runner

# Stands for JupyterLab: says how it was started.
_FAKE_LAB = """
import json, os, sys
registry = os.environ.get("XPRIM_MODELS_REGISTRY_URL")
print(json.dumps({"arguments": sys.argv[1:], "registry": registry}))
raise SystemExit(7)
"""


def _write(path: Path, *cells: nbformat.NotebookNode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), path)


@pytest.fixture
def notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two notebooks, in the place of the package's."""
    folder = tmp_path / "notebooks"
    _write(
        folder / "00_first_light.ipynb",
        new_markdown_cell("# First light\n\nA story."),
        new_code_cell(
            "import os\nfor name in ('XPRIM_MODELS_REGISTRY_URL', 'XPRIM_MODELS_DIR'):\n"
            "    print(name, os.environ.get(name))"
        ),
        new_code_cell("6 * 7"),
    )
    _write(
        folder / "10_broken.ipynb",
        new_code_cell("print('before')"),
        new_code_cell("1 / 0"),
        new_code_cell("print('after')"),
    )
    monkeypatch.setattr(lab, "notebooks_folder", lambda: folder)
    return folder


def test_executed_notebook_is_printed(run: Runner, notebooks: Path, data_dir: Path) -> None:
    """`--execute` prints prose, sources and outputs; the kernel has the demo registry and a home of its own."""
    result = run("lab", "--execute", command=xprim)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("# First light\n\nA story.\n\n>>> import os\n... for name in (")
    assert "XPRIM_MODELS_REGISTRY_URL None\n" in result.stdout
    assert "XPRIM_MODELS_DIR " in result.stdout
    assert str(data_dir) not in result.stdout
    assert result.stdout.endswith(">>> 6 * 7\n42\n\n")


def test_failing_cell_fails_the_command(run: Runner, notebooks: Path) -> None:
    """A cell that fails ends the run with its error, on stderr and in the document; later cells do not run."""
    result = run("lab", "--execute", "--notebook", "10_broken", command=xprim)
    assert result.exit_code == 1
    assert "error: cell 2 of 10_broken.ipynb failed: ZeroDivisionError: division by zero\n" in result.stderr
    assert "before" in result.stdout
    assert "ZeroDivisionError" in result.stdout
    assert "\x1b" not in result.stdout
    assert "after" not in result.stdout
    found = json.loads(run("lab", "--execute", "--notebook", "10_broken", "--json", command=xprim).stdout)
    assert found["executed"]["notebook"] == "10_broken.ipynb"
    assert found["executed"]["cells"][0]["outputs"] == ["before\n"]
    assert found["error"]["exit_code"] == 1


def test_jupyterlab_is_opened_on_the_notebook(
    spawn: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """JupyterLab gets the copy, the user's arguments and the demo registry; its exit code is ours."""
    root = Path(__file__).resolve().parents[2]
    if not any((root / "notebooks").glob("*.ipynb")):
        pytest.skip("this checkout has no notebooks")
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "jupyterlab.py").write_text(_FAKE_LAB)
    path = os.pathsep.join([str(tmp_path / "fake"), str(root)])
    folder = tmp_path / "mine"
    arguments = ("lab", "--dir", str(folder), "--", "--no-browser")
    done = spawn(*arguments, module="xprim_nb.cli.main", env={"PYTHONPATH": path})
    notebook = str(folder / "00_first_light.ipynb")
    assert done.returncode == 7
    assert json.loads(done.stdout) == {"arguments": [notebook, "--no-browser"], "registry": None}
    assert (folder / "00_first_light.ipynb").is_file()


def test_copies_follow_the_package_until_they_are_changed(tmp_path: Path) -> None:
    """A copy nobody touched is brought up to date; one that somebody changed is kept, and named."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("a", "b"):
        (source / f"{name}.ipynb").write_text("one")
    assert lab.copy_notebooks(source, target) == []
    (target / "b.ipynb").write_text("mine")
    for name in ("a", "b"):
        (source / f"{name}.ipynb").write_text("two")
    assert lab.copy_notebooks(source, target) == ["b.ipynb"]
    assert [(target / f"{name}.ipynb").read_text() for name in ("a", "b")] == ["two", "mine"]


def test_files_that_were_there_before_are_kept(tmp_path: Path) -> None:
    """A notebook of the same name that we did not put there is never overwritten, even with a broken record."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "a.ipynb").write_text("ours")
    (target / "a.ipynb").write_text("theirs")
    (target / ".xprim-notebooks.json").write_text("{broken")
    assert lab.copy_notebooks(source, target) == ["a.ipynb"]
    assert (target / "a.ipynb").read_text() == "theirs"


def test_unknown_notebook_names_those_there_are(run: Runner, notebooks: Path) -> None:
    """A name that does not exist is a usage error with the list."""
    result = run("lab", "--notebook", "nope", "--execute", command=xprim)
    assert result.exit_code == 2
    assert "There are: 00_first_light, 10_broken." in result.stderr


def test_missing_extra_is_named(run: Runner, notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without JupyterLab the error says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("lab", command=xprim)
    assert result.exit_code == 1
    assert 'hint: pip install "xprim-nb[lab]"' in result.stderr


def test_notebooks_are_found_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel's notebooks are inside the package, a checkout's beside it; neither is an error that says so."""
    package = tmp_path / "xprim_nb"
    package.mkdir()
    monkeypatch.setattr("xprim_nb.__file__", str(package / "__init__.py"))
    with pytest.raises(ConfigError, match="no notebooks"):
        lab.notebooks_folder()
    _write(tmp_path / "notebooks" / "a.ipynb")
    assert lab.notebooks_folder() == tmp_path / "notebooks"
    _write(package / "_notebooks" / "a.ipynb")
    assert lab.notebooks_folder() == package / "_notebooks"


@pytest.mark.parametrize("name", sorted(path.stem for path in lab.notebooks_folder().glob("*.ipynb")))
def test_every_chapter_runs_beside_a_models_directory(run: Runner, name: str) -> None:
    """Each shipped notebook passes with `XPRIM_MODELS_DIR` set, as `--execute` and many users have it."""
    result = run("lab", "--execute", "--notebook", name, command=xprim)
    assert result.exit_code == 0, result.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(path.name for path in lab.notebooks_folder().glob("*.ipynb")))
def test_every_chapter_runs_again_where_it_ran_before(tmp_path: Path, name: str) -> None:
    """Who opens a chapter and runs it, and runs it again tomorrow, sees the same: what it keeps is its own."""
    places = {
        "HOME": "", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data",
        "IPYTHONDIR": "ipython",
    }  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XPRIM_")}
    environment |= {key: str(tmp_path / folder) for key, folder in places.items()}
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--execute", "--to", "notebook", "--output-dir"]
    for time in ("first", "second"):
        done = subprocess.run(
            [*command, str(tmp_path), str(lab.notebooks_folder() / name)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"the {time} time: {done.stderr[-2000:]}"
