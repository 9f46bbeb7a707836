"""The errors say what happened, to what, and what to do; one root catches all of them."""

from __future__ import annotations

import pickle

import pytest

from xprim_nb import errors
from xprim_nb.errors import (
    ConfigError,
    HashMismatchError,
    InvalidRefError,
    MissingExtraError,
    ModelNotFoundError,
    NetworkError,
    NotInstalledError,
    OfflineError,
    RegistryError,
    StorageError,
    TimedOutError,
    VersionNotFoundError,
    XprimError,
)

_ALL = [getattr(errors, name) for name in errors.__all__]
# What a program that knows nothing of this package would catch.
_BUILTIN = {
    ConfigError: ValueError,
    HashMismatchError: ValueError,
    InvalidRefError: ValueError,
    MissingExtraError: ImportError,
    ModelNotFoundError: LookupError,
    NetworkError: ConnectionError,
    NotInstalledError: LookupError,
    OfflineError: ConnectionError,
    RegistryError: ValueError,
    StorageError: OSError,
    TimedOutError: TimeoutError,
    VersionNotFoundError: LookupError,
}


@pytest.mark.parametrize("kind", _ALL, ids=lambda kind: kind.__name__)
def test_one_root_catches_all(kind: type[XprimError]) -> None:
    """Every error is an XprimError, shows its message, and has a hint and an exit code other than success."""
    error = kind("It broke.", subject="demo/tiny v1")
    assert isinstance(error, XprimError)
    assert str(error) == "It broke."
    assert error.hint
    assert error.exit_code in range(1, 10)


@pytest.mark.parametrize("kind", _ALL, ids=lambda kind: kind.__name__)
def test_errors_become_json(kind: type[XprimError]) -> None:
    """The CLI's document has the type, the message, the subject, the hint and the exit code."""
    error = kind("It broke.", subject="demo/tiny v1", hint="Mend it.")
    assert error.to_dict() == {
        "type": kind.__name__,
        "message": "It broke.",
        "subject": "demo/tiny v1",
        "hint": "Mend it.",
        "exit_code": kind.exit_code,
    }


@pytest.mark.parametrize(("kind", "builtin"), _BUILTIN.items(), ids=lambda kind: kind.__name__)
def test_errors_are_what_python_calls_them(kind: type[XprimError], builtin: type[Exception]) -> None:
    """Code that knows only Python's own exceptions catches them too."""
    with pytest.raises(builtin, match=r"It broke\."):
        raise kind("It broke.")


@pytest.mark.parametrize("kind", _ALL, ids=lambda kind: kind.__name__)
def test_errors_cross_processes(kind: type[XprimError]) -> None:
    """A pickled error arrives with its message, subject and hint: process pools send them home."""
    sent = kind("It broke.", subject="demo/tiny v1", hint="Mend it.")
    arrived = pickle.loads(pickle.dumps(sent))
    assert type(arrived) is kind
    assert arrived.to_dict() == sent.to_dict()


def test_a_missing_extra_says_how_to_get_it() -> None:
    """The one sentence names what needs it, the hint is a command to copy."""
    error = MissingExtraError.for_extra("serve", "Serving a registry")
    assert str(error) == "Serving a registry needs the optional extra 'serve'."
    assert error.hint == 'pip install "xprim-nb[serve]"'
    assert error.subject == "serve"


def test_the_drawing_has_every_error() -> None:
    """The tree in the module's docstring names each class with its exit code."""
    lines = [line.strip("│├└─ ") for line in (errors.__doc__ or "").splitlines()]
    drawn = {
        words[0]: int(words[2]) for line in lines if len(words := line.split()) > 2 and words[1] == "exit"
    }
    assert drawn == {kind.__name__: kind.exit_code for kind in _ALL}


def test_finer_errors_go_by_their_name_in_the_tree() -> None:
    """What a room raises for its own ends is told as the documented class that programs catch."""

    class _FinerError(NetworkError):
        pass

    class _OtherError(XprimError):
        pass

    assert _FinerError("It broke.").kind is NetworkError
    assert _OtherError("It broke.").kind is _OtherError
    assert _FinerError("It broke.").to_dict()["type"] == "NetworkError"
