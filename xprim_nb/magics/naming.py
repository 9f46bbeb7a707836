"""The model that a line of `%xprim` names.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import argparse
import keyword

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit.asker import cell_of

__all__ = ["cell_named", "check_variable", "model_named", "named", "versioned"]


def cell_named(shell: InteractiveShell) -> str:
    """The cell that runs, as a reader knows it: `In [12]`."""
    return cell_of(shell)


def check_variable(command: str, name: str | None) -> None:
    """Return when a value can be kept under a name, or none is given.

    Raises:
        UsageError: It is no name of a variable.
    """
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise UsageError(f"{command}: --as {name}: that is no name of a variable")


def model_named(asked: argparse.Namespace) -> str:
    """The model as the engine has it: `group/model version`, a directory, or `backend:name`."""
    words = [asked.ref, asked.version] if asked.version is not None else [asked.ref]
    text = " ".join(words)
    before, colon, name = text.partition(":")
    try:
        return f"{before}{colon}{ModelRef.parse(name)}" if colon else str(ModelRef.parse(text))
    except InvalidRefError:  # a server's name, or a path: the engine says when it is neither
        return text


def named(asked: argparse.Namespace) -> ModelRef:
    """The model, with or without a version.

    Raises:
        UsageError: Two versions are named.
        InvalidRefError: It is no name.
    """
    parsed = ModelRef.parse(asked.ref)
    if asked.version is None or asked.version == parsed.version:
        return parsed
    if parsed.version:
        raise UsageError(f"%xprim {asked.command}: {asked.ref} names a version, and so does {asked.version}")
    return parsed.with_version(asked.version)


def versioned(asked: argparse.Namespace) -> ModelRef:
    """The version.

    Raises:
        UsageError: Two versions are named.
        InvalidRefError: It is no name, or has no version.
    """
    return named(asked).require_version()
