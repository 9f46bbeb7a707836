"""The public surface, pinned: what changes here is a change that users notice."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import xprim_nb
from xprim_nb import errors

_PUBLIC = [
    "Config",
    "Handle",
    "Manager",
    "ModelRef",
    "PullProgress",
    "Toolkit",
    "XprimError",
    "allow_nested_loops",
    "connect",
]
# name -> (exit code, parent), as the docstring of `xprim_nb.errors` draws it; scripts rely on the exit codes.
_ERRORS = {
    "XprimError": (1, "Exception"),
    "InvalidRefError": (2, "XprimError"),
    "ConfigError": (2, "XprimError"),
    "ModelNotFoundError": (3, "XprimError"),
    "VersionNotFoundError": (3, "ModelNotFoundError"),
    "NotInstalledError": (4, "XprimError"),
    "NetworkError": (5, "XprimError"),
    "OfflineError": (5, "NetworkError"),
    "StalledError": (5, "NetworkError"),
    "HashMismatchError": (6, "XprimError"),
    "StorageError": (7, "XprimError"),
    "InsufficientSpaceError": (7, "StorageError"),
    "RegistryError": (1, "XprimError"),
    "VersionExistsError": (1, "XprimError"),
    "MissingExtraError": (1, "XprimError"),
    "EngineError": (8, "XprimError"),
    "UnsupportedModelError": (8, "EngineError"),
    "NoCapacityError": (8, "EngineError"),
    "LoadFailedError": (8, "EngineError"),
    "GenerationFailedError": (8, "EngineError"),
    "TimedOutError": (8, "EngineError"),
    "ProviderError": (8, "EngineError"),
    "RateLimitedError": (8, "ProviderError"),
    "KeyRefusedError": (8, "ProviderError"),
    "WorkerError": (8, "EngineError"),
    "WorkerStartError": (8, "WorkerError"),
    "WorkerCrashedError": (8, "WorkerError"),
    "WorkerMemoryError": (8, "WorkerError"),
    "WorkerHungError": (8, "WorkerError"),
    "CircuitOpenError": (8, "WorkerError"),
    "PromptError": (9, "XprimError"),
    "NotCachedError": (9, "PromptError"),
    "CheckpointNotFoundError": (9, "PromptError"),
    "DatabaseUnavailableError": (9, "PromptError"),
}


def test_public_names_are_pinned() -> None:
    """`xprim_nb` offers these names, sorted, and no others."""
    assert xprim_nb.__all__ == sorted(_PUBLIC)


@pytest.mark.parametrize("name", _PUBLIC)
def test_public_name_resolves_and_is_documented(name: str) -> None:
    """Each public name is there when asked for, says what it is, and is shown by `dir()`."""
    assert inspect.getdoc(getattr(xprim_nb, name))
    assert name in dir(xprim_nb)


@pytest.mark.parametrize("name", _PUBLIC)
def test_public_name_comes_first_in_a_fresh_interpreter(name: str, run_python: Callable[[str], str]) -> None:
    """Whichever name a user imports first works: no import order is needed."""
    assert run_python(f"from xprim_nb import {name}; print({name}.__name__)").strip() == name


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that does not exist fails as it does for any module, so that `hasattr` works."""
    with pytest.raises(AttributeError, match="no_such_name"):
        xprim_nb.no_such_name  # noqa: B018  # reading the attribute is the test


def test_version_is_the_distributions(root: Path) -> None:
    """`__version__` and the distribution's version are one."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert xprim_nb.__version__ == project["version"]


def test_error_tree_is_pinned() -> None:
    """The errors, their exit codes and their parents are the ones that scripts rely on."""
    assert {
        name: (getattr(errors, name).exit_code, getattr(errors, name).__bases__[0].__name__)
        for name in errors.__all__
    } == _ERRORS


@pytest.mark.parametrize("name", _ERRORS)
def test_error_explains_itself(name: str) -> None:
    """Each error has a sentence of its own and a default hint, and keeps the subject and hint it is given."""
    kind = getattr(errors, name)
    assert vars(kind).get("__doc__")
    assert kind("What happened.").hint
    error = kind("What happened.", subject="demo/tiny v1", hint="Do this.")
    assert (str(error), error.subject, error.hint) == ("What happened.", "demo/tiny v1", "Do this.")
