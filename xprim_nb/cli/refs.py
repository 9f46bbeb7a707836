"""How a model is named on a command line: `REF VERSION`, `"REF VERSION"` or `REF@VERSION`."""

from __future__ import annotations

from collections.abc import Iterable

import click

from xprim_nb.refs import ModelRef

__all__ = ["model_arguments", "named", "named_each", "versioned"]


def model_arguments(function: click.decorators.FC) -> click.decorators.FC:
    """The arguments `REF [VERSION]` of a command that takes one model."""
    return click.argument("ref")(click.argument("version", required=False)(function))


def named(ref: str, version: str | None) -> ModelRef:
    """The model that two words name.

    Raises:
        InvalidRefError: They name none.
        click.UsageError: They name two versions.
    """
    parsed = ModelRef.parse(ref)
    if version is None or version == parsed.version:
        return parsed
    if parsed.version:
        raise click.UsageError(f"{ref!r} names a version, and so does {version!r}.")
    return parsed.with_version(version)


def versioned(ref: str, version: str | None) -> ModelRef:
    """The same, when a version must be named.

    Raises:
        InvalidRefError: They name no model, or no version of it.
        click.UsageError: They name two versions.
    """
    return named(ref, version).require_version()


def named_each(words: Iterable[str]) -> list[ModelRef]:
    """The models that a row of words names; a word without `/` is the version of the one before it.

    >>> named_each(["demo/tiny", "v1", "demo/base@v2"])
    [ModelRef(group='demo', model='tiny', version='v1'), ModelRef(group='demo', model='base', version='v2')]

    Raises:
        InvalidRefError: A word is no name.
        click.UsageError: A version stands where a model should.
    """
    found: list[ModelRef] = []
    for word in words:
        if "/" in word:
            found.append(ModelRef.parse(word))
        elif found and not found[-1].version:
            found[-1] = found[-1].with_version(word)
        else:
            raise click.UsageError(f"{word!r} is no model: write group/model, then its version.")
    return found
