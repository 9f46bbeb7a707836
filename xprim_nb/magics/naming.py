"""The model that a line of `%xprim` names.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import ModelRef

__all__ = ["cell_named", "model_named", "named", "versioned"]


def cell_named(shell: InteractiveShell) -> str:
    """The cell that runs, as a reader knows it: `In [12]`."""
    # The shell's own count is one ahead while a cell runs since IPython 9; its display hook knows either way.
    return f"In [{getattr(shell.displayhook, 'prompt_count', shell.execution_count)}]"


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
