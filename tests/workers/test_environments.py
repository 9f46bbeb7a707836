"""A worker runs in another environment than the kernel's, with that one's packages and none of ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from xprim_nb.errors import MissingExtraError
from xprim_nb.workers.process import ProcessRunner
from xprim_nb.workers.values import Environment, LoadOptions

from .working import ask

Start = Callable[..., Awaitable[ProcessRunner]]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> LoadOptions:
    """Options that name the interpreter of a bare environment, which has one package that is nowhere else."""
    folder = tmp_path_factory.mktemp("other") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=25)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "only_there.py").write_text("__version__ = '9.1'")
    return LoadOptions(environment=Environment(python=folder / "bin" / "python"))


async def test_packages_of_the_other_environment_are_used(start: Start, other: LoadOptions) -> None:
    """Its package is there, its interpreter is the one that runs, and it answers like any other."""
    runner = await start(options=other)
    assert (await ask(runner, "!import only_there"))[0] == "9.1"
    assert (await ask(runner, "!say python"))[0] == str(other.environment.python)
    assert (await ask(runner, "hello"))[0] == "hello"
    with pytest.raises(ImportError):
        __import__("only_there")


@pytest.mark.parametrize("package", ["xprim_nb", "numpy", "psutil"])
async def test_packages_of_this_environment_are_not(start: Start, other: LoadOptions, package: str) -> None:
    """What only the kernel has is missing there, ours too, and the message names the interpreter that lacks it."""
    __import__(package)
    with pytest.raises(MissingExtraError, match=f"has no package '{package}'") as caught:
        await start(f"import {package}", options=other)
    assert str(other.environment.python) in str(caught.value)
    assert str(other.environment.python) in caught.value.hint
