"""The model that a line of `%xprim` names.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from xprim_nb.refs import ModelRef

__all__ = ["named", "versioned"]


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
