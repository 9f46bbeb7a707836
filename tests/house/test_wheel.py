"""What is shipped: the wheel holds both packages, the notebooks and the demo models, and no tests."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

# The demo models make up nearly all of it; 12 MB of registry is what spec 1 allows.
_WHEEL_WALL_BYTES = 16 * 10**6


@pytest.fixture(scope="module")
def dist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel built from it, as a release would have them."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(root)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """The built wheel."""
    (path,) = dist.glob("*.whl")
    return path


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder.parent).as_posix() for path in found}


def test_wheel_holds_both_packages_whole(root: Path, wheel: Path) -> None:
    """Every file of both packages is in the wheel, type markers and demo models among them."""
    expected = _files_below(root / "xprim_nb") | _files_below(root / "widgets" / "xprim_widgets")
    assert {"xprim_nb/py.typed", "xprim_widgets/py.typed", "xprim_nb/demo/registry/models.json"} <= expected
    assert expected - _names(wheel) == set()


def test_wheel_holds_the_notebooks(root: Path, wheel: Path) -> None:
    """Every notebook is shipped inside the package, and nothing else from that folder."""
    expected = {f"xprim_nb/_notebooks/{path.name}" for path in (root / "notebooks").glob("*.ipynb")}
    assert "xprim_nb/_notebooks/00_first_light.ipynb" in expected
    assert {name for name in _names(wheel) if name.startswith("xprim_nb/_notebooks/")} == expected


def test_demo_models_are_shipped_byte_for_byte(wheel: Path) -> None:
    """Each file of the demo registry's data has, inside the wheel, the hash that names it."""
    with zipfile.ZipFile(wheel) as archive:
        data = [name for name in archive.namelist() if name.startswith("xprim_nb/demo/registry/data/")]
        assert data
        for name in data:
            assert hashlib.sha256(archive.read(name)).hexdigest() == name.rpartition("/")[2]


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    """No tests, benchmarks or tools travel to users."""
    tops = {name.partition("/")[0] for name in _names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"xprim_nb", "xprim_widgets"}


def test_wheel_is_small(wheel: Path) -> None:
    """The wheel is at most 16 MB."""
    assert wheel.stat().st_size <= _WHEEL_WALL_BYTES


def test_wheel_installs_the_commands(wheel: Path) -> None:
    """`xprim` and `xprim-models` are declared as commands."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        lines = archive.read(name).decode().splitlines()
    assert "xprim = xprim_nb.cli.main:main" in lines
    assert "xprim-models = xprim_nb.cli.models:main" in lines


def test_sdist_holds_the_tests(dist: Path) -> None:
    """Whoever packages the sdist can run the tests from it."""
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/conftest.py", "tests/house/test_wheel.py", "notebooks/00_first_light.ipynb"} <= names


def test_editable_install_shadows_nothing(root: Path, tmp_path: Path) -> None:
    """An editable install puts no folder called `xprim_nb` beside the redirect: it would be found first."""
    code = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.whl")
    assert not [name for name in _names(path) if name.startswith(("xprim_nb/", "xprim_widgets/", "tests/"))]
